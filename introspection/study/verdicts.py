"""The study's claims, fixed before its runs, and the estimate that decides each."""

import dataclasses
from typing import Literal

from introspection.study.parts import FOREIGN, SHUFFLED

Estimand = Literal["minus_reference", "contrast", "shifted", "slope", "slope_change"]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement about the gap, and the estimate whose intervals decide it.

    Every estimand is built from the arm's exact-match gap minus a reference emitter's on the same items:

    - `minus_reference`: this difference for `arm`.
    - `contrast`: the difference for `arm` minus that for `other`, each with its own reference and items.
    - `shifted`: the difference for `arm` on shifted minus on unshifted groups.
    - `slope`: the slope of the difference on Orig, over conditions.
    - `slope_change`: how much its slope on agreement changes at the knee, over the arms shown.

    `reference` names the emitter that the claim is about; a verdict then needs it and every static emitter.
    If it is empty, a verdict needs every reference, and the best static one is the headline.
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
    shown: tuple[str, ...] = ()  # arms reported beside the verdict


NOISE = ("noise15", "noise30", "noise45", "noise60")
FOREIGN_LABELS = ("labels_foreign25", "labels_foreign50", "labels_foreign75", "labels_foreign100")
SHIFTS = ("shift_less", "shift_more", "shift_facts", "shift_source")
# Excludes arms whose labels are shuffled or refreshed, and shifts, where another objective changes the tested
# behaviour but not the agreement on training items.
KNEE_ARMS = ("kl", "no_kl", "lr_low", "lr_high", *NOISE, *FOREIGN_LABELS)
# Conditions that vary how good explanations get: these arms of a part, and `kl` of parts with this prefix.
SLOPE_ARMS = ("kl", "lr_low", "lr_high")
SLOPE_PARTS = "explained-"
MAIN_PART = "main"

CLAIMS = (
    Claim(
        "KL is needed",
        "Without the KL term explanations couple less.",
        "(gap of kl minus its reference's) minus (gap of no_kl minus its reference's)",
        "contrast",
        "Without KL the behaviour drifts farther, so the gap comes from more items and other ones: the"
        " difference may be due to the amount of drift rather than to the term itself.",
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
        " and at the low rate training may just not have got as far.",
        arm="lr_high",
        other="lr_low",
        shown=("lr_low", "kl", "lr_high"),
    ),
    Claim(
        "Noise is tolerated",
        "With 30% of the labels wrong, explanations still couple.",
        "gap of noise30 minus its reference's",
        "minus_reference",
        "Noise makes the labels harder to imitate, which lowers Orig: a gap may come from learning the labels"
        " less well rather than from tracking behaviour better.",
        arm="noise30",
        shown=("kl", *NOISE),
    ),
    Claim(
        "Shifts are tracked",
        "Explanations follow behaviour that a concurrent shift changes on half of the held-out groups.",
        "gap of shift_less minus its reference's, on shifted minus on unshifted groups",
        "shifted",
        "The shift trains the very answers that explanations name, so the answer part of an explanation can"
        " follow from shared knowledge of the new answers, without introspection.",
        arm="shift_less",
        shown=SHIFTS,
    ),
    Claim(
        "Another base's labels still couple",
        "Trained only on another base's labels, explanations follow the model's own behaviour.",
        "gap of labels_foreign100 minus its reference's",
        "minus_reference",
        "The model's own behaviour differs from these labels before any training, so the gap includes what"
        " the explainer knew already: it may have explained itself all along, without the KL term's help.",
        arm="labels_foreign100",
        shown=("kl", *FOREIGN_LABELS),
    ),
    Claim(
        "An earlier checkpoint's labels still couple",
        "Trained on labels from the model's earlier checkpoint, explanations follow its current behaviour.",
        "gap of labels_earlier minus its reference's",
        "minus_reference",
        "Later pretraining moved behaviour towards the truth, so explanations can follow it by knowing the"
        " truth better, without introspection.",
        arm="labels_earlier",
        shown=("kl", "labels_earlier"),
    ),
    Claim(
        "Coupling needs agreement above a knee",
        "Coupling rises with the mean agreement of trained labels more steeply above a knee than below it.",
        "slope change at the knee, of gap minus the best static emitter's on agreement",
        "slope_change",
        "Arms differ in more than their agreement (KL, rate, noise, source of labels), so a bend may be an"
        " effect of one arm; agreement is measured, not set.",
        shown=KNEE_ARMS,
    ),
    Claim(
        "It is not shared drift",
        "The model's own explanations couple to it more than a foreign explainer's do.",
        "gap of kl minus its foreign explainer's on the same items",
        "minus_reference",
        "The foreign explainer starts from another base and explains worse overall, and gaps at unequal"
        " levels are not comparable; each base is also its neighbour's foreign explainer, so the bases are"
        " not quite independent.",
        arm="kl",
        reference=FOREIGN,
        shown=("kl", "noise30", "lr_high", "no_kl"),
    ),
    Claim(
        "It is not the training as such",
        "Explanations couple more than after the same training with shuffled labels.",
        "gap of kl minus that of shuffled as an emitter, on the same items",
        "minus_reference",
        "A model trained on shuffled labels explains worse overall, and gaps at unequal levels are not"
        " comparable.",
        arm="kl",
        reference=SHUFFLED,
        shown=("kl", "noise30", "lr_high", "no_kl"),
    ),
    Claim(
        "Coupling comes with explaining well",
        "The better a condition's explanations match their labels, the more they couple.",
        "slope of gap minus its reference's on Orig, over rates and numbers of explained facts",
        "slope",
        "Conditions that explain better are trained at a higher rate or on more items, which changes"
        " behaviour too; a static emitter's gap depends on its level, and only the level-matched reference"
        " corrects for this.",
        arm="kl",
        shown=SLOPE_ARMS,
    ),
)
