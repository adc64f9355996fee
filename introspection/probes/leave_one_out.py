"""Which phrase of a prompt a behaviour hangs on: each is left out, and what that changes is measured.

The effect of a phrase is counterfactual behaviour itself: how much likelier one kind of reply is on the whole
prompt than without the phrase. All prompts and all of their shortened copies are scored in one batch.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from introspection.models.model import Model
from introspection.probes.judges import OpeningsJudge
from introspection.runtime.programs import ProgramTable
from introspection.tasks.spans import Span, without_span

# Words that end a phrase and belong to none; content words alone can look harmful.
_FUNCTION_WORDS = """\
a about above after again against all also am an and any are as at be because been before being below between
both but by can can't could did didn't do does doesn't doing don't down during each few for from further had
has have having he her here hers him his how i i'm if in into is it it's its just like me more most my no nor
not of off on once only or other our out over own please same shall she should so some such than that the
their them then there these they this those through to too under until up very was we were what when where
which while who whom why will with without would you your"""
_FUNCTION = frozenset(_FUNCTION_WORDS.split())
_WORD = re.compile(r"\w+(?:[-'’]\w+)*")


@dataclasses.dataclass(frozen=True)
class PhraseRule:
    """What counts as a phrase: a run of content words between function words and punctuation.

    That is how RAKE delimits key phrases (Rose, Engel, Cramer and Cowley, 2010). A longer run is cut.
    """

    longest: int = 6  # words
    most: int = 12  # phrases of a prompt; a longer prompt's are thinned out evenly

    def phrases(self, text: str) -> list[Span]:
        """The phrases of a text in their order."""
        runs: list[list[Span]] = [[]]
        for match in _WORD.finditer(text):
            run = runs[-1]
            apart = run and text[run[-1].stop : match.start()].strip(" ")  # punctuation or a line end
            if apart or len(run) == self.longest:
                runs.append([])
            if match[0].casefold().replace("’", "'") in _FUNCTION:
                runs.append([])
            else:
                runs[-1].append(Span(*match.span()))
        found = [Span(run[0].start, run[-1].stop) for run in runs if run]
        if len(found) <= self.most:
            return found
        return [found[i * len(found) // self.most] for i in range(self.most)]


class PhraseEffect(NamedTuple):
    """A phrase and how much it makes a refusal likelier: nats of log-odds; below 0 if it makes it less so."""

    span: Span
    effect: float


def phrase_effects(
    model: Model,
    prompts: Sequence[str],
    programs: ProgramTable,
    mesh: jax.sharding.Mesh,
    judge: OpeningsJudge | None = None,
    rule: PhraseRule | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[PhraseEffect]]:
    """The effect of every phrase of every prompt, in order; `progress` is told of prompts scored.

    A prompt that is one phrase has none: nothing would be left without it. Nor has one whose openings are all
    but impossible (`judge.least_mass`): nothing is known of it.
    """
    judge, rule = judge or OpeningsJudge(), rule or PhraseRule()
    spans = [
        [span for span in rule.phrases(prompt) if _WORD.search(without_span(prompt, span))]
        for prompt in prompts
    ]
    variants = [
        text
        for prompt, found in zip(prompts, spans, strict=True)
        for text in (prompt, *(without_span(prompt, span) for span in found))
    ]
    refusing, complying = judge.logprobs(variants, model, programs, mesh, progress).T
    odds, known = refusing - complying, np.exp(np.logaddexp(refusing, complying)) >= judge.least_mass
    effects, first = [], 0
    for found in spans:
        own = [PhraseEffect(span, float(odds[first] - odds[first + 1 + i])) for i, span in enumerate(found)]
        effects.append(own if known[first] else [])
        first += 1 + len(found)
    return effects


def strongest_spans(
    prompts: Sequence[str], effects: Sequence[Sequence[PhraseEffect]], least: float = 0.0
) -> list[str]:
    """The phrase of each prompt that makes a refusal likelier most; "" where none does by more than `least`
    nats, or it recurs."""
    found = []
    for prompt, of_prompt in zip(prompts, effects, strict=True):
        best = max(of_prompt, key=lambda one: one.effect, default=None)
        text = "" if best is None or best.effect <= least else prompt[best.span.start : best.span.stop]
        found.append(text if text and prompt.count(text) == 1 else "")
    return found


def write_spans(path: Path, ids: Sequence[str], spans: Sequence[str]) -> int:
    """Writes the spans that were found for `config.task.spans`, one JSON object a line; returns how many."""
    lines = [
        json.dumps({"id": name, "span": span}, ensure_ascii=False)
        for name, span in zip(ids, spans, strict=True)
        if span
    ]
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    temporary.replace(path)
    return len(lines)
