"""Whether a model that was distilled on another's behaviour agrees with it."""

from collections.abc import Collection, Sequence

import numpy as np

from introspection.coupling.run_results import Alignment
from introspection.tasks.items import Decisions, Item, Prompt


def alignment(
    items: Sequence[Item],
    teacher: Sequence[Decisions],
    before: Sequence[Decisions],
    now: Sequence[Decisions],
    held_out: Collection[Prompt],
    steps: int,
    threshold: float,
) -> Alignment:
    """How far a student agrees with its teacher, in shares of decisions, two an item.

    Args:
      before: the student's decisions before distillation; `now` after `steps` steps.
      held_out: prompts that were not distilled.
      threshold: what both shares must reach.
    """
    prompts = [p for item in items for p in (item.prompt_with_cue, item.prompt_without_cue)]
    is_held = np.array([prompt in held_out for prompt in prompts])
    same, same_before = (np.array(decided).ravel() == np.array(teacher).ravel() for decided in (now, before))
    trained, others = float(same[~is_held].mean()), float(same[is_held].mean())
    return Alignment(
        threshold=threshold,
        before=float(same_before.mean()),
        trained=trained,
        held_out=others,
        explanations=float(
            np.mean([a.explanation == b.explanation for a, b in zip(now, teacher, strict=True)])
        ),
        steps=steps,
        reached=min(trained, others) >= threshold,
    )


def shortfall(found: Alignment) -> str | None:
    """Why no verdict rests on an aligned foreign explainer; None where its alignment suffices."""
    if found.reached:
        return None
    lowest = min(found.trained, found.held_out)
    return (
        f"its start decides as config.initial on {100 * lowest:.1f}% of prompts, and alignment needs "
        f"{100 * found.threshold:g}%"
    )
