"""Controls for Self and Orig: explanations made without introspection, and labels without content.

An answer carries over to another item by its role: the right answer has rank 0, the cued one comes next, then
the others; -1 is `NONE`. So these controls know which candidate is right, which favours them.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int

from introspection.errors import InputError
from introspection.runtime.config import check_choice
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import NONE, Explanation, Item

Labelled = tuple[Sequence[Item], Sequence[Explanation]]  # items, each with its label
NONE_RANK = -1
NOISE_PARTS = ("both", "changed", "answer")  # of a label that noise can replace
NOISE_TOWARDS = ("uniform", "cued")  # which wrong answer it names


def by_role(item: Item) -> tuple[str, ...]:
    """The item's candidates by role: right, cued, then the others in alphabetical order."""
    return tuple(dict.fromkeys(filter(None, (item.gold, item.cued, *item.candidates))))


def answer_rank(item: Item, label: Explanation) -> int:
    """The index of the label's answer in `by_role`; -1 for `NONE`."""
    if label.answer == NONE:
        return NONE_RANK
    if label.answer not in item.candidates:
        raise ValueError(f"item {item.id}: the label's answer {label.answer!r} is not a candidate")
    return by_role(item).index(label.answer)


def explanation_at_rank(item: Item, changed: bool, rank: int) -> Explanation:
    """The explanation with `changed` and the candidate at index `rank` of `by_role` (-1: `NONE`)."""
    return Explanation(changed, NONE if rank == NONE_RANK else by_role(item)[rank])


def majority_explanations(
    train_items: Sequence[Item], train_labels: Sequence[Explanation], test_items: Sequence[Item]
) -> list[Explanation]:
    """The majority `changed` of the item's cue kind, and the right answer.

    A tie is unchanged. A cue kind without training items gets the majority over all kinds. If the right
    answer isn't known, the answer is the item's candidate that is most frequent in the labels, or its first.
    """
    margin: Counter[str | None] = Counter()
    for item, label in zip(train_items, train_labels, strict=True):
        vote = 1 if label.changed else -1
        margin[item.cue_kind] += vote
        margin[None] += vote
    answers = Counter(label.answer for label in train_labels)
    return [
        Explanation(
            margin[item.cue_kind if item.cue_kind in margin else None] > 0,
            item.gold or max(item.candidates, key=lambda candidate: answers[candidate]),
        )
        for item in test_items
    ]


def input_only_explanations(
    train_items: Sequence[Item],
    train_labels: Sequence[Explanation],
    test_items: Sequence[Item],
    *,
    seed: int = 0,
    ngrams: tuple[int, int] = (1, 3),
    features: int = 2**16,
    inverse_regularization: float = 1.0,
    max_iterations: int = 1_000,
) -> list[Explanation]:
    """Predictions from the input only: logistic regression from hashed word n-grams of `x` to the labels.

    It predicts the pair (changed, rank of the answer): the likeliest whose rank the test item's candidates
    allow or, if there is none, the likeliest `changed` with `NONE`.

    Args:
        seed: of the solver; the same inputs and seed give the same explanations.
        ngrams: shortest and longest length, in words.
        features: number of hash buckets.
        inverse_regularization: scikit-learn's `C`.
        max_iterations: of the solver.

    Raises:
        InputError: there are no training items.
    """
    if not train_items:
        raise InputError("the input-only predictor needs at least one training item")
    if not test_items:
        return []
    classes = [
        (bool(label.changed), answer_rank(item, label))
        for item, label in zip(train_items, train_labels, strict=True)
    ]
    names = sorted(set(classes))
    if len(names) == 1:  # logistic regression refuses a single class
        ranking = np.zeros((len(test_items), 1), dtype=int)
    else:
        # Imported here because it takes longer than everything else a command imports.
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.linear_model import LogisticRegression

        # Keep one-letter words and case: in "I think it is B" the letter is the cue.
        vectorizer = HashingVectorizer(
            ngram_range=ngrams, n_features=features, lowercase=False, token_pattern=r"(?u)\b\w+\b"
        )
        model = LogisticRegression(C=inverse_regularization, max_iter=max_iterations, random_state=seed)
        prompts = vectorizer.transform([str(item.prompt_with_cue) for item in train_items])
        model.fit(prompts, [names.index(c) for c in classes])
        log_odds = model.predict_log_proba(vectorizer.transform([str(i.prompt_with_cue) for i in test_items]))
        ranking = np.argsort(-log_odds, axis=1, kind="stable")
    return [
        _likeliest_fitting(item, [names[index] for index in order])
        for item, order in zip(test_items, ranking, strict=True)
    ]


# Each maps training items, their clean labels, test items and a seed to explanations of the test items.
CONTROLS: dict[str, Callable[..., list[Explanation]]] = {
    "majority": lambda items, labels, test, seed: majority_explanations(items, labels, test),
    "input_only": lambda items, labels, test, seed: input_only_explanations(items, labels, test, seed=seed),
}
# Fitted on all items that could be explained: where the explained ones are balanced, they have no majority.
AT_NATURAL_RATES = frozenset({"majority"})


def computed_control(
    name: str, explained: Labelled, natural: Labelled, test_items: Sequence[Item], seed: int
) -> list[Explanation]:
    """What one of `CONTROLS` says of the test items.

    Args:
      explained: the training items that are explained, with their clean labels.
      natural: all that could be explained, at their natural rates, with their clean labels.
      seed: of a solver.
    """
    return CONTROLS[name](*(natural if name in AT_NATURAL_RATES else explained), test_items, seed)


def _likeliest_fitting(item: Item, classes: Sequence[tuple[bool, int]]) -> Explanation:
    for changed, rank in classes:
        if rank < len(item.candidates):
            return explanation_at_rank(item, changed, rank)
    return Explanation(classes[0][0], NONE)


def shuffle_labels(
    items: Sequence[Item], labels: Sequence[Explanation], rng: np.random.Generator
) -> list[Explanation]:
    """Labels without content: no item keeps its own.

    `changed` is permuted within each cue kind without fixed points, so it is at chance and keeps its rate;
    the answer is drawn uniformly from the item's candidates. A label can still equal the clean one by chance:
    see `kept_share`. A cue kind's only item keeps its `changed`.
    """
    kinds: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        kinds.setdefault(item.cue_kind, []).append(index)
    shuffled = list(labels)
    for _, members in sorted(kinds.items()):
        # A cyclic shift of a random order, by at least one place, leaves no label where it was.
        order = rng.permutation(len(members))
        step = int(rng.integers(1, len(members))) if len(members) > 1 else 0
        for place, source in zip(order, np.roll(order, step), strict=True):
            receiver = items[members[place]]
            answer = receiver.candidates[int(rng.integers(len(receiver.candidates)))]
            shuffled[members[place]] = Explanation(bool(labels[members[source]].changed), answer)
    return shuffled


def kept_share(clean: Sequence[Explanation], trained: Sequence[Explanation]) -> float:
    """Share of trained labels that equal the clean ones."""
    return float(np.mean([a == b for a, b in zip(clean, trained, strict=True)]))


def add_label_noise(
    items: Sequence[Item],
    labels: Sequence[Explanation],
    rate: float,
    rng: np.random.Generator,
    part: str = "both",
    towards: str = "uniform",
) -> tuple[list[Explanation], Bool[np.ndarray, " items"]]:
    """Replaces a share of the labels by wrong ones; also returns which.

    Exactly `rate` of the labels (rounded to the nearest count, half up) are replaced, each by another
    explanation drawn uniformly from the item's finite set (every candidate, changed and unchanged). So at
    rate 1 no label is right, unlike noise that redraws labels.

    Args:
        part: of `NOISE_PARTS`, what can be wrong: "changed" is flipped and the answer kept, of "answer" the
            reverse, and with "both" either part or both are wrong.
        towards: of `NOISE_TOWARDS`; "cued" draws only labels that name the answer of the cue, where a wrong
            label can.

    Raises:
        InputError: the rate is not in [0, 1], or an item has no wrong label of this kind (one candidate).
    """
    if not 0 <= rate <= 1:
        raise InputError(f"label noise rate is {rate}; give a share from 0 to 1")
    if len(items) != len(labels):
        raise ValueError(f"{len(items)} items but {len(labels)} labels")
    noisy, is_noisy = list(labels), np.zeros(len(labels), dtype=bool)
    for index in rng.choice(len(labels), size=math.floor(rate * len(labels) + 0.5), replace=False):
        others = wrong_labels(items[index], labels[index], part, towards)
        noisy[index], is_noisy[index] = others[rng.integers(len(others))], True
    return noisy, is_noisy


def check_noise(part: str, towards: str) -> None:
    """Raises InputError if `add_label_noise` knows no such kind of noise."""
    check_choice("noise_part", part, NOISE_PARTS)
    check_choice("noise_towards", towards, NOISE_TOWARDS)
    if part == "changed" and towards != "uniform":
        raise InputError(
            f"noise_towards is {towards!r}, which chooses a wrong answer, but noise_part is 'changed': set "
            "noise_part to 'answer' or 'both'"
        )


def wrong_labels(item: Item, label: Explanation, part: str, towards: str) -> list[Explanation]:
    """What `add_label_noise` draws from. Raises InputError if there is nothing."""
    if part == "changed":
        return [Explanation(not label.changed, label.answer)]
    others = [e for e in ExplanationGrammar().all_explanations(item.candidates) if e != label]
    if part == "answer":
        others = [e for e in others if e.changed == label.changed]
    if not others:
        raise InputError(f"item {item.id} has no other candidate, so no label can be wrong in its answer")
    cued = [e for e in others if e.answer == item.cued]
    return cued if towards == "cued" and cued else others


def balance_by_changed(
    items: Sequence[Item], labels: Sequence[Explanation], rng: np.random.Generator
) -> Int[np.ndarray, " subset"]:
    """Ascending indices of a training set with as many changed as unchanged labels.

    All items of the rarer class are kept. The other class is drawn to match it within each cue kind, so that
    the kind doesn't predict the class; if a kind has too few, the missing ones are drawn from the rest.

    Raises:
        InputError: no label is changed, or none is unchanged.
    """
    changed = np.array([bool(label.changed) for label in labels], dtype=bool)
    if len(items) != len(labels):
        raise ValueError(f"{len(items)} items but {len(labels)} labels")
    n_changed, n_unchanged = int(changed.sum()), int((~changed).sum())
    if not n_changed or not n_unchanged:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(i.cue_kind for i in items).items()))
        raise InputError(
            f"can't balance {len(labels)} training items ({kinds}): {n_changed} labels are changed and "
            f"{n_unchanged} unchanged, but both are needed; use more items, other cues, or a label teacher "
            "whose decision the cue changes on some items but not on all, or set config.train.balanced=False"
        )
    rarer = changed if n_changed <= n_unchanged else ~changed
    kinds = np.array([item.cue_kind for item in items])
    chosen = [np.flatnonzero(rarer)]
    for kind in np.unique(kinds):
        supply = np.flatnonzero(~rarer & (kinds == kind))
        wanted = int(np.sum(rarer & (kinds == kind)))
        chosen.append(rng.permutation(supply)[:wanted])
    rest = np.setdiff1d(np.flatnonzero(~rarer), np.concatenate(chosen[1:]))
    missing = 2 * int(rarer.sum()) - sum(map(len, chosen))
    chosen.append(rng.choice(rest, size=missing, replace=False))
    return np.sort(np.concatenate(chosen))


def balanced_subset(
    balanced: Int[np.ndarray, " items"],
    labels: Sequence[Explanation],
    count: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, " subset"]:
    """`count` indices drawn from balanced ones, half of them changed, ascending.

    Raises:
      InputError: there are fewer than `count`.
    """
    if count > len(balanced):
        raise InputError(
            f"config.train.explained_items is {count}, but only {len(balanced)} training items can be "
            "balanced between changed and unchanged: lower it, or use more training items (config.task)"
        )
    changed = np.array([bool(labels[i].changed) for i in balanced])
    halves = (
        rng.permutation(balanced[changed])[: count // 2],
        rng.permutation(balanced[~changed])[: count // 2],
    )
    return np.sort(np.concatenate(halves))
