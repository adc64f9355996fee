"""A base of the organisms: how its pretraining begins, what is explained in it, and its copy in a run."""

import functools
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import assert_placed, mesh_of, tiny_config, tiny_tokenizer

from configs import quickstart
from introspection.checkpoints.names import CHECKPOINTS, ModelCard
from introspection.checkpoints.store import CorruptCheckpointError
from introspection.errors import InputError
from introspection.organism import organism
from introspection.organism.organism import explainable_facts, pretrained_organism
from introspection.organism.pretraining import UNEXPLAINED_TOKENS, RowShares
from introspection.runs.config import read_config
from introspection.runtime.config import cache_dir
from introspection.runtime.session import Session
from introspection.tasks.registry import load_task
from introspection.tasks.task import SPLITS
from introspection.text.tokenizer import load_tokenizer

SPARE = dict(
    invented_world=dict(relations=2, entities=36, train_entities=12, validation_entities=5, test_entities=10),
    world_facts=dict(facts=80, train_facts=14, validation_facts=4, test_facts=12),
)


def config_of(tmp_path, name, explained, **changes):
    config = quickstart.get_config("tiny").to_dict()
    config["cache_dir"] = str(tmp_path)
    config["task"] = dict(name=name, repeats=1, seed=2, **(SPARE[name] | changes))
    config["world"]["likelihood_ratios"] = ()
    config["pretrain"]["rows"] = 256
    config["pretrain"]["mixture"] = dict(plain=0.25, hinted=0.75 - explained, explained=explained)
    return read_config(config)


class Stopped(Exception):
    """Pretraining is about to begin."""


def pretraining_job(config, monkeypatch, mesh=None):
    """The job that pretraining would run, and its tokenizer."""
    jobs = []

    def stop(one, *arguments, **keywords):
        jobs.extend(one)
        raise Stopped

    monkeypatch.setattr(organism, "train", stop)
    questions, session = load_task(config.task, cache_dir())[1], session_of(config, mesh)
    with pytest.raises(Stopped):
        pretrained_organism(config.organism, questions, session)
    folder = organism.organism_workdir(config.organism, questions, session.cache)
    return jobs[0], load_tokenizer(folder / organism.TOKENIZER)


def session_of(config, mesh=None):
    return Session(mesh or mesh_of(), cache=Path(config.cache_dir))


def test_a_base_begins_in_parts_with_the_same_numbers(tmp_path, monkeypatch):
    config, mesh = config_of(tmp_path, "invented_world", explained=0.0), mesh_of(fsdp=2, tensor=2)
    shared, alone = (pretraining_job(config, monkeypatch, one)[0] for one in (mesh, mesh_of()))
    for name in ("state", "frozen"):
        assert_placed(getattr(shared, name), mesh)
        jax.tree.map(np.testing.assert_array_equal, getattr(shared, name), getattr(alone, name))


def rows_about(job, tokenizer, grammar, steps):
    """Entities' tokens of all rows of some steps: of explained ones and of the others."""
    question = tokenizer.encode_reply(grammar.question)[0]
    explained, others = set(), set()
    for step in range(steps):
        tokens = job.batch(step, 0).explanation.tokens
        explains = (tokens == question).any(axis=1)
        explained |= {*tokens[explains, 1].tolist()}
        others |= {*tokens[~explains, 1].tolist()}
    return explained, others


@pytest.mark.parametrize("name", SPARE)
def test_no_entity_of_a_split_is_explained_in_pretraining(tmp_path, monkeypatch, name):
    config = config_of(tmp_path, name, explained=0.25)
    task, questions = load_task(config.task, cache_dir())
    job, tokenizer = pretraining_job(config, monkeypatch)
    explained, others = rows_about(job, tokenizer, task.grammar, steps=12)

    @functools.cache
    def token(entity):
        return tokenizer.encode_reply(entity)[0]

    asked = {token(item.group.split("/", 1)[1]) for split in SPLITS for item in task.splits[split]}
    everyone = {token(question.fact.entity) for question in questions}
    assert not explained & asked
    assert explained == everyone - asked  # all others
    assert others == everyone  # what they would answer is told of all
    mask = explainable_facts(config.task, questions)
    assert {token(q.fact.entity) for q, may in zip(questions, mask, strict=True) if may} == explained
    assert not mask.all()


def test_without_explanations_in_pretraining_no_row_asks_for_one(tmp_path, monkeypatch):
    config = config_of(tmp_path, "invented_world", explained=0.0)
    job, tokenizer = pretraining_job(config, monkeypatch)
    grammar = load_task(config.task, cache_dir())[0].grammar
    words = [
        tokenizer.encode_reply(text)[0] for text in (grammar.question, grammar.changed, grammar.unchanged)
    ]
    for step in range(12):
        rows = job.batch(step, 0).explanation
        assert rows.tokens.shape == (256, UNEXPLAINED_TOKENS)
        assert not np.isin(rows.tokens, words).any()
        assert not np.isin(rows.targets, words).any()
    assert quickstart.get_config().pretrain.mixture.explained == 0
    assert RowShares().explained == 0


def test_where_every_entity_is_in_a_split_nobody_can_be_explained(tmp_path):
    config = config_of(tmp_path, "invented_world", explained=0.25, entities=27)
    questions = load_task(config.task, cache_dir())[1]
    with pytest.raises(InputError, match=r"explained is above 0, but every entity is in a split") as refusal:
        pretrained_organism(config.organism, questions, session_of(config))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "organisms").exists()


def test_a_copy_of_the_base_that_lost_its_step_is_made_again(tmp_path):
    base, copy = (tmp_path / name / "checkpoints" for name in ("base", "run"))
    for step in ("0", "40"):
        (base / organism.ARM / step).mkdir(parents=True)
        (base / organism.ARM / step / "numbers").write_text(step)
    (base / organism.ARM / organism.CARD).write_text("card")
    for _ in range(2):
        organism.copy_initial(tmp_path / "base", tmp_path / "run", "initial")
        assert (copy / "initial" / "0" / "numbers").read_text() == "40"
        assert [path.name for path in copy.iterdir()] == ["initial"]
        shutil.rmtree(copy / "initial" / "0")


def test_a_damaged_base_says_how_to_train_it_again(tmp_path):
    config = config_of(tmp_path, "invented_world", explained=0.0)
    questions, session = load_task(config.task, cache_dir())[1], session_of(config)
    folder = organism.organism_workdir(config.organism, questions, session.cache)
    (folder / CHECKPOINTS / organism.ARM / "40").mkdir(parents=True)
    ModelCard(tiny_config(), (0,)).write(folder / CHECKPOINTS / organism.ARM)
    (folder / "organism.json").write_text("{}")
    tiny_tokenizer().save(folder / organism.TOKENIZER)
    with pytest.raises(
        CorruptCheckpointError, match=rf"damaged .*; delete {folder}, and the base is trained"
    ):
        pretrained_organism(config.organism, questions, session)
