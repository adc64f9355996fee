"""The table that a run prints: levels beside differences, nothing cut off, within its width."""

import dataclasses
import io
from typing import Any

import numpy as np
from results_records import eight_records, random_records, results_of
from rich.console import Console

from introspection.coupling.by_shifted import shifted_differences
from introspection.coupling.references import reference_entry
from introspection.coupling.results import control_results, paired_results
from introspection.reports.console import TABLE_WIDTH, print_results_table, results_table
from introspection.reports.numbers import estimate
from introspection.reports.table import with_interval


def printed(results: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_results_table(results, console)
    return console.file.getvalue()


def test_levels_stand_beside_the_differences():
    records = [dataclasses.replace(r, shifted=r.id in ("1", "2")) for r in eight_records()]
    arm = results_of(records)
    emitter = random_records(0, n=4)
    said = {(r.seed, r.id): r.explanation for r in emitter}
    replaced = [dataclasses.replace(r, explanation=said[r.seed, str(int(r.id) - 1)]) for r in records]
    paired = paired_results(records, replaced, np.random.default_rng(0))
    entry = reference_entry(paired, replaced)
    shifted_by = shifted_differences(records, replaced, np.random.default_rng(0))
    arm |= {"references": {"input_only": {**entry, "by_shifted": shifted_by}}, "best_static": "input_only"}
    results = {
        "arms": {"kl": arm},
        "controls": {
            "input_only": {"kl": control_results(replaced)},
            "foreign_minus": paired_results(records, records, np.random.default_rng(0)),
        },
    }
    words = "not askable: labels did not teach ([kl]: Orig +0.3 points above shuffled)" + 40 * " and so on"
    text = printed(results | {"askable": {"words": words}})
    assert text.splitlines()[0] == words
    text = text.removeprefix(words)
    assert "…" not in text  # nothing is cut off
    assert max(map(len, text.splitlines())) <= TABLE_WIDTH
    rows = [line.split() for line in text.splitlines()]

    def difference(value):
        return with_interval(estimate(value)).split()

    gap, minus = (
        difference(arm["gap"]["exact_match"]),
        difference(arm["references"]["input_only"]["gap_difference"]),
    )
    start = next(index for index, cells in enumerate(rows) if cells[:1] == ["kl"])
    # Agreement is the mean over training: 0.95, 0.7 and 0.85.
    assert rows[start] == ["kl", "62.5", "37.5", *gap, *minus, "50.0", "75.0", "83.3", "12.5", "100.0"]
    assert rows[start + 1] == ["8", "items", "→", "87.5"]
    shifted, after, unshifted = rows[start + 2 : start + 5]
    assert shifted[:4] == ["shifted", "100.0", "25.0", "+75.0"]
    assert shifted[6:] == [*difference(shifted_by["shifted"]), "75.0", "100.0", "–", "0.0", "100.0"]
    assert after == ["→", "75.0"]
    assert unshifted[:4] == ["unshifted", "25.0", "50.0", "−25.0"]
    control = next(cells for cells in rows if cells[:1] == ["input_only*"])
    level = results["controls"]["input_only"]["kl"]["self"]["exact_match"]["mean"]
    invalid = results["controls"]["input_only"]["kl"]["invalid_rate"]
    assert control[1] == f"{100 * level:.1f}"
    assert control[6:] == [*minus, "–", "–", "–", f"{100 * invalid:.1f}", "–"]
    assert len(results_table(results).rows) == 4  # a paired difference is no entry


def test_results_without_references_or_arms_have_a_table_too():
    results = {"arms": {"kl": results_of(random_records(1))}, "controls": {}}
    arm = next(line.split() for line in printed(results).splitlines() if line.split()[:1] == ["kl"])
    assert arm[6] == "–"
    assert printed({"arms": {}})
