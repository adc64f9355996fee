"""An arm's section of a config, and what it may say."""

import dataclasses

from introspection.errors import InputError
from introspection.training.batches import KL_PROMPTS
from introspection.training.shifts import ShiftConfig

KL_GROUPS = ("explained", "other", "both")


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
