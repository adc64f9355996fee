"""What one may conclude from a comparison: which explanations of a lead and of a gap the data exclude."""

from collections.abc import Sequence

from introspection.coupling.estimates import too_few
from introspection.coupling.matrix_results import RECIPES, Conclusion, Diagonal, Excess, Matrix
from introspection.coupling.references import MOST_INVALID
from introspection.reports.findings import gap_verdict, interval
from introspection.reports.numbers import p_value, points

LEVEL = 0.05  # of a permutation test
CHANCE = "chance"
ANYONE = "explanations that are the same whoever gives them"
MODELS = "luck in which models are compared"


def conclusion(matrix: Matrix) -> Conclusion:
    """What the data exclude, in one sentence.

    An emitter that says the same whoever it is scored against has a mean lead of 0, however good it is, and
    a lead is no greater for models that are easy to explain. So a lead above 0 excludes both. Drift alone
    moves the gap to the model before training, so that is held against each control's.
    """
    lead, excluded, remaining = _of_lead(matrix)
    asked = [one for one in matrix.excess if _invalid_rate(matrix, one) <= MOST_INVALID]
    above = [one.control for one in asked if gap_verdict(matrix.shown_excess(one)) == "coupled"]
    others = [one.control for one in asked if one.control not in above]
    missing = [name for name in RECIPES if name not in (*above, *others)]
    clauses = [lead]
    if asked and not matrix.is_silent:
        words = [[RECIPES[name] for name in names] for names in (above, others)]
        clauses.append(f"as what makes the gap to the model before training, they {_exclude(*words)}")
    if missing:
        clauses.append(f"not asked, or mostly invalid: {', '.join(missing)}")
    return Conclusion("; ".join(clauses) + ".", (*excluded, *above), (*remaining, *others), tuple(missing))


def _of_lead(matrix: Matrix) -> tuple[str, list[str], list[str]]:
    """A clause on the diagonal's lead, what it excludes, and what it does not."""
    diagonal, test, count = matrix.diagonal or Diagonal(), matrix.permutation, len(matrix.models)
    few, difference = too_few(matrix.groups), diagonal.difference
    all_of_them = [CHANCE, ANYONE, MODELS]
    if matrix.is_silent:
        return "No explanation of the models can be parsed, so the data exclude nothing", [], all_of_them
    if test is None or count < 2:
        return "With one model there is no lead, so the data exclude nothing about it", [], all_of_them
    if few is not None:
        return f"Items of {few} groups are too few to tell, so the data exclude nothing", [], all_of_them
    size = f"{points(difference.mean)} points {interval(difference, 'points')}, {p_value(test.groups_p)}"
    verdict = gap_verdict(difference)
    if verdict == "reversed":
        return f"The diagonal lies below the rest ({size}), so there is no lead to explain", [], all_of_them
    if verdict == "undecided" or test.groups_p > LEVEL:
        return (
            f"The diagonal's lead ({size}) is not told from 0, so the data {_exclude([], [CHANCE, ANYONE])}",
            [],
            all_of_them,
        )
    lucky = test.models_p > LEVEL
    excluded, remaining = (all_of_them[:2], [MODELS]) if lucky else (all_of_them, [])
    words = [f"{MODELS} (of {count}: {p_value(test.models_p)})"] * lucky
    return f"The diagonal leads ({size}), so the data {_exclude(excluded, words)}", excluded, remaining


def _invalid_rate(matrix: Matrix, excess: Excess) -> float:
    """Of a control's rows the highest; 0 where it is not known."""
    rates = dict(zip(matrix.emitters, matrix.invalid_rate, strict=False))
    return max((rates.get(name, 0.0) for name in excess.emitters), default=0.0)


def _exclude(excluded: Sequence[str], remaining: Sequence[str]) -> str:
    if not excluded:
        return f"do not exclude {_listed(remaining, 'or')}"
    return f"exclude {_listed(excluded, 'and')}" + (
        f", but not {_listed(remaining, 'or')}" if remaining else ""
    )


def _listed(names: Sequence[str], joined: str) -> str:
    return f" {joined} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
