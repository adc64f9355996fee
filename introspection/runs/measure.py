"""What a run measures of its models: live, on the test items, and the controls."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from introspection.coupling.controls import CONTROLS
from introspection.coupling.metrics import behavior_accuracy
from introspection.coupling.records import PredictionRecord
from introspection.models.model import Model
from introspection.organism.world import optimal_decisions
from introspection.probes.behavior import read_behavior
from introspection.probes.explanation import decode_explanations, score_explanations, showing
from introspection.runs.setup import Setup, Start
from introspection.runtime.progress import progress_bar
from introspection.tasks.items import Decisions, Explanation, Item


class HeldOut(NamedTuple):
    """Items of an arm's live measures, the same at every evaluation, with the labels of its teacher."""

    items: Sequence[Item]  # validation items
    labels: Sequence[Explanation]
    explained: Sequence[Item]  # training items, on which agreement is measured; none where steps return it
    trained: Sequence[Explanation]
    clean: Sequence[Explanation]
    shown: bool = False  # whether explanation prompts show the current answers without the cue


def live_measures(title: str, model: Model, setup: Setup, held_out: HeldOut) -> dict[str, float]:
    """Coupling with scored explanations on validation items.

    Settings are chosen by `validation_explanation_loss` (nats a label) and `validation_accuracy` (right
    without the cue), never by the gap. `title` is that of the progress bar.
    """
    items, labels = held_out.items, held_out.labels
    grammar, session = setup.task.grammar, setup.session
    both = [*items, *held_out.explained]
    with progress_bar(session.console, title, 2 * len(both) + len(items)) as advance:
        decided = read_behavior(model, both, setup.readout, session, advance).decisions
        current, explained_now = decided[: len(items)], decided[len(items) :]
        asked = items
        if held_out.shown:
            asked = showing(items, [now.without_cue for now in current], grammar)
        said, label_logprobs = score_explanations(model, asked, grammar, labels, session, advance)
    accuracy = behavior_accuracy(current, [item.gold for item in items])

    def agreement(with_labels: Sequence[Explanation]) -> float:
        return float(np.mean([d.explanation == e for d, e in zip(explained_now, with_labels, strict=True)]))

    agreements = {"agreement": held_out.trained, "kept_behavior": held_out.clean}
    return {
        **({name: agreement(of) for name, of in agreements.items()} if explained_now else {}),
        "live_self": float(np.mean([e == c.explanation for e, c in zip(said, current, strict=True)])),
        "live_orig": float(np.mean([e == label for e, label in zip(said, labels, strict=True)])),
        "live_drift": float(np.mean([c.explanation != e for c, e in zip(current, labels, strict=True)])),
        "validation_explanation_loss": float(-np.mean(label_logprobs)),
        **({} if accuracy is None else {"validation_accuracy": accuracy}),
    }


def probe_records(
    arm: str,
    seed: int,
    model: Model,
    start: Start,
    teacher: Sequence[Decisions],
    shifted: Collection[str],
    setup: Setup,
    shown: Callable[[Item, Decisions], str] | None = None,
) -> list[PredictionRecord]:
    """What a trained model decides and says on every test item.

    Args:
      teacher: the arm's label teacher's decisions on the test items.
      shifted: the groups whose behaviour the arm's shift trained.
      shown: the answer without the cue that an item's explanation prompt shows, from the current decisions.
    """
    items = setup.task.splits["test"]
    title = f"{arm}: probing seed {seed}"
    with progress_bar(setup.session.console, title, 3 * len(items)) as advance:
        current = read_behavior(model, items, setup.readout, setup.session, advance).decisions
        asked = items
        if shown is not None:
            asked = showing(items, [*map(shown, items, current)], setup.task.grammar)
        said = decode_explanations(
            model,
            asked,
            setup.task.grammar,
            setup.config.evaluation.explanation_tokens,
            setup.session,
            advance,
        )
    return [
        PredictionRecord(
            arm=arm,
            seed=seed,
            id=item.id,
            group=item.group,
            cue_kind=item.cue_kind,
            candidates=item.candidates,
            gold=item.gold,
            cued=item.cued,
            prompt_with_cue=str(item.prompt_with_cue),
            prompt_without_cue=str(item.prompt_without_cue),
            teacher=taught,
            initial=initial,
            current=now,
            explanation_text=text,
            explanation=explanation,
            subset=item.subset,
            shifted=item.group in shifted,
        )
        for item, taught, initial, now, (text, explanation) in zip(
            items,
            teacher,
            start.probed.decisions["test"],
            current,
            said,
            strict=True,
        )
    ]


def control_explanations(setup: Setup) -> dict[str, dict[str, list[tuple[str, Explanation]]]]:
    """What each control says on the test items, whoever it is scored against, by what the arms start from."""
    task, items = setup.task, setup.task.splits["test"]
    training, seed = setup.training, setup.config.task_seed
    computed = {
        name: control(training.explained, training.labels, items, seed) for name, control in CONTROLS.items()
    }
    organism = setup.models.organism
    if setup.config.initial == "pretrain" and organism is not None:
        bayes = optimal_decisions(organism.world, task)
        computed["bayes_optimal"] = [decision.explanation for decision in bayes]
    said = {
        name: [(task.grammar.render(explanation), explanation) for explanation in explanations]
        for name, explanations in computed.items()
    }
    tokens, starts = setup.config.evaluation.explanation_tokens, setup.models.starts
    title = "controls: explanations of the untrained"
    with progress_bar(setup.session.console, title, len(starts) * len(items)) as advance:
        untrained = {
            name: decode_explanations(start.model, items, task.grammar, tokens, setup.session, advance)
            for name, start in starts.items()
        }
    return {name: {"initial": own, **said} for name, own in untrained.items()}
