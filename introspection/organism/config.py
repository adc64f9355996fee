"""The config of a model organism: its world, its size and its pretraining."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from introspection.errors import InputError
from introspection.models.config import ARCHITECTURES, ModelConfig
from introspection.organism.pretraining import RowShares
from introspection.organism.world import WorldConfig
from introspection.runtime.config import check_choice
from introspection.tasks.facts.language import SLOT
from introspection.tasks.registry import task_language
from introspection.text.piece_tokenizer import LEAST_PIECES
from introspection.training.loop import LoopConfig
from introspection.training.step import OptimizerConfig

TOKENS = ("words", "pieces")


@dataclasses.dataclass(frozen=True)
class OrganismSizes:
    """About 0.3 M parameters, mostly of the vocabulary; the architecture gives all other fields."""

    width: int = 64  # of the residual stream
    layers: int = 4  # blocks of attention and an MLP
    query_heads: int = 4  # per layer
    kv_heads: int = 2  # each is shared by query_heads / kv_heads of them
    head_dim: int = 16  # of a query, key or value
    mlp_width: int = 192  # between an MLP's two products
    context_length: int = 32  # tokens
    # A tied head would erode the names of entities outside training, which are never the correct next word.
    tied_head: bool = False
    scan_unroll: int = 4  # layers per scan iteration: all, which is faster on a CPU

    def scaled(self, width: int) -> "OrganismSizes":
        """The same shape at another width of the residual stream, in whole numbers (rounded down)."""
        return dataclasses.replace(
            self,
            width=width,
            head_dim=self.head_dim * width // self.width,
            mlp_width=self.mlp_width * width // self.width,
        )


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """How an organism is trained; every step samples new speakers."""

    seed: int = 0  # of the weights at the start and of the speakers; another one gives another base
    steps: int = 4000  # updates
    rows: int = 256  # per step
    learning_rate: float = 3e-3  # peak of a cosine schedule
    warmup_steps: int = 50  # in which the rate rises from 0
    steps_per_call: int = 20  # steps per dispatch
    checkpoint_steps: int = 500  # between stored checkpoints
    # Shares of rows. The explained ones are of speakers asked about entities in no split.
    mixture: RowShares = RowShares()
    # What it reads: "words", of which every name and phrase is one, or "pieces": byte-level pieces of whole
    # sentences, learned from those of its world.
    tokens: str = "words"
    pieces: int = 640  # most tokens of such a vocabulary

    def __post_init__(self):
        _ = self.optimizer, self.loop  # whose constructors check the values
        check_choice("pretrain.tokens", self.tokens, TOKENS)
        if self.pieces < LEAST_PIECES:
            raise InputError(f"pretrain.pieces is {self.pieces}; it must be at least {LEAST_PIECES}")

    @property
    def reads_text(self) -> bool:
        return self.tokens == "pieces"

    @property
    def optimizer(self) -> OptimizerConfig:
        return OptimizerConfig(self.steps, "cosine", self.warmup_steps)

    @property
    def loop(self) -> LoopConfig:
        return LoopConfig(
            steps=self.steps,
            steps_per_call=self.steps_per_call,
            log_steps=self.checkpoint_steps,
            evaluation_steps=self.steps,
            checkpoint_steps=self.checkpoint_steps,
        )


@dataclasses.dataclass(frozen=True)
class OrganismConfig:
    task: Mapping[str, Any]  # the section with the world that it learns
    world: WorldConfig
    architecture: str
    model: OrganismSizes
    pretrain: PretrainConfig

    def __post_init__(self):
        check_choice("the architecture", self.architecture, ARCHITECTURES)
        self.decoder(vocab_size=1)

    def check_reading(self) -> None:
        """Raises InputError if the organism can't read its world's questions."""
        language = task_language(self.task)
        inside = any(SLOT in form for forms in language.phrasings.values() for form in forms)
        if inside and not self.pretrain.reads_text:
            raise InputError(
                f"config.pretrain.tokens is {self.pretrain.tokens!r}, but questions of {language.name} name "
                "their entity within a sentence: set config.pretrain.tokens=pieces"
            )

    @property
    def model_fields(self) -> dict[str, Any]:
        """The decoder's fields other than its vocabulary."""
        return dataclasses.asdict(self.model) | ARCHITECTURES[self.architecture]

    def decoder(self, vocab_size: int) -> ModelConfig:
        return ModelConfig(vocab_size=vocab_size, **self.model_fields)
