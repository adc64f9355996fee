"""Finds the phrase that each refusal depends on, by leaving out one phrase at a time."""

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console

from introspection.checkpoints.names import context_length, load_model, tokenizer_of
from introspection.errors import InputError
from introspection.hygiene.probe import asking_session
from introspection.hygiene.request import ProbeRequest, find_model, probed_section
from introspection.models.model import Model
from introspection.probes.judges import OpeningsJudge
from introspection.runtime.config import cache_dir
from introspection.runtime.processes import first
from introspection.runtime.progress import progress_bar
from introspection.runtime.session import Session
from introspection.runtime.workdir import write_whole
from introspection.tasks.raw_files import data_files, raw_source
from introspection.tasks.refusal.files import DOWNLOAD, Request, read_requests
from introspection.tasks.refusal.items import RefusalConfig, distinct_requests, fits
from introspection.tasks.refusal.task import NAME
from introspection.tasks.registry import section_settings
from introspection.tasks.spans import Span, without_span
from introspection.tasks.subsets import evenly
from introspection.tasks.table_files import SUFFIXES

SPANS = "spans.jsonl"
LONGEST_OPENING = 32  # tokens left free in the model's context
# Words that separate phrases; content words alone can look harmful.
_FUNCTION_WORDS = """\
a about above after again against all also am an and any are as at be because been before being below between
both but by can can't could did didn't do does doesn't doing don't down during each few for from further had
has have having he her here hers him his how i i'm if in into is it it's its just like me more most my no nor
not of off on once only or other our out over own please same shall she should so some such than that the
their them then there these they this those through to too under until up very was we were what when where
which while who whom why will with without would you your"""
_FUNCTION = frozenset(_FUNCTION_WORDS.split())
_WORD = re.compile(r"\w+(?:[-'’]\w+)*")


def find_spans(request: ProbeRequest, workdir: Path, console: Console) -> Path:
    """Writes `spans.jsonl`, for `config.task.spans`; returns its path.

    Args:
      request: its `limit` is of requests (0: all), its `margin` the least effect of a phrase in nats.

    Raises:
      InputError: the task is not `refusal`; the data or the model are unusable; the file exists.
    """
    if request.task != NAME:
        raise InputError(f"--find-spans finds phrases that make a model refuse: give --task={NAME}")
    path = workdir / SPANS
    if first(path.exists):
        raise InputError(f"{path} exists: delete it, or give another --workdir")
    found = find_model(request)
    config = section_settings(probed_section(request, found))
    requests = chosen_requests(config, request.limit)
    tokenizer, room = tokenizer_of(found), context_length(found) - LONGEST_OPENING
    short = [one for one in requests if len(tokenizer.encode_prompt(one.prompt)) <= room]
    if not short:
        raise InputError(f"none of {len(requests)} requests fits the model's context of {room} tokens")
    prompts, rule = [one.prompt for one in short], PhraseRule()
    session = asking_session(request, console)
    asked = sum(1 + len(rule.phrases(prompt)) for prompt in prompts)
    with jax.set_mesh(session.mesh), progress_bar(console, "leaving out phrases", asked) as advance:
        effects = phrase_effects(
            load_model(found, session.mesh), prompts, session, OpeningsJudge(), rule, advance
        )
    spans = strongest_spans(prompts, effects, request.margin)

    def write() -> int:
        workdir.mkdir(parents=True, exist_ok=True)
        return write_spans(path, [one.id for one in short], spans)

    written = first(write)
    unknown = sum(not found for found in effects)
    console.print(
        f"{written} of {len(requests)} requests have a phrase that makes a refusal more likely by more than "
        f"{request.margin:g} nats; {unknown} are a single phrase, or have no likely opening; "
        f"{len(requests) - len(short)} are too long for the model",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"spans: {path} (--config.task.spans={path})", highlight=False, soft_wrap=True)
    return path


def chosen_requests(config: RefusalConfig, limit: int) -> list[Request]:
    """The requests that qualify for a config's items, at most `limit` (0: all), taken evenly."""
    source = raw_source(config.data, cache_dir() / "datasets", NAME)
    read = read_requests(data_files(source, SUFFIXES, DOWNLOAD))
    there = distinct_requests([request for request in read if fits(request, config)])
    if not there:
        raise InputError(f"{source}: no request passes the filters of the task's config; loosen them")
    chosen = set(evenly(tuple(dict.fromkeys(request.id for request in there)), limit))
    return [request for request in there if request.id in chosen]


@dataclasses.dataclass(frozen=True)
class PhraseRule:
    """A phrase is a run of content words between function words and punctuation; longer runs are split.

    RAKE delimits key phrases in the same way (Rose, Engel, Cramer and Cowley, 2010).
    """

    longest: int = 6  # words
    most: int = 12  # phrases of a prompt; if there are more, evenly spaced ones are kept

    def phrases(self, text: str) -> list[Span]:
        """The phrases of a text, in order."""
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
    """A phrase and its effect on the log-odds of a refusal, in nats."""

    span: Span
    effect: float


def phrase_effects(
    model: Model,
    prompts: Sequence[str],
    session: Session,
    judge: OpeningsJudge | None = None,
    rule: PhraseRule | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[PhraseEffect]]:
    """The effect of every phrase of every prompt, in order; `progress` is called with prompts scored.

    A prompt has no effects if it is a single phrase, or if its openings are too unlikely
    (`judge.least_mass`).
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
    refusing, complying = judge.logprobs(variants, model, session, progress).T
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
    """The phrase of each prompt with the largest effect on a refusal; "" if it is at most `least` nats or the
    phrase occurs more than once."""
    found = []
    for prompt, of_prompt in zip(prompts, effects, strict=True):
        best = max(of_prompt, key=lambda phrase: phrase.effect, default=None)
        text = "" if best is None or best.effect <= least else prompt[best.span.start : best.span.stop]
        found.append(text if text and prompt.count(text) == 1 else "")
    return found


def write_spans(path: Path, ids: Sequence[str], spans: Sequence[str]) -> int:
    """Writes the spans for `config.task.spans`, one JSON object per line; returns their number."""
    lines = [
        json.dumps({"id": name, "span": span}, ensure_ascii=False)
        for name, span in zip(ids, spans, strict=True)
        if span
    ]
    write_whole(path, "".join(f"{line}\n" for line in lines))
    return len(lines)
