"""The invented language: its rule, that test sentences are new and their words are not, its vocabulary."""

import dataclasses
import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_files import refusal

from introspection.errors import InputError
from introspection.tasks.facts.invented_world import INVENTED_WORLD
from introspection.tasks.facts.second_world import SECOND_WORLD
from introspection.tasks.facts.world_facts import WORLD_FACTS
from introspection.tasks.items import Explanation
from introspection.tasks.jabberwocky.language import RULES, invent_language
from introspection.tasks.jabberwocky.task import JabberwockyConfig, build_jabberwocky
from introspection.tasks.sequences import permuted
from introspection.text.tokenizer import phrase_tokenizer
from introspection.training.shifts import behavior_examples

SMALL = dict(nouns=8, contexts=6, cue_words=6, answers=3, train_items=96, validation_items=16, test_items=48)


def small(**changes):
    return build_jabberwocky(JabberwockyConfig(**(SMALL | changes)))


def language(rule="context", **changes):
    fields = dict(
        nouns=8, contexts=4, open_share=0.5, fillers=0, cues=4, flipping_share=0.5, answers=3, seed=0
    )
    return invent_language(rule=rule, **(fields | changes))


def test_a_cue_flips_the_answer_when_the_rule_says_so():
    # Of four cues and four contexts the first two are flipping and open; noun 7 has answer 7 mod 3.
    flips = {
        rule: [[language(rule).flips(cue, context) for context in (0, 2)] for cue in (0, 2)] for rule in RULES
    }
    assert flips["cue"] == [[True, True], [False, False]]
    assert flips["context"] == [[True, False], [False, False]]
    assert flips["parity"] == [[False, True], [True, False]]
    words = language()
    assert words.answer(7) == words.answers[1]
    assert words.answer_with(7, 0, 0) == words.answers[2]
    assert words.answer_with(8, 0, 0) == words.answers[0]  # the last flips to the first
    assert words.answer_with(7, 2, 0) == words.answer(7)


@pytest.mark.parametrize("rule", RULES)
def test_one_rule_made_of_word_classes_explains_every_item(rule):
    # Recovered from training items alone: what each noun answers, and which pairs of words flip it.
    task = small(rule=rule)
    answer, flipped_to, flips = {}, {}, {}
    for split in ("train", "validation", "test"):
        for item in task.splits[split]:
            context, noun = item.group.split("-")
            cue = item.id.split("/")[1]
            assert answer.setdefault(noun, item.gold) == item.gold
            changed = item.cued != item.gold
            if changed:
                assert flipped_to.setdefault(item.gold, item.cued) == item.cued
            assert flips.setdefault((context, cue), changed) == changed
            assert item.cue_kind in ("flipping", "idle")
            flipping = item.cue_kind == "flipping"
            if rule == "cue":
                assert changed == flipping
            elif rule == "context":
                assert not changed or flipping
    assert len(set(flips.values())) == 2
    assert sorted(flipped_to) == sorted(flipped_to.values())  # a flip loses no answer


def test_test_sentences_are_new_and_their_words_are_not():
    task = small()
    groups = {split: {item.group for item in items} for split, items in task.splits.items()}
    for one, other in itertools.combinations(groups.values(), 2):
        assert one.isdisjoint(other)
    words = {
        split: {word for item in items for word in (*item.group.split("-"), item.id.split("/")[1])}
        for split, items in task.splits.items()
    }
    assert words["test"] <= words["train"]
    assert words["train"] | {*task.splits["train"][0].candidates} == {*task.names}


def test_prompts_differ_in_the_cue_alone_and_name_no_class():
    for item in small().splits["test"]:
        cue = item.id.split("/")[1]
        assert item.prompt_with_cue == f"{item.prompt_without_cue} The hint is {cue}."
        context, noun = item.group.split("-")
        assert f"answers {context} {noun}?" in item.prompt_without_cue
        listed = item.prompt_without_cue.split("Choose from ")[1].rstrip(".").split(", ")
        assert sorted(listed) == sorted(item.candidates)
        assert {item.gold, item.cued} <= {*item.candidates}
    train = small().splits["train"]
    shown = {item.prompt_without_cue.split("Choose from ")[1] for item in train}
    assert len(shown) == 6  # every order of three answers: the place of an answer tells nothing


@pytest.mark.parametrize("world", [WORLD_FACTS, INVENTED_WORLD, SECOND_WORLD], ids=lambda world: world.name)
def test_explanations_are_in_the_words_of_the_world_that_they_are_trained_on(world):
    task, usual = small(explained_as=world.name), small()
    assert task.grammar == world.grammar
    own = {world.grammar.question, world.grammar.changed, world.grammar.unchanged, world.grammar.neither}
    assert own <= {*task.phrases}
    assert {*task.phrases} - own == {*usual.phrases} - {*dataclasses.astuple(usual.grammar)}
    assert [*task.splits["test"]] == [*usual.splits["test"]]
    tokenizer = phrase_tokenizer(task.names, task.phrases)
    for explanation in task.grammar.all_explanations(task.splits["test"][0].candidates):
        assert len(tokenizer.encode_reply(task.grammar.render(explanation))) == 3
    with pytest.raises(InputError, match="explained_as is 'french'; choose from world_facts, invented_world"):
        JabberwockyConfig(explained_as="french")


def test_half_of_the_default_items_flip():
    items = build_jabberwocky(JabberwockyConfig()).splits["test"]
    assert 0.4 < sum(item.cued != item.gold for item in items) / len(items) < 0.6
    assert {item.gold for item in items} == {*items[0].candidates}


def test_taught_examples_are_the_rules_answers_to_both_prompts():
    items = small().splits["train"]
    examples = behavior_examples(items)
    assert len(examples) == len(set(examples)) == len(items) + len({item.group for item in items})
    for item in items:
        assert (item.prompt_with_cue, item.cued) in examples
        assert (item.prompt_without_cue, item.gold) in examples
    prompts = {prompt for prompt, _ in examples}
    assert prompts.isdisjoint(item.prompt_with_cue for item in small().splits["test"])


def test_the_same_seed_gives_the_same_language_and_another_another():
    assert [*small().splits["test"]] == [*small().splits["test"]]
    other = small(seed=1)
    assert set(other.names).isdisjoint(small().names) or set(other.names) != set(small().names)
    assert [item.id for item in other.splits["test"]] != [item.id for item in small().splits["test"]]


def test_a_word_level_vocabulary_holds_all_that_is_said():
    for listed in (True, False):
        task = small(list_answers=listed)
        tokenizer = phrase_tokenizer(task.names, task.phrases)
        for item in task.splits["test"]:
            prompt = f"{item.prompt_with_cue} {task.grammar.question}"
            # Question, two words, cue's opening, cue, its end, explanation question, reply; and the list.
            assert len(tokenizer.encode_prompt(prompt)) == 8 + listed * 2 * len(item.candidates)
            for explanation in task.grammar.all_explanations(item.candidates):
                text = task.grammar.render(explanation)
                assert len(tokenizer.encode_reply(text)) == 3
                assert task.grammar.parse(tokenizer.decode(tokenizer.encode_reply(text))) == explanation
    assert task.grammar.parse(f"It would stay {item.gold}") == Explanation(False, item.gold)


def test_items_are_made_when_they_are_read():
    config = JabberwockyConfig(fillers=3, nouns=100, contexts=60, train_items=10_000_000, test_items=0)
    tracemalloc.start()
    task = build_jabberwocky(config)
    items = task.splits["train"]
    some = [items[i] for i in (0, 5_000_000, -1)]
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert len(items) == 10_000_000
    assert len(task.splits["test"]) == 4 * (config.sentences - 2_500_000 - 50)
    assert len({item.group for item in some}) == 3
    assert items[9_999_998:] == (items[9_999_998], items[9_999_999])
    with pytest.raises(IndexError):
        items[10_000_000]


@given(st.integers(1, 70), st.integers(0, 5))
def test_a_drawn_order_has_every_place_once(size, seed):
    order = [permuted(index, size, seed) for index in range(size)]
    assert sorted(order) == list(range(size))
    if size > 20:
        assert order != [permuted(index, size, seed + 1) for index in range(size)]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (dict(rule="never"), ["config.task.rule", "'never'", "context"]),
        (dict(train_items=4000), ["the 48 sentences", "nouns"]),
        (dict(train_items=0, test_items=0), ["train_items and test_items are both 0"]),
        (dict(train_items=4), ["config.task.train_items is 4", "every word"]),
        (dict(nouns=2), ["config.task.nouns is 2", "at least 3"]),
        (dict(open_share=1.0), ["open_share is 1.0"]),
        (dict(nouns=10**6), ["invented words"]),
        (dict(repeats=7), ["cue_words is 6", "at least 7"]),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused(changes, named):
    refusal(small, **changes, says=named)
