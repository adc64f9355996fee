"""Every field of an arm, with its default, unit and meaning."""

import dataclasses

from introspection.coupling.controls import check_noise
from introspection.errors import InputError
from introspection.runtime.config import check_choice
from introspection.training.batches import KL_PROMPTS, OTHER_TEXT
from introspection.training.objectives import ObjectiveConfig
from introspection.training.shifts import ShiftConfig

KL_GROUPS = ("explained", "other", "both")


@dataclasses.dataclass(frozen=True)
class ArmConfig:
    """One arm of a run: how labels are altered, how behaviour is regularised, what else is trained."""

    kl_weight: float = 1.0  # λ
    kl_support: str = "vocabulary"  # at the answer position; or "candidates": these and `none`
    # KL(reference ‖ current); or "current_to_reference", or "symmetric", the mean of both
    kl_direction: str = "reference_to_current"
    # "both", "with_cue" or "without_cue"; or "other_text": every next token of passages (config.train.text)
    kl_prompts: str = "both"
    kl_groups: str = "explained"  # prompts of the explained groups, of "other" training groups, or of "both"
    learning_rate: float = 1e-3  # peak
    label_noise: float = 0.0  # share of training labels replaced by a wrong one
    noise_part: str = "both"  # what noise can make wrong: "both", "changed" or "answer"
    noise_towards: str = "uniform"  # the wrong answer is any other, or "cued": the cue's, where that is wrong
    shuffle_labels: bool = False  # no item keeps its label, and answers are at chance
    labels: str = ""  # an existing labels folder; "" makes labels from label_teacher
    foreign_labels: float = 0.0  # α: share of groups whose labels come from config.foreign instead
    refresh_steps: int = 0  # relabel from the current model every N steps (a baseline); 0: never
    foreign_to: str = ""  # the arm whose recipe this one repeats from config.foreign, as foreign explainer
    # With foreign_to: it starts from config.foreign once that behaves as config.initial (config.align).
    aligned: bool = False
    shown: bool = False  # explanation prompts show the answer without the cue: an upper bound, by one query
    shift: ShiftConfig = ShiftConfig()

    def __post_init__(self):
        check_choice("kl_prompts", self.kl_prompts, KL_PROMPTS)
        check_choice("kl_groups", self.kl_groups, KL_GROUPS)
        if self.kl_prompts == OTHER_TEXT and self.kl_support != "vocabulary":
            raise InputError(
                "kl_support is 'candidates', but other text (kl_prompts) has none: use 'vocabulary'"
            )
        check_noise(self.noise_part, self.noise_towards)
        if not 0 <= self.label_noise < 1:
            raise InputError(f"label_noise is {self.label_noise}; it is a share, at least 0 and below 1")
        if not 0 <= self.foreign_labels <= 1:
            raise InputError(f"foreign_labels is {self.foreign_labels}; it is a share, from 0 to 1")
        if self.refresh_steps < 0:
            raise InputError(f"refresh_steps is {self.refresh_steps}; it is a number of steps, 0 for never")
        altering = ("foreign_labels", "refresh_steps", "label_noise", "shuffle_labels")
        altered = [name for name in altering if getattr(self, name)]
        if self.labels and altered:
            raise InputError(
                f"labels is {self.labels!r}, and given labels are trained as they are: set either labels or "
                f"{' and '.join(altered)}"
            )
        if self.foreign_labels and self.refresh_steps:
            raise InputError(
                "foreign_labels and refresh_steps can't be combined: refreshed labels are the current model's"
            )
        if self.learning_rate <= 0 or self.kl_weight < 0:
            raise InputError(
                f"learning_rate is {self.learning_rate} and kl_weight {self.kl_weight}; a rate must be above "
                "0 and a weight at least 0"
            )
        ObjectiveConfig(self.kl_support, self.kl_direction)  # checks both
        if self.shown and self.refresh_steps:
            raise InputError("shown and refresh_steps can't be combined: unset one")
        if self.aligned and not self.foreign_to:
            raise InputError(
                "aligned is about a foreign explainer: name in foreign_to the arm that it repeats"
            )

    @property
    def start(self) -> str:
        """The model that it starts from, of `STARTS`."""
        if self.aligned:
            return "aligned"
        return "foreign" if self.foreign_to else "initial"
