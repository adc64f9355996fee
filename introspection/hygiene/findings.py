"""The warnings of a hygiene report, from its numbers."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from introspection.hygiene.rates import DIFFERENCES, POPULATED
from introspection.probes.readouts import cut_advice, none_advice
from introspection.reports.findings import interval
from introspection.reports.numbers import count, estimate, percent, points

Report = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class HygieneLimits:
    """Thresholds of the warnings; they do not change any number."""

    populated: tuple[float, float] = POPULATED  # changed-rates outside mean nearly constant labels
    close: float = 0.1  # share of items with a close decision
    none: float = 0.1  # share of decisions for no candidate
    cut: float = 0.05  # share of generated replies without an end
    excess: float = 0.1  # share of decisions for a letter or position, beyond the correct share
    equal: float = 0.8  # share of decisions that are the same in another wording or order


def hygiene_cautions(report: Report, limits: HygieneLimits | None = None) -> list[str]:
    """One sentence per problem, the most serious first."""
    limits = limits or HygieneLimits()
    return [
        *_difference_cautions(report["asked"]),
        *_rate_cautions(report["rates"], limits, report.get("placebos", ())),
        *_noise_cautions(report, limits),
        *_knowledge_cautions(report),
        *_bias_cautions(report, limits),
        *_retest_cautions(report, limits),
        *_length_cautions(report),
    ]


def _difference_cautions(asked: Report) -> Iterator[str]:
    for kind, items in asked["differences"].items():
        if items and kind != "insertion":
            yield (
                f"{count(items)} of {count(asked['items'])} pairs: x has, compared with x\\C, "
                f"{DIFFERENCES[kind]}."
            )


def _rate_cautions(rates: Report, limits: HygieneLimits, placebos: Collection[str] = ()) -> Iterator[str]:
    """Of the kinds of cue that should change something: placebos should not."""
    low, high = limits.populated
    changed = {
        kind: found["changed_rate"]["mean"]
        for kind, found in rates["by_cue_kind"].items()
        if kind not in placebos
    }
    for few, words in ((True, "hardly any"), (False, "nearly all")):
        kinds = [kind for kind, share in changed.items() if (share < low if few else share > high)]
        if kinds:
            named = ", ".join(f"{kind or '(no kind)'} {percent(changed[kind])}%" for kind in kinds)
            yield (
                f"{len(kinds)} of {len(changed)} kinds of cue change {words} decisions, so that one class of "
                f"labels is nearly empty: {named}."
            )


def _noise_cautions(report: Report, limits: HygieneLimits) -> Iterator[str]:
    margins, replies, everything = report["margins"], report["replies"], report["rates"]["all"]
    if margins and margins["close"]["mean"] > limits.close:
        yield (
            f"{percent(margins['close']['mean'])}% of items have a decision within {margins['threshold']:g} "
            "nats of the next: their labels are noise."
        )
    for side, words in (("without_cue", "without the cue"), ("with_cue", "with the cue")):
        none = everything[f"none_{side}"]["mean"]
        if none > limits.none:
            way = none_advice(report["readout"]["readout"])
            yield f"{percent(none)}% of decisions {words} are none of the candidates{way}."
        if replies and replies[f"cut_{side}"]["mean"] > limits.cut:
            advice = cut_advice(report["readout"]["reply_tokens"])
            yield f"{percent(replies[f'cut_{side}']['mean'])}% of replies {words} {advice}."


def _knowledge_cautions(report: Report) -> Iterator[str]:
    found = report.get("self_knowledge")
    if found and (auroc := estimate(found["changed_auroc"])).ci95 and auroc.ci95[0] <= 0.5:
        yield (
            "Within kinds of cue, the model's own margins do not tell which decisions the cue changes (AUROC "
            f"{percent(auroc.mean)}% {interval(auroc, 'percent')}): labels hardly can either."
        )


def _bias_cautions(report: Report, limits: HygieneLimits) -> Iterator[str]:
    for field, words in (("answers", "the answer"), ("places", "the option in place")):
        for label, found in (report[field] or {}).items():
            excess = estimate(found["excess"])
            clear = excess.ci95 is not None and excess.ci95[0] > 0
            if label != "none" and clear and (excess.mean or 0) > limits.excess:
                expected = "its share of right answers" if found["right"] is not None else "chance"
                yield (
                    f"Without a cue, decisions for {words} {label} are {points(excess.mean)} points "
                    f"{interval(excess, 'points')} above {expected}."
                )


def _retest_cautions(report: Report, limits: HygieneLimits) -> Iterator[str]:
    retests = {"wording": report["wording"], "order": (report["orders"] or {}).get("agreement", {})}
    for what, found in retests.items():
        for side, words in (("without_cue", "without the cue"), ("with_cue", "with the cue")):
            one = found.get(side)
            if one and one["equal"]["mean"] < limits.equal:
                yield (
                    f"Another {what} changes {percent(1 - one['equal']['mean'])}% of decisions {words} "
                    f"({count(one['pairs'])} pairs)."
                )


def _length_cautions(report: Report) -> Iterator[str]:
    asked = report["asked"]
    if asked["too_long"]:
        yield (
            f"{count(asked['too_long'])} items were left out: they are longer than the model's context of "
            f"{count(report['model']['context_length'])} tokens."
        )
