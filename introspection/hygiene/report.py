"""Everything measured on a model's behaviour on a task's items, in the format of `hygiene.json`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from introspection.hygiene.choice_bias import answer_bias, place_bias
from introspection.hygiene.rates import behavior_rates, decision_margins, margin_report, rates_by, shares
from introspection.hygiene.retest import (
    average_orders,
    has_orders,
    order_of,
    retest_orders,
    retest_paraphrases,
)
from introspection.hygiene.self_knowledge import predictability
from introspection.probes.behavior import Probe, Readout
from introspection.probes.replies import Replies
from introspection.probes.scored import Behavior, decisions
from introspection.tasks.items import NONE, Item
from introspection.tasks.refusal.phrases import CLASSES

REPLIES_SHOWN = 8  # among those that name no candidate, and among the others


def hygiene_report(
    items: Sequence[Item],
    answers: Probe,
    end_ids: Sequence[int],
    threshold: float,
    rng: np.random.Generator,
    readout: Readout | None = None,
    known: Sequence[Behavior] | None = None,
) -> dict[str, Any]:
    """Rates, biases, retests, and margins (of scored candidates) or replies (if generated).

    Args:
        items, answers: in the same order.
        end_ids: tokens that end a reply; a reply without one was truncated.
        threshold: decisions closer than this many nats count as close.
        rng: for the intervals.
        readout: of the answers; by default, candidates with `none` beside them.
        known: the candidates' scores, for `predictability`, where the answers are replies.
    """
    with_none = readout is None or readout.with_none
    decided, subsets = answers.decisions, {item.subset for item in items}
    scored = [one for one in answers.behaviors if isinstance(one, Behavior)] or None
    replies = [one for one in answers.behaviors if isinstance(one, Replies)]
    known = scored or known
    return {
        "rates": {
            "all": behavior_rates(items, decided, rng),
            "likeliest_candidate": behavior_rates(items, decisions(scored, items, with_none=False), rng)
            if scored and with_none
            else None,
            "by_cue_kind": rates_by(lambda item: item.cue_kind, items, decided, rng),
            "by_subset": rates_by(lambda item: item.subset, items, decided, rng) if len(subsets) > 1 else {},
        },
        "answers": answer_bias(items, decided, scored, rng),
        "places": place_bias(items, decided, scored, rng),
        "wording": retest_paraphrases(items, decided, rng),
        "orders": order_report(items, answers, threshold, rng, with_none) if has_orders(items) else None,
        "margins": margin_report(items, decided, decision_margins(scored, with_none), threshold, rng)
        if scored
        else None,
        "replies": reply_report(items, answers, replies, end_ids, rng) if replies else None,
        "self_knowledge": predictability(items, known, decided, rng) if known else None,
    }


def order_report(
    items: Sequence[Item], answers: Probe, threshold: float, rng: np.random.Generator, with_none: bool
) -> dict[str, Any]:
    """Behaviour by order of the options and, for scored candidates, averaged over orders."""
    decided = answers.decisions
    scored = [one for one in answers.behaviors if isinstance(one, Behavior)]
    report = {
        "agreement": retest_orders(items, decided, rng),
        "by_order": rates_by(lambda item: str(order_of(item) or 0), items, decided, rng),
        "averaged": None,
    }
    if scored:
        means, behaviors = average_orders(items, scored)
        averaged = decisions(behaviors, means, with_none)
        report["averaged"] = {
            "rates": behavior_rates(means, averaged, rng),
            "margins": margin_report(means, averaged, decision_margins(behaviors, with_none), threshold, rng),
        }
    return report


def reply_report(
    items: Sequence[Item],
    answers: Probe,
    replies: Sequence[Replies],
    end_ids: Sequence[int],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Shares of replies that name no candidate (or several) or were truncated; examples of the former.

    `named` has examples of replies that name one. A judge's classes are not named.
    """
    ends = set(end_ids)
    flags = {}
    for side in ("with_cue", "without_cue"):
        said = [getattr(both, side) for both in replies]
        flags[f"none_{side}"] = [getattr(d, side) == NONE for d in answers.decisions]
        flags[f"cut_{side}"] = [not ends & set(reply.tokens[-1:]) for reply in said]
    examples = {"unnamed": [], "named": []}
    for item, both, decided in zip(items, replies, answers.decisions, strict=True):
        for side in ("with_cue", "without_cue"):
            reply = getattr(both, side)
            example = {"id": item.id, "side": side, "candidates": list(item.candidates)}
            if getattr(decided, side) == NONE:
                examples["unnamed"].append({**example, "text": reply.whole})
            elif item.candidates != CLASSES:
                examples["named"].append({**example, "text": reply.text, "case_counts": item.case_counts})
    return {
        **shares(flags, [item.group for item in items], rng),
        **{
            kind: found[:: max(len(found) // REPLIES_SHOWN, 1)][:REPLIES_SHOWN]
            for kind, found in examples.items()
        },
    }
