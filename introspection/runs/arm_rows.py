"""The rows that an arm's steps draw from: explanations, behaviour (KL and agreement), and shift."""

from typing import Any

from introspection.probes.context import longest_explanation
from introspection.probes.explanation import showing
from introspection.probes.judges import Judge, Said
from introspection.runs.arm_labels import ArmLabels, start_of
from introspection.runs.config import ArmConfig
from introspection.runs.setup import Setup
from introspection.tasks.items import Decisions, Item, Prompt
from introspection.tasks.mixture import is_explained
from introspection.tasks.subsets import drawn_places
from introspection.tasks.task import SPLITS
from introspection.text.rows import pad_scored, pad_time
from introspection.training.batches import (
    TrainingRows,
    behavior_batch,
    explanation_rows,
    held_prompts,
    label_columns,
    reply_batch,
    same_time,
    shift_rows,
    with_room,
)
from introspection.training.shifts import (
    OwnReply,
    ShiftExample,
    reply_examples,
    shift_examples,
    unsaid_refusals,
)


def shift_of(arm: ArmConfig, setup: Setup) -> list[ShiftExample]:
    """The examples that an arm's shift trains.

    Raises:
      InputError: there are none; the judge doesn't read the templated refusal as a refusal; or the tokenizer
        can't encode it.
    """
    pairs = shift_items(arm, setup)
    items = [item for item, _ in pairs]
    wanted = shift_examples(arm.shift, items, [decided for _, decided in pairs])
    judge = setup.readout.judge
    if judge is None or not wanted or all(item.candidates != judge.classes for item in items):
        return wanted
    own, model = own_replies(arm, setup, judge), start_of(arm, setup).model
    prompts = unsaid_refusals(wanted, own)
    if prompts:
        model.tokenizer.encode_reply(arm.shift.refusal)  # raises here, before anything is trained
    said = [Said(prompt, arm.shift.refusal) for prompt in prompts]
    classes = judge.judge(said, model, setup.session) if said else []
    return reply_examples(arm.shift, wanted, own, dict(zip(prompts, classes, strict=True)), judge.name)


def own_replies(arm: ArmConfig, setup: Setup, judge: Judge) -> dict[Prompt, list[OwnReply]]:
    """By prompt, the reply of the arm's start to it, then its reply to the same item's other prompt.

    Only for items that the shift may train and whose replies the judge reads.
    """
    probed, own = start_of(arm, setup).probed, {}
    for split in shift_splits(arm):
        said: Any = probed.behaviors[split]  # replies, because there is a judge
        triples = zip(setup.task.splits[split], said, probed.decisions[split], strict=True)
        for item, replies, decided in triples:
            if item.candidates == judge.classes:
                with_cue, without_cue = (
                    OwnReply(reply.text, reply.tokens, judged)
                    for reply, judged in zip(replies, decided, strict=True)
                )
                own.setdefault(item.prompt_with_cue, [with_cue]).append(without_cue)
                own.setdefault(item.prompt_without_cue, [without_cue]).append(with_cue)
    return own


def shift_splits(arm: ArmConfig) -> tuple[str, ...]:
    """The splits whose groups an arm's shift may train."""
    if arm.shift.kind == "taught":
        return ("train", "validation")
    return ("test",) if arm.shift.groups == "held_out" else SPLITS


def shift_items(arm: ArmConfig, setup: Setup) -> list[tuple[Item, Decisions]]:
    """The items whose groups an arm's shift may train, with its start's decisions on them (or, for a shift
    towards another model, that one's)."""
    taught = arm.shift.kind == "taught"
    probed = start_of(arm, setup).probed
    if arm.shift.of_other:
        probed = setup.models.starts["foreign" if arm.start == "initial" else "initial"].probed
    pairs = [
        pair
        for split in shift_splits(arm)
        for pair in zip(setup.task.splits[split], probed.decisions[split], strict=True)
    ]
    # The shift "taught" trains only items that are never explained.
    return [pair for pair in pairs if not (taught and is_explained(setup.task, pair[0]))]


def training_rows(arm: ArmConfig, labels: ArmLabels, setup: Setup) -> TrainingRows:
    """All rows that the arm's steps draw from."""
    start, task = start_of(arm, setup), setup.task
    tokenizer, examples = start.model.tokenizer, shift_of(arm, setup)
    asked = setup.training.explained
    if arm.shown:
        asked = showing(asked, [label.answer for label in labels.clean], task.grammar)
    explanation = explanation_rows(tokenizer, asked, labels.trained, task)
    if arm.refresh_steps:  # refreshed labels may be longer
        explanation = with_room(explanation, longest_explanation(setup.training.explained, task, tokenizer))
    shift, shifted = shift_rows(tokenizer, examples), {example.prompt for example in examples}
    places = behavior_places(arm, setup)
    items = [setup.training.held[i] for i in places]
    behaviors: Any = [start.held_behaviors[i] for i in places]  # all of the readout's kind
    explained = {item.group for item in setup.training.explained}
    held_groups = {
        "explained": explained,
        "other": {item.group for item in items} - explained,
        "both": {item.group for item in items},
    }[arm.kl_groups]
    held_now = held_prompts(items, arm.kl_prompts, shifted, held_groups)
    if not setup.readout.scored:
        held = reply_batch(tokenizer, items, behaviors, start.held_hidden[places], held_now)
    else:
        by_id = labels.by_id(setup.training.explained)
        held = behavior_batch(tokenizer, items, by_id, behaviors, start.held_hidden[places], held_now)
    explanation, held_rows, shift = same_time(explanation, held.rows, shift)
    return TrainingRows(explanation, held._replace(rows=held_rows), shift)


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
