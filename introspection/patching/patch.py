"""Patches the activations and weights of a run's models: before training, and of every arm after it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console

from introspection.checkpoints.names import StoredModel, find_stored, load_model, model_fingerprint
from introspection.coupling.records import read_records
from introspection.errors import InputError
from introspection.models.model import Model
from introspection.patching.causal import Causal, causal_share, patch_strongest
from introspection.patching.contrasts import Contrasts, item_contrasts
from introspection.patching.maps import (
    Maps,
    attribution_quality,
    is_fixed,
    joined,
    map_similarity,
    site_effects,
)
from introspection.patching.page import write_patching_page
from introspection.patching.results import PatchedModel, PatchingResults
from introspection.patching.summary import patching_table, summary
from introspection.patching.weights import gradient_similarity, swap
from introspection.probes.contrasts import GROUPS, open_groups
from introspection.probes.patching import (
    Differences,
    PatchingConfig,
    Site,
    all_sites,
    attribute_sites,
    patch_sites,
)
from introspection.reports.console import program_table, say
from introspection.reports.few_groups import with_few_groups
from introspection.reports.run_files import read_results
from introspection.runs.added_arms import with_arms_added
from introspection.runs.config import RunConfig, read_config
from introspection.runs.identity import completed, identity
from introspection.runs.run import FINISHED, is_finished, run
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.config import cache_dir
from introspection.runtime.json_files import read_object
from introspection.runtime.json_values import to_json
from introspection.runtime.lock import held
from introspection.runtime.mesh_flag import chosen_mesh
from introspection.runtime.processes import first, first_before_others
from introspection.runtime.progress import progress_bar
from introspection.runtime.session import Session
from introspection.runtime.workdir import check_workdir, write_json
from introspection.tasks.items import Decisions
from introspection.tasks.refusal.phrases import CLASSES
from introspection.tasks.registry import LANGUAGES, load_task
from introspection.tasks.task import Task

PATCHING = "patching.json"


class Subject(NamedTuple):
    """One model to patch: an arm's seed after training, or a model before it."""

    stored: StoredModel
    start: StoredModel | None  # the same arm and seed before training
    decided: Mapping[str, Decisions]  # by item


class Patched(NamedTuple):
    """One subject, patched."""

    model: Model
    contrasts: Contrasts
    maps: Maps
    reverse: Maps
    attribution: tuple[np.ndarray, np.ndarray]  # first-order changes of both, items by sites
    causal: Causal


def finished_config(workdir: Path) -> RunConfig:
    """The config of a finished run. Raises InputError if there is none in the workdir."""
    if not (workdir / FINISHED).exists():
        raise InputError(f"{workdir} is no finished run; give --config=F to train its arms first")
    return read_config(completed(read_object(workdir / "config.json")))


def patch(config: RunConfig, workdir: Path, console: Console, mesh: str = "") -> Path:
    """Runs the arms of a config unless that is done, patches their models, and returns the page's path.

    `mesh` is the flag `--mesh`; "" is that of the config.

    Raises:
      InputError: as `run`; a chosen layer or head is not in the model; candidates are classes, not texts; or
        the cue changes no model's behaviour.
    """
    if config.initial == "pretrain":  # before anything is trained
        all_sites(config.organism.decoder(vocab_size=1), GROUPS, config.patching)
    task, _ = first_before_others(lambda: load_task(config.task, cache_dir(config.cache_dir)))
    if config.behavior.judge or any(item.candidates == CLASSES for item in task.splits["test"]):
        raise InputError(
            f"{task.name}: its candidates are a judge's classes, not texts, so no token tells them apart; "
            "patching needs a task whose candidates are texts"
        )
    if first(lambda: is_finished(workdir, config.run_arms)):
        here, added = identity(config), with_arms_added(config)
        some = {"run_arms": here["run_arms"]}  # of the arms that ran, some may be patched
        first(lambda: check_workdir(workdir, here, lambda stored: added(stored) | some))
    else:
        run(config, workdir, console, mesh=mesh)
    session = Session(chosen_mesh(mesh, config.mesh), ProgramTable(), console, cache_dir(config.cache_dir))
    with held(workdir), jax.set_mesh(session.mesh):
        results = patch_models(config, workdir, task, session)
        first(lambda: write_json(workdir / PATCHING, to_json(results)))
        page = first(lambda: write_patching_page(workdir, config.name, results))
    console.print(patching_table(results))
    say(console, summary(results))
    console.print(program_table(session.programs))
    return page


def patch_models(config: RunConfig, workdir: Path, task: Task, session: Session) -> PatchingResults:
    """Everything that `patching.json` holds."""
    run_results = read_results(workdir / FINISHED)
    subjects = find_subjects(config, workdir)
    models: dict[str, PatchedModel] = {}
    skipped: dict[str, str] = {}
    fingerprints: dict[str, dict[str, str]] = {}
    for name, of_name in subjects.items():
        rng = np.random.default_rng([config.patching.seed, 70, list(subjects).index(name)])
        try:
            patched = patch_subjects(name, of_name, task, config, session, rng)
        except InputError as error:
            skipped[name] = str(error)
            say(session.console, f"{name} is skipped: {error}")
            continue
        seeds = tuple(one.stored.seed for one in of_name)
        prints = map(model_fingerprint, (one.model for one in patched))
        fingerprints[name] = dict(zip(map(str, seeds), prints, strict=True))
        found = pooled(patched, config.patching, rng)
        donors = donors_of(name, config, subjects)
        arm = run_results.arms.get(name)
        arm = arm and with_few_groups(arm)
        models[name] = dataclasses.replace(
            found,
            seeds=seeds,
            gradients=gradient_similarity([(p.model, p.contrasts) for p in patched], session, rng),
            swaps=tuple(
                swap(label, [(p.model, p.contrasts) for p in patched], stored, session)
                for label, stored in donors.items()
            ),
            gap=arm.gap.exact_match if arm else found.gap,
            gap_minus_reference=arm.references[arm.best_static].gap_difference
            if arm and arm.best_static
            else found.gap_minus_reference,
        )
    if not models:
        raise InputError(f"no model can be patched: {next(iter(skipped.values()))}")
    return PatchingResults(models, skipped, config.patching, config.tiny, fingerprints)


def find_subjects(config: RunConfig, workdir: Path) -> dict[str, list[Subject]]:
    """The models before training, then every arm's seeds, with what the run recorded of their behaviour.

    Raises:
      InputError: an arm has no checkpoint, or no records.
    """
    records = read_records(workdir / "predictions.jsonl")
    found: dict[str, list[Subject]] = {}
    for arm, recipe in config.chosen_arms.items():
        own = [record for record in records if record.arm == arm]
        if not own:
            raise InputError(
                f"{workdir} has no trained arm {arm!r}: run it first, or leave it out of run_arms"
            )
        if (start := recipe.start) not in found:
            (before,) = find_stored(f"{workdir}:{start}")
            found[start] = [Subject(before, None, {record.id: record.initial for record in own})]
    for arm in config.chosen_arms:
        own = []
        for stored in find_stored(f"{workdir}:{arm}"):
            before = find_stored(f"{workdir}:{arm}:{stored.seed}@0")[0]
            decided = {r.id: r.current for r in records if r.arm == arm and r.seed == stored.seed}
            own.append(Subject(stored, before, decided))
        found[arm] = own
    return found


def donors_of(
    name: str, config: RunConfig, subjects: Mapping[str, Sequence[Subject]]
) -> dict[str, list[StoredModel]]:
    """Whose weights are put into an arm: its own before training and, from the same start, the main arm's."""
    own = subjects[name]
    if name not in config.chosen_arms:
        return {}
    found = {"start": [one.start for one in own if one.start is not None]}
    main = next((arm for arm, recipe in config.chosen_arms.items() if not recipe.foreign_to), name)
    if name != main and not config.arms[name].foreign_to:
        found[main] = [one.stored for one in subjects[main]]
    return found


def patch_subjects(
    name: str,
    subjects: Sequence[Subject],
    task: Task,
    config: RunConfig,
    session: Session,
    rng: np.random.Generator,
) -> list[Patched]:
    """Every seed of one model, patched at the sites that are open in any of them.

    Raises:
      InputError: the cue changes none of its decisions, or as `all_sites`.
    """
    language, found = LANGUAGES.get(config.task["name"]), []
    for subject in subjects:
        model = load_model(subject.stored, session.mesh)
        contrasts = item_contrasts(name, task, subject.decided, model, language, config.patching)
        found.append((model, contrasts, subject.stored.seed))
    groups = open_groups([one for _, contrasts, _ in found for one in contrasts.explanation])
    turned = open_groups([one.swapped() for _, contrasts, _ in found for one in contrasts.explanation])
    return [
        patch_subject(name, model, contrasts, seed, (groups, turned), config.patching, session, rng)
        for model, contrasts, seed in found
    ]


def patch_subject(
    name: str,
    model: Model,
    contrasts: Contrasts,
    seed: int,
    groups: tuple[Sequence[str], Sequence[str]],
    settings: PatchingConfig,
    session: Session,
    rng: np.random.Generator,
) -> Patched:
    """Both maps of one model, in both directions and to first order, and its strongest sites together.

    Args:
      groups: of positions that are sites, where activations go into runs with the cue and into those without.
    """
    maps = measure(contrasts, model, settings, seed, groups[0], session, name)
    behavior, explanation = contrasts.behavior, contrasts.explanation
    turned = contrasts._replace(
        behavior=[one.swapped() for one in behavior], explanation=[one.swapped() for one in explanation]
    )

    def patch_sets(places: np.ndarray, sets: Sequence[Sequence[Site]]) -> tuple[Differences, Differences]:
        some = contrasts.of(places)
        return (
            patch_sites(model, some.behavior, sets, session),
            patch_sites(model, some.explanation, sets, session),
        )

    return Patched(
        model,
        contrasts,
        maps,
        measure(turned, model, settings, seed, groups[1], session, f"{name}, reversed"),
        (
            attribute_sites(model, behavior, maps.sites, session),
            attribute_sites(model, explanation, maps.sites, session),
        ),
        patch_strongest(maps, patch_sets, settings, rng),
    )


def measure(
    contrasts: Contrasts,
    model: Model,
    settings: PatchingConfig,
    seed: int,
    groups: Sequence[str],
    session: Session,
    title: str,
) -> Maps:
    """Both maps over all sites in some groups of positions; a group that a run lacks has no effect."""
    sites = all_sites(model.config, groups, settings)
    sets = [[site] for site in sites]
    with progress_bar(session.console, f"patching {title}", 2 * len(contrasts.items)) as advance:
        behavior = patch_sites(model, contrasts.behavior, sets, session, advance)
        explanation = patch_sites(model, contrasts.explanation, sets, session, advance)
    fixed = np.array([is_fixed(site, model.config.layers) for site in sites])
    count = len(contrasts.items)
    return Maps(sites, fixed, behavior, explanation, [item.group for item in contrasts.items], [seed] * count)


def pooled(patched: Sequence[Patched], settings: PatchingConfig, rng: np.random.Generator) -> PatchedModel:
    """What the patched seeds of one model say together."""
    maps, reverse = joined([one.maps for one in patched]), joined([one.reverse for one in patched])
    first_order = [np.concatenate([one.attribution[i] for one in patched]) for i in (0, 1)]

    def means(found) -> tuple[float, float]:
        return float(found.base.mean()), float(found.source.mean())

    return PatchedModel(
        n=len(maps.groups),
        seeds=(),
        behavior_difference=means(maps.behavior),
        explanation_difference=means(maps.explanation),
        similarity=map_similarity(maps, rng),
        causal=causal_share(maps, [one.causal for one in patched], rng),
        sites=site_effects(maps, rng),
        reverse=site_effects(reverse, rng),
        attribution=(
            attribution_quality(maps.behavior, first_order[0], maps.open),
            attribution_quality(maps.explanation, first_order[1], maps.open),
        ),
    )
