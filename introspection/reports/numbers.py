"""How numbers are written: shares in per cent, differences in points, a dash where there is none."""

from collections.abc import Mapping, Sequence
from typing import Any

from introspection.coupling.estimates import Estimate
from introspection.runtime.json_values import LARGEST, from_json

DASH = "–"  # what stands where there is no number
MINUS = "−"


def number(value: Any) -> float | None:
    """A number that one can draw, or None: NaN, infinities and the like say as little as null."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -LARGEST <= value <= LARGEST else None


def estimate(value: Mapping[str, Any] | float | None, ci95: Sequence[float] | None = None) -> Estimate:
    """`{"mean": 0.5, "ci95": [0.4, 0.6]}`, or a mean and perhaps its interval, as a value."""
    if isinstance(value, Mapping):
        return from_json(Estimate, value)
    return Estimate(value, None if ci95 is None else (ci95[0], ci95[1]))


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent, without the sign: `0.834` is `83.4`."""
    return DASH if value is None else f"{100 * value:.{digits}f}".replace("-", MINUS)


def points(value: float | None) -> str:
    """A difference of shares in points, always signed: `0.111` is `+11.1`."""
    if value is None:
        return DASH
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def decimal(value: float | None, sign: str = "") -> str:
    """Nats or a correlation: `0.1234` is `0.123`, with a `sign` of `+` always signed."""
    return DASH if value is None else f"{value:{sign}.3f}".replace("-", MINUS)


def count(value: float | int | None) -> str:
    return DASH if value is None else f"{value:,.0f}"


def probability(value: float | None) -> str:
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_value(value: float | None) -> str:
    """`p = 0.012`, or `p < 0.001`."""
    return f"p = {probability(value)}".replace("= <", "<")
