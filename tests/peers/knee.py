"""Broken-stick fits of `piecewise-regression` (Muggeo's iteration, 2003), for the points that a test wrote.

Runs in the peers' environment: `python knee.py FOLDER`. Reads `points.json`, a list of [agreements, gaps],
and writes `fits.json`, one object per entry: the estimates of the converged fit with one breakpoint, and its
residual sum of squares.
"""

import json
import sys
from pathlib import Path

import piecewise_regression


def main(folder: Path) -> None:
    fits = []
    for agreement, gap in json.loads((folder / "points.json").read_text(encoding="utf-8")):
        fit = piecewise_regression.Fit(agreement, gap, n_breakpoints=1, n_boot=50)
        results = fit.get_results()
        found = results["estimates"]
        names = ("breakpoint1", "alpha1", "beta1", "const")
        fits.append({name: found[name]["estimate"] for name in names} | {"rss": results["rss"]})
    (folder / "fits.json").write_text(json.dumps(fits), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
