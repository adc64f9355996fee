"""Whether a model that was distilled on another's behaviour agrees with it."""

from collections.abc import Sequence, Set

import numpy as np

from introspection.coupling.run_results import Alignment
from introspection.tasks.items import Decisions, Item, Prompt
from introspection.training.distillation import is_held_out


def alignment(
    items: Sequence[Item],
    teacher: Sequence[Decisions],
    before: Sequence[Decisions],
    now: Sequence[Decisions],
    held_out: Set[Prompt],
    steps: int,
    threshold: float,
) -> Alignment:
    """How far a student decides as its teacher: shares of items on which both decisions are the same.

    Args:
      before: the student's decisions before distillation; `now` after `steps` steps.
      held_out: prompts that were not distilled. An item with such a prompt counts as held out.
      threshold: what both shares must reach.
    """
    is_held = np.array([is_held_out(item, held_out) for item in items])
    same, same_before = (
        np.array([one == other for one, other in zip(decided, teacher, strict=True)])
        for decided in (now, before)
    )
    trained, others = float(same[~is_held].mean()), float(same[is_held].mean())
    return Alignment(
        threshold=threshold,
        before=float(same_before.mean()),
        trained=trained,
        held_out=others,
        steps=steps,
        reached=min(trained, others) >= threshold,
    )


def shortfall(found: Alignment) -> str | None:
    """Why no verdict rests on an aligned foreign explainer; None where its alignment suffices."""
    if found.reached:
        return None
    lowest = min(found.trained, found.held_out)
    return (
        f"its start decides as config.initial on {100 * lowest:.1f}% of items, and alignment needs "
        f"{100 * found.threshold:g}%"
    )
