"""Every field of explanation training and its adapters, with its default, unit and meaning."""

import dataclasses
from typing import Any

from introspection.errors import InputError
from introspection.models.config import PARAMETER_DTYPES, PROJECTIONS, REMAT_POLICIES, LoraConfig
from introspection.runs.arm_config import ArmConfig
from introspection.runtime.config import check_choice, check_least
from introspection.tasks.conditions import Condition, read_conditions
from introspection.training.batches import BatchSizes, check_parts
from introspection.training.loop import LoopConfig
from introspection.training.objectives import ObjectiveConfig
from introspection.training.step import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Explanation training. The defaults were chosen by validation explanation loss and behaviour accuracy,
    never by the gap (every setting tried: experiments/notebook.md)."""

    explained_groups: int = 0  # number of training groups drawn for explanation; 0 is all
    explained_items: int = 0  # number of their items; 0 is all, or as many as can be balanced
    # Which items may be explained, such as ("cue_kind!=friend",): conditions FIELD=VALUE or FIELD!=VALUE on
    # cue_kind, stratum (the relation or subject) or phrasing. () is all. Every item is tested.
    explained_where: tuple[str, ...] = ()
    balanced: bool = True  # half of the items changed; False keeps their natural rate
    steps: int = 500  # updates of an arm
    explanation_rows: int = 128  # per step and seed
    behavior_items: int = 32  # per step and seed; each is two rows, with and without its cue
    # Per step and seed, in arms with a shift: prompts, each with a reply, a pair (DPO) or a group of replies.
    shift_rows: int = 64
    # For arms whose kl_prompts is "other_text": a UTF-8 file, a passage a line; "" is an organism's
    # pretraining text about training facts.
    text: str = ""
    text_rows: int = 2048  # passages that steps draw from; as many a step as behaviour rows
    text_tokens: int = 64  # first tokens of a file's passage
    schedule: str = "constant"  # after the warm-up; or "cosine"
    warmup_steps: int = 10  # in which the rate rises from 0
    weight_decay: float = 0.0  # AdamW's, times the rate
    gradient_clip: float = 1.0  # maximum global norm
    head_chunk: int = 4096  # scored positions whose full-vocabulary logits exist at a time
    microbatches: int = 1  # parts of a step's rows, whose gradients are summed: less memory, the same update
    # A step's rows lie in packs of at most so many tokens, in which a start that rows have in common is read
    # once; 0: each row by itself, padded to the longest. The losses are the same to rounding.
    pack_tokens: int = 0
    steps_per_call: int = 10  # steps per dispatch
    log_steps: int = 20  # metrics are means over this many steps
    evaluation_steps: int = 100  # between live evaluations on validation items
    checkpoint_steps: int = 100  # between stored checkpoints
    keep_checkpoints: int = 0  # number of newest checkpoints to keep; 0 keeps all
    remat: str = "none"  # layers that the backward pass recomputes: none, or "full" for all
    # "loop": one seed after another, on one CPU a small model's side by side; "vectorize": all in one product
    stack_seeds: str = "loop"
    stack_arms: bool = False  # arms that differ in values alone (rate, λ, labels) train as more such seeds

    def __post_init__(self):
        if self.explained_items < 0 or self.explained_items % 2:
            raise InputError(
                f"config.train.explained_items is {self.explained_items}; give an even number, or 0 for all"
            )
        check_choice("config.train.remat", self.remat, REMAT_POLICIES)
        least = dict(keep_checkpoints=0, explained_groups=0, text_rows=1, text_tokens=2, pack_tokens=0)
        check_least("train", self, **least)
        _ = self.rows, self.conditions  # checks them
        check_parts(self.microbatches, self.rows, self.pack_tokens)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return read_conditions(self.explained_where, "config.train.explained_where")

    @property
    def rows(self) -> BatchSizes:
        return _picked(BatchSizes, self)

    def loop(self, arm: ArmConfig) -> LoopConfig:
        """The loop of one arm; twice the steps if its shift comes before or after."""
        return _picked(
            LoopConfig,
            self,
            steps=self.steps * arm.shift.phases,
            refresh_steps=arm.refresh_steps,
            rollout_steps=arm.shift.rollout_steps if arm.shift.samples_groups else 0,
        )

    def optimizer(self, arm: ArmConfig) -> OptimizerConfig:
        steps = self.steps * arm.shift.phases
        return _picked(OptimizerConfig, self, steps=steps)

    def objective(
        self, arm: ArmConfig, reference_softcap: float | None = None, with_none: bool = True
    ) -> ObjectiveConfig:
        """Args: reference_softcap: kl_reference's `final_softcap`. with_none: whether decisions can be it."""
        return _picked(
            ObjectiveConfig,
            arm.shift,
            kl_support=arm.kl_support,
            kl_direction=arm.kl_direction,
            head_chunk=self.head_chunk,
            reference_softcap=reference_softcap,
            with_none=with_none,
        )


@dataclasses.dataclass(frozen=True)
class AdaptersConfig:
    """Low-rank adapters."""

    rank: int = 0  # 0 trains all parameters
    alpha: float = 16.0  # updates are scaled by alpha / rank
    targets: tuple[str, ...] = PROJECTIONS  # matrices of a layer that have adapters; "head" adds the head's
    layers: str = "all"  # the "lower" or "upper" half of the layers, or numbers from 0, such as "0,2"
    # Layers below it, from 0, have no adapters: a step is cheaper, since it reads them forward alone.
    from_layer: int = 0
    # The frozen matrices in memory: "float32", or "bfloat16", which takes half and loses nothing of a model
    # that is stored so. `initial` must be one; of the run's other models, those that are not stay float32.
    base_dtype: str = "float32"

    def __post_init__(self):
        _ = self.lora  # checks the fields
        check_choice("config.lora.base_dtype", self.base_dtype, PARAMETER_DTYPES)
        if self.base_dtype != "float32" and not self.rank:
            raise InputError(
                f"config.lora.base_dtype is {self.base_dtype}, but with rank 0 all parameters are trained, "
                "in float32; set lora.rank, or leave base_dtype at float32"
            )

    @property
    def lora(self) -> LoraConfig | None:
        if not self.rank:
            return None
        return LoraConfig(self.rank, self.alpha, tuple(self.targets), self.layers, self.from_layer)


def _picked(kind: type, source: Any, **given: Any) -> Any:
    """A `kind` whose fields are copied from `source` by name, except the given ones."""
    names = {field.name for field in dataclasses.fields(kind)} - given.keys()
    return kind(**{name: getattr(source, name) for name in names}, **given)
