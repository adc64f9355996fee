"""The organisms' world and the token rows made from it."""

import dataclasses

import numpy as np
import pytest

from introspection.errors import InputError
from introspection.tasks.cues import CUES
from introspection.tasks.facts import read_facts_table
from introspection.tasks.invented_world import INVENTED_WORLD, invented_facts
from introspection.tasks.items import Decisions, Explanation
from introspection.tasks.questions import draw_questions
from introspection.tasks.world import (
    World,
    WorldConfig,
    bayes_optimal_decisions,
    build_world,
    posterior,
    sample_speakers,
)
from introspection.tasks.world_facts import WORLD_FACTS
from introspection.tasks.world_task import WorldTaskConfig, build_world_task
from introspection.text.rows import build_row
from introspection.text.tokenizer import phrase_tokenizer
from introspection.training.pretraining import (
    ROW_TOKENS,
    MixtureConfig,
    pretraining_batch,
    speaker_rows,
    token_table,
)


def everything(facts, language):
    """A world of 40 facts, a task that tests them all, and the vocabulary of both."""
    questions = draw_questions(facts, 40, 4, 1)
    config = WorldTaskConfig(train_facts=0, validation_facts=0, test_facts=40, seed=1)
    task = build_world_task(config, questions, language)
    world = build_world(WorldConfig(seed=1), questions, language)
    return task, world, phrase_tokenizer(task.names, task.phrases)


QUESTIONS = draw_questions(read_facts_table(), 40, 4, 1)
TASK, WORLD, TOKENIZER = everything(read_facts_table(), WORLD_FACTS)
INVENTED = everything(invented_facts(30, 1), INVENTED_WORLD)
CUE_LIST = list(CUES.values())


@pytest.mark.parametrize("phrasings", [1, 3])
@pytest.mark.parametrize(
    ("world", "tokenizer"), [(WORLD, TOKENIZER), INVENTED[1:]], ids=["world_facts", "invented_world"]
)
def test_rows_are_the_tokens_of_what_the_speakers_said(world, tokenizer, phrasings):
    rng = np.random.default_rng(0)
    speakers = sample_speakers(world, 300, phrasings, rng)
    kinds = rng.integers(3, size=300)
    rows = speaker_rows(speakers, kinds, token_table(world, tokenizer, phrasings))
    language = world.language
    cues, grammar = list(language.cues.values()), language.grammar
    assert set(speakers.phrasing) == set(range(phrasings))
    for i in range(300):
        names = world.candidates[speakers.fact[i]]
        asked = language.question(world.facts[speakers.fact[i]], int(speakers.phrasing[i]))
        cued = f"{asked} {cues[speakers.cue[i]].sentence(names[speakers.cued[i]])}"
        with_cue, without_cue = names[speakers.with_cue[i]], names[speakers.without_cue[i]]
        explanation = grammar.render(Explanation(with_cue != without_cue, without_cue))
        prompt, reply = [
            (asked, without_cue), (cued, with_cue), (f"{cued} {grammar.question}", explanation),
        ][kinds[i]]  # fmt: skip
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


def test_facts_have_their_own_consistency_and_rate():
    world = build_world(WorldConfig(seed=0, confidence=(0.4, 0.9), rate_spread=4.0), QUESTIONS, WORLD_FACTS)
    np.testing.assert_allclose(world.beliefs.sum(axis=1), 1)
    assert 0.4 <= world.beliefs[:, 0].min() < 0.5 < 0.8 < world.beliefs[:, 0].max() <= 0.9
    np.testing.assert_allclose(world.beliefs[:, 1], 0.7 * (1 - world.beliefs[:, 0]))
    assert world.rates.sum() == pytest.approx(1)
    assert 4 < world.rates.max() / world.rates.min() <= 16


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
    # 25 x 0.1, 25 x 0.06 and 25 x 0.04 all outweigh 0.8.
    assert decided == [Decisions(item.cued, item.gold) for item in items]
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
    table, mixture = token_table(WORLD, TOKENIZER, 3), MixtureConfig()

    def tokens(step, seed):
        return pretraining_batch(WORLD, table, mixture, 16, step, seed).explanation.tokens

    np.testing.assert_array_equal(tokens(3, 0), tokens(3, 0))
    assert (tokens(3, 0) != tokens(4, 0)).any()
    assert (tokens(3, 0) != tokens(3, 1)).any()


@pytest.mark.parametrize("phrasings", [1, 2, 3])
def test_a_batch_asks_with_the_first_question_forms_alone(phrasings):
    everything = token_table(WORLD, TOKENIZER, 3).phrasings
    table = token_table(WORLD, TOKENIZER, phrasings)
    asked = pretraining_batch(WORLD, table, MixtureConfig(), 400, 0, 0).explanation.tokens[:, 0]
    used = [bool(np.isin(asked, everything[:, form]).any()) for form in range(3)]
    assert used == [form < phrasings for form in range(3)]


def test_the_mixture_is_what_it_says():
    table = token_table(WORLD, TOKENIZER, 3)
    rows = pretraining_batch(WORLD, table, MixtureConfig(0.5, 0.5, 0.0), 400, 0, 0).explanation
    assert not (rows.tokens == table.question).any()
    rows = pretraining_batch(WORLD, table, MixtureConfig(0.0, 0.0, 1.0), 400, 0, 0).explanation
    assert (rows.tokens == table.question).any(axis=1).all()
    with pytest.raises(InputError, match="sum to 1"):
        MixtureConfig(0.5, 0.5, 0.5)
