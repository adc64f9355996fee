"""Which model parts a study's bases use for their behaviour and for explaining it; cached per base."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy  # loads scipy.stats, which takes a second, at its first use
from jaxtyping import Float
from rich.console import Console

from introspection.checkpoints.names import ModelCard, StoredModel, load_model, model_fingerprint
from introspection.errors import InputError, RunError
from introspection.models.model import Model
from introspection.probes.ablation import ablation_effects, parts
from introspection.probes.context import token_counter
from introspection.runtime.config import cache_dir
from introspection.runtime.json_files import read_object
from introspection.runtime.progress import progress_bar
from introspection.runtime.session import Session
from introspection.runtime.workdir import write_json
from introspection.tasks.items import Item
from introspection.tasks.registry import load_task
from introspection.tasks.subsets import evenly
from introspection.tasks.task import Task

CIRCUITS = "circuits.json"  # in a point's workdir
MOST_PARTS = 128  # every part costs a probe of all items
# What the results depend on besides the point; results cached under other settings are recomputed.
SETTINGS = {"ablation": "zero", "split": "test", "items": 200, "seed": 0, "version": 1}
SPLITS = 200  # random halves of the items


def study_circuits(
    points: Sequence[tuple[str, Path]], configs: Mapping[str, Mapping[str, Any]], console: Console
) -> dict[str, dict[str, dict[str, Any] | None]]:
    """Each base's circuits, by part of the study and base; None, with a line on the console, on failure.

    They are measured on the initial model, which all points of a base in one part share, and cached in the
    point's workdir as `circuits.json`.
    """
    folders: dict[str, dict[str, list[Path]]] = {}
    for name, folder in points:
        by_base = folders.setdefault(configs[name]["part"], {})
        by_base.setdefault(configs[name]["base"], []).append(folder)
    session = Session(console=console)
    with jax.set_mesh(session.mesh):
        return {
            part: {base: _base_circuits(base, own, session) for base, own in by_base.items()}
            for part, by_base in folders.items()
        }


def _base_circuits(base: str, folders: Sequence[Path], session: Session) -> dict[str, Any] | None:
    """Circuits cached by any point of the base, or else measured on the first point that allows it."""
    for folder in folders:
        kept = read_circuits(folder)
        if kept is not None:
            return kept
    reasons = []
    for folder in folders:
        try:
            found = measure_circuits(base, folder, session)
        except (InputError, RunError) as error:
            reasons.append(str(error))
            continue
        write_json(folder / CIRCUITS, found)
        return found
    session.console.print(f"study: no circuits of {base}: {reasons[0]}", highlight=False, markup=False)
    return None


def read_circuits(folder: Path) -> dict[str, Any] | None:
    """A point's cached circuits; None if they are missing, damaged or from other settings."""
    try:
        kept = read_object(folder / CIRCUITS)
    except InputError:
        return None
    return kept if kept.get("settings") == SETTINGS else None


def measure_circuits(base: str, folder: Path, session: Session) -> dict[str, Any]:
    """The effects of all parts (nats, means over items), their overlap and its reliabilities.

    Raises:
        InputError: the workdir lacks its config's task, its tokenizer or its initial model, that model has
            too many parts, or no test item fits its context.
        RunError: the checkpoint is damaged.
    """
    config = read_object(folder / "config.json")
    if "task" not in config:
        raise InputError(f"{folder / 'config.json'} has no section 'task'")
    model = initial_model(folder, session.mesh)
    found = parts(model.config)
    if len(found) > MOST_PARTS:
        raise InputError(f"{folder}: its model has {len(found)} parts, more than the limit of {MOST_PARTS}")
    task, _ = load_task(config["task"], cache_dir(config["cache_dir"]))
    items = chosen_items(task, model)
    with progress_bar(session.console, f"circuits of {base}", len(found)) as advance:
        effects = ablation_effects(model, items, task.grammar, session, advance)
    overlap = effect_overlap(
        effects.behavior,
        effects.explanation,
        [part.block for part in found],
        [item.group for item in items],
        np.random.default_rng(SETTINGS["seed"]),
    )
    means = {name: values.mean(axis=1).tolist() for name, values in effects._asdict().items()}
    return {
        "settings": SETTINGS,
        "fingerprint": model_fingerprint(model),
        "n": len(items),
        **dataclasses.asdict(overlap),
        "ceiling": overlap.ceiling,
        "parts": [part.name for part in found],
        "effects": means,
    }


def initial_model(folder: Path, mesh: jax.sharding.Mesh) -> Model:
    """The model that a run's arms start from. Raises InputError if the workdir lacks it."""
    stored = StoredModel(folder, "initial", 0, 0)
    card = ModelCard.read(stored.store)
    return load_model(dataclasses.replace(stored, seed=card.seeds[0]), mesh)


def chosen_items(task: Task, model: Model) -> list[Item]:
    """Evenly spaced test items that fit the model's context. Raises InputError if none does."""
    limit, needed = model.config.context_length, token_counter(task, model.tokenizer)
    items = evenly(task.splits["test"], SETTINGS["items"])
    items = [item for item, tokens in zip(items, needed(items), strict=True) if tokens <= limit]
    if not items:
        raise InputError(f"no test item fits the model's context of {limit} tokens")
    return items


@dataclasses.dataclass(frozen=True)
class Overlap:
    """How similar two effects are over the same parts, with baselines for the correlation.

    All but `shared_effect` are rank correlations; None where undefined.
    """

    overlap: float | None  # of the two mean effects
    blocks_alone: float | None  # its expectation if parts were permuted at random within their blocks
    shared_effect: float | None  # the share of the two effects' sums on the same parts, 0 to 1
    # Means over random splits of the items into halves, so that the two sides share no item:
    across_halves: float | None  # behaviour in one half with explanations in the other
    behavior_reliability: float | None  # behaviour in one half with behaviour in the other
    explanation_reliability: float | None

    @property
    def ceiling(self) -> float | None:
        """Roughly the `across_halves` that noise would allow if both used exactly the same parts."""
        if self.behavior_reliability is None or self.explanation_reliability is None:
            return None
        # A reliability can be below 0 only by chance.
        return float(np.sqrt(max(self.behavior_reliability, 0) * max(self.explanation_reliability, 0)))


def effect_overlap(
    behavior: Float[np.ndarray, "parts items"],
    explanation: Float[np.ndarray, "parts items"],
    blocks: Sequence[str],
    groups: Sequence[str],
    rng: np.random.Generator,
) -> Overlap:
    """The overlap of two effects: the cost of ablating each part, on each item.

    Args:
        blocks: of each part; similarity due only to a part's kind and depth is similarity of blocks.
        groups: of each item; items are split into halves by group.
    """
    first, second = behavior.mean(axis=1), explanation.mean(axis=1)
    halves = random_halves(groups, rng)
    swapped = [(second_half, first_half) for first_half, second_half in halves]
    return Overlap(
        overlap=spearman(first, second),
        blocks_alone=exchanged_spearman(first, second, blocks),
        shared_effect=shared_effect(first, second),
        across_halves=spearman_between(behavior, explanation, [*halves, *swapped]),
        behavior_reliability=spearman_between(behavior, behavior, halves),
        explanation_reliability=spearman_between(explanation, explanation, halves),
    )


def spearman(first: Float[np.ndarray, " parts"], second: Float[np.ndarray, " parts"]) -> float | None:
    """Spearman's rank correlation, with mean ranks for ties; None if an argument is constant."""
    ranks, others = _standard_ranks(first), _standard_ranks(second)
    return None if ranks is None or others is None else float(np.mean(ranks * others))


def exchanged_spearman(
    first: Float[np.ndarray, " parts"], second: Float[np.ndarray, " parts"], blocks: Sequence[str]
) -> float | None:
    """Spearman's correlation, averaged over all permutations of parts within their blocks.

    Under a random permutation the expected rank of a part is its block's mean rank.
    """
    ranks, others = _standard_ranks(first), _standard_ranks(second)
    if ranks is None or others is None:
        return None
    names = np.asarray(blocks)
    for block in np.unique(names):
        others[names == block] = others[names == block].mean()
    return float(np.mean(ranks * others))


def shared_effect(first: Float[np.ndarray, " parts"], second: Float[np.ndarray, " parts"]) -> float | None:
    """The overlap of two distributions of costs over parts: the sum of the smaller shares.

    A part whose ablation helps counts as 0. None if either has no part with a cost.
    """
    costs = [np.maximum(values, 0) for values in (first, second)]
    if not all(cost.sum() > 0 for cost in costs):
        return None
    return float(np.minimum(*(cost / cost.sum() for cost in costs)).sum())


def random_halves(groups: Sequence[str], rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """`SPLITS` random splits of the items into two halves by group; empty with one group."""
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(numbers.max()) + 1
    if count < 2:
        return []
    orders = [rng.permutation(count) for _ in range(SPLITS)]
    return [
        (np.flatnonzero(order[numbers] < count // 2), np.flatnonzero(order[numbers] >= count // 2))
        for order in orders
    ]


def spearman_between(
    first: Float[np.ndarray, "parts items"],
    second: Float[np.ndarray, "parts items"],
    halves: Sequence[tuple[np.ndarray, np.ndarray]],
) -> float | None:
    """Mean correlation of `first`'s mean effects in one half with `second`'s in the other half.

    None without halves, or if all parts are equal in some half.
    """
    found = [spearman(first[:, one].mean(axis=1), second[:, other].mean(axis=1)) for one, other in halves]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known and len(known) == len(found) else None


def _standard_ranks(values: Float[np.ndarray, " parts"]) -> Float[np.ndarray, " parts"] | None:
    """Ranks standardized to mean 0 and standard deviation 1; None if all values are equal."""
    ranks = scipy.stats.rankdata(values)
    deviation = ranks.std()
    return None if deviation == 0 else (ranks - ranks.mean()) / deviation
