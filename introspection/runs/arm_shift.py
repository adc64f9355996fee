"""What an arm's shift trains: replies, pairs of the model's own replies, or prompts to sample replies to."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from introspection.probes.behavior import decide_each
from introspection.probes.decoding import sample
from introspection.probes.hidden import row_logprobs
from introspection.probes.judges import Judge, Said
from introspection.probes.replies import read_reply
from introspection.runs.arm_labels import start_of
from introspection.runs.config import ArmConfig
from introspection.runs.rollouts import RewardedPrompts, first_groups, rewarded_prompts
from introspection.runs.setup import Setup
from introspection.runtime.progress import progress_bar
from introspection.tasks.items import Decisions, Item, Prompt
from introspection.tasks.mixture import is_explained
from introspection.tasks.task import SPLITS
from introspection.text.rows import Rows, build_row, stack_rows
from introspection.training.batches import shift_rows
from introspection.training.policy_gradient import Rollout
from introspection.training.preference import Pairs, Preference, preferences
from introspection.training.shifts import (
    DPO,
    OwnReply,
    ShiftExample,
    reply_examples,
    shift_examples,
    shifted_groups,
    unsaid_refusals,
)

_PAIRS = 15  # the stream of shift.seed that draws replies to pair


class ArmShift(NamedTuple):
    """The shift of an arm; there is nothing in it if the arm has none."""

    prompts: frozenset[Prompt] = frozenset()  # which it trains, so the KL term leaves them out
    # Supervised replies or preference pairs, from which steps draw, or the policy gradient's first groups,
    # sampled from its start.
    rows: Rows | Pairs | Rollout | None = None
    rewarded: RewardedPrompts | None = None  # for which the policy gradient samples replies


def arm_shift(arm: ArmConfig, setup: Setup) -> ArmShift:
    """What an arm's steps train of its shift, made from what its start says.

    Raises:
      InputError: as `wanted_answers`, `shift_of`, `preferences` and `first_groups`.
    """
    tokenizer = start_of(arm, setup).model.tokenizer
    if arm.shift.kind == "none":
        return ArmShift()
    if arm.shift.samples_groups:
        prompts = tuple(dict.fromkeys(prompt for prompt, _ in wanted_answers(arm, setup)))
        rewarded = rewarded_prompts(arm, prompts, items_of(arm, setup), setup)
        return ArmShift(frozenset(prompts), first_groups(arm, rewarded, setup), rewarded)
    if arm.shift.objective == DPO:
        pairs = preferences(arm.shift, wanted_answers(arm, setup), ranked_replies(arm, setup))
        return ArmShift(frozenset(pair.prompt for pair in pairs), preference_pairs(arm, pairs, setup))
    examples = shift_of(arm, setup)
    return ArmShift(frozenset(example.prompt for example in examples), shift_rows(tokenizer, examples))


def wanted_answers(arm: ArmConfig, setup: Setup) -> list[ShiftExample]:
    """Prompts with the answer, or the judge's class, to which the shift moves its start.

    Raises:
      InputError: there are none.
    """
    pairs = shift_items(arm, setup)
    return shift_examples(arm.shift, [item for item, _ in pairs], [decided for _, decided in pairs])


def shift_of(arm: ArmConfig, setup: Setup) -> list[ShiftExample]:
    """The examples that an arm's supervised shift trains.

    Raises:
      InputError: there are none; the judge doesn't read the templated refusal as a refusal; or the tokenizer
        can't encode it.
    """
    wanted, judge = wanted_answers(arm, setup), setup.readout.judge
    items = [item for item, _ in shift_items(arm, setup)]
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


def shifted_of(arm: ArmConfig, setup: Setup) -> frozenset[str]:
    """The groups whose behaviour an arm's shift trains."""
    return shifted_groups(arm.shift, [item for item, _ in shift_items(arm, setup)])


def items_of(arm: ArmConfig, setup: Setup) -> dict[Prompt, Item]:
    """The item of each prompt that a shift may train, the first of several."""
    found: dict[Prompt, Item] = {}
    for item, _ in shift_items(arm, setup):
        for prompt in (item.prompt_with_cue, item.prompt_without_cue):
            found.setdefault(prompt, item)
    return found


def ranked_replies(arm: ArmConfig, setup: Setup) -> dict[Prompt, list[OwnReply]]:
    """The start's own replies to each prompt that the shift trains, for DPO to pair.

    If candidates are scored, these are the candidates, likeliest first. Otherwise they are the greedy reply
    and `shift.group_size` samples.
    """
    start, items = start_of(arm, setup), items_of(arm, setup)
    wanted = dict.fromkeys(prompt for prompt, _ in wanted_answers(arm, setup))
    said: dict[Prompt, Any] = {}
    for split in shift_splits(arm):
        behaviors: Any = start.probed.behaviors[split]
        for item, both in zip(setup.task.splits[split], behaviors, strict=True):
            said.setdefault(item.prompt_with_cue, both.with_cue)
            said.setdefault(item.prompt_without_cue, both.without_cue)
    if not setup.readout.scored:
        return _sampled_replies(arm, setup, {prompt: (items[prompt], said[prompt]) for prompt in wanted})
    encode = start.model.tokenizer.encode_reply
    ranked = {}
    for prompt in wanted:
        candidates = items[prompt].candidates
        order = np.argsort(-said[prompt][:-1], kind="stable")  # the last is of all else
        texts = [candidates[place] for place in order]
        ranked[prompt] = [OwnReply(text, tuple(encode(text)), text) for text in texts]
    return ranked


def _sampled_replies(arm: ArmConfig, setup: Setup, greedy: dict[Prompt, tuple[Item, Any]]):
    model, shift = start_of(arm, setup).model, arm.shift
    prompts = list(greedy)
    tokens = [model.tokenizer.encode_prompt(prompt, through_thought=True) for prompt in prompts]
    key = jax.random.fold_in(jax.random.key(shift.seed), _PAIRS)
    with progress_bar(setup.session.console, "sampling replies to pair", len(prompts)) as advance:
        groups = sample(
            model,
            tokens,
            shift.group_size,
            setup.readout.tokens,
            shift.temperature,
            key,
            setup.session,
            advance,
        )
    whose, replies = [], []
    for prompt, group in zip(prompts, groups, strict=True):
        for said in (greedy[prompt][1].tokens, *(one.tokens for one in group)):
            whose.append(prompt)
            replies.append(said)
    items = [greedy[prompt][0] for prompt in whose]
    judged = decide_each(model, items, whose, replies, setup.readout, setup.session)
    found: dict[Prompt, list[OwnReply]] = {prompt: [] for prompt in prompts}
    for prompt, said, decision in zip(whose, replies, judged, strict=True):
        found[prompt].append(OwnReply(read_reply(model.tokenizer, said).text, tuple(said), decision))
    return found


def preference_pairs(arm: ArmConfig, pairs: Sequence[Preference], setup: Setup) -> Pairs:
    """Rows of pairs, with kl_reference's log-probability of each reply."""
    start, generated = start_of(arm, setup), not setup.readout.scored
    encode = start.model.tokenizer.encode_prompt
    rows = stack_rows(
        [
            build_row(encode(p.prompt, through_thought=generated), [p.chosen.tokens, p.rejected.tokens])
            for p in pairs
        ]
    )
    with progress_bar(setup.session.console, "reading pairs with kl_reference", len(pairs)) as advance:
        logprobs = row_logprobs(start.reference, rows, 1.0, setup.session, advance)
    sums = [np.where(rows.continuation == k, logprobs, 0).sum(axis=(1, 2)) for k in (0, 1)]
    return Pairs(rows, np.stack(sums, axis=-1).astype(np.float32))
