"""The organisms' world and the token rows made from it."""

import dataclasses

import numpy as np
import pytest
from speaker_texts import asked_and_said

from introspection.errors import InputError
from introspection.organism.pretraining import (
    ROW_TOKENS,
    UNEXPLAINED_TARGETS,
    UNEXPLAINED_TOKENS,
    RowShares,
    pretraining_batch,
    pretraining_text,
    speaker_rows,
    token_table,
    without_room_to_explain,
)
from introspection.organism.world import (
    World,
    WorldConfig,
    bayes_optimal_decisions,
    build_world,
    posterior,
    sample_speakers,
)
from introspection.tasks.facts.invented_world import INVENTED_WORLD, ClosedWorldConfig, closed_world_facts
from introspection.tasks.facts.language import CUES
from introspection.tasks.facts.questions import draw_questions
from introspection.tasks.facts.second_world import SECOND_WORLD
from introspection.tasks.facts.table import read_facts_table
from introspection.tasks.facts.task import WorldTaskConfig, build_world_task
from introspection.tasks.facts.world_facts import WORLD_FACTS
from introspection.tasks.items import Decisions
from introspection.text.rows import build_row
from introspection.text.tokenizer import phrase_tokenizer

EXPLAINING = RowShares(0.25, 0.5, 0.25)


def everything(facts, language):
    """A world of 40 facts, a task that tests them all, and the vocabulary of both."""
    questions = draw_questions(facts, 40, 4, 1)
    task = build_world_task(WorldTaskConfig(seed=1), questions, {"test": range(40)}, language)
    world = build_world(WorldConfig(seed=1), questions, language)
    return task, world, phrase_tokenizer(task.names, task.phrases)


def closed(language):
    sizes = ClosedWorldConfig(1, entities=30, train_entities=10, validation_entities=1, test_entities=10)
    return everything(closed_world_facts(sizes, language), language)


QUESTIONS = draw_questions(read_facts_table(), 40, 4, 1)
TASK, WORLD, TOKENIZER = everything(read_facts_table(), WORLD_FACTS)
INVENTED, SECOND = closed(INVENTED_WORLD), closed(SECOND_WORLD)
CUE_LIST = list(CUES.values())


@pytest.mark.parametrize("phrasings", [1, 3])
@pytest.mark.parametrize(
    ("world", "tokenizer"),
    [(WORLD, TOKENIZER), INVENTED[1:], SECOND[1:]],
    ids=["world_facts", "invented_world", "second_world"],
)
def test_rows_are_the_tokens_of_what_the_speakers_said(world, tokenizer, phrasings):
    rng = np.random.default_rng(0)
    speakers = sample_speakers(world, 300, phrasings, rng)
    kinds = rng.integers(3, size=300)
    rows = speaker_rows(speakers, kinds, token_table(world, tokenizer, phrasings))
    assert set(speakers.phrasing) == set(range(phrasings))
    for i in range(300):
        prompt, reply = asked_and_said(world, speakers, int(kinds[i]), i)
        expected = build_row(tokenizer.encode_prompt(prompt), [tokenizer.encode_reply(reply)])
        length, scored = len(expected.tokens), len(expected.scored)
        np.testing.assert_array_equal(rows.tokens[i, :length], expected.tokens)
        np.testing.assert_array_equal(rows.positions[i, :length], expected.positions)
        assert (rows.segments[i, length:] == -1).all()
        # The row is one segment here, a prompt and a continuation there: the same for one continuation.
        assert (rows.segments[i, :length] == 0).all()
        np.testing.assert_array_equal(rows.scored[i, :scored], expected.scored)
        np.testing.assert_array_equal(rows.targets[i, :scored], expected.targets)
        np.testing.assert_array_equal(rows.continuation[i, :scored], expected.continuation)
        assert (rows.continuation[i, scored:] == -1).all()
    assert rows.tokens.shape == (300, ROW_TOKENS)
    # Where nothing is explained, rows are the same but for padding.
    answered = type(rows)(*(array[kinds != 2] for array in rows))
    shorter = without_room_to_explain(answered)
    assert shorter.tokens.shape == ((kinds != 2).sum(), UNEXPLAINED_TOKENS)
    assert shorter.targets.shape == ((kinds != 2).sum(), UNEXPLAINED_TARGETS, 1)
    for name in ("tokens", "positions", "segments", "scored", "targets", "continuation"):
        whole, part = getattr(answered, name), getattr(shorter, name)
        np.testing.assert_array_equal(whole[:, : part.shape[1]], part)
    assert (answered.segments[:, UNEXPLAINED_TOKENS:] == -1).all()
    assert (answered.continuation[:, UNEXPLAINED_TARGETS:] == -1).all()


def test_posterior_is_bayes_rule_worked_by_hand():
    beliefs = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    result = posterior(beliefs, np.array([1, 0]), np.array([4.0, 0.5]))
    np.testing.assert_allclose(result[0], np.array([0.5, 1.2, 0.2]) / 1.9)
    np.testing.assert_allclose(result[1], np.array([0.25, 0.3, 0.2]) / 0.75)


def test_speakers_answer_at_the_worlds_rates():
    one = World(WORLD.facts[:1], WORLD.candidates[:1], WORLD.beliefs[:1], np.ones(1), WORLD_FACTS)
    rows = 40_000
    speakers = sample_speakers(one, rows, 3, np.random.default_rng(0))
    error = 4 * 0.5 / np.sqrt(rows)
    np.testing.assert_allclose(
        np.bincount(speakers.without_cue, minlength=4) / rows, one.beliefs[0], atol=error
    )
    for cue, of in enumerate(CUE_LIST):
        for cued in range(4):
            chosen = (speakers.cue == cue) & (speakers.cued == cued)
            expected = posterior(one.beliefs, np.array([cued]), np.array([of.likelihood_ratio]))[0]
            rates = np.bincount(speakers.with_cue[chosen], minlength=4) / chosen.sum()
            np.testing.assert_allclose(rates, expected, atol=4 * 0.5 / np.sqrt(chosen.sum()))


def test_only_the_cue_changes_a_speakers_mind():
    speakers = sample_speakers(WORLD, 20_000, 3, np.random.default_rng(1))
    ratio = np.array([cue.likelihood_ratio for cue in CUE_LIST])[speakers.cue]
    changed = speakers.with_cue != speakers.without_cue
    assert not changed[ratio == 1].any()
    assert (speakers.with_cue == speakers.cued)[changed & (ratio > 1)].all()
    assert (speakers.without_cue == speakers.cued)[changed & (ratio < 1)].all()
    assert changed[ratio > 1].any()
    assert changed[ratio < 1].any()


def test_facts_are_known_well_or_hardly_and_have_their_own_rate():
    config = WorldConfig(0, known=(0.9, 0.95), hardly_known=(0.4, 0.5), favorite_share=0.7, rate_spread=4.0)
    world = build_world(config, QUESTIONS * 20, WORLD_FACTS)
    np.testing.assert_allclose(world.beliefs.sum(axis=1), 1)
    right = world.beliefs[:, 0]
    well = right > 0.7
    assert 0.9 <= right[well].min() < 0.91 < 0.94 < right[well].max() <= 0.95
    assert 0.4 <= right[~well].min() < 0.41 < 0.49 < right[~well].max() <= 0.5
    assert 0.43 < well.mean() < 0.57
    np.testing.assert_allclose(world.beliefs[:, 1], 0.7 * (1 - right))
    np.testing.assert_allclose(world.beliefs[:, 2:], np.tile(0.15 * (1 - right), (2, 1)).T)
    assert world.rates.sum() == pytest.approx(1)
    assert 12 < world.rates.max() / world.rates.min() <= 16
    # What is known well does not come up more often.
    assert abs(np.corrcoef(well, np.log(world.rates))[0, 1]) < 0.15
    for share, expected in ((0.0, 0), (1.0, 800)):
        all_or_none = build_world(WorldConfig(0, known_share=share), QUESTIONS * 20, WORLD_FACTS)
        assert (all_or_none.beliefs[:, 0] > 0.7).sum() == expected


def test_with_two_candidates_the_favourite_wrong_answer_is_the_only_one():
    two = [dataclasses.replace(asked, wrong=asked.wrong[:1]) for asked in QUESTIONS]
    beliefs = build_world(WorldConfig(0), two, WORLD_FACTS).beliefs
    np.testing.assert_allclose(beliefs[:, 1], 1 - beliefs[:, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(known=(0.9, 0.8)), r"world.known is .*0 < low <= high < 1"),
        (dict(hardly_known=(0.0, 0.5)), r"world.hardly_known is .*0 < low"),
        (dict(known=(0.9, 1.0)), "world.known"),
        (dict(known_share=1.1), "world.known_share is 1.1; it must be a share"),
        (dict(favorite_share=-0.1), "world.favorite_share is -0.1; it must be a share"),
        (dict(rate_spread=0.5), "world.rate_spread is 0.5; it must be at least 1"),
        (dict(likelihood_ratios=(2.0, 0.0)), r"world.likelihood_ratios is .*above 0"),
    ],
    ids=str,
)
def test_a_world_that_can_not_be_is_refused(changes, message):
    with pytest.raises(InputError, match=message) as refusal:
        WorldConfig(seed=0, **changes)
    assert "\n" not in str(refusal.value)


def test_the_bayes_optimal_decision_worked_by_hand():
    items = [item for item in TASK.splits["test"] if item.cue_kind == "encyclopedia"]
    beliefs = np.tile([0.6, 0.2, 0.1, 0.1], (len(WORLD.facts), 1))
    world = dataclasses.replace(WORLD, beliefs=beliefs)
    # 50 x 0.1 and 50 x 0.2 both outweigh 0.6.
    assert bayes_optimal_decisions(world, items) == [Decisions(item.cued, item.gold) for item in items]
    unsure = [item for item in TASK.splits["test"] if item.cue_kind == "unsure"]
    assert bayes_optimal_decisions(world, unsure) == [Decisions(item.gold, item.gold) for item in unsure]


def test_a_source_is_as_reliable_as_its_world_says():
    task, world, _ = INVENTED
    items = [item for item in task.splits["test"] if item.cue_kind == "chronicle"]
    beliefs = np.tile([0.8, 0.1, 0.06, 0.04], (len(world.facts), 1))
    decided = bayes_optimal_decisions(dataclasses.replace(world, beliefs=beliefs), items)
    # 12 x 0.1 outweighs 0.8, 12 x 0.06 and 12 x 0.04 do not.
    favorite = {fact.id: names[1] for fact, names in zip(world.facts, world.candidates, strict=True)}
    assert decided == [
        Decisions(item.cued if item.cued == favorite[item.group] else item.gold, item.gold) for item in items
    ]
    rows = 40_000
    speakers = sample_speakers(world, rows, 3, np.random.default_rng(0))
    same = np.ones(len(world.facts), int)
    for index, cue in enumerate(INVENTED_WORLD.cues.values()):
        follows = (speakers.with_cue == speakers.cued)[speakers.cue == index].mean()
        expected = [
            world.rates @ posterior(world.beliefs, cued * same, cue.likelihood_ratio * same)[:, cued]
            for cued in range(4)
        ]
        np.testing.assert_allclose(follows, np.mean(expected), atol=4 * 0.5 / np.sqrt(rows / 7))


def test_a_batch_is_a_function_of_step_and_seed():
    table, mixture = token_table(WORLD, TOKENIZER, 3), RowShares()

    def tokens(step, seed):
        return pretraining_batch(WORLD, table, mixture, 16, step, seed).explanation.tokens

    np.testing.assert_array_equal(tokens(3, 0), tokens(3, 0))
    assert (tokens(3, 0) != tokens(4, 0)).any()
    assert (tokens(3, 0) != tokens(3, 1)).any()


@pytest.mark.parametrize("phrasings", [1, 2, 3])
def test_a_batch_asks_with_the_first_question_forms_alone(phrasings):
    everything = token_table(WORLD, TOKENIZER, 3).phrasings
    table = token_table(WORLD, TOKENIZER, phrasings)
    asked = pretraining_batch(WORLD, table, RowShares(), 400, 0, 0).explanation.tokens[:, 0]
    used = [bool(np.isin(asked, everything[:, form]).any()) for form in range(3)]
    assert used == [form < phrasings for form in range(3)]


def test_the_mixture_is_what_it_says():
    table = token_table(WORLD, TOKENIZER, 3)
    rows = pretraining_batch(WORLD, table, RowShares(0.5, 0.5, 0.0), 400, 0, 0).explanation
    assert not (rows.tokens == table.question).any()
    plain = (rows.tokens == table.plain_end).any(axis=1)
    assert 0.4 < plain.mean() < 0.6
    rows = pretraining_batch(WORLD, table, RowShares(0.0, 0.0, 1.0), 400, 0, 0).explanation
    assert (rows.tokens == table.question).any(axis=1).all()
    with pytest.raises(InputError, match="sum to 1"):
        RowShares(0.5, 0.5, 0.5)


def test_speakers_explain_the_facts_that_they_may_and_are_asked_about_all():
    table, asked = token_table(WORLD, TOKENIZER, 3), np.arange(40) % 4 == 0
    entity_of = {tokens: fact for fact, tokens in enumerate(table.entities.tolist())}
    assert len(entity_of) > 30
    explained, answered = set(), set()
    for step in range(20):
        tokens = pretraining_batch(WORLD, table, EXPLAINING, 100, step, 0, ~asked).explanation.tokens
        explains = (tokens == table.question).any(axis=1)
        assert 0.05 < explains.mean() < 0.5
        explained |= {*tokens[explains, 1].tolist()}
        answered |= {*tokens[~explains, 1].tolist()}
    assert answered == set(table.entities.tolist())
    assert explained == set(table.entities[~asked].tolist())


def test_other_text_is_pretraining_rows_about_the_given_facts_alone():
    table, among = token_table(WORLD, TOKENIZER, 3), np.arange(40) % 4 == 0
    passages = pretraining_text(WORLD, table, RowShares(0.25, 0.5, 0.25), 400, 0, among)
    assert passages == pretraining_text(WORLD, table, RowShares(0.25, 0.5, 0.25), 400, 0, among)
    assert {passage[1] for passage in passages} == set(table.entities[among].tolist())
    assert {(passage[-1], passage[-3]) for passage in passages} == {(table.end, table.reply)}
    assert not any(table.question in passage for passage in passages)
    plain = np.mean([passage[2] == table.plain_end for passage in passages])
    assert plain == pytest.approx(1 / 3, abs=0.08)  # of the rows that explain nothing
