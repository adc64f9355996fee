"""What a model's refusal of each request hangs on, found by leaving out one phrase after the other."""

from pathlib import Path

import jax
from rich.console import Console

from introspection.checkpoints.models import context_length, load_model, tokenizer_of
from introspection.errors import InputError
from introspection.jobs.items import section_settings
from introspection.jobs.probe_task import ProbeRequest, find_model, named_groups, probed_section
from introspection.jobs.settings import cache_dir
from introspection.probes.judges import OpeningsJudge
from introspection.probes.leave_one_out import PhraseRule, phrase_effects, strongest_spans, write_spans
from introspection.runtime.mesh import MeshConfig, make_mesh
from introspection.runtime.programs import ProgramTable
from introspection.runtime.progress import progress_bar
from introspection.tasks.refusal import NAME, refusal_source
from introspection.tasks.refusal_files import Request, raw_paths, read_requests
from introspection.tasks.refusal_items import RefusalConfig, distinct_requests, fits

SPANS = "spans.jsonl"
LONGEST_OPENING = 32  # tokens, that a prompt leaves room for in the model's context


def find_spans(request: ProbeRequest, workdir: Path, console: Console) -> Path:
    """Writes `spans.jsonl`, which `config.task.spans` takes; returns its path.

    Args:
      request: its `limit` is of requests (0: all), its `margin` the least effect of a phrase in nats.

    Raises:
      InputError: another task than `refusal`; the data or the model can't be used; the file is there already.
    """
    if request.task != NAME:
        raise InputError(f"--find-spans finds what makes a model refuse: give --task={NAME}")
    path = workdir / SPANS
    if path.exists():
        raise InputError(f"{path} is there already: delete it, or give another --workdir")
    found = find_model(request)
    config = section_settings(probed_section(request, found))
    requests = chosen_requests(config, request.limit)
    tokenizer, room = tokenizer_of(found), context_length(found) - LONGEST_OPENING
    short = [one for one in requests if len(tokenizer.encode_prompt(one.prompt)) <= room]
    if not short:
        raise InputError(f"none of {len(requests)} requests fits the model's context of {room} tokens")
    prompts, rule = [one.prompt for one in short], PhraseRule()
    mesh, programs = make_mesh(MeshConfig()), ProgramTable()
    asked = sum(1 + len(rule.phrases(prompt)) for prompt in prompts)
    with jax.set_mesh(mesh), progress_bar(console, "leaving out phrases", asked) as advance:
        effects = phrase_effects(
            load_model(found, mesh), prompts, programs, mesh, OpeningsJudge(), rule, advance
        )
    spans = strongest_spans(prompts, effects, request.margin)
    workdir.mkdir(parents=True, exist_ok=True)
    written = write_spans(path, [one.id for one in short], spans)
    unknown = sum(not found for found in effects)
    console.print(
        f"{written} of {len(requests)} requests have a phrase that makes a refusal likelier by more than "
        f"{request.margin:g} nats; {unknown} have one phrase, or no opening that is likely enough to tell; "
        f"{len(requests) - len(short)} are too long for the model",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"spans: {path} (--config.task.spans={path})", highlight=False, soft_wrap=True)
    return path


def chosen_requests(config: RefusalConfig, limit: int) -> list[Request]:
    """The requests that a config's items would be drawn from, at most `limit` (0: all), taken evenly."""
    source = refusal_source(config.data, cache_dir({"cache_dir": ""}) / "datasets")
    there = distinct_requests([one for one in read_requests(raw_paths(source)) if fits(one, config)])
    if not there:
        raise InputError(f"{source}: no request fits the task's config")
    chosen = set(named_groups([one.id for one in there], limit))
    return [one for one in there if one.id in chosen]
