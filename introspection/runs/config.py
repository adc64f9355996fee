"""Every field of a run's config, with its default, unit and meaning.

A config file changes defaults (`default_config`, `arm`, `task_section`), a command reads it once
(`read_config`), and everything downstream uses these frozen values.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from introspection.checkpoints.names import STARTS
from introspection.checkpoints.store import is_step
from introspection.errors import InputError
from introspection.models.config import PARAMETER_DTYPES, PROJECTIONS, REMAT_POLICIES, LoraConfig
from introspection.organism.config import OrganismConfig, OrganismSizes, PretrainConfig
from introspection.organism.organism import MODEL_FIELDS, is_organism
from introspection.organism.world import WorldConfig
from introspection.probes.behavior import BehaviorConfig
from introspection.probes.patching import PatchingConfig
from introspection.reports.run_files import ReportSettings
from introspection.runs.arm_config import ArmConfig
from introspection.runtime.config import check_choice, config_dict, settings
from introspection.runtime.mesh import MeshConfig
from introspection.runtime.profiling import ProfileConfig
from introspection.runtime.trackers import LogConfig
from introspection.runtime.workdir import differing_fields
from introspection.tasks.conditions import Condition, read_conditions
from introspection.tasks.facts.invented_world import INVENTED_WORLD
from introspection.tasks.registry import default_section, section_settings
from introspection.text.chat_template import ChatOptions
from introspection.training.batches import BatchSizes, check_parts
from introspection.training.distillation import AlignConfig
from introspection.training.loop import LoopConfig
from introspection.training.objectives import ObjectiveConfig
from introspection.training.step import OptimizerConfig

RESERVED = (*STARTS, "clean")  # other names of stores and of a labels folder


def _picked(kind: type, source: Any, **given: Any) -> Any:
    """A `kind` whose fields are copied from `source` by name, except the given ones."""
    names = {field.name for field in dataclasses.fields(kind)} - given.keys()
    return kind(**{name: getattr(source, name) for name in names}, **given)


def _check_least(section: str, values: Any, **least: int) -> None:
    for name, smallest in least.items():
        value = getattr(values, name)
        if value < smallest:
            raise InputError(f"config.{section}.{name} is {value}; it must be at least {smallest}")


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
    steps: int = 500
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
    warmup_steps: int = 10
    weight_decay: float = 0.0
    gradient_clip: float = 1.0  # maximum global norm
    head_chunk: int = 4096  # scored positions whose full-vocabulary logits exist at a time
    microbatches: int = 1  # parts of a step's rows, whose gradients are summed: less memory, the same update
    # A step's rows lie in packs of at most so many tokens, in which a start that rows have in common is read
    # once; 0: each row by itself, padded to the longest. The losses are the same to rounding.
    pack_tokens: int = 0
    steps_per_call: int = 10  # steps per dispatch
    log_steps: int = 20  # metrics are means over this many steps
    evaluation_steps: int = 100  # between live evaluations on validation items
    checkpoint_steps: int = 100
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
        _check_least("train", self, **least)
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
    targets: tuple[str, ...] = PROJECTIONS
    layers: str = "all"  # the "lower" or "upper" half of the layers, or numbers from 0, such as "0,2"
    # Layers below it, from 0, have no adapters: a step is cheaper, since it reads them forward alone.
    from_layer: int = 0
    # The frozen matrices in memory: "float32", or "bfloat16", half of that, for models whose files are
    # bfloat16 throughout, of which it loses nothing. `initial` must be such a model; others stay float32.
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


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How models are evaluated."""

    validation_items: int = 600  # for live evaluations
    agreement_items: int = 128  # training items for agreement, if replies are generated
    shift_items: int = 200  # test items of shifted groups, and of others, for live measures; 0: none
    explanation_tokens: int = 6  # maximum length of a decoded explanation
    skipped_share: float = 0.01  # maximum share of items left out for exceeding the context
    seed: int = 0  # of bootstrap and sign-flip resamples

    def __post_init__(self):
        least = dict(validation_items=1, explanation_tokens=1, agreement_items=1, shift_items=0, seed=0)
        _check_least("evaluation", self, **least)


@dataclasses.dataclass(frozen=True)
class NeighborConfig:
    """The organism that `foreign = "neighbor"` names: the run's own, except for these fields."""

    seed: int = 1  # of its pretraining
    architecture: str = "llama"  # or "gemma"
    width: int = 0  # of its residual stream, to which its heads and MLP are scaled; 0 is the run's own


def _invented_world() -> dict[str, Any]:
    """Only the four hint cues; the task's placebos are mention, negation and right."""
    return default_section("invented_world") | {"cue_kinds": list(INVENTED_WORLD.hints)}


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One run: its task, its models, and how they are trained and evaluated."""

    name: str = "run"
    tiny: bool = False  # marks the report as no evidence
    cache_dir: str = ""  # for data sets and base models; "" is $INTROSPECTION_CACHE or ~/.cache/...
    part: str = ""  # of a study, which pools results over bases within a part; "" if in no study
    base: str = ""  # the base's name in a study
    curve: str = ""  # that a sweep's summary draws over its points: "size", or "" for none
    seeds: tuple[int, ...] = (0,)  # of explanation training; all seeds of an arm train together

    # A task's name and its own fields (introspection/tasks/<task>).
    task: Mapping[str, Any] = dataclasses.field(default_factory=_invented_world)

    # The organism, used if a model below is "pretrain". Its sources are reliable enough that whether a hint
    # changes an answer depends on how well the fact is known.
    world: WorldConfig = WorldConfig(likelihood_ratios=(2.0, 6.0, 12.0, 12.0))
    architecture: str = "llama"  # or "gemma": which norms, activation and embedding scale
    model: OrganismSizes = OrganismSizes()
    pretrain: PretrainConfig = PretrainConfig()

    # Three models that must not be confused. Each is "pretrain" (the organism above), "pretrain@STEP" (an
    # earlier checkpoint of it), a stored checkpoint WORKDIR[:ARM[:SEED]][@STEP], or an external model: a
    # Hugging Face folder, a GGUF file, BASE+ADAPTERS, or "smollm2" once it is fetched. The last two can also
    # be "initial".
    initial: str = "pretrain"  # where training starts
    # Its behaviour gives the fixed labels; or "published:NAME", the decisions that the task's data bring.
    label_teacher: str = "initial"
    kl_reference: str = "initial"  # the KL term's reference
    # A fourth model, where arms with `foreign_to` start: "neighbor", a stored or external model, or "none".
    foreign: str = "none"
    neighbor: NeighborConfig = NeighborConfig()
    # The aligned foreign explainer starts from config.foreign once it has learned initial's behaviour.
    align: AlignConfig = AlignConfig()
    # Chat template options of external models; an organism has a single fixed format.
    chat: ChatOptions = ChatOptions()

    behavior: BehaviorConfig = BehaviorConfig()
    train: TrainConfig = TrainConfig()
    lora: AdaptersConfig = AdaptersConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    mesh: MeshConfig = MeshConfig()
    report: ReportSettings = ReportSettings()
    log: LogConfig = LogConfig()
    profile: ProfileConfig = ProfileConfig()
    patching: PatchingConfig = PatchingConfig()

    arms: Mapping[str, ArmConfig] = dataclasses.field(default_factory=lambda: {"kl": ArmConfig()})
    run_arms: tuple[str, ...] = ()  # the arms to run, in order; () is all of them

    def __post_init__(self):
        _check_names(self)
        check_choice("config.curve", self.curve, ("", "size"))
        _ = self.organism, self.neighbor_organism  # checks their fields
        for name in MODEL_FIELDS:
            if getattr(self, name).startswith("pretrain@"):
                _check_organism_step(name, getattr(self, name).removeprefix("pretrain@"), self.pretrain)
        if any(is_organism(getattr(self, name)) for name in MODEL_FIELDS) or self.foreign == "neighbor":
            self.organism.check_reading()
        if is_organism(self.initial) and self.lora.lora is not None:
            self.lora.lora.trained(self.model.layers)  # checks its layers
        self.align.check(self.foreign, self.train.steps_per_call)
        if self.train.stack_arms and self.log.projects:
            raise InputError(
                "config.train.stack_arms trains several arms at a time, and a tracker logs one; leave "
                f"config.log.{next(iter(self.log.projects))} empty, or stack_arms off"
            )
        for name, arm in self.chosen_arms.items():
            try:
                _check_arm(name, arm, self)
            except InputError as error:
                raise InputError(f"config.arms.{name}: {error}") from error

    @property
    def chosen_arms(self) -> dict[str, ArmConfig]:
        """The arms to run, in order."""
        return {name: self.arms[name] for name in self.run_arms or self.arms}

    @property
    def organism(self) -> OrganismConfig:
        return OrganismConfig(self.task, self.world, self.architecture, self.model, self.pretrain)

    @property
    def neighbor_organism(self) -> OrganismConfig:
        neighbor = self.neighbor
        return dataclasses.replace(
            self.organism,
            architecture=neighbor.architecture,
            model=self.model.scaled(neighbor.width or self.model.width),
            pretrain=dataclasses.replace(self.pretrain, seed=neighbor.seed),
        )

    @property
    def task_seed(self) -> int:
        """The seed of the task's draws and of everything that a run draws from its items."""
        return section_settings(self.task).seed


def read_config(config: ConfigDict | Mapping[str, Any]) -> RunConfig:
    """Reads the config of a file, a command line or a workdir; missing fields get their defaults.

    Raises:
      InputError: a field is unknown, or its value is invalid as far as the config alone can tell.
    """
    if isinstance(config, ConfigDict):
        fields = config.to_dict()  # sorts by name, also the arms, which run in the file's order
        if isinstance(arms := config.get("arms"), ConfigDict):
            fields["arms"] = {name: fields["arms"][name] for name in arms._fields}
        config = fields
    return settings(RunConfig, config)


def default_config() -> ConfigDict:
    """All defaults, for a config file to change."""
    return config_dict(RunConfig())


def arm(shift: Mapping[str, Any] | None = None, **changes: Any) -> ConfigDict:
    """The default arm with changes, for a config file."""
    section = config_dict(ArmConfig())
    section.update(changes)
    shifted: Any = section["shift"]
    shifted.update(shift or {})
    return section


def task_section(name: str, **changes: Any) -> ConfigDict:
    """A task's default section with changes, for a config file. Raises KeyError for an unknown field."""
    section = config_dict(default_section(name)).lock()
    section.update(changes)
    return section.unlock()


def _check_names(config: RunConfig) -> None:
    """Raises InputError if the arms or seeds are empty, unknown, repeated or unusable as names."""
    if not config.arms or not config.seeds:
        raise InputError("config.arms and config.seeds need at least one arm and one seed")
    unknown = [name for name in config.run_arms if name not in config.arms]
    if unknown:
        raise InputError(f"config.run_arms has {unknown[0]!r}; choose from {', '.join(config.arms)}")
    unusable = [name for name in config.chosen_arms if name in RESERVED or re.search(r"[:@/,]", name)]
    if unusable:
        raise InputError(
            f"config.arms has {unusable[0]!r}: an arm's name is a folder's, so it can't contain : @ / or a "
            f"comma, or be one of {', '.join(RESERVED)}; rename it"
        )
    if len(set(config.run_arms)) < len(config.run_arms):
        raise InputError(
            f"config.run_arms is {tuple(config.run_arms)}: name each arm once (repeated flags add up)"
        )
    seeds = list(config.seeds)
    if not all(isinstance(seed, int) and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise InputError(f"config.seeds is {tuple(seeds)}; give different integers from 0, such as (0, 1)")


def _check_organism_step(name: str, step: str, pretrain: PretrainConfig) -> None:
    interval = pretrain.checkpoint_steps
    if not is_step(step) or int(step) > pretrain.steps or int(step) % interval:
        raise InputError(
            f"config.{name}: the organism has no step {step!r}; give a multiple of {interval} up to "
            f"{pretrain.steps}"
        )


def _check_arm(name: str, arm: ArmConfig, config: RunConfig) -> None:
    """Raises InputError if an arm does not fit the rest of its run."""
    train = config.train
    _ = train.loop(arm), train.optimizer(arm), train.objective(arm)  # check their fields
    if train.pack_tokens and (arm.refresh_steps or arm.shift.samples_groups):
        raise InputError(
            "it makes rows anew while it trains (refresh_steps, or a shift by reward), and packs "
            "(config.train.pack_tokens) are planned before: set pack_tokens to 0"
        )
    if arm.foreign_labels and config.foreign == "none":
        raise InputError("foreign_labels needs a model in config.foreign")
    if arm.shift.of_other and config.foreign == "none":
        raise InputError(
            f"shift {arm.shift.kind!r} needs a model in config.foreign, whose behaviour it trains"
        )
    if config.behavior.readout == "generate" and arm.kl_support == "candidates":
        raise InputError(
            "kl_support is 'candidates', but generated replies (config.behavior.readout) have no candidate "
            "probabilities; use 'vocabulary'"
        )
    if not arm.foreign_to:
        return
    if config.foreign == "none":
        raise InputError("foreign_to needs a model in config.foreign")
    if arm.aligned and not config.align.steps:
        raise InputError("aligned needs config.align.steps above 0, such as 3000")
    other = config.chosen_arms.get(arm.foreign_to)
    if other is None or other.foreign_to or other.shown:
        raise InputError(f"foreign_to is {arm.foreign_to!r}; name an arm of config.run_arms")
    names = list(config.chosen_arms)
    if arm.shown and names.index(arm.foreign_to) > names.index(name):
        raise InputError(f"it is shown the answers of {arm.foreign_to}: put that arm before it")
    if arm.shown and config.train.stack_arms:
        raise InputError(f"it is shown the answers of {arm.foreign_to}: set config.train.stack_arms=False")
    same = dataclasses.replace(arm, foreign_to="", aligned=False, shown=False)
    differing = differing_fields(dataclasses.asdict(same), dataclasses.asdict(other))
    if differing:
        raise InputError(f"its recipe must equal that of {arm.foreign_to} (foreign_to), but {differing[0]}")
