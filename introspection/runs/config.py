"""The fields of a run, with default, unit and meaning; an arm's and training's are in files of their own.

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
from introspection.organism.config import OrganismConfig, OrganismSizes, PretrainConfig
from introspection.organism.organism import MODEL_FIELDS, is_organism
from introspection.organism.world import WorldConfig
from introspection.probes.behavior import BehaviorConfig
from introspection.probes.patching import PatchingConfig
from introspection.reports.run_files import ReportSettings
from introspection.runs.arm_config import ArmConfig
from introspection.runs.train_config import AdaptersConfig, TrainConfig
from introspection.runtime.config import check_choice, check_least, config_dict, settings
from introspection.runtime.mesh import MeshConfig
from introspection.runtime.profiling import ProfileConfig
from introspection.runtime.trackers import LogConfig
from introspection.runtime.workdir import differing_fields
from introspection.tasks.facts.invented_world import INVENTED_WORLD
from introspection.tasks.registry import default_section, section_settings
from introspection.text.chat_template import ChatOptions
from introspection.training.distillation import AlignConfig

RESERVED = (*STARTS, "clean")  # other names of stores and of a labels folder


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
        check_least("evaluation", self, **least)
        if not 0 <= self.skipped_share <= 1:
            raise InputError(
                f"config.evaluation.skipped_share is {self.skipped_share}; it is a share, 0 to 1"
            )


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

    name: str = "run"  # of the experiment, and of its default workdir
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

    # By name, what is trained and how; an arm changes what the fields above say for all.
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
            self.lora.lora.check(self.model.layers, self.model.tied_head)
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
