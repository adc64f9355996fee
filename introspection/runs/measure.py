"""What a run measures of its models: live, on the test items, and the controls."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from introspection.coupling.controls import CONTROLS, computed_control
from introspection.coupling.metrics import behavior_accuracy
from introspection.coupling.records import CueEffects, PredictionRecord, Said
from introspection.models.model import Model
from introspection.organism.world import optimal_decisions
from introspection.probes.behavior import read_behavior, request_count
from introspection.probes.explanation import (
    decode_explanations,
    explanation_logprobs,
    score_explanations,
    showing,
)
from introspection.probes.scored import cue_effects
from introspection.runs.setup import Setup, Start
from introspection.runtime.progress import progress_bar
from introspection.tasks.conditions import Condition, meets
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import Decisions, Explanation, Item

# Subsets of the test items where only some kinds of items are explained in training.
EXPLAINED, UNEXPLAINED = "kinds explained", "kinds not explained"
NATS_DIGITS = 4  # decimals of log-probabilities in files


class HeldOut(NamedTuple):
    """Items of an arm's live measures, the same at every evaluation, with the labels of its teacher."""

    items: Sequence[Item]  # validation items
    labels: Sequence[Explanation]
    explained: Sequence[Item]  # training items, on which agreement is measured; none where steps return it
    trained: Sequence[Explanation]
    clean: Sequence[Explanation]
    tested: Mapping[str, Sequence[Item]] = {}  # test items, shifted and not; none in an arm without a shift
    tested_labels: Mapping[str, Sequence[Explanation]] = {}
    shown: bool = False  # whether explanation prompts show the current answers without the cue
    places: Sequence[int] = ()  # of `explained` among all explained items

    def asked(
        self, items: Sequence[Item], decided: Sequence[Decisions], grammar: ExplanationGrammar
    ) -> Sequence[Item]:
        """The items as explanations are asked for: with the current answers, where these are shown."""
        return showing(items, [now.without_cue for now in decided], grammar) if self.shown else items

    def relabelled(self, trained: Sequence[Explanation]) -> "HeldOut":
        """With new labels of all explained items."""
        return self._replace(trained=[trained[place] for place in self.places])


def live_measures(title: str, model: Model, setup: Setup, held_out: HeldOut) -> dict[str, float]:
    """Coupling with scored explanations on validation items.

    Settings are chosen by `validation_explanation_loss` (nats a label) and `validation_accuracy` (right
    without the cue), never by the gap. `title` is that of the progress bar.
    """
    items, labels = held_out.items, held_out.labels
    grammar, session = setup.task.grammar, setup.session
    both = [*items, *held_out.explained]
    count = request_count(both, setup.readout) + len(items)
    with progress_bar(session.console, title, count) as advance:
        decided = read_behavior(model, both, setup.readout, session, advance).decisions
        current, explained_now = decided[: len(items)], decided[len(items) :]
        asked = held_out.asked(items, current, grammar)
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
        **shift_measures(model, setup, held_out),
    }


def shift_measures(model: Model, setup: Setup, held_out: HeldOut) -> dict[str, float]:
    """How behaviour and scored explanations move on shifted and unshifted test items, for the figure alone.

    Of each part: Self, Orig and drift (shares of items), and the share that decides as the cue says.
    """
    names = list(held_out.tested)
    items = [item for name in names for item in held_out.tested[name]]
    if not items:
        return {}
    labels = [label for name in names for label in held_out.tested_labels[name]]
    grammar = setup.task.grammar
    decided = read_behavior(model, items, setup.readout, setup.session).decisions
    asked = held_out.asked(items, decided, grammar)
    said, _ = score_explanations(model, asked, grammar, labels, setup.session)
    of_items = {
        "self": [e == now.explanation for e, now in zip(said, decided, strict=True)],
        "orig": [e == label for e, label in zip(said, labels, strict=True)],
        "drift": [now.explanation != label for now, label in zip(decided, labels, strict=True)],
        "cued": [now.with_cue == item.cued for now, item in zip(decided, items, strict=True)],
    }
    ends = list(itertools.accumulate(len(held_out.tested[name]) for name in names))
    return {
        f"{name}_{measure}": float(np.mean(values[end - len(held_out.tested[name]) : end]))
        for name, end in zip(names, ends, strict=True)
        for measure, values in of_items.items()
    }


def probe_records(
    arm: str,
    seed: int,
    model: Model,
    start: Start,
    teacher: Sequence[tuple[Decisions, float | None]],
    shifted: Collection[str],
    setup: Setup,
    shown: Callable[[Item, Decisions], str] | None = None,
) -> list[PredictionRecord]:
    """What a trained model decides and says on every test item.

    Args:
      teacher: the arm's label teacher's decisions and cue effects on the test items.
      shifted: the groups whose behaviour the arm's shift trained.
      shown: the answer without the cue that an item's explanation prompt shows, from the current decisions.
    """
    items = setup.task.splits["test"]
    title = f"{arm}: probing seed {seed}"
    with progress_bar(setup.session.console, title, 4 * len(items)) as advance:
        now = read_behavior(model, items, setup.readout, setup.session, advance)
        asked = items
        if shown is not None:
            asked = showing(items, [*map(shown, items, now.decisions)], setup.task.grammar)
        said = said_of_items(model, asked, setup, advance)
    initial = start.probed
    effects = zip(
        (effect for _, effect in teacher),
        initial.cue_effects("test", items, setup.readout.with_none),
        cue_effects(now.behaviors, now.decisions, items, setup.readout.with_none),
        strict=True,
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
            initial=before,
            current=current,
            explanation_text=one.text,
            explanation=one.explanation,
            subset=", ".join(
                filter(None, (item.subset, _explained_kind(item, setup.config.train.conditions)))
            ),
            shifted=item.group in shifted,
            explanation_logprobs=one.logprobs,
            cue_effects=CueEffects(*(None if one is None else round(one, NATS_DIGITS) for one in nats)),
        )
        for item, (taught, _), before, current, one, nats in zip(
            items, teacher, initial.decisions["test"], now.decisions, said, effects, strict=True
        )
    ]


def _explained_kind(item: Item, conditions: Sequence[Condition]) -> str:
    """Whether an item is of a kind that explanation training saw; "" where it saw all kinds."""
    return "" if not conditions else EXPLAINED if meets(item, conditions) else UNEXPLAINED


def said_of_items(
    model: Model, items: Sequence[Item], setup: Setup, progress: Callable[[int], None]
) -> list[Said]:
    """What a model says of each item, and the log-probability of all that it could say."""
    grammar = setup.task.grammar
    tokens = setup.config.evaluation.explanation_tokens
    decoded = decode_explanations(model, items, grammar, tokens, setup.session, progress)
    scores = explanation_logprobs(model, items, grammar, setup.session, progress)
    return [
        Said(text, explanation, tuple(round(float(nats), NATS_DIGITS) for nats in row))
        for (text, explanation), row in zip(decoded, scores, strict=True)
    ]


def control_explanations(setup: Setup) -> dict[str, dict[str, list[Said]]]:
    """What each control says on the test items, whoever it is scored against, by what the arms start from."""
    task, items = setup.task, setup.task.splits["test"]
    training, seed = setup.training, setup.config.task_seed
    drawn = training.explained, training.labels
    computed = {name: computed_control(name, drawn, training.natural, items, seed) for name in CONTROLS}
    organism = setup.models.organism
    if setup.config.initial == "pretrain" and organism is not None:
        bayes = optimal_decisions(organism.world, task)
        computed["bayes_optimal"] = [decision.explanation for decision in bayes]
    said = {
        name: [Said(task.grammar.render(explanation), explanation) for explanation in explanations]
        for name, explanations in computed.items()
    }
    starts, title = setup.models.starts, "controls: explanations of the untrained"
    with progress_bar(setup.session.console, title, 2 * len(starts) * len(items)) as advance:
        untrained = {
            name: said_of_items(start.model, items, setup, advance) for name, start in starts.items()
        }
    return {name: {"initial": own, **said} for name, own in untrained.items()}
