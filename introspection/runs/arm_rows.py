"""The rows that an arm's steps draw from: explanations, behaviour (KL and agreement), and shift."""

from typing import Any

from introspection.probes.context import longest_explanation
from introspection.probes.explanation import showing
from introspection.probes.hidden import reply_rows
from introspection.runs.arm_labels import ArmLabels, clean_labels, made_labels, start_of
from introspection.runs.arm_shift import ArmShift
from introspection.runs.config import ArmConfig
from introspection.runs.other_text import other_passages, text_batch
from introspection.runs.setup import Setup
from introspection.tasks.subsets import drawn_places
from introspection.text.rows import Rows, pad_scored, pad_time
from introspection.training.batches import (
    OTHER_TEXT,
    TrainingRows,
    behavior_batch,
    candidate_rows,
    explanation_rows,
    held_prompts,
    label_columns,
    reply_batch,
    same_time,
    text_rows,
    with_room,
)
from introspection.training.packing import check_fits


def training_rows(arm: ArmConfig, shift: ArmShift, labels: ArmLabels, setup: Setup) -> TrainingRows:
    """All rows that the arm's steps draw from; of a policy gradient, the groups of its first steps."""
    start, task = start_of(arm, setup), setup.task
    tokenizer, explanation = start.model.tokenizer, explained_rows(arm, labels, setup)
    if arm.refresh_steps:  # refreshed labels may be longer
        explanation = with_room(explanation, longest_explanation(setup.training.explained, task, tokenizer))
    places = behavior_places(arm, setup)
    items = [setup.training.held[i] for i in places]
    behaviors: Any = [start.held_behaviors[i] for i in places]  # all of the readout's kind
    explained = {item.group for item in setup.training.explained}
    held_groups = {
        "explained": explained,
        "other": {item.group for item in items} - explained,
        "both": {item.group for item in items},
    }[arm.kl_groups]
    held_now = held_prompts(items, arm.kl_prompts, shift.prompts, held_groups)
    if not setup.readout.scored:
        held = reply_batch(tokenizer, items, behaviors, start.held_hidden[places], held_now)
    else:
        by_id = labels.by_id(setup.training.explained)
        held = behavior_batch(tokenizer, items, by_id, behaviors, start.held_hidden[places], held_now)
    text = text_batch(start, setup) if arm.kl_prompts == OTHER_TEXT else None
    explanation, held_rows, passages, replies = same_time(
        explanation, held.rows, text and text.rows, shift.rows
    )
    text = text and text._replace(rows=passages)
    return TrainingRows(explanation, held._replace(rows=held_rows), replies, text)


def explained_rows(arm: ArmConfig, labels: ArmLabels, setup: Setup) -> Rows:
    """One row per explained item: what the arm is asked, and the label that it trains on."""
    asked, task = setup.training.explained, setup.task
    if arm.shown:
        asked = showing(asked, [label.answer for label in labels.clean], task.grammar)
    return explanation_rows(start_of(arm, setup).model.tokenizer, asked, labels.trained, task)


def check_packs(arm: ArmConfig, shift: ArmShift, setup: Setup) -> None:
    """Raises InputError if a row that the arm trains is longer than a pack; does nothing without packs."""
    time, start, held = setup.config.train.pack_tokens, start_of(arm, setup), setup.training.held
    if not time:
        return
    tokenizer = start.model.tokenizer
    replies: Any = start.held_behaviors  # all of the readout's kind
    scored = setup.readout.scored
    behavior = candidate_rows(tokenizer, held) if scored else reply_rows(tokenizer, held, replies)
    _, clean = clean_labels(arm, setup)
    explained = explained_rows(arm, made_labels(arm, clean, setup), setup)
    check_fits(explained, time, "an explanation with its prompt")
    check_fits(behavior, time, "a prompt with its replies")
    check_fits(shift.rows, time, "a row of the shift")
    if arm.kl_prompts == OTHER_TEXT:
        check_fits(text_rows(other_passages(setup)), time, "a passage of other text")


def behavior_places(arm: ArmConfig, setup: Setup) -> list[int]:
    """Indices in `TrainingItems.held` of the items that behaviour rows are drawn from.

    These are the explained items. If the KL term uses other groups, they are those groups' items and as many
    explained ones, for agreement.
    """
    explained = len(setup.training.explained)
    if arm.kl_groups == "explained":
        return list(range(explained))
    others = len(setup.training.held) - explained
    drawn = drawn_places(explained, others, setup.config.task_seed)
    return [*drawn, *range(explained, explained + others)]


def relabelled(rows: TrainingRows, labels: ArmLabels, arm: ArmConfig, setup: Setup) -> TrainingRows:
    """The same rows with other labels, for explanations and for agreement."""
    tokenizer = start_of(arm, setup).model.tokenizer
    fresh = explanation_rows(tokenizer, setup.training.explained, labels.trained, setup.task)
    room: Any = rows.explanation  # an arm's is never None
    rows = rows._replace(
        explanation=pad_scored(pad_time(fresh, room.tokens.shape[-1]), room.scored.shape[-1])
    )
    behavior = rows.behavior
    if behavior is None or behavior.answers is None:
        return rows
    answers = behavior.answers
    items = [setup.training.held[place] for place in behavior_places(arm, setup)]
    slots = answers.reference_logprobs.shape[-1] - 1
    changed, answer = label_columns(items, labels.by_id(setup.training.explained), slots)
    answers = answers._replace(label_changed=changed, label_answer=answer)
    return rows._replace(behavior=behavior._replace(answers=answers))
