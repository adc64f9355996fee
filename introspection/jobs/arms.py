"""From an arm's config to the rows that its steps draw from."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from introspection.coupling.controls import add_label_noise, shuffle_labels
from introspection.errors import InputError
from introspection.models.decoder import count_parameters
from introspection.models.model import Model
from introspection.probes.behavior import Behavior, behavior_requests
from introspection.probes.explanation import explanation_prompt
from introspection.probes.scoring import ScoreRequest, pad_requests, read_prompts
from introspection.runtime.mesh import put_rows, row_parts
from introspection.runtime.programs import ProgramTable
from introspection.tasks.items import INVALID, NONE, Explanation, Item, Prompt
from introspection.tasks.task import Task
from introspection.text.buckets import batches, score_shape
from introspection.text.rows import Rows, build_row, pad_scored, pad_time, stack_rows
from introspection.text.tokenizer import ChatTokenizer
from introspection.training.objectives import BehaviorBatch
from introspection.training.shifts import OwnReply, ShiftConfig, ShiftExample

KL_GROUPS = ("explained", "other", "both")
KL_PROMPTS = {"both": (True, True), "with_cue": (True, False), "without_cue": (False, True)}


@dataclasses.dataclass(frozen=True)
class ArmConfig:
    """One arm of a run: how labels are altered, what regularises behaviour, what else is trained."""

    kl_weight: float  # λ
    kl_support: str  # "vocabulary" at the answer position, or "candidates" and none
    kl_direction: str  # "reference_to_current" or "current_to_reference"
    kl_prompts: str  # "both", "with_cue" or "without_cue"
    kl_groups: str  # whose prompts: the explained groups', those of "other" training groups, or of "both"
    learning_rate: float
    label_noise: float  # share of training labels replaced by a wrong one
    shuffle_labels: bool  # labels without content
    labels: str  # a labels folder to train on; "" makes them from label_teacher
    foreign_labels: float  # α: share of groups whose label teacher is config.foreign instead
    refresh_steps: int  # make labels anew, from the model as it is, every so many steps; 0: never
    foreign_to: str  # an arm that this one repeats from config.foreign, as its foreign explainer; or ""
    shift: ShiftConfig

    def __post_init__(self):
        if self.kl_prompts not in KL_PROMPTS:
            raise InputError(f"kl_prompts is {self.kl_prompts!r}; choose from {', '.join(KL_PROMPTS)}")
        if self.kl_groups not in KL_GROUPS:
            raise InputError(f"kl_groups is {self.kl_groups!r}; choose from {', '.join(KL_GROUPS)}")
        if not 0 <= self.label_noise < 1:
            raise InputError(f"label_noise is {self.label_noise}; it is a share, at least 0 and below 1")
        if not 0 <= self.foreign_labels <= 1:
            raise InputError(f"foreign_labels is {self.foreign_labels}; it is a share, from 0 to 1")
        if self.refresh_steps < 0:
            raise InputError(f"refresh_steps is {self.refresh_steps}; it is a number of steps, 0 for never")
        if self.labels and (self.foreign_labels or self.refresh_steps):
            raise InputError("labels names a folder, so foreign_labels and refresh_steps can't make others")


def altered_labels(
    arm: ArmConfig, items: Sequence[Item], clean: Sequence[Explanation], seed: int
) -> list[Explanation]:
    """The labels that an arm trains on: shuffled, then noisy, as its config says.

    The same items are noisy whatever the clean labels are, so refreshed labels keep an arm's noise.
    """
    labels = list(clean)
    if arm.shuffle_labels:
        labels = shuffle_labels(items, labels, np.random.default_rng([seed, 6]))
    if arm.label_noise:
        labels, _ = add_label_noise(items, labels, arm.label_noise, np.random.default_rng([seed, 7]))
    return labels


def explanation_rows(
    tokenizer: ChatTokenizer, items: Sequence[Item], labels: Sequence[Explanation], task: Task
) -> Rows:
    """One row an item: the explanation prompt and the label's sentence."""
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
    """Rows of one reply each, with room for a reply of so many tokens after the longest prompt."""
    prompt = int((rows.segments == 0).sum(axis=-1).max())
    return pad_scored(pad_time(rows, prompt + reply_tokens - 1), reply_tokens)


def shift_rows(tokenizer: ChatTokenizer, examples: Sequence[ShiftExample]) -> Rows | None:
    """One row an example: the prompt and the reply that the shift trains, a model's own as it said it."""
    if not examples:
        return None
    return stack_rows(
        [
            build_row(
                tokenizer.encode_prompt(prompt),
                [answer.tokens if isinstance(answer, OwnReply) else tokenizer.encode_reply(answer)],
            )
            for prompt, answer in examples
        ]
    )


def behavior_batch(
    tokenizer: ChatTokenizer,
    items: Sequence[Item],
    labels: Mapping[str, tuple[Explanation, Explanation]],
    reference: Sequence[Behavior],
    reference_hidden: Float[np.ndarray, "items 2 width"],
    held: Bool[np.ndarray, "items 2"],
) -> BehaviorBatch:
    """Every item's two prompts with their candidates.

    Args:
      labels: by item id, the trained label and the clean one; items that lack them count in no agreement.
      held: the prompts that the KL term holds, with and without the cue.
    """
    rows = stack_rows([build_row(r.prompt, r.continuations) for r in behavior_requests(tokenizer, items)])
    slots = max(len(item.candidates) for item in items)
    logprobs = np.full((len(items), 2, slots + 1), -1e30, np.float32)
    for i, behavior in enumerate(reference):
        for j, values in enumerate(behavior):
            logprobs[i, j, : len(values) - 1] = values[:-1]
            logprobs[i, j, slots] = values[-1]
    changed, answer = label_columns(items, labels, slots)
    return BehaviorBatch(
        rows=Rows(*(array.reshape(len(items), 2, *array.shape[1:]) for array in rows)),
        candidates=np.array([len(item.candidates) for item in items], np.int32),
        kl_mask=held,
        reference_hidden=reference_hidden.astype(np.float32),
        reference_logprobs=logprobs,
        labelled=np.array([item.id in labels for item in items]),
        label_changed=changed,
        label_answer=answer,
    )


def label_columns(
    items: Sequence[Item], labels: Mapping[str, tuple[Explanation, Explanation]], slots: int
) -> tuple[Bool[np.ndarray, "items 2"], Int[np.ndarray, "items 2"]]:
    """`BehaviorBatch.label_changed` and `label_answer` of trained and clean labels by item id."""

    def slot(item: Item, label: Explanation) -> int:
        return slots if label.answer in (None, NONE) else item.candidates.index(label.answer)

    pairs = [labels.get(item.id, (INVALID, INVALID)) for item in items]
    changed = [[bool(label.changed) for label in pair] for pair in pairs]
    answer = [[slot(item, label) for label in pair] for item, pair in zip(items, pairs, strict=True)]
    return np.array(changed), np.array(answer, np.int32)


def held_prompts(
    items: Sequence[Item], kl_prompts: str, shifted: Collection[Prompt], held_groups: Collection[str]
) -> Bool[np.ndarray, "items 2"]:
    """Which prompts, with and without the cue, the KL term holds: of held groups, and trained by no shift."""
    prompts = [(item.prompt_with_cue, item.prompt_without_cue) for item in items]
    unshifted = np.array([[prompt not in shifted for prompt in both] for both in prompts])
    of_group = np.array([item.group in held_groups for item in items])
    return unshifted & of_group[:, None] & np.array(KL_PROMPTS[kl_prompts])


def same_time(*parts: Rows | None) -> list[Rows | None]:
    """Pads parts to one row length, since they share a forward."""
    time = max(part.tokens.shape[-1] for part in parts if part is not None)
    return [None if part is None else pad_time(part, time) for part in parts]


def answer_hidden(
    model: Model, items: Sequence[Item], programs: ProgramTable, mesh: jax.sharding.Mesh
) -> Float[np.ndarray, "items 2 width"]:
    """The model's final hidden state at the answer position of both prompts of every item."""
    config = model.config
    program = programs.program(
        "answer_hidden",
        config,
        lambda: (
            lambda variables, prompts, lengths: read_prompts(
                config, variables, prompts, lengths
            ).last_hidden.astype(jnp.float32)
        ),
        data=(1,),
    )
    prompts = [p for item in items for p in (item.prompt_with_cue, item.prompt_without_cue)]
    tokens = [model.tokenizer.encode_prompt(prompt) for prompt in prompts]
    requests = [ScoreRequest(t, ()) for t in tokens]
    longest = score_shape(max(map(len, tokens)), 1, 1)
    parameters, hidden = count_parameters(model.variables), []
    for chunk, shape in batches(requests, longest, parameters, row_parts(mesh)):
        padded, lengths, _, _ = pad_requests(chunk, shape)
        hidden.append(np.asarray(program(model.variables, *put_rows((padded, lengths), mesh)))[: len(chunk)])
    return np.concatenate(hidden).reshape(len(items), 2, -1)
