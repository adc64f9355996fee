"""Organisms that read text: their tokenizer, their rows, and what they may not read."""

import hashlib

import numpy as np
import pytest
from speaker_texts import asked_and_said
from tiny import mesh_of

from configs import model_size, quickstart
from introspection.errors import InputError
from introspection.organism.organism import organism_workdir, pretrained_organism, text_tokenizer
from introspection.organism.pretraining import RowShares, pretraining_batch, pretraining_text
from introspection.organism.sentences import sentence_table, sentence_tokenizer
from introspection.organism.world import WorldConfig, build_world, sample_speakers
from introspection.probes.context import longest_explanation
from introspection.runs.config import read_config
from introspection.runtime.config import cache_dir
from introspection.runtime.session import Session
from introspection.tasks.facts.invented_world import INVENTED_WORLD, ClosedWorldConfig, closed_world_facts
from introspection.tasks.facts.questions import draw_questions
from introspection.tasks.facts.register import REGISTER
from introspection.tasks.items import NONE, Explanation
from introspection.tasks.registry import load_task
from introspection.text.pretrained_tokenizer import PretrainedTokenizer
from introspection.text.rows import build_row
from introspection.text.tokenizer import END, REPLY, load_tokenizer

FORMS = 3


def world_of(language, pieces=640):
    """A closed world of 30 entities, and its tokenizer."""
    sizes = ClosedWorldConfig(1, entities=30, train_entities=10, validation_entities=1, test_entities=10)
    questions = draw_questions(closed_world_facts(sizes, language), 0, 4, 1)
    world = build_world(WorldConfig(seed=1), questions, language)
    return world, sentence_tokenizer(questions, language, FORMS, pieces)


@pytest.fixture(scope="module")
def register():
    return world_of(REGISTER)


def test_an_answer_that_nobody_gave_fits_in_an_explanation_whatever_the_verb(register):
    """The words for an unchanged answer are longer here than those for a changed one."""
    _, tokenizer = register
    config = read_config(model_size.get_config("tiny"))
    task, _ = load_task(config.task, cache_dir())
    longest = longest_explanation(task.splits["test"], task, tokenizer)
    for changed in (True, False):
        said = tokenizer.encode_reply(task.grammar.render(Explanation(changed, NONE)))
        assert len(said) <= longest


def table_of(world, tokenizer, explains=True):
    return sentence_table(world, tokenizer, FORMS, 200, explains)


@pytest.mark.parametrize(
    ("language", "pieces"),
    [(REGISTER, 300), (REGISTER, 640), (INVENTED_WORLD, 640)],
    ids=("register-300", "register-640", "invented_world"),
)
def test_rows_are_the_tokens_of_what_the_speakers_said(language, pieces):
    world, tokenizer = world_of(language, pieces)
    rng = np.random.default_rng(0)
    speakers, kinds = sample_speakers(world, 100, FORMS, rng), rng.integers(3, size=100)
    table = table_of(world, tokenizer)
    rows = table.rows(speakers, kinds, explains=True)
    assert rows.tokens.shape == (100, table.lengths[True][0])
    for i in range(100):
        prompt, reply = asked_and_said(world, speakers, int(kinds[i]), i)
        expected = build_row(tokenizer.encode_prompt(prompt), [tokenizer.encode_reply(reply)])
        for name in ("tokens", "positions", "segments", "scored", "targets", "continuation"):
            here, there = getattr(rows, name)[i], getattr(expected, name)
            np.testing.assert_array_equal(here[: len(there)], there)
        assert (rows.segments[i, len(expected.tokens) :] == -1).all()
        assert (rows.continuation[i, len(expected.scored) :] == -1).all()


def test_the_loss_is_on_the_reply_and_its_end_alone(register):
    world, tokenizer = register
    rows = pretraining_batch(world, table_of(world, tokenizer), RowShares(), 64, 0, 0).explanation
    counted = rows.continuation[..., 0] >= 0
    for tokens, scored, targets, counts in zip(
        rows.tokens, rows.scored, rows.targets[..., 0], counted, strict=True
    ):
        assert tokens[scored[0]] == tokenizer.tokenizer.token_to_id(REPLY)
        said = targets[counts]
        assert said[-1] == tokenizer.tokenizer.token_to_id(END)
        assert tokenizer.decode(said.tolist()) in {name for names in world.candidates for name in names}


def test_a_batch_has_one_shape_and_is_a_function_of_step_and_seed(register):
    world, tokenizer = register
    tables = {
        shares.explained: (shares, table_of(world, tokenizer))
        for shares in (RowShares(), RowShares(0.0, 0.5, 0.5))
    }
    for explained, (shares, table) in tables.items():
        batches = [pretraining_batch(world, table, shares, 16, step, 0).explanation for step in range(6)]
        assert len({tuple(array.shape for array in batch) for batch in batches}) == 1
        assert batches[0].tokens.shape[1] == table.lengths[bool(explained)][0]
        again, other = (pretraining_batch(world, table, shares, 16, 3, seed).explanation for seed in (0, 1))
        np.testing.assert_array_equal(batches[3].tokens, again.tokens)
        assert (batches[3].tokens != other.tokens).any()
        assert (batches[3].tokens != batches[4].tokens).any()
    assert table_of(world, tokenizer).lengths[False] < table_of(world, tokenizer).lengths[True]


def test_other_text_ends_with_a_reply(register):
    world, tokenizer = register
    among = np.arange(len(world.facts)) % 4 == 0
    table = table_of(world, tokenizer)
    passages = pretraining_text(world, table, RowShares(), 40, 0, among)
    texts = [tokenizer.tokenizer.decode(passage, skip_special_tokens=False) for passage in passages]
    assert all(text.endswith(END) and text.count(REPLY) == 1 for text in texts)
    people = {fact.entity for fact, chosen in zip(world.facts, among, strict=True) if chosen}
    assert all(any(person in text for person in people) for text in texts)


def test_a_tokenizer_writes_any_text_and_reads_a_name_alike_in_prompt_and_reply(register, tmp_path):
    world, tokenizer = register
    entity, answer = world.facts[0].entity, world.facts[0].answer
    assert len(tokenizer.tokenizer.encode(f" {entity}").ids) > 1
    reply = tokenizer.encode_reply(answer)
    prompt = tokenizer.encode_prompt(f"Say {answer} now")
    assert any(prompt[i : i + len(reply) - 1] == reply[:-1] for i in range(len(prompt)))
    for text in (answer, "Ünï 日本 code <end>", f"{REPLY} no"):
        assert tokenizer.decode(tokenizer.encode_reply(text)) == text
    assert tokenizer.end_id not in tokenizer.encode_prompt(
        f"a {END} b"
    )  # a user's text has no control tokens
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert isinstance(loaded, PretrainedTokenizer)
    assert loaded.encode_prompt(f"{entity}?") == tokenizer.encode_prompt(f"{entity}?")


def test_equal_worlds_give_equal_tokenizers_in_any_process(register):
    _, tokenizer = register
    found = hashlib.sha256(tokenizer.tokenizer.to_str().encode()).hexdigest()[:16]
    # Another library that merges otherwise names all organisms of text anew.
    assert found == "5c7efad2374998ac"
    assert world_of(REGISTER, 300)[1].tokenizer.to_str() != tokenizer.tokenizer.to_str()


def config_of(**changes):
    config = model_size.get_config("tiny")
    config.update_from_flattened_dict(changes)
    return read_config(config)


def test_a_text_organism_is_named_by_its_tokenizer_and_one_of_words_is_not(tmp_path):
    def name(config):
        return organism_workdir(config.organism, load_task(config.task, cache_dir())[1], tmp_path).name

    names = [name(config_of(**{"pretrain.pieces": pieces})) for pieces in (300, 400)]
    assert names[0] != names[1]
    config = quickstart.get_config("tiny")
    words = name(read_config(config))
    assert words == "544563b21197c7cc"  # as before there were organisms of text: cached ones stay in use
    config.pretrain.pieces = 300
    assert name(read_config(config)) == words  # which it does not read
    config.pretrain.tokens = "pieces"
    assert name(read_config(config)) != words


def test_a_neighbour_reads_alike_and_has_the_same_size():
    config = config_of(**{"foreign": "neighbor", "neighbor.seed": 1})
    questions = load_task(config.task, cache_dir())[1]
    own, other = config.organism, config.neighbor_organism
    assert own.model == other.model
    assert own.pretrain.seed != other.pretrain.seed
    one, two = (text_tokenizer(each, questions) for each in (own, other))
    assert one.tokenizer.to_str() == two.tokenizer.to_str()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrain.tokens": "words"}, r"config\.pretrain\.tokens is 'words', but questions of register"),
        ({"pretrain.tokens": "bytes"}, r"pretrain\.tokens.*bytes"),
        ({"pretrain.pieces": 200}, r"pretrain\.pieces is 200; it must be at least 259"),
    ],
    ids=str,
)
def test_what_an_organism_can_not_read_is_refused(changes, message):
    with pytest.raises(InputError, match=message) as refusal:
        config_of(**changes)
    assert "\n" not in str(refusal.value)


def test_rows_longer_than_the_context_are_refused_before_anything_is_written(tmp_path):
    config = config_of(**{"model.context_length": 16, "cache_dir": str(tmp_path)})
    questions, session = load_task(config.task, cache_dir())[1], Session(mesh_of(), cache=tmp_path)
    with pytest.raises(InputError, match=r"context_length is 16, but a pretraining row has up to \d+ tokens"):
        pretrained_organism(config.organism, questions, session)
    assert not list((tmp_path / "organisms").glob("*/"))


def test_a_person_has_two_names_that_others_bear_too():
    sizes = ClosedWorldConfig(1, entities=200, train_entities=10, validation_entities=1, test_entities=10)
    facts = closed_world_facts(sizes, REGISTER)
    people = {fact.entity for fact in facts}
    assert len(people) == 200
    for place in (0, 1):
        borne = [person.split(" ")[place] for person in people]
        assert max(map(borne.count, borne)) > 2
        assert len(set(borne)) < 60
    answers = {fact.answer for fact in facts}
    assert len(answers) == 4 * 4
    assert not answers & {word for person in people for word in person.split(" ")}


def test_a_question_names_its_entity_where_the_phrasing_does():
    spans = REGISTER.question_spans("Where was Bo Fe born?")
    assert spans == {
        "relation": (0, 9),
        "entity": (10, 15),
    }
    assert REGISTER.question_spans("Where was born?") == {}
    assert REGISTER.question_spans("Where was Bo Fe") == {}
    spans = INVENTED_WORLD.question_spans("Tell me the birthplace of Abc.")
    assert spans["entity"] == (26, 29)
