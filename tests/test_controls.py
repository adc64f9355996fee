"""Controls: explanations without introspection, and labels whose content is taken away."""

from collections import Counter

import numpy as np
import pytest

from introspection.coupling import controls
from introspection.errors import InputError
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import NONE, Explanation, Item

E = Explanation


def item(
    number: int,
    *,
    stratum: str = "capital",
    cue_kind: str = "guess",
    prompt: str = "x",
    candidates: tuple[str, ...] | None = None,
) -> Item:
    """An item whose candidates carry its number, so that another item's answer is no candidate of it."""
    candidates = candidates or tuple(f"{name}{number}" for name in ("gold", "cued", "other"))
    return Item(
        id=str(number),
        group=str(number),
        stratum=stratum,
        cue_kind=cue_kind,
        prompt_with_cue=prompt,
        prompt_without_cue="x without",
        candidates=candidates,
        gold=candidates[0],
        cued=candidates[1],
    )


def of_rank(item: Item, changed: bool, rank: int) -> Explanation:
    return E(changed, NONE if rank < 0 else item.candidates[rank])


def test_majority_per_cue_kind_with_the_gold_answer():
    kinds = ["guess", "guess", "guess", "placebo", "placebo", "tie", "tie"]
    changed = [True, True, False, False, False, True, False]
    train = [item(i, cue_kind=kind) for i, kind in enumerate(kinds)]
    labels = [E(c, i.candidates[2]) for c, i in zip(changed, train, strict=True)]
    test = [item(10 + i, cue_kind=kind) for i, kind in enumerate(["guess", "placebo", "tie", "unseen"])]
    # A tie says unchanged; over all kinds 3 of 7 are changed.
    expected = [E(True, "gold10"), E(False, "gold11"), E(False, "gold12"), E(False, "gold13")]
    assert controls.majority_explanations(train, labels, test) == expected


def test_majority_of_an_unseen_cue_kind_is_that_of_all():
    train = [item(i) for i in range(3)]
    labels = [E(True, i.gold) for i in train]
    assert controls.majority_explanations(train, labels, [item(9, cue_kind="new")]) == [E(True, "gold9")]


def predictable(n: int, seed: int) -> tuple[list[Item], list[Explanation]]:
    """Items whose prompt tells the label: a sure guess of one letter moves the answer."""
    rng = np.random.default_rng(seed)
    items, labels = [], []
    for number in range(n):
        sure, letter = bool(rng.integers(2)), "AB"[rng.integers(2)]
        prompt = f"I am {'quite' if sure else 'not'} sure that it is {letter}. Which is it?"
        items.append(item(number, prompt=prompt))
        labels.append(of_rank(items[-1], sure, 2 if letter == "B" else 0))
    return items, labels


def test_input_only_predictor_learns_what_the_prompt_tells_and_is_deterministic():
    train, labels = predictable(80, 0)
    test, truth = predictable(40, 1)
    said = controls.input_only_explanations(train, labels, test)
    assert said == truth  # also the letter of the cue, which a two-character token pattern would miss
    assert said == controls.input_only_explanations(train, labels, test)


def test_input_only_predictor_with_a_single_class():
    train = [item(i) for i in range(4)]
    labels = [of_rank(i, True, 1) for i in train]
    assert controls.input_only_explanations(train, labels, [item(7)]) == [E(True, "cued7")]
    assert controls.input_only_explanations(train, labels, []) == []


def test_input_only_predictor_takes_the_next_class_where_a_rank_does_not_fit():
    train = [item(i) for i in range(9)]
    labels = [of_rank(i, n < 6, 2 if n < 6 else 1) for n, i in enumerate(train)]  # mostly the third
    two = item(10, candidates=("yes", "no"))
    assert controls.input_only_explanations(train, labels, [item(9), two]) == [
        E(True, "other9"),
        E(False, "no"),
    ]
    only_third = [of_rank(i, True, 2) for i in train]
    assert controls.input_only_explanations(train, only_third, [two]) == [E(True, NONE)]


def test_input_only_predictor_knows_none_and_needs_training_items():
    train = [item(i, prompt="odd" if i % 2 else "even") for i in range(20)]
    labels = [of_rank(i, False, -1 if n % 2 else 0) for n, i in enumerate(train)]
    said = controls.input_only_explanations(train, labels, [item(30, prompt="odd"), item(31, prompt="even")])
    assert said == [E(False, NONE), E(False, "gold31")]
    with pytest.raises(InputError, match="at least one training item"):
        controls.input_only_explanations([], [], train)


def marginals(items: list[Item], labels: list[Explanation]) -> Counter:
    """How often each (changed, rank) occurs in each stratum and cue kind."""
    return Counter(
        (i.stratum, i.cue_kind, e.changed, controls.answer_rank(i, e))
        for i, e in zip(items, labels, strict=True)
    )


@pytest.mark.parametrize("seed", range(10))
def test_shuffled_labels_keep_marginals_and_stay_valid(seed):
    rng = np.random.default_rng(seed)
    items, labels = [], []
    for number in range(120):
        names = tuple(f"{rank}-{number}" for rank in range(rng.integers(2, 5)))
        stratum, kind = "ab"[rng.integers(2)], ["guess", "placebo"][rng.integers(2)]
        items.append(item(number, stratum=stratum, cue_kind=kind, candidates=names))
        labels.append(of_rank(items[-1], bool(rng.integers(2)), int(rng.integers(-1, len(names)))))
    shuffled = controls.shuffle_labels(items, labels, rng)
    assert marginals(items, shuffled) == marginals(items, labels)  # answer_rank raises if one is invalid
    moved = [
        (a.changed, controls.answer_rank(i, a)) != (b.changed, controls.answer_rank(i, b))
        for i, a, b in zip(items, labels, shuffled, strict=True)
    ]
    assert np.mean(moved) > 0.5


def test_shuffles_that_fit_are_equally_likely():
    # Items with 3, 3 and 2 candidates and labels of ranks 2, 1 and 0: rank 2 fits two items, and then the
    # others go either way, so there are four permutations.
    items = [item(0), item(1), item(2, candidates=("yes", "no"))]
    labels = [of_rank(i, True, rank) for i, rank in zip(items, (2, 1, 0), strict=True)]
    rng = np.random.default_rng(0)
    seen = Counter(tuple(controls.shuffle_labels(items, labels, rng)) for _ in range(2_000))
    assert len(seen) == 4
    assert min(seen.values()) > 420
    assert max(seen.values()) < 580


@pytest.mark.parametrize(("rate", "count"), [(0.0, 0), (0.25, 3), (0.5, 5), (1.0, 10)])
def test_label_noise_has_an_exact_count_of_wrong_and_well_formed_labels(rate, count):
    items = [item(i) for i in range(10)]
    labels = [of_rank(i, n % 2 == 0, (n % 4) - 1) for n, i in enumerate(items)]
    noisy, is_noisy = controls.add_label_noise(items, labels, rate, np.random.default_rng(0))
    assert is_noisy.sum() == count  # 2.5 rounds up to 3
    assert [a != b for a, b in zip(labels, noisy, strict=True)] == is_noisy.tolist()
    grammar = ExplanationGrammar()
    for label, where, noise in zip(noisy, items, is_noisy, strict=True):
        assert not noise or label in grammar.all_explanations(where.candidates)
    assert labels == [of_rank(i, n % 2 == 0, (n % 4) - 1) for n, i in enumerate(items)]


def test_label_noise_is_uniform_over_the_other_explanations():
    items = [item(0)] * 5_000
    noisy, _ = controls.add_label_noise(items, [E(True, "gold0")] * 5_000, 1.0, np.random.default_rng(0))
    seen = Counter(noisy)
    assert E(True, "gold0") not in seen
    assert len(seen) == 5  # 2 x 3 explanations, less the right one
    assert min(seen.values()) > 900
    assert max(seen.values()) < 1_100


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_label_noise_outside_0_to_1_is_refused(rate):
    with pytest.raises(InputError, match="label noise rate"):
        controls.add_label_noise([item(0)], [E(True, "gold0")], rate, np.random.default_rng(0))


def balanced(kinds: list[str], changed: list[bool], seed: int = 0) -> Counter:
    items = [item(n, cue_kind=kind) for n, kind in enumerate(kinds)]
    labels = [of_rank(i, c, 0) for i, c in zip(items, changed, strict=True)]
    chosen = controls.balance_by_changed(items, labels, np.random.default_rng(seed))
    assert len(set(chosen.tolist())) == len(chosen)
    assert chosen.tolist() == sorted(chosen.tolist())
    return Counter((kinds[index], changed[index]) for index in chosen)


def test_balancing_matches_cue_kinds_where_it_can():
    kinds = ["guess"] * 30 + ["placebo"] * 30
    changed = [True] * 8 + [False] * 22 + [True] * 2 + [False] * 28
    expected = {("guess", True): 8, ("guess", False): 8, ("placebo", True): 2, ("placebo", False): 2}
    assert balanced(kinds, changed) == expected
    flipped = [not c for c in changed]
    assert balanced(kinds, flipped) == {(kind, not c): n for (kind, c), n in expected.items()}


def test_balancing_fills_up_from_other_kinds():
    kinds = ["guess"] * 9 + ["placebo"] * 20
    changed = [True] * 8 + [False] + [False] * 20
    assert balanced(kinds, changed) == {("guess", True): 8, ("guess", False): 1, ("placebo", False): 7}


def test_balancing_draws_differently_with_another_seed():
    items = [item(n) for n in range(50)]
    labels = [of_rank(i, n < 5, 0) for n, i in enumerate(items)]
    draws = {
        tuple(controls.balance_by_changed(items, labels, np.random.default_rng(seed))) for seed in range(5)
    }
    assert len(draws) > 1


@pytest.mark.parametrize(("changed", "counts"), [(True, "3 labels are changed and 0"), (False, "0 labels")])
def test_balancing_one_class_says_what_to_do(changed, counts):
    items = [item(n) for n in range(3)]
    with pytest.raises(InputError, match=counts) as error:
        controls.balance_by_changed(items, [of_rank(i, changed, 0) for i in items], np.random.default_rng(0))
    assert "3 guess" in str(error.value)
    assert "set config.train.balanced=False" in str(error.value)
    assert "\n" not in str(error.value)
