"""How a config loads any world, what it may not say, and whether the quickstart's world can be asked."""

import numpy as np
import pytest

from configs import quickstart
from introspection.coupling.controls import majority_explanations
from introspection.errors import InputError
from introspection.organism.organism import organism_workdir, world_language
from introspection.organism.world import bayes_optimal_decisions, build_world
from introspection.probes.scored import decide
from introspection.runs.config import read_config
from introspection.runs.inherited import task_section
from introspection.runtime.config import cache_dir
from introspection.tasks.facts.invented_world import INVENTED_WORLD
from introspection.tasks.facts.register import REGISTER
from introspection.tasks.facts.second_world import SECOND_WORLD
from introspection.tasks.facts.world_facts import WORLD_FACTS
from introspection.tasks.items import NONE
from introspection.tasks.registry import default_section, load_task
from introspection.tasks.task import SPLITS

CLOSED = {language.name: language for language in (INVENTED_WORLD, SECOND_WORLD, REGISTER)}
SIZES = dict(entities=400, train_entities=200, validation_entities=50, test_entities=120)
FACTS_SIZES = dict(facts=48, train_facts=20, validation_facts=8, test_facts=20)
SIZES_OF = {
    "world_facts": FACTS_SIZES | {"held_out_entities": 2},
    "invented_world": SIZES,
    "second_world": SIZES,
    "register": SIZES,
}


def config_of(name, **changes):
    """A config of the tiny quickstart's sizes with a task that has only the fields that stand here."""
    config = quickstart.get_config("tiny").to_dict()
    config["task"] = {"name": name, **changes}
    config["world"] |= {"likelihood_ratios": ()}
    return config


@pytest.mark.parametrize("name", SIZES_OF)
def test_one_config_loads_any_world(name):
    config = config_of(name, **SIZES_OF[name], repeats=1)
    task, questions = load_task(config["task"], cache_dir())
    version = (CLOSED | {"world_facts": WORLD_FACTS})[name].template_version
    assert (task.name, task.template_version) == (name, version)
    assert version.startswith(f"{name}/")
    groups = [len({item.group for item in task.splits[split]}) for split in SPLITS]
    if name == "world_facts":
        assert len(questions) == 48
        assert groups == [20, 8, 20]
        assert {item.subset for item in task.splits["test"]} == {"held_out", "seen"}
    else:
        assert len(questions) == 4 * 400
        assert groups == [4 * 200, 4 * 50, 4 * 120]
        assert {item.subset for item in task.splits["test"]} == {""}
    assert load_task(config["task"], cache_dir())[0] == task
    config["task"]["seed"] = 1
    assert load_task(config["task"], cache_dir())[0].splits != task.splits


def test_fields_of_the_other_kind_of_world_are_refused():
    with pytest.raises(InputError, match=r"config\.task has no field 'entities'"):
        load_task(config_of("world_facts", entities=90)["task"], cache_dir())
    with pytest.raises(InputError, match=r"config\.task has no field 'held_out_entities'"):
        load_task(config_of("second_world", held_out_entities=3)["task"], cache_dir())


def test_a_base_is_named_by_its_world_its_wordings_and_its_question_forms():
    small = dict(entities=60, train_entities=30, validation_entities=6, test_entities=18)
    sizes = SIZES_OF | {"invented_world": small, "second_world": small}

    def base(name, world=(), mixture=(), **changes):
        config = config_of(name, **(sizes[name] | changes))
        config["world"] |= dict(world)
        config["pretrain"]["mixture"] |= dict(mixture)
        organism = read_config(config).organism
        return organism_workdir(organism, load_task(organism.task, cache_dir())[1], cache_dir()).name

    own = base("invented_world")
    # How many items are asked, and of whom, is nothing that the base knows of.
    assert own == base("invented_world", repeats=2, test_repeats=1, test_entities=12)
    assert base("world_facts") == base("world_facts", held_out_entities=0, phrasings=3)
    explained = dict(plain=0.25, hinted=0.5, explained=0.25)
    names = {
        own,
        base("world_facts"),
        base("second_world"),
        base("invented_world", phrasings=1),
        base("invented_world", phrasings=2),
        base("invented_world", seed=1),
        base("invented_world", answers=5),
        base("invented_world", relations=3),
        base("invented_world", cue_kinds=INVENTED_WORLD.hints),
        base("invented_world", world=dict(likelihood_ratios=(2.0, 6.0, 12.0, 12.0, 1.0, 0.3, 5.0))),
        base("invented_world", world=dict(known_share=0.4)),
        # Who may be explained depends on who is asked about.
        base("invented_world", mixture=explained),
        base("invented_world", mixture=explained, test_entities=12),
    }
    assert len(names) == 13


@pytest.mark.parametrize("name", SIZES_OF)
def test_models_without_a_run_are_compared_on_the_defaults_of_the_task(name):
    section = task_section([], name)
    assert section == default_section(name)
    assert section["cue_kinds"] == []
    task, _ = load_task(section | {"repeats": 1}, cache_dir())
    assert {item.cue_kind for item in task.splits["test"]} == set(
        (CLOSED | {"world_facts": WORLD_FACTS})[name].cues
    )


def test_an_unknown_task_is_refused():
    known = "invented_world, second_world, register, world_facts"
    with pytest.raises(InputError, match=rf"'trivia'; choose from {known}"):
        task_section([], "trivia")


def test_the_order_of_candidates_tells_nothing():
    config = quickstart.get_config().to_dict()
    world_facts = default_section("world_facts") | {"train_facts": 600, "test_facts": 600}
    second_world = config["task"] | {"name": "second_world", "cue_kinds": list(SECOND_WORLD.hints[:1])}
    for section in (config["task"] | {"cue_kinds": ["friend"]}, second_world, world_facts):
        task, _ = load_task(section | {"repeats": 1}, cache_dir())  # an item of each group is looked at
        asked = {item.group: item for split in SPLITS for item in task.splits[split]}.values()
        chance = 1 / 4
        error = 4 * np.sqrt(chance * (1 - chance) / len(asked))
        for role in ("gold", "cued"):
            share = np.mean([item.candidates[0] == getattr(item, role) for item in asked])
            assert share == pytest.approx(chance, abs=error), (task.name, role)
        assert {decide(np.full(5, -1.0), item.candidates) for item in asked} == {NONE}  # a tie
        assert all(item.candidates == tuple(sorted(item.candidates)) for item in asked)


@pytest.mark.parametrize("seed", range(3))
def test_the_quickstarts_world_can_be_asked(seed):
    """Of a Bayes-optimal teacher: its change depends on the fact, the kind of cue alone tells little.

    By the likelihood ratios, cue kinds that follow whether the fact is well known change about half of the
    time, and the weak one hardly: so the best constant is at 61 or a little above.
    """
    config = quickstart.get_config()
    config.task.seed = config.world.seed = seed
    config.task.repeats = 1
    organism = read_config(config).organism
    task, questions = load_task(organism.task, cache_dir())
    world = build_world(organism.world, questions, world_language(organism))

    def labels(split):
        decided = bayes_optimal_decisions(world, task.splits[split])
        return [decision.explanation for decision in decided]

    test, truth = task.splits["test"], labels("test")
    assert len(test) == 300 * 4 * 4
    changed = {kind: [] for kind in organism.task["cue_kinds"]}
    for item, label in zip(test, truth, strict=True):
        changed[item.cue_kind].append(label.changed)
    best = sum(max(sum(of), len(of) - sum(of)) for of in changed.values()) / len(test)
    assert best < 0.64
    assert sum(0.35 < np.mean(of) < 0.65 for of in changed.values()) >= 3
    majority = majority_explanations(task.splits["train"], labels("train"), test)
    assert all(label.answer == item.gold for label, item in zip(majority, test, strict=True))
    optimal = 1.0  # Bayes-optimal explanations of Bayes-optimal decisions are right
    assert optimal - np.mean([a == b for a, b in zip(majority, truth, strict=True)]) >= 0.3
    # Strong hints change the answers to facts that are hardly known, and no others.
    known = world.beliefs[[world.index[item.group] for item in test], 0] > 0.9
    strong = np.array([item.cue_kind != "gossip" for item in test])
    assert np.array([label.changed for label in truth])[strong & ~known].mean() > 0.9
    assert not np.array([label.changed for label in truth])[known].any()


def test_sources_are_as_reliable_as_the_config_says():
    config = quickstart.get_config()

    def cues(ratios):
        config.world.likelihood_ratios = ratios
        return world_language(read_config(config).organism).cues

    ratios = (2.0, 6.0, 12.0, 12.0)
    assert {kind: cue.likelihood_ratio for kind, cue in cues(ratios).items()} == dict(
        zip(config.task.cue_kinds, ratios, strict=True)
    )
    assert all(cue == INVENTED_WORLD.cues[kind] for kind, cue in cues(()).items())
    with pytest.raises(InputError, match=r"likelihood_ratios has 2 numbers for 4 cues: gossip,"):
        cues((2.0, 3.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(answers=1, candidates=2), "task.answers is 1; a relation needs at least two answers"),
        (dict(candidates=5), r"task.candidates is 5, but a relation has 4 answers \(task.answers\)"),
        (dict(test_entities=400), r"the splits ask for 650 entities, but there are 400 \(task.entities\)"),
        (dict(relations=5), "task.relations is 5; invented_world has 1 to 4"),
        (dict(relations=0), "task.relations is 0; it must be at least 1"),
        (dict(entities=0), r"the splits ask for 370 entities, but there are 0"),
        (dict(test_entities=0), "task.test_entities is 0; it must be at least 1"),
        (dict(candidates=1), "task.candidates is 1; it must be at least 2"),
        (dict(phrasings=4), "task.phrasings is 4; for invented_world it must be 1 to 3"),
        (dict(cue_kinds=("encyclopedia",)), r"encyclopedia.*choose from gossip, friend, guide, chronicle"),
        (dict(train_facts=20), "config.task has no field 'train_facts'"),
        # Of three kinds of entities a third each: too few to use four answers.
        (
            dict(entities=6, train_entities=2, validation_entities=2, test_entities=2),
            r"2 answers, fewer than task.candidates \(4\)",
        ),
    ],
    ids=str,
)
def test_a_world_that_can_not_be_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError, match=message) as refusal:
        load_task(config_of("invented_world", **(SIZES | changes))["task"], cache_dir())
    assert "\n" not in str(refusal.value)
