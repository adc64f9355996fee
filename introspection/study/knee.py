"""Whether the gap bends at some agreement: a hinge against a straight line, over several bases.

The fit is least squares of y = a + b x + c max(x - k, 0) over the points of all bases, with the knot k from a
grid. There is one point per arm and base: x is the mean agreement of trained labels over training, y the gap
minus a static emitter's. Points of one base are dependent, so whole bases are resampled. Points of one arm
are dependent too: an arm with an effect of its own is off the line in every base, at about the same
agreement, which looks like a bend. Arms are too few to resample (a draw of seven has at most two or three
different agreements on each side of a knot), so intervals hold for these arms only. But a bend must also
survive flipping the signs of whole arms, and leaving out any one arm.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from introspection.coupling.metrics import divide
from introspection.coupling.statistics import expanded_tail
from introspection.errors import InputError


@dataclasses.dataclass(frozen=True)
class KneeSettings:
    """How the knot is searched for, and when it counts as identified."""

    grid: int = 81  # knots tried, evenly spaced over the searched range
    points_beyond: int = 4  # minimum number of points on either side of a knot
    resamples: int = 10_000
    flips: int = 4_096  # most sign patterns of the test; if there are no more, all are used
    widest: float = 0.8  # largest share of the searched range that an identified knot's interval covers
    significance: float = 0.05  # the test rejects a straight line if its p-value is below this


@dataclasses.dataclass(frozen=True)
class KneeFit:
    """A fitted hinge; its fields are None without a fit. Slopes are gap per agreement, both as shares."""

    n: int
    bases: int
    arms: int
    searched: tuple[float, float] | None  # least and largest knot tried
    intercept: float | None = None
    slope: float | None = None  # below the knot
    slope_change: float | None = None  # slope above the knot minus slope below it
    slope_change_ci95: tuple[float, float] | None = None
    knot: float | None = None
    knot_ci95: tuple[float, float] | None = None
    line: tuple[float, float] | None = None  # intercept and slope of the straight line
    residual_ratio: float | None = None  # residual sum of squares, the hinge's over the straight line's
    line_p: float | None = None  # p-value of the straight line: the larger of the two below
    line_p_bases: float | None = None
    line_p_arms: float | None = None
    slope_change_without_one_arm: tuple[float, float] | None = None  # least and largest
    identified: bool = False
    reason: str = ""  # why not

    def at(self, agreement: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
        """The hinge's gap at some agreements."""
        bend = self.slope_change * np.maximum(agreement - self.knot, 0)
        return self.intercept + self.slope * agreement + bend


LINE, STICK = "straight line", "broken stick"


def curves(fit: KneeFit, agreement: Sequence[float]) -> dict[str, Float[np.ndarray, "2 corners"]]:
    """The corners (agreement, gap) of what was fitted, over the range of the points; without what was not."""
    ends, found = np.array([min(agreement), max(agreement)]), {}
    if fit.line is not None:
        found[LINE] = np.stack([ends, fit.line[0] + fit.line[1] * ends])
    if fit.knot is not None and fit.slope_change is not None:
        corners = np.array([ends[0], fit.knot, ends[1]])
        found[STICK] = np.stack([corners, fit.at(corners)])
    return found


@dataclasses.dataclass(frozen=True)
class _Hinges:
    """Least-squares fits of the same points under many weightings, each at its best knot."""

    intercept: Float[np.ndarray, " fits"]
    slope: Float[np.ndarray, " fits"]
    slope_change: Float[np.ndarray, " fits"]
    knot: Float[np.ndarray, " fits"]
    line_intercept: Float[np.ndarray, " fits"]
    line_slope: Float[np.ndarray, " fits"]
    line_residual: Float[np.ndarray, " fits"]
    gain: Float[np.ndarray, " fits"]  # reduction of the sum of squares by the hinge


def fit_knee(
    agreement: Sequence[float],
    gap: Sequence[float],
    bases: Sequence[str],
    arms: Sequence[str],
    rng: np.random.Generator,
    settings: KneeSettings | None = None,
) -> KneeFit:
    """Fits the hinge with intervals over bases, and tests it against a straight line.

    Intervals are percentiles over resampled bases, expanded for their number. The test is a wild cluster
    bootstrap with the null imposed (Cameron, Gelbach and Miller, 2008): all residuals of a base from the line
    get the same random sign and are added back to the line; the hinge's best gain over all knots, relative to
    the line's sum of squares, is compared with the observed one. The same is done with one sign per arm, and
    the larger p-value counts. Whole clusters keep their dependence, and the search over knots is repeated in
    every pattern, which an F table would ignore. A pattern and its opposite give the same statistic, so with
    n bases or arms the p-value is at least 2^(1 - n): with fewer than 6 of either, no knee is identified.

    The knot is `identified` if the test rejects the line, the interval of the slope change excludes 0, the
    slope change keeps its sign without any single arm, and the knot's interval covers at most
    `settings.widest` of the searched range.

    Args:
        agreement, gap, bases, arms: one value per point, in any order.

    Raises:
        InputError: the lengths differ or a value isn't finite.
    """
    settings = settings or KneeSettings()
    lengths = [len(values) for values in (agreement, gap, bases, arms)]
    if len(set(lengths)) > 1:
        raise InputError(f"the knee's fit got different numbers of agreements, gaps, bases, arms: {lengths}")
    if not np.isfinite([*agreement, *gap]).all():
        raise InputError("the knee's fit got an agreement or gap that is not finite")
    order = sorted(range(len(gap)), key=lambda i: (bases[i], arms[i], agreement[i], gap[i]))
    x, y = (np.array([values[i] for i in order], dtype=float) for values in (agreement, gap))
    n_bases, n_arms = len(set(bases)), len(set(arms))
    knots = _knots(x, settings)
    if knots is None:
        return KneeFit(len(x), n_bases, n_arms, None, reason="too few different agreements for a knot")
    fit = _fit(x, y[None], np.ones((1, len(x))), knots)
    found = KneeFit(
        n=len(x),
        bases=n_bases,
        arms=n_arms,
        searched=(float(knots[0]), float(knots[-1])),
        intercept=float(fit.intercept[0]),
        slope=float(fit.slope[0]),
        slope_change=float(fit.slope_change[0]),
        knot=float(fit.knot[0]),
        line=(float(fit.line_intercept[0]), float(fit.line_slope[0])),
        residual_ratio=float(1 - fit.gain[0] / fit.line_residual[0]) if fit.line_residual[0] > 0 else None,
    )
    if min(n_bases, n_arms) < 2:
        return dataclasses.replace(found, reason="only one base or arm: no interval can be estimated")
    of_base, of_arm = (
        np.unique([names[i] for i in order], return_inverse=True)[1] for names in (bases, arms)
    )
    drawn = rng.multinomial(n_bases, np.full(n_bases, 1 / n_bases), settings.resamples)
    resampled = _fit(x, y[None], drawn[:, of_base].astype(float), knots)
    tail = expanded_tail(0.95, n_bases)
    change, knot = (
        tuple(float(end) for end in np.nanquantile(values, [tail, 1 - tail]))
        for values in (resampled.slope_change, resampled.knot)
    )
    without_one = _fit(x, y[None], (np.arange(n_arms)[:, None] != of_arm).astype(float), knots).slope_change
    if np.isnan(without_one).all():  # two arms: all other points lie on one side of every knot
        return dataclasses.replace(
            found, slope_change_ci95=change, knot_ci95=knot, reason="without one of its arms there is no bend"
        )
    line_p = [_line_test(x, y, clusters, knots, rng, settings) for clusters in (of_base, of_arm)]
    found = dataclasses.replace(
        found,
        slope_change_ci95=change,
        knot_ci95=knot,
        line_p=max(line_p),
        line_p_bases=line_p[0],
        line_p_arms=line_p[1],
        slope_change_without_one_arm=(float(np.nanmin(without_one)), float(np.nanmax(without_one))),
    )
    reason = _doubt(found, settings)
    return dataclasses.replace(found, identified=not reason, reason=reason)


def _knots(x: Float[np.ndarray, " points"], settings: KneeSettings) -> Float[np.ndarray, " knots"] | None:
    """Candidate knots with at least `points_beyond` points on either side; None if there is no such range."""
    ordered, beyond = np.sort(x), settings.points_beyond
    if len(x) < 2 * beyond or ordered[beyond - 1] >= ordered[-beyond]:
        return None
    return np.linspace(ordered[beyond - 1], ordered[-beyond], settings.grid)


def _fit(
    x: Float[np.ndarray, " points"],
    y: Float[np.ndarray, "#fits points"],
    weights: Float[np.ndarray, "fits points"],
    knots: Float[np.ndarray, " knots"],
) -> _Hinges:
    """Weighted least-squares fits in closed form.

    The slope change is the regression of y's residual from the line on the hinge's (Frisch and Waugh).
    """
    y = np.broadcast_to(y, weights.shape)
    hinge = np.maximum(x[:, None] - knots, 0)
    total = weights.sum(1)
    # If some bases lack some arms, a resample may even be empty.
    mean_x, mean_y = divide(weights @ x, total), divide((weights * y).sum(1), total)
    mean_h = divide(weights @ hinge, total[:, None])
    xx = weights @ x**2 - total * mean_x**2
    xy = (weights * y) @ x - total * mean_x * mean_y
    yy = (weights * y**2).sum(1) - total * mean_y**2
    xh = weights @ (x[:, None] * hinge) - (total * mean_x)[:, None] * mean_h
    hh = weights @ hinge**2 - total[:, None] * mean_h**2
    hy = (weights * y) @ hinge - (total * mean_y)[:, None] * mean_h
    line_slope = divide(xy, xx)
    left_h = hh - xh * divide(xh, xx[:, None])
    left_hy = hy - xh * line_slope[:, None]
    # A resample may lack points on one side of a knot: then the hinge's residual is only rounding error.
    change = np.where(left_h > 1e-9 * np.maximum(hh, 1e-12), divide(left_hy, left_h), np.nan)
    gain = np.nan_to_num(change * left_hy, nan=-1.0)
    best = np.argmax(gain, axis=1)
    rows = np.arange(len(best))
    best_change, best_knot = change[rows, best], knots[best]
    slope = line_slope - best_change * divide(xh[rows, best], xx)
    return _Hinges(
        intercept=mean_y - slope * mean_x - best_change * mean_h[rows, best],
        slope=slope,
        slope_change=best_change,
        knot=np.where(np.isnan(best_change), np.nan, best_knot),
        line_intercept=mean_y - line_slope * mean_x,
        line_slope=line_slope,
        line_residual=yy - line_slope * xy,
        gain=np.maximum(gain[rows, best], 0.0),
    )


def _line_test(
    x: Float[np.ndarray, " points"],
    y: Float[np.ndarray, " points"],
    clusters: Int[np.ndarray, " points"],
    knots: Float[np.ndarray, " knots"],
    rng: np.random.Generator,
    settings: KneeSettings,
) -> float:
    """The straight line's p-value from flipping the residuals' signs by cluster; see `fit_knee`."""
    n = int(clusters.max()) + 1
    line = _fit(x, y[None], np.ones((1, len(x))), knots)
    fitted = line.line_intercept[0] + line.line_slope[0] * x
    if 2 ** (n - 1) <= settings.flips:  # all patterns; the last cluster keeps its sign
        bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    else:
        bits = np.concatenate([np.zeros((1, n), int), rng.integers(2, size=(settings.flips, n))])
    flipped = fitted + (1 - 2 * bits)[:, clusters] * (y - fitted)
    fits = _fit(x, flipped, np.ones(flipped.shape), knots)
    # Monotone in the F statistic. The first pattern is the observed one; ties up to rounding count.
    share = divide(fits.gain, fits.line_residual)
    return float(np.mean(np.nan_to_num(share) >= np.nan_to_num(share[0]) - 1e-9))


def _doubt(fit: KneeFit, settings: KneeSettings) -> str:
    """Why the knot is not identified; "" if it is."""
    fewest = min((fit.bases, "bases"), (fit.arms, "arms"))
    least_p = 2.0 ** (1 - fewest[0])
    if least_p >= settings.significance:
        return (
            f"{fewest[0]} {fewest[1]} are too few to reject a straight line: p can't be below {least_p:.2g}"
        )
    if fit.line_p >= settings.significance:
        return f"a straight line fits as well, p = {fit.line_p:.2f}"
    if fit.slope_change_ci95[0] <= 0 <= fit.slope_change_ci95[1]:
        return "the interval of the slope change includes 0"
    if fit.slope_change_without_one_arm[0] <= 0 <= fit.slope_change_without_one_arm[1]:
        return "the bend reverses or vanishes if one arm is left out"
    covered = (fit.knot_ci95[1] - fit.knot_ci95[0]) / (fit.searched[1] - fit.searched[0])
    if covered > settings.widest:
        return f"the knot's interval covers {100 * covered:.0f}% of the searched range"
    return ""
