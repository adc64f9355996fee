"""A survey of a task's items before any model is asked: counts, what the cue adds, and lengths."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from introspection.hygiene.rates import DIFFERENCES, difference_kind, quantiles
from introspection.hygiene.retest import question_of
from introspection.probes.context import token_counter
from introspection.tasks.items import Item, add_to_prompt
from introspection.tasks.spans import prompt_difference
from introspection.tasks.subsets import evenly
from introspection.tasks.task import Task
from introspection.text.tokenizer import ChatTokenizer

MOST_KINDS = 12  # of cue, with examples
MOST_ODD = 8  # examples of pairs that differ in more than one added stretch

Lengths = Callable[[Item], Mapping[str, int]]


def evenly_by_question(items: Sequence[Item], limit: int) -> tuple[Item, ...]:
    """About `limit` items (0: all), taken evenly, with all (adjacent) option orders of each question.

    Raises:
      InputError: the limit is below 0.
    """
    if limit <= 0 or limit >= len(items):
        return evenly(items, limit)
    starts = evenly(range(len(items)), max(limit // len(_orders_around(items, 0)), 1))
    chosen = dict.fromkeys(place for start in starts for place in _orders_around(items, start))
    return tuple(items[place] for place in chosen)


def _orders_around(items: Sequence[Item], place: int) -> range:
    """The adjacent places of the same question in other orders, including its own."""
    question = question_of(items[place])
    start, end = place, place + 1
    while start > 0 and question_of(items[start - 1]) == question:
        start -= 1
    while end < len(items) and question_of(items[end]) == question:
        end += 1
    return range(start, end)


def word_lengths(task: Task) -> Lengths:
    """Lengths in words, split at white space; `whole` is the prompt that asks for an explanation."""

    def lengths(item: Item) -> dict[str, int]:
        question = item.explanation_question or task.grammar.question
        prompts = {
            "prompt_with_cue": item.prompt_with_cue,
            "prompt_without_cue": item.prompt_without_cue,
            "whole": add_to_prompt(item.prompt_with_cue, question),
        }
        return {name: len(str(prompt).split()) for name, prompt in prompts.items()}

    return lengths


def token_lengths(task: Task, tokenizer: ChatTokenizer, reply_tokens: int = 0) -> Lengths:
    """Lengths in a model's tokens; `whole` is the longest prompt with its reply (`token_counter`)."""
    needed = token_counter(task, tokenizer, reply_tokens)

    def lengths(item: Item) -> dict[str, int]:
        return {
            "prompt_with_cue": len(tokenizer.encode_prompt(item.prompt_with_cue)),
            "prompt_without_cue": len(tokenizer.encode_prompt(item.prompt_without_cue)),
            "whole": needed([item])[0],
        }

    return lengths


def survey(
    items: Iterable[Item], lengths: Lengths, progress: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """Counts, differences between x and x\\C with examples, and quantiles of lengths, in one pass.

    `odd` has the first few pairs that differ in more than one added stretch.
    """
    groups, kinds, differences = set(), Counter(), Counter(dict.fromkeys(DIFFERENCES, 0))
    candidates, known, cued = Counter(), 0, 0
    examples, odd, found, longest = {}, [], {}, {"id": None, "length": 0}
    for item in items:
        segments = prompt_difference(str(item.prompt_with_cue), str(item.prompt_without_cue))
        kind = difference_kind(segments)
        groups.add(item.group)
        kinds[item.cue_kind] += 1
        differences[kind] += 1
        candidates[len(item.candidates)] += 1
        known, cued = known + bool(item.gold), cued + bool(item.cued)
        example = {
            "id": item.id,
            "cue_kind": item.cue_kind,
            "difference": kind,
            "segments": [list(segment) for segment in segments],
        }
        seen = kinds[item.cue_kind]
        if seen & (seen - 1) == 0:  # a power of two, so that the second example is from the later half
            examples.setdefault(item.cue_kind, [])[1:] = [example]
        if kind != "insertion" and len(odd) < MOST_ODD:
            odd.append(example)
        for name, length in lengths(item).items():
            found.setdefault(name, []).append(length)
            if length > longest["length"]:
                longest = {"id": item.id, "length": length}
        progress(1)
    return {
        "items": sum(kinds.values()),
        "groups": len(groups),
        "cue_kinds": dict(kinds),
        "candidates": {str(count): items for count, items in sorted(candidates.items())},
        "right_answer_known": known,
        "cue_names_an_answer": cued,
        "differences": dict(differences),
        "examples": [example for both in list(examples.values())[:MOST_KINDS] for example in both],
        "odd": odd,
        "lengths": {name: quantiles(values) for name, values in found.items()},
        "longest": longest,
    }
