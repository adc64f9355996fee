"""The study's claims, fixed before its runs: what each says, and the number that decides it."""

import dataclasses
from typing import Literal

from introspection.study.parts import FOREIGN, SHUFFLED

Estimand = Literal["minus_reference", "contrast", "shifted", "slope", "slope_change"]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence about the gap, and the number whose intervals decide it.

    All numbers are of exact match and of the gap minus a reference emitter's on the same items, never of a
    raw gap: that of `arm` (`minus_reference`); that minus `other`'s (`contrast`), each with its own reference
    on its own items; `arm`'s on shifted minus on unshifted groups (`shifted`); its slope on Orig over
    conditions (`slope`); the change of its slope on agreement at the knee, over the arms shown
    (`slope_change`).

    `reference` names the emitter that the claim is about; if empty the best static one is the headline.
    Whatever it is, a verdict takes every static emitter, and without a named one every reference at all.
    """

    name: str
    statement: str
    estimated: str
    estimand: Estimand
    other_explanation: str
    arm: str = ""
    other: str = ""
    reference: str = ""
    direction: Literal[1, -1] = 1  # the side of 0 on which the claim holds
    shown: tuple[str, ...] = ()  # arms whose own numbers stand beside the verdict


NOISE = ("noise15", "noise30", "noise45", "noise60")
FOREIGN_LABELS = ("labels_foreign25", "labels_foreign50", "labels_foreign75", "labels_foreign100")
SHIFTS = ("shift_less", "shift_more", "shift_facts", "shift_source")
# Without those whose labels tell nothing or are refreshed, and those where another objective moves the tested
# behaviour but not the agreement over training items (shifts).
KNEE_ARMS = ("kl", "no_kl", "lr_low", "lr_high", *NOISE, *FOREIGN_LABELS)
# Conditions under which explaining comes out better or worse: arms of a part, and `kl` of parts so named.
SLOPE_ARMS = ("kl", "lr_low", "lr_high")
SLOPE_PARTS = "explained-"
MAIN_PART = "main"

CLAIMS = (
    Claim(
        "KL is needed",
        "Without the KL term explanations couple less.",
        "(gap of kl minus its reference's) minus (gap of no_kl minus its reference's)",
        "contrast",
        "Without KL the behaviour drifts farther, so the gap is taken over more and other items: the size of"
        " drift, not the term itself, may make the difference.",
        arm="kl",
        other="no_kl",
        shown=("kl", "no_kl"),
    ),
    Claim(
        "A higher rate widens",
        "Explanations couple more at the high learning rate than at the low one.",
        "(gap of lr_high minus its reference's) minus (gap of lr_low minus its reference's)",
        "contrast",
        "More drift at the high rate scales any gap up (gap = drift × difference on the disagreement set),"
        " and the low rate may only be trained less far.",
        arm="lr_high",
        other="lr_low",
        shown=("lr_low", "kl", "lr_high"),
    ),
    Claim(
        "Noise is tolerated",
        "With 30% of the labels wrong explanations still couple.",
        "gap of noise30 minus its reference's",
        "minus_reference",
        "Noise makes the labels harder to imitate, which lowers Orig by itself: a gap may come from labels"
        " learned worse rather than from behaviour tracked better.",
        arm="noise30",
        shown=("kl", *NOISE),
    ),
    Claim(
        "Shifts are tracked",
        "Explanations follow a behaviour that a concurrent shift moves on half of the held-out groups.",
        "gap of shift_less minus its reference's, on shifted minus on unshifted groups",
        "shifted",
        "The shift trains the very answers that explanations name, so the answer half of an explanation can"
        " follow through shared knowledge of the new answers without any look at the own behaviour.",
        arm="shift_less",
        shown=SHIFTS,
    ),
    Claim(
        "Another base's labels still couple",
        "Trained on the labels of another base alone, explanations follow the own behaviour.",
        "gap of labels_foreign100 minus its reference's",
        "minus_reference",
        "The own behaviour differs from these labels before any training, so the gap also holds what the"
        " explainer knows by itself: without the KL term's help it may have explained itself all along.",
        arm="labels_foreign100",
        shown=("kl", *FOREIGN_LABELS),
    ),
    Claim(
        "An earlier checkpoint's labels still couple",
        "Trained on the labels of an earlier checkpoint of itself, explanations follow the own behaviour.",
        "gap of labels_earlier minus its reference's",
        "minus_reference",
        "Later pretraining moved behaviour towards the truth, which explanations can follow by knowing the"
        " truth better, without any look at the own behaviour.",
        arm="labels_earlier",
        shown=("kl", "labels_earlier"),
    ),
    Claim(
        "Coupling needs agreement above a knee",
        "Coupling rises with the mean agreement of trained labels more steeply above a knee than below it.",
        "slope change at the knee, of gap minus the best static emitter's on agreement",
        "slope_change",
        "Arms differ in more than their agreement (KL, rate, noise, whose labels), so a bend may be one arm's"
        " own effect; agreement is measured, not set.",
        shown=KNEE_ARMS,
    ),
    Claim(
        "It is not shared drift",
        "The model's own explanations couple to it more than a foreign explainer's do.",
        "gap of kl minus its foreign explainer's on the same items",
        "minus_reference",
        "The foreign explainer starts from another base and explains worse in all, and gaps at unequal levels"
        " are not comparable; each base is also its neighbour's explainer, so the bases are not quite"
        " independent.",
        arm="kl",
        reference=FOREIGN,
        shown=("kl", "noise30", "lr_high", "no_kl"),
    ),
    Claim(
        "It is not the training as such",
        "Explanations couple more than those of the same training with labels without content.",
        "gap of kl minus that of shuffled as an emitter, on the same items",
        "minus_reference",
        "Training on shuffled labels explains worse in all, and gaps at unequal levels are not comparable.",
        arm="kl",
        reference=SHUFFLED,
        shown=("kl", "noise30", "lr_high", "no_kl"),
    ),
    Claim(
        "Coupling comes with explaining well",
        "The better a condition's explanations match their labels, the more they couple.",
        "slope of gap minus its reference's on Orig, over rates and numbers of explained facts",
        "slope",
        "Conditions that explain better are trained faster or on more, which moves behaviour too; a static"
        " emitter's gap depends on its own level, which only the level-matched reference takes out.",
        arm="kl",
        shown=SLOPE_ARMS,
    ),
)
