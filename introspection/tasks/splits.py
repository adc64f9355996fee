"""Splits by group; a question and its near-duplicates are always in one split."""

import dataclasses
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from introspection.errors import InputError
from introspection.runtime.config import check_choice
from introspection.tasks.folding import fold

# Filled in this order, so that the number of training items does not change the test items.
_FILLED = ("test", "validation", "train")
_METHODS = ("minhash", "exact")
# Texts that share a band are compared; at similarity 0.8, one pair in 20,000 shares none.
_BANDS, _BAND_HASHES = 25, 5
_WORDS = 3  # of a shingle


class TooFewError(InputError):
    """More questions are asked for than there are."""

    def __init__(self, message: str, sizes: Mapping[str, int], available: int):
        super().__init__(message)
        self.sizes, self.available = sizes, available  # numbers of questions


@dataclasses.dataclass(frozen=True)
class NearDuplicates:
    """When two texts count as the same question.

    Texts with the same words in the same order always do, up to case, accents and punctuation.
    """

    method: str = "minhash"  # also similar texts; "exact": no others
    similarity: float = 0.8  # least Jaccard similarity of shingles, runs of three words

    def __post_init__(self):
        check_choice("near_duplicates", self.method, _METHODS)
        if not 0.5 <= self.similarity <= 1:
            raise InputError(f"similarity is {self.similarity}; give a number from 0.5 to 1")


@dataclasses.dataclass(frozen=True)
class Split:
    rows: dict[str, tuple[int, ...]]
    groups: tuple[str, ...]  # of every row; near-duplicates share one
    duplicates: int  # rows that (nearly) repeat an earlier row of another group
    moved: int  # rows that would be in another split if near-duplicates were not grouped


def drawn_groups(groups: Iterable[str], count: int, seed: Sequence[int]) -> frozenset[str]:
    """`count` of the groups (all, if there are fewer), drawn by `seed`."""
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    return frozenset(names[i] for i in order[:count])


def split_questions(
    groups: Sequence[str],
    texts: Sequence[str],
    sizes: Mapping[str, int],
    seed: int,
    near: NearDuplicates = NearDuplicates(),
) -> Split:
    """Draws whole groups for each split until it has the requested number of rows.

    Groups with near-duplicate texts are merged first; a merged group is drawn in place of its first part.

    Args:
      groups: of every row.
      texts: of every row.
      sizes: rows of each of "train", "validation" and "test"; 0 takes all remaining. If no remaining group
        fits, the last places stay empty.

    Raises:
      TooFewError: more rows are asked for than there are.
      InputError: a split gets none.
    """
    _check_sizes(sizes, len(groups))
    order = _drawn(groups, seed)
    name = merge_near_duplicates(groups, texts, near)
    merged = tuple(name[group] for group in groups)
    rows = _fill(list(dict.fromkeys(name[group] for group in order)), merged, sizes)
    _check_filled(rows, sizes)
    here, without = _split_of(rows), _split_of(_fill(order, groups, sizes))
    shared = {name[group] for group in order if name[group] != group}
    return Split(
        rows=rows,
        groups=merged,
        duplicates=sum(own != one for own, one in zip(groups, merged, strict=True)),
        moved=sum(
            merged[row] in shared and here.get(row) not in (None, split) for row, split in without.items()
        ),
    )


def merge_near_duplicates(
    groups: Sequence[str], texts: Sequence[str], near: NearDuplicates
) -> dict[str, str]:
    """Each group's merged group: the first of all groups linked by near-duplicate texts."""
    place = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    parents = {group: group for group in place}

    def root(group: str) -> str:
        while parents[group] != group:
            parents[group] = group = parents[parents[group]]
        return group

    def join(first: str, second: str) -> None:
        low, high = sorted((root(first), root(second)), key=place.__getitem__)
        parents[high] = low

    group_of: dict[str, str] = {}  # by words
    for group, text in zip(groups, texts, strict=True):
        join(group_of.setdefault(words_of(text), group), group)
    if near.method == "minhash":
        for first, second in _similar(list(group_of), near.similarity):
            join(group_of[first], group_of[second])
    return {group: root(group) for group in place}


def words_of(text: str) -> str:
    """A text's words without case, accents and punctuation; the whole text if it has no words."""
    folded = text.casefold() if text.isascii() else fold(text)  # the same, but faster
    return " ".join(re.findall(r"\w+", folded)) or " ".join(folded.split())


def _similar(texts: Sequence[str], similarity: float) -> list[tuple[str, str]]:
    """Pairs of texts with at least this Jaccard similarity: MinHash proposes, exact shingles decide."""
    from datasketch import MinHash  # imported here: few commands need it, and it loads much of scipy

    shingles = [_shingles(text) for text in texts]
    parts = [[shingle.encode() for shingle in of_text] for of_text in shingles]
    signatures = MinHash.bulk(parts, num_perm=_BANDS * _BAND_HASHES, hashfunc=zlib.crc32)
    alike: dict[tuple[int, bytes], list[int]] = {}  # texts by a band of their hashes
    pairs = []
    for i, signature in enumerate(signatures):
        bands = enumerate(signature.hashvalues.reshape(_BANDS, _BAND_HASHES))
        found = [alike.setdefault((number, band.tobytes()), []) for number, band in bands]
        for j in sorted({j for of_band in found for j in of_band}):
            common = len(shingles[i] & shingles[j])
            if common >= similarity * (len(shingles[i]) + len(shingles[j]) - common):
                pairs.append((texts[j], texts[i]))
        for of_band in found:
            of_band.append(i)
    return pairs


def _shingles(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[i : i + _WORDS]) for i in range(max(1, len(words) - _WORDS + 1))}


def _drawn(groups: Sequence[str], seed: int) -> list[str]:
    """All groups in drawn order, independent of the rows' order."""
    names = sorted(set(groups))
    return [names[i] for i in np.random.default_rng([seed, 31]).permutation(len(names))]


def _fill(
    order: Sequence[str], groups: Sequence[str], sizes: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    left = {group: members[group] for group in order}
    chosen: dict[str, tuple[int, ...]] = {}
    for split in sorted(sizes, key=lambda split: (sizes[split] == 0, _FILLED.index(split))):
        places = sizes[split] or len(groups)
        taken: list[str] = []
        for group, rows in left.items():
            if len(rows) <= places:
                places -= len(rows)
                taken.append(group)
            if not places:
                break
        chosen[split] = tuple(row for group in taken for row in left.pop(group))
    return {split: chosen[split] for split in sizes}


def _split_of(rows: Mapping[str, Sequence[int]]) -> dict[int, str]:
    return {row: split for split, chosen in rows.items() for row in chosen}


def _check_sizes(sizes: Mapping[str, int], rows: int) -> None:
    asked = ", ".join(f"{split} {size}" for split, size in sizes.items())
    if min(sizes.values()) < 0 or list(sizes.values()).count(0) > 1:
        raise InputError(
            f"task: the sizes are {asked}: none may be negative, and only one may be 0 (all remaining)"
        )
    if sum(sizes.values()) > rows:
        raise TooFewError(
            f"task: {sum(sizes.values())} questions are asked for ({asked}), there are {rows}: lower a size "
            "(config.task.test_items, or --set test_items=N; likewise the others)",
            sizes,
            rows,
        )


def _check_filled(rows: Mapping[str, Sequence[int]], sizes: Mapping[str, int]) -> None:
    for split, chosen in rows.items():
        if not chosen:
            asked = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise InputError(f"task: no question is left for the {split} split (sizes: {asked})")
