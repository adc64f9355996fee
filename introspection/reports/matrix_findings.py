"""What a comparison's matrix shows, in plain words, and why its cells may be low."""

from introspection.coupling.estimates import too_few
from introspection.coupling.matrix_results import Diagonal, Matrix
from introspection.reports.findings import Cautions, Finding, gap_verdict, interval, isolated
from introspection.reports.numbers import percent


def matrix_finding(matrix: Matrix, limits: Cautions | None = None) -> Finding:
    """Whether models match their own behaviour better than the other models' of the matrix."""
    limits = limits or Cautions()
    diagonal = matrix.diagonal or Diagonal()
    difference = diagonal.difference.resting_on(too_few(matrix.groups))
    verdict = gap_verdict(difference)
    sentences = []
    if diagonal.own is not None and diagonal.others is not None:
        meaning = {
            "coupled": "the diagonal stands out",
            "undecided": "undecided, because the interval includes 0"
            if difference.ci95
            else "undecided, because there is no interval",
            "reversed": "reversed, the diagonal lies below the rest",
        }[verdict]
        sentences.append(
            f"On average, explanations match their own model's behaviour on {percent(diagonal.own)}% of items"
            f" and the other models' on {percent(diagonal.others)}%: {meaning}."
        )
    elif len(matrix.emitters) == 1 and matrix.cells[0]:
        cell = matrix.cells[0][0]
        share = " ".join(part for part in (f"{percent(cell.mean)}%", interval(cell)) if part)
        sentences.append(
            f"The explanations of {isolated(matrix.emitters[0])} match the behaviour of"
            f" {isolated(matrix.teachers[0])} on {share} of items. Whether it explains itself better than"
            " others do takes another model beside it."
        )
    for row, emitter in enumerate(matrix.emitters):
        if emitter in matrix.controls:
            continue
        own = [cell for column, cell in enumerate(matrix.cells[row]) if matrix.is_own(row, column)]
        others = [
            (cell.mean, matrix.teachers[column])
            for column, cell in enumerate(matrix.cells[row])
            if not matrix.is_own(row, column) and cell.mean is not None
        ]
        if own and own[0].mean is not None and others:
            best, teacher = max(others, key=lambda pair: pair[0])
            sentences.append(
                f"{isolated(emitter)} matches itself on {percent(own[0].mean)}%, and of the others"
                f" {isolated(teacher)} most, on {percent(best)}%."
            )
    words = {
        "coupled": "Diagonal stands out",
        "undecided": "Undecided",
        "reversed": "Diagonal below the rest",
    }
    cautions = matrix_cautions(matrix, limits)
    return Finding("Itself minus the others", verdict, words[verdict], difference, tuple(sentences), cautions)


def matrix_cautions(matrix: Matrix, limits: Cautions | None = None) -> tuple[str, ...]:
    """Why cells are low: explanations that can't be parsed, decisions that are no candidate."""
    limits = limits or Cautions()
    return (
        *(
            f"{percent(share)}% of the explanations of {isolated(emitter)} can't be parsed: each counts as"
            " wrong."
            for emitter, share in zip(matrix.emitters, matrix.invalid_rate, strict=False)
            if share >= limits.invalid_rate
        ),
        *(
            f"{percent(share)}% of the decisions of {isolated(teacher)} are none of the candidates."
            for teacher, share in zip(matrix.teachers, matrix.none_rate, strict=False)
            if share >= limits.none_rate
        ),
    )
