"""The numbers that a study's figures draw, as rows of a CSV file beside each: shares, with all digits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from introspection.reports.figure_numbers import Numbers, estimate_columns
from introspection.study.figures import forest_rows
from introspection.study.knee import KneeFit, curves

Entry = Mapping[str, Any]


def claim_numbers(claim: Entry) -> Numbers:
    """What `claim_figure` draws of a claim."""
    if claim["estimand"] == "slope":
        return slope_numbers(claim)
    return knee_numbers(claim) if claim["points"] else forest_numbers(claim)


def forest_numbers(claim: Entry) -> Numbers:
    """A row of the forest each: pooled, of a base, against a reference, or of an arm beside the claim."""
    return [
        {"kind": row.kind, "row": row.label, **estimate_columns("difference", row.value)}
        for row in forest_rows(claim)
    ]


def knee_numbers(claim: Entry) -> Numbers:
    """An arm in one base each, then the corners of both fitted curves, and the knee's interval."""
    fit, points = KneeFit(**claim["fit"]), claim["points"]
    rows = [
        {"kind": "point", **{name: point[name] for name in ("arm", "base", "agreement", "gap")}}
        for point in points
    ]
    rows += [
        {"kind": kind, "arm": "", "base": "", "agreement": x, "gap": y}
        for kind, curve in curves(fit, [point["agreement"] for point in points]).items()
        for x, y in _pairs(curve)
    ]
    ends = fit.knot_ci95 or ()
    rows += [{"kind": "knee, 95%", "arm": "", "base": "", "agreement": end, "gap": None} for end in ends]
    return rows


def slope_numbers(claim: Entry) -> Numbers:
    """A condition in one base each (left), then a condition at one evaluation each (right)."""
    points = [
        {
            "kind": "point",
            "condition": point["condition"],
            "base": point["base"],
            "step": None,
            "orig": point["orig"],
            "gap": point["minus"].get(claim["reference"] or point["static"]),
        }
        for point in claim["points"]
    ]
    lines = [
        {"kind": "live", "condition": condition, "base": "", **step}
        for condition, steps in claim["lines"].items()
        for step in steps
    ]
    return [*points, *lines]


def _pairs(curve: Float[np.ndarray, "2 corners"]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in curve.T]
