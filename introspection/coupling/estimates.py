"""An estimate with its interval, as every results file holds it."""

import dataclasses

from introspection.runtime.json_values import unstored

Ends = tuple[float, float]  # of a 95% interval
# The fewest groups that differ for an interval to be shown: with 5, a sign-flip test has no p below 2 / 2**5.
FEWEST_GROUPS = 6


def too_few(groups: int | None) -> int | None:
    """The number of groups, if it is known and too small for an interval."""
    return groups if groups is not None and groups < FEWEST_GROUPS else None


def is_silent(invalid_rate: float | None) -> bool:
    """Whether an emitter says nothing valid."""
    return invalid_rate == 1.0


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval; each may be undefined."""

    mean: float | None = None
    ci95: Ends | None = None
    few: int | None = unstored(None)  # the number of groups that it rests on, if too few for an interval

    def resting_on(self, few: int | None) -> "Estimate":
        """Without its interval if it rests on too few groups (`too_few`)."""
        return self if few is None else Estimate(self.mean, few=few)

    @property
    def low(self) -> float | None:
        return None if self.ci95 is None else self.ci95[0]

    @property
    def high(self) -> float | None:
        return None if self.ci95 is None else self.ci95[1]
