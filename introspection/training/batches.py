"""`batch = f(step, seed)`: the step is the only data state, so a resumed run sees the same batches."""

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from introspection.errors import InputError
from introspection.probes.explanation import explanation_prompt
from introspection.probes.hidden import reply_rows
from introspection.probes.replies import Replies
from introspection.probes.scored import Behavior, behavior_requests
from introspection.tasks.items import INVALID, NONE, Explanation, Item, Prompt
from introspection.tasks.task import Task
from introspection.text.rows import Rows, build_row, pad_scored, pad_time, stack_rows
from introspection.text.tokenizer import ChatTokenizer
from introspection.training.objectives import Answers, Batch, BehaviorBatch, TextBatch
from introspection.training.policy_gradient import Groups, Rollout
from introspection.training.preference import Pairs
from introspection.training.shifts import OwnReply, ShiftExample

# A stream of permutations per kind of rows, so that adding a kind does not change the order of the others.
_EXPLANATION, _BEHAVIOR, _SHIFT, _TEXT = 1, 2, 3, 4
OTHER_TEXT = "other_text"  # no prompts: the KL term applies to passages (`text_rows`)
KL_PROMPTS = {
    "both": (True, True),
    "with_cue": (True, False),
    "without_cue": (False, True),
    OTHER_TEXT: (False, False),
}


@functools.lru_cache(maxsize=64)
def _permutation(size: int, seed: int, stream: int, epoch: int) -> Int[np.ndarray, " size"]:
    return np.random.default_rng([seed, stream, epoch]).permutation(size)


def epoch_indices(size: int, count: int, step: int, seed: int, stream: int = 0) -> Int[np.ndarray, " count"]:
    """The `count` indices of step `step`: every index comes once per epoch, each epoch in a new order."""
    places = range(step * count, (step + 1) * count)
    return np.array([_permutation(size, seed, stream, place // size)[place % size] for place in places])


class TrainingRows(NamedTuple):
    """All rows that the steps of one seed draw from; parts that are None are not trained."""

    explanation: Rows | None
    behavior: BehaviorBatch | None
    shift: Rows | Pairs | Rollout | None
    text: TextBatch | None = None


@dataclasses.dataclass(frozen=True)
class BatchSizes:
    """Sizes per step and seed."""

    explanation_rows: int
    behavior_items: int  # each is two rows
    shift_rows: int  # if there is a shift: prompts, each with its reply, pair or group

    def __post_init__(self):
        for name, size in dataclasses.asdict(self).items():
            if size < 1:
                raise InputError(f"a step needs at least one row of every kind; {name} is {size}: raise it")


def check_parts(parts: int, sizes: BatchSizes, pack_tokens: int) -> None:
    """Raises InputError if a step can't be read in so many equal parts (`training.microbatches`)."""
    if parts < 1:
        raise InputError(f"config.train.microbatches is {parts}; give 1 for the whole step at once, or more")
    for name, size in dataclasses.asdict(sizes).items():
        if size % parts:
            raise InputError(
                f"config.train.microbatches is {parts}, which doesn't divide config.train.{name} ({size})"
            )
    if parts > 1 and pack_tokens:
        raise InputError(
            "config.train.microbatches and config.train.pack_tokens exclude each other: a pack may hold rows "
            "of several parts; set one of them to its default"
        )


def make_batch(rows: TrainingRows, sizes: BatchSizes, step: int, seed: int) -> Batch:
    """The rows of one step and seed, as host arrays."""

    def draw(part: Any, stream: int, count: int) -> Any:
        if part is None:
            return None
        size = jax.tree.leaves(part)[0].shape[0]
        index = epoch_indices(size, count, step, seed, stream)
        return jax.tree.map(lambda array: array[index], part)

    return Batch(
        explanation=draw(rows.explanation, _EXPLANATION, sizes.explanation_rows),
        behavior=draw(rows.behavior, _BEHAVIOR, sizes.behavior_items),
        shift=_of_step(rows.shift, sizes.shift_rows, step)
        if isinstance(rows.shift, Rollout)
        else draw(rows.shift, _SHIFT, sizes.shift_rows),
        text=draw(rows.text, _TEXT, 2 * sizes.behavior_items),
    )


def rollout_places(prompts: int, sizes: BatchSizes, steps: range, seed: int) -> list[int]:
    """The places of the prompts, in turn, to which the groups of some steps reply: those that other shifts'
    rows would be drawn from."""
    drawn = [epoch_indices(prompts, sizes.shift_rows, step, seed, _SHIFT) for step in steps]
    return np.concatenate(drawn).tolist()


def _of_step(rollout: Rollout, count: int, step: int) -> Groups:
    start = (step - rollout.first_step) * count
    return jax.tree.map(lambda array: array[start : start + count], rollout.groups)


def stack_batches(batches: Sequence[Sequence[Any]]) -> Any:
    """Stacks `[step][seed]` batches into one whose leaves have shape `steps seeds rows …`."""
    by_step = [jax.tree.map(lambda *leaves: np.stack(leaves), *seeds) for seeds in batches]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *by_step)


def explanation_rows(
    tokenizer: ChatTokenizer, items: Sequence[Item], labels: Sequence[Explanation], task: Task
) -> Rows:
    """One row per item: the explanation prompt and the label's sentence."""
    return stack_rows(
        [
            build_row(
                explanation_prompt(tokenizer, item, task.grammar),
                [tokenizer.encode_reply(task.grammar.render(label))],
            )
            for item, label in zip(items, labels, strict=True)
        ]
    )


def with_room(rows: Rows, reply_tokens: int) -> Rows:
    """Pads rows of one reply each so that a reply of `reply_tokens` fits after the longest prompt."""
    prompt = int((rows.segments == 0).sum(axis=-1).max())
    return pad_scored(pad_time(rows, prompt + reply_tokens - 1), reply_tokens)


def shift_rows(tokenizer: ChatTokenizer, examples: Sequence[ShiftExample]) -> Rows | None:
    """One row per example: the prompt and the reply that the shift trains (an `OwnReply` token by token)."""
    if not examples:
        return None
    rows = []
    for prompt, answer in examples:
        own = isinstance(answer, OwnReply)
        tokens = answer.tokens if own else tokenizer.encode_reply(answer)
        rows.append(build_row(tokenizer.encode_prompt(prompt, through_thought=own), [tokens]))
    return stack_rows(rows)


def candidate_rows(tokenizer: ChatTokenizer, items: Sequence[Item]) -> Rows:
    """Two rows per item, with and without the cue: the prompt and its candidates."""
    return stack_rows([build_row(r.prompt, r.continuations) for r in behavior_requests(tokenizer, items)])


def behavior_batch(
    tokenizer: ChatTokenizer,
    items: Sequence[Item],
    labels: Mapping[str, tuple[Explanation, Explanation]],
    reference: Sequence[Behavior],
    reference_hidden: Float[np.ndarray, "items 2 1 width"],
    held: Bool[np.ndarray, "items 2"],
) -> BehaviorBatch:
    """Every item's two prompts with their candidates, for scored behaviour.

    Args:
      labels: by item id, the trained and the clean label; agreement leaves out items without labels.
      reference: kl_reference's log-probabilities of the candidates.
      reference_hidden: kl_reference's hidden states where an answer begins.
      held: the prompts, with and without the cue, on which the KL term applies.
    """
    rows = candidate_rows(tokenizer, items)
    slots = max(len(item.candidates) for item in items)
    logprobs = np.full((len(items), 2, slots + 1), -1e30, np.float32)
    for i, behavior in enumerate(reference):
        for j, values in enumerate(behavior):
            logprobs[i, j, : len(values) - 1] = values[:-1]
            logprobs[i, j, slots] = values[-1]
    changed, answer = label_columns(items, labels, slots)
    answers = Answers(
        candidates=np.array([len(item.candidates) for item in items], np.int32),
        reference_logprobs=logprobs,
        labelled=np.array([item.id in labels for item in items]),
        label_changed=changed,
        label_answer=answer,
    )
    return BehaviorBatch(by_item(rows), held, reference_hidden.astype(np.float32), answers)


def label_columns(
    items: Sequence[Item], labels: Mapping[str, tuple[Explanation, Explanation]], slots: int
) -> tuple[Bool[np.ndarray, "items 2"], Int[np.ndarray, "items 2"]]:
    """`Answers.label_changed` and `label_answer`, from trained and clean labels by item id."""

    def slot(item: Item, label: Explanation) -> int:
        return slots if label.answer in (None, NONE) else item.candidates.index(label.answer)

    pairs = [labels.get(item.id, (INVALID, INVALID)) for item in items]
    changed = [[bool(label.changed) for label in pair] for pair in pairs]
    answer = [[slot(item, label) for label in pair] for item, pair in zip(items, pairs, strict=True)]
    return np.array(changed), np.array(answer, np.int32)


def held_prompts(
    items: Sequence[Item], kl_prompts: str, shifted: Collection[Prompt], held_groups: Collection[str]
) -> Bool[np.ndarray, "items 2"]:
    """The prompts, with and without the cue, on which the KL term applies: those of `held_groups` that no
    shift trains."""
    prompts = [(item.prompt_with_cue, item.prompt_without_cue) for item in items]
    unshifted = np.array([[prompt not in shifted for prompt in both] for both in prompts])
    of_group = np.array([item.group in held_groups for item in items])
    return unshifted & of_group[:, None] & np.array(KL_PROMPTS[kl_prompts])


def text_rows(passages: Sequence[Sequence[int]]) -> Rows:
    """One row per passage of at least two tokens; each token but the first is predicted."""
    return stack_rows([build_row(passage[:1], [passage[1:]]) for passage in passages])


def same_time(*parts: Rows | Pairs | Rollout | None) -> list[Any]:
    """Pads parts, some of which may be None, to one row length, because they share a forward pass."""
    time = max(rows_of(part).tokens.shape[-1] for part in parts if part is not None)
    return [None if part is None else _padded(part, time) for part in parts]


def rows_of(part: Any) -> Rows:
    """The rows of a part of any kind."""
    if isinstance(part, Rollout):
        return part.groups.rows
    return part.rows if isinstance(part, Pairs) else part


def _padded(part: Any, time: int) -> Any:
    if isinstance(part, Rollout):
        return part._replace(groups=_padded(part.groups, time))
    if isinstance(part, Pairs | Groups):
        return part._replace(rows=pad_time(part.rows, time))
    return pad_time(part, time)


def reply_batch(
    tokenizer: ChatTokenizer,
    items: Sequence[Item],
    replies: Sequence[Replies],
    hidden: Float[np.ndarray, "items 2 scored width"],
    held: Bool[np.ndarray, "items 2"],
) -> BehaviorBatch:
    """Every item's two prompts with kl_reference's replies, for generated behaviour; see `behavior_batch`."""
    rows = reply_rows(tokenizer, items, replies)
    said = rows.scored.shape[-1]  # `hidden` may be of more items, whose longest reply is longer
    return BehaviorBatch(by_item(rows), held, hidden[:, :, :said].astype(np.float32))


def by_item(rows: Rows) -> Rows:
    """Rows in pairs (with and without the cue) to leaves of shape `items 2 …`."""
    return jax.tree.map(lambda array: array.reshape(-1, 2, *array.shape[1:]), rows)
