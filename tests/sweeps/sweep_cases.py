"""What the tests of sweeps share: points, and a fake run that leaves what a real one does."""

from report_workdir import synthetic_results

from introspection.runtime.config import plain
from introspection.runtime.workdir import check_workdir, claim_workdir, write_json
from introspection.sweeps.grid import collect_points, vary


def check_arms_and_workdir(config, workdir):
    check_workdir(workdir, plain(config))


class FakeRun:
    """Leaves a finished run's workdir, unless it is told to raise for a point."""

    def __init__(self):
        self.names, self.programs, self.raises = [], [], {}

    def __call__(self, config, workdir, console, programs, mesh=""):
        self.names.append(workdir.name)
        self.programs.append(programs)
        error = self.raises.get(workdir.name)
        if error is not None and not getattr(error, "late", False):
            raise error
        claim_workdir(workdir, plain(config))
        if error is not None:
            raise error
        write_json(workdir / "results.json", results_of(config))
        (workdir / "report.html").write_text("a page")


def results_of(config):
    """Numbers that differ between points: the arms' levels move with the learning rate."""
    results = synthetic_results()
    for arm in results["arms"].values():
        arm["self"]["exact_match"]["mean"] += config.arms["kl"].learning_rate
        arm["drift"] = config.arms["kl"].learning_rate / 3
    results["arms"]["no_kl"]["disagreement"]["current_share"] = None
    return results


def points_of(*mappings):
    return collect_points(lambda add: [add(mapping) for mapping in mappings], "")


def four_rates(least):
    rates = tuple(least + step / 100 for step in range(4))
    return points_of(
        *({"point": f"rate{i}", **p} for i, p in enumerate(vary("arms.kl.learning_rate", rates)))
    )


FOUR = four_rates(0.01)
FOUR_MORE = four_rates(0.05)  # with other results


def late(error):
    """Raised once the point has its workdir."""
    error.late = True
    return error
