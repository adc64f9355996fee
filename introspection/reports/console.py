"""The tables that a command prints."""

from collections.abc import Mapping

from rich.console import Console
from rich.segment import Segments

from introspection.coupling.estimates import Estimate
from introspection.coupling.matrix_results import Matrix
from introspection.coupling.run_results import ControlResults, Part, Rates, RunResults
from introspection.probes.readouts import thought_note
from introspection.reports.few_groups import control_with_few, gap_notes, with_few_groups
from introspection.reports.findings import alignment_line, arm_finding, unmarked
from introspection.reports.numbers import percent
from introspection.reports.table import Row, Table, with_interval
from introspection.runtime.compiled import ProgramTable
from introspection.text.thoughts import Thought

TABLE_WIDTH = 110  # columns that it takes at most, with names that aren't longer than usual


def say(console: Console, line: str) -> None:
    """One line as it is: names are no markup, and a long line stays one."""
    console.print(unmarked(line), highlight=False, markup=False, soft_wrap=True)


def say_thoughts(
    console: Console, thoughts: Mapping[str, Thought | None], readout: str, reply_tokens: int
) -> tuple[str, ...]:
    """Says how models whose prompts open a thought are asked, and returns that; `thoughts` are by name."""
    notes: dict[str, list[str]] = {}
    for name, thought in thoughts.items():
        if thought is not None:
            notes.setdefault(thought_note(thought, readout, reply_tokens), []).append(name)
    said = tuple(f"{' and '.join(names)}: {note}" for note, names in notes.items())
    for line in said:
        say(console, line)
    return said


def matrix_table(matrix: Matrix) -> Table:
    """Exact match in percent, emitters down, teachers across by their numbers."""
    rates = matrix.invalid_rate or (None,) * len(matrix.emitters)
    rows = tuple(
        (
            f"{index} {emitter}",
            *map(percent, row),
            percent(rates[index - 1]),
            percent(matrix.none_rate_of(emitter)),
        )
        for index, (emitter, row) in enumerate(zip(matrix.emitters, matrix.exact_match, strict=True), 1)
    )
    title = f"Explanations of (down) that match the behaviour of (across), percent of {matrix.n} items"
    numbers = {emitter: str(index) for index, emitter in enumerate(matrix.emitters, 1)}
    teachers = (numbers.get(teacher, teacher) for teacher in matrix.teachers)
    note = (
        "invalid: explanations that can't be parsed, each counts as wrong; none: decisions for no candidate"
    )
    return Table(title, ("emitter", *teachers, "invalid", "none"), rows, note)


def program_table(programs: ProgramTable) -> Table:
    """Which executables this process compiled and how often it called them."""
    rows = tuple(
        (program, shapes, str(calls), f"{seconds:.1f}") for program, shapes, calls, seconds in programs.rows()
    )
    columns = ("program", "shapes", "calls", "compile seconds")
    return Table("Compiled programs of this process", columns, rows, text_columns=2)


def print_results_table(results: RunResults, console: Console) -> None:
    """Prints whether labels teach, the verdicts, and below them the table, whole: a file counts as 80 columns
    wide."""
    say(console, results.askable.words)
    if results.tiny:
        say(console, "tiny: these numbers are no evidence for or against anything")
    for name, arm in results.arms.items():
        finding = arm_finding(with_few_groups(arm), [*results.arms.values()], askable=results.askable)
        cautions = f" Cautions on the page: {len(finding.cautions)}." if finding.cautions else ""
        say(console, f"{name}: {finding.sentences[0]}{cautions}")
    for matrix in results.explained_both.values():
        console.print(matrix_table(matrix))
    if results.alignment is not None:
        say(console, alignment_line(results.alignment))
    wide = console.options.update(width=max(console.width, TABLE_WIDTH))
    shown = results_table(results).terminal(compact=True)
    console.print(Segments(console.render(shown, wide)), crop=False)


def results_table(results: RunResults) -> Table:
    """Every arm and, indented below it, the controls scored on it; in percent (differences in points)."""
    rows: list[Row] = []
    arms = {name: with_few_groups(arm) for name, arm in results.arms.items()}
    for name, arm in arms.items():
        best = arm.references.get(arm.best_static or "")
        difference = Estimate() if best is None else best.gap_difference
        rows.append(Row(_cells(f"{name}\n {arm.n} items", arm, difference, arm.agreement.mean), starts=True))
        for half in ("shifted", "unshifted") if arm.by_shifted else ():
            if (part := getattr(arm.by_shifted, half)) is not None:
                apart = getattr(best and best.by_shifted, half, Estimate())
                rows.append(Row(_cells(f" {half}", part, apart)))
        for control, by_arm in results.controls.items():
            if name in by_arm:
                mark = "*" if control == arm.best_static else ""
                found = arm.references.get(control)
                difference = Estimate() if found is None else found.gap_difference
                shown = control_with_few(by_arm[name], arm.disagreement.few)
                rows.append(Row(_cells(f" {control}{mark}", shown, difference)))
    return Table(
        "Do explanations follow the current model (Self) or the labels (Orig)?",
        (
            "", "Self", "Orig", "gap", "gap minus\nbest static's", "drift", "current\nshare", "agree",
            "invalid", "right",
        ),
        tuple(rows),
        "In percent. [95% interval]; → from the label teacher to current\n"
        "best static (*): the emitter with the highest Orig of those that no training moves\n"
        "in a control's row: the arm's gap minus the control's; no gap is read against 0\n"
        "current share: of the matches where the two disagree\n"
        "agree: trained labels that hold, mean over training; right: decisions without the cue"
        + "".join(f"\n{note}" for note in [gap_notes(arms.values())] if note),
    )  # fmt: skip


def _cells(
    name: str, entry: Part | ControlResults, difference: Estimate, agreement: float | None = None
) -> tuple[str, ...]:
    is_arm = isinstance(entry, Part)
    right = entry.behavior_accuracy if is_arm else Rates()
    return (
        name,
        percent(entry.self.exact_match.mean),
        percent(entry.orig.exact_match.mean),
        with_interval(entry.gap.exact_match),
        with_interval(difference),
        percent(entry.drift if is_arm else None),
        percent(entry.disagreement.current_share if is_arm else None),
        percent(agreement),
        percent(entry.invalid_rate),
        f"{percent(right.teacher)}\n→ {percent(right.current)}" if is_arm else percent(None),
    )
