"""Controls: explanations without introspection, and labels whose content is taken away."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    """An item whose candidates carry its number, so that another item's answer is no candidate of it.

    Of the names that are given the first is right and the second is cued.
    """
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
    """Rank 0 is the right answer, 1 the cued one, then come the others."""
    others = [name for name in item.candidates if name not in (item.gold, item.cued)]
    return E(changed, NONE if rank < 0 else [item.gold, item.cued, *others][rank])


def test_an_answers_role_does_not_depend_on_how_candidates_are_called_or_listed():
    for names in (("a", "b", "c", "d"), ("z", "y", "x", "w"), ("m", "z", "a", "q")):
        one = item(0, candidates=names)
        assert controls.by_role(one) == (*names[:2], *sorted(names[2:]))
        for rank, answer in enumerate(controls.by_role(one)):
            assert controls.answer_rank(one, E(True, answer)) == rank
            assert controls.explanation_at_rank(one, True, rank) == E(True, answer)
    assert controls.answer_rank(one, E(False, NONE)) == controls.NONE_RANK
    assert controls.explanation_at_rank(one, False, controls.NONE_RANK) == E(False, NONE)
    with pytest.raises(ValueError, match="'elsewhere' is not a candidate"):
        controls.answer_rank(one, E(False, "elsewhere"))


def test_majority_per_cue_kind_with_the_gold_answer():
    kinds = ["guess", "guess", "guess", "placebo", "placebo", "tie", "tie"]
    changed = [True, True, False, False, False, True, False]
    train = [item(i, cue_kind=kind) for i, kind in enumerate(kinds)]
    labels = [of_rank(i, c, 2) for c, i in zip(changed, train, strict=True)]
    test = [item(10 + i, cue_kind=kind) for i, kind in enumerate(["guess", "placebo", "tie", "unseen"])]
    # A tie says unchanged; over all kinds 3 of 7 are changed.
    expected = [E(True, "gold10"), E(False, "gold11"), E(False, "gold12"), E(False, "gold13")]
    assert controls.majority_explanations(train, labels, test) == expected


def test_majority_of_an_unseen_cue_kind_is_that_of_all():
    train = [item(i) for i in range(3)]
    labels = [E(True, i.gold) for i in train]
    assert controls.majority_explanations(train, labels, [item(9, cue_kind="new")]) == [E(True, "gold9")]


def test_the_majority_is_that_of_natural_rates_where_explained_items_are_balanced():
    items, test = [item(i) for i in range(3)], [item(9)]
    labels = [E(True, items[0].gold), E(True, items[1].gold), E(False, items[2].gold)]
    balanced = items[1:], labels[1:]
    said = {
        name: controls.computed_control(name, balanced, (items, labels), test, 0)
        for name in controls.CONTROLS
    }
    assert said["majority"] == [E(True, "gold9")] != controls.majority_explanations(*balanced, test)
    assert said["input_only"] == controls.input_only_explanations(*balanced, test)


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


LISTED = st.lists(
    st.tuples(
        st.permutations(["ash", "birch", "cedar", "dogwood"]),
        st.sampled_from(["guess", "placebo"]),
        st.booleans(),  # whether the right answer and the cued one are known
        st.booleans(),  # changed
        st.integers(-1, 3),  # the label's answer, -1 for none
    ),
    min_size=2,
    max_size=12,
)


@settings(max_examples=15)
@given(listed=LISTED, seed=st.integers(0, 2**32 - 1))
def test_controls_do_not_depend_on_the_order_in_which_candidates_are_listed(listed, seed):
    rng = np.random.default_rng(seed)
    orders = [[names, [names[i] for i in rng.permutation(4)]] for names, *_ in listed]

    def said(which):
        items, labels = [], []
        for number, (names, kind, known, changed, answer) in enumerate(listed):
            gold, cued = (names[0], names[1]) if known else ("", "")
            shown = item(number, cue_kind=kind, prompt=f"{kind} {cued}", candidates=(*orders[number][which],))
            items.append(dataclasses.replace(shown, gold=gold, cued=cued))
            labels.append(E(changed, NONE if answer < 0 else names[answer]))
        half = len(items) // 2
        train = items[:half], labels[:half]
        shuffled = controls.shuffle_labels(items, labels, np.random.default_rng(0))
        noisy, _ = controls.add_label_noise(items, labels, 0.5, np.random.default_rng(0))
        return (
            controls.majority_explanations(*train, items[half:]),
            controls.input_only_explanations(*train, items[half:], features=2**6),
            shuffled,
            noisy,
        )

    assert said(0) == said(1)


def labelled(shares: dict[str, float], each: int, seed: int = 0) -> tuple[list[Item], list[Explanation]]:
    """Items of cue kinds of which a share is changed; the right answer's name is no first one by alphabet."""
    rng = np.random.default_rng(seed)
    items, labels = [], []
    for kind, share in shares.items():
        for _ in range(each):
            names = [f"{letter}{len(items)}" for letter in rng.permutation(list("abcd"))]
            items.append(item(len(items), cue_kind=kind, candidates=(*names,)))
            labels.append(of_rank(items[-1], bool(rng.random() < share), int(rng.choice([0, 0, 0, 1]))))
    return items, labels


@settings(max_examples=60)
@given(
    kinds=st.lists(st.sampled_from("abc"), min_size=1, max_size=30),
    lone=st.sampled_from([True, False]),
    seed=st.integers(0, 2**32 - 1),
)
def test_shuffled_labels_are_valid_and_none_stays_in_its_place(kinds, lone, seed):
    rng = np.random.default_rng(seed)
    items = [item(n, cue_kind=kind) for n, kind in enumerate(kinds)]
    # One label of each kind differs from all others: it must be found elsewhere.
    places = {kind: int(rng.choice([n for n, own in enumerate(kinds) if own == kind])) for kind in kinds}
    labels = [of_rank(i, lone == (n in places.values()), -1) for n, i in enumerate(items)]
    shuffled = controls.shuffle_labels(items, labels, rng)
    for kind, place in places.items():
        of_kind = [n for n, own in enumerate(kinds) if own == kind]
        found = [n for n in of_kind if shuffled[n].changed == lone]
        assert len(found) == 1  # the kind's rate is kept
        assert found != [place] or len(of_kind) == 1
    for i, label in zip(items, shuffled, strict=True):
        assert isinstance(label.changed, bool)
        assert label.answer in i.candidates


def test_a_shuffled_label_can_come_from_any_other_item_of_its_kind():
    items = [item(n, cue_kind="guess" if n < 5 else "placebo") for n in range(8)]
    labels = [of_rank(i, n == 2, 0) for n, i in enumerate(items)]
    rng = np.random.default_rng(0)
    to = Counter(
        next(n for n, label in enumerate(controls.shuffle_labels(items, labels, rng)) if label.changed)
        for _ in range(2_000)
    )
    assert set(to) == {0, 1, 3, 4}
    assert min(to.values()) > 400
    assert max(to.values()) < 600


def test_shuffled_labels_have_no_content_and_the_share_that_is_kept_is_chance():
    shares, each = {"guess": 0.5, "sure": 0.1, "placebo": 0.9}, 2_000
    items, clean = labelled(shares, each)
    shuffled = controls.shuffle_labels(items, clean, np.random.default_rng(1))
    pairs = list(zip(items, clean, shuffled, strict=True))
    chance = []
    for kind in shares:
        of_kind = [(i, a, b) for i, a, b in pairs if i.cue_kind == kind]
        rate = np.mean([a.changed for _, a, _ in of_kind])
        assert np.mean([b.changed for _, _, b in of_kind]) == rate
        same = np.mean([a.changed == b.changed for _, a, b in of_kind])
        assert same == pytest.approx(rate**2 + (1 - rate) ** 2, abs=0.045)
        chance.append((rate**2 + (1 - rate) ** 2) / 4)
    # Four candidates: each answer as likely, by role, by place in the alphabet, and as the clean label's.
    ranks = Counter(controls.answer_rank(i, b) for i, _, b in pairs)
    places = Counter(i.candidates.index(b.answer) for i, _, b in pairs)
    for counted in (ranks, places):
        assert set(counted) == {0, 1, 2, 3}
        assert all(count == pytest.approx(len(items) / 4, rel=0.09) for count in counted.values())
    assert np.mean([a.answer == b.answer for _, a, b in pairs]) == pytest.approx(0.25, abs=0.025)
    kept = controls.kept_share(clean, shuffled)
    assert kept == sum(a == b for _, a, b in pairs) / len(pairs)
    assert kept == pytest.approx(np.mean(chance), abs=0.025)
    assert kept < 0.25


def test_the_share_that_is_kept_counts_whole_labels():
    clean = [E(True, "a"), E(False, "a"), E(False, NONE), E(True, "b")]
    trained = [E(True, "a"), E(True, "a"), E(False, "a"), E(True, "b")]
    assert controls.kept_share(clean, clean) == 1
    assert controls.kept_share(clean, trained) == 0.5


def test_a_label_alone_in_its_cue_kind_loses_its_answer_alone():
    one, label = item(0), E(True, "gold0")
    shuffled = [controls.shuffle_labels([one], [label], np.random.default_rng(seed))[0] for seed in range(50)]
    assert {label.changed for label in shuffled} == {True}
    assert {label.answer for label in shuffled} == {*one.candidates}


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


@pytest.mark.parametrize(
    ("part", "towards", "expected"),
    [
        ("changed", "uniform", {E(False, "gold0")}),
        ("answer", "uniform", {E(True, "cued0"), E(True, "other0")}),
        ("answer", "cued", {E(True, "cued0")}),
        ("both", "cued", {E(True, "cued0"), E(False, "cued0")}),
    ],
)
def test_noise_makes_the_asked_part_wrong_and_names_the_cue_where_it_should(part, towards, expected):
    items, labels = [item(0)] * 100, [E(True, "gold0")] * 100
    noisy, is_noisy = controls.add_label_noise(items, labels, 0.75, np.random.default_rng(1), part, towards)
    assert is_noisy.sum() == 75
    assert {label for label, wrong in zip(noisy, is_noisy, strict=True) if wrong} == expected


def test_noise_towards_the_cue_is_wrong_where_the_label_already_names_it():
    labels = [E(True, "cued0"), E(True, NONE)]
    wrong = [controls.wrong_labels(item(0), label, "answer", "cued") for label in labels]
    assert wrong == [[E(True, "gold0"), E(True, "other0")], [E(True, "cued0")]]
    assert controls.wrong_labels(item(0), E(True, NONE), "changed", "uniform") == [E(False, NONE)]
    with pytest.raises(InputError, match="has no other candidate"):
        controls.wrong_labels(
            dataclasses.replace(item(0), candidates=("gold0",)), E(True, "gold0"), "answer", "uniform"
        )


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
