"""Checks and prints a task's data; asks no model and writes nothing."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from introspection.checkpoints.names import context_length, tokenizer_of
from introspection.errors import InputError
from introspection.hygiene.rates import DIFFERENCES
from introspection.hygiene.request import ProbeRequest, find_model, probed_section, probed_task
from introspection.hygiene.survey import evenly_by_question, survey, token_lengths, word_lengths
from introspection.reports.numbers import DASH, count
from introspection.reports.table import Table
from introspection.runtime.config import cache_dir
from introspection.runtime.progress import progress_bar
from introspection.runtime.terminal import LONGEST_LINE, one_line
from introspection.tasks.registry import TASKS, section_settings
from introspection.tasks.subsets import evenly
from introspection.tasks.task import print_task_notes

EXAMPLES = 6  # printed, of the test split
LENGTHS = {"whole": "with the question about it"}  # other names are printed as they are
ODD = 3  # examples of odd differences printed, of each split
FOLDED = 240  # longer stretches shared by both prompts are shortened to their ends
EDGE = 90  # characters of each end
MARKS = {"=": ("", ""), "+": ("{+", "+}"), "-": ("[-", "-]")}  # as in wdiff
STYLES = {"=": "", "+": "bold green", "-": "red"}


def dry_run(request: ProbeRequest, console: Console) -> None:
    """Prints the splits, cue kinds, differences with examples, and lengths of a task's data.

    The limit is of items per split (0: all), taken evenly. Lengths are in words or, if a model is given, in
    its tokens; only its tokenizer is loaded.

    Raises:
      InputError: the data are unusable; bad rows of a user's own file are printed first.
    """
    model = find_model(request) if request.model else None
    print_bad_rows(probed_section(request, model), console)
    _, task = probed_task(request, model)
    lengths, unit = word_lengths(task), "words"
    if model is not None:
        lengths = token_lengths(task, tokenizer_of(model))
        unit = f"tokens (the model's context is {context_length(model):,})"
    sizes, found = {split: len(items) for split, items in task.splits.items()}, {}
    for split, items in task.splits.items():
        chosen = evenly_by_question(items, request.limit)
        with progress_bar(console, f"reading {split}", len(chosen)) as advance:
            found[split] = survey(chosen, lengths, advance)
    console.print(f"{task.name}, wordings {task.template_version}", highlight=False)
    print_task_notes(task, console)
    console.print(split_table(found, sizes))
    console.print(kind_table(found))
    console.print(difference_table(found))
    console.print(length_table(found, unit))
    examples = found.get("test", {"examples": []})["examples"]
    for example in evenly(examples, EXAMPLES):
        print_example(example, console)
    for split, surveyed in found.items():
        for example in surveyed["odd"][:ODD]:
            print_example(example, console, f"{split}, {DIFFERENCES[example['difference']]}: ")


def print_bad_rows(section: Mapping[str, Any], console: Console) -> None:
    """Prints the bad rows of a user's own file: at most twenty, and their number.

    Raises:
      InputError: there are bad rows, or no rows.
    """
    kind = TASKS.get(section["name"])
    if kind is None or kind.problems is None:
        return
    source, lines = kind.problems(section_settings(section), cache_dir() / "datasets")
    for line in lines:
        console.print(Text(one_line(line)), soft_wrap=True)
    if lines:
        raise InputError(f"{source}: {lines[-1]}, listed above; correct them (nothing was written)")


def split_table(found: Mapping[str, Mapping[str, Any]], sizes: Mapping[str, int]) -> Table:
    """Items, groups and numbers of candidates of each split."""
    columns = ("split", "items", "read", "groups", "candidates", "gold known", "cue names one")
    rows = [
        (
            split,
            count(sizes[split]),
            count(one["items"]),
            count(one["groups"]),
            ", ".join(one["candidates"]) or DASH,
            count(one["right_answer_known"]),
            count(one["cue_names_an_answer"]),
        )
        for split, one in found.items()
    ]
    return Table("Splits", columns, tuple(rows))


def kind_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Items of each cue kind, by split."""
    kinds = dict.fromkeys(kind for one in found.values() for kind in one["cue_kinds"])
    rows = [
        (kind or "(none)", *(count(one["cue_kinds"].get(kind, 0)) for one in found.values()))
        for kind in kinds
    ]
    return Table("Cue kinds, items", ("cue kind", *found), tuple(rows))


def difference_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Items with each kind of difference between the prompts, by split."""
    rows = [
        (words, *(count(one["differences"][kind]) for one in found.values()))
        for kind, words in DIFFERENCES.items()
        if kind == "insertion" or any(one["differences"][kind] for one in found.values())
    ]
    return Table("x has, compared with x\\C", ("", *found), tuple(rows))


def length_table(found: Mapping[str, Mapping[str, Any]], unit: str) -> Table:
    """Quantiles of lengths of all splits."""
    rows = [
        (str(LENGTHS.get(name, name.replace("_", " "))), split, *map(count, values.values()))
        for split, one in found.items()
        for name, values in one["lengths"].items()
    ]
    columns = ("", "split", "least", "5%", "median", "95%", "most")
    return Table(f"Lengths in {unit}", columns, tuple(rows), text_columns=2)


def print_example(example: Mapping[str, Any], console: Console, before: str = "") -> None:
    """Prints an item with what only x has in {+ +} and what only x\\C has in [- -]."""
    shown = Text(f"{before}{example['id']} ({example['cue_kind'] or 'no kind'})\n", style="dim")
    for kind, text in example["segments"]:
        if len(text) > (FOLDED if kind == "=" else LONGEST_LINE):
            text = f"{text[:EDGE]} … {len(text) - 2 * EDGE:,} more characters … {text[-EDGE:]}"
        opening, closing = MARKS[kind]
        shown.append(f"{opening}{text}{closing}", style=STYLES[kind])
    console.print(shown, soft_wrap=True)
