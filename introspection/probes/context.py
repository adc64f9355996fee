"""Which items fit a model's context; longer ones are skipped, counted and reported."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

from rich.console import Console

from introspection.errors import InputError
from introspection.probes.explanation import asked_prompt
from introspection.tasks.items import NONE, Explanation, Item, Prompt
from introspection.tasks.task import Task
from introspection.text.tokenizer import ChatTokenizer


def longest_explanation(items: Sequence[Item], task: Task, tokenizer: ChatTokenizer) -> int:
    """Tokens of the longest possible correct explanation of any item, including its end."""
    choices = {choice for item in items for choice in possible_explanations(item, task)}
    return max(len(tokenizer.encode_reply(task.grammar.render(choice))) for choice in choices)


def possible_explanations(item: Item, task: Task) -> list[Explanation]:
    """What can be right of an item: each candidate or `none`, changed or not."""
    neither = [Explanation(changed, NONE) for changed in (True, False)]
    return [*task.grammar.all_explanations(item.candidates), *neither]


def token_counter(
    task: Task, tokenizer: ChatTokenizer, reply_tokens: int = 0
) -> Callable[[Sequence[Item]], list[int]]:
    """Counts the tokens of the longest question about each item, with its reply.

    An explanation counts as the longest that can be correct, behaviour as the longest candidate or, if it is
    generated, as `reply_tokens`. A text that recurs in several items is encoded once.
    """
    said = functools.cache(lambda text: len(tokenizer.encode_reply(text)))
    explained = functools.cache(lambda explanation: said(task.grammar.render(explanation)))

    def asked(item: Item) -> tuple[Prompt, ...]:
        return item.prompt_with_cue, item.prompt_without_cue, asked_prompt(item, task.grammar)

    def needed(items: Sequence[Item]) -> list[int]:
        lengths = map(len, tokenizer.encode_prompts([prompt for item in items for prompt in asked(item)]))
        found = []
        for item, behaving, uncued, explaining in zip(items, lengths, lengths, lengths, strict=True):
            reply = reply_tokens or max(map(said, item.candidates))
            explanation = max(map(explained, possible_explanations(item, task)))
            found.append(max(explaining + explanation, max(behaving, uncued) + reply))
        return found

    return needed


def within_context(
    task: Task,
    tokenizer: ChatTokenizer,
    limit: int,
    skipped_share: float,
    console: Console,
    reply_tokens: int = 0,
) -> Task:
    """The task without items that need more than a model's context of `limit` tokens.

    Raises:
      InputError: more than `skipped_share` of a split would be skipped.
    """
    kept, needed = {}, token_counter(task, tokenizer, reply_tokens)
    for split, items in task.splits.items():
        counted = zip(items, needed(items), strict=True)
        kept[split] = tuple(item for item, tokens in counted if tokens <= limit)
        skipped = len(items) - len(kept[split])
        replying = f" with a generated reply of {reply_tokens}" if reply_tokens else ""
        if skipped > skipped_share * len(items):
            raise InputError(
                f"{skipped} of {len(items)} {split} items exceed the model's context of {limit} "
                f"tokens{replying}, more than may be skipped ({skipped_share:.0%}; in a run's config, "
                "evaluation.skipped_share): shorten them, or choose a model with a longer context"
            )
        if skipped:
            console.print(
                f"warning: skipped {skipped} of {len(items)} {split} items, longer than {limit} tokens"
            )
    return dataclasses.replace(task, splits=kept)


def check_candidates(tokenizer: ChatTokenizer, items: Sequence[Item]) -> None:
    """Checks that a model can choose from the same candidates as any other.

    Raises:
      InputError: the tokenizer can't write a candidate, or writes two of an item in the same way.
    """
    encode = functools.cache(lambda text: tuple(tokenizer.encode_reply(text)))
    for item in items:
        written: dict[tuple[int, ...], str] = {}
        for candidate in item.candidates:
            try:
                other = written.setdefault(encode(candidate), candidate)
            except InputError as error:
                raise InputError(f"item {item.id}: this model can't use a candidate: {error}") from error
            if other != candidate:
                raise InputError(
                    f"item {item.id}: the model's tokenizer writes the candidates {other!r} and "
                    f"{candidate!r} in the same way; reword one"
                )
