"""The table that a run prints: levels beside differences, nothing cut off, within its width."""

import dataclasses
import io

import numpy as np
from results_records import SERIES, eight_records, random_records
from rich.console import Console

from introspection.coupling.by_shifted import shifted_differences
from introspection.coupling.estimates import Estimate
from introspection.coupling.references import reference_entry
from introspection.coupling.results import arm_results, control_results, paired_results
from introspection.coupling.run_results import ArmResults, Askable, RunResults
from introspection.reports.console import TABLE_WIDTH, print_results_table, results_table
from introspection.reports.few_groups import SILENT_NOTE, with_few_groups
from introspection.reports.findings import arm_verdict
from introspection.reports.table import with_interval
from introspection.tasks.items import INVALID, Explanation


def printed(results: RunResults) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_results_table(results, console)
    return console.file.getvalue()


def on_enough_groups(arm: ArmResults) -> ArmResults:
    """The arm as if its few items that differ were of many groups, so that its intervals are shown."""
    halves = {
        half: dataclasses.replace(part, disagreement=dataclasses.replace(part.disagreement, groups=99))
        for half in ("shifted", "unshifted")
        if (part := getattr(arm.by_shifted, half)) is not None
    }
    return dataclasses.replace(
        arm,
        disagreement=dataclasses.replace(arm.disagreement, groups=99),
        by_shifted=dataclasses.replace(arm.by_shifted, **halves),
    )


def test_an_interval_from_few_groups_is_not_shown():
    arm = arm_results(eight_records(), SERIES, 12.5, np.random.default_rng(0))
    level = control_results(random_records(0, n=4))
    results = RunResults({"kl": arm}, {"majority": {"kl": level}})
    rows = [line.split() for line in printed(results).splitlines()]
    assert next(cells for cells in rows if cells[:1] == ["kl"])[3:7] == ["+25.0", "too", "few", "(3)"]
    assert next(cells for cells in rows if cells[:1] == ["majority"])[4:7] == ["too", "few", "(3)"]
    assert any("differ on n groups of items, fewer than 6" in " ".join(cells) for cells in rows)
    shown = with_few_groups(arm)
    assert arm_verdict(shown)[1] == "the two behaviours differ on 3 groups, too few to tell"
    assert shown.disagreement.share == Estimate(0.75, few=3)
    assert shown.self == arm.self  # levels rest on all items
    for groups, few in ((5, 5), (6, None)):
        enough = dataclasses.replace(arm.disagreement, groups=groups)
        assert with_few_groups(dataclasses.replace(arm, disagreement=enough)).gap.exact_match.few == few


def test_an_emitter_that_says_nothing_valid_has_no_gap():
    records = [dataclasses.replace(r, shifted=r.id in ("1", "2")) for r in eight_records()]
    silent = [dataclasses.replace(r, explanation=INVALID) for r in records]
    paired = paired_results(records, silent, np.random.default_rng(0))
    arm = on_enough_groups(arm_results(records, SERIES, 12.5, np.random.default_rng(0)))
    reference, level = reference_entry(paired, silent), control_results(silent)
    assert level.gap.exact_match == Estimate(0.0, (0.0, 0.0))  # as the file has it
    arm = dataclasses.replace(arm, references={"initial": reference})
    text = printed(RunResults({"kl": arm}, {"initial": {"kl": level}}))
    row = next(line.split() for line in text.splitlines() if line.split()[:1] == ["initial"])
    assert row == ["initial", "0.0", "0.0", *5 * ["–"], "100.0", "–"]
    assert SILENT_NOTE in text
    nothing = on_enough_groups(arm_results(silent, SERIES, 12.5, np.random.default_rng(0)))
    assert arm_verdict(with_few_groups(nothing)) == ("undecided", "none of its explanations is valid")


def test_a_references_half_rests_on_as_few_groups_as_the_arms():
    records = [dataclasses.replace(r, shifted=r.id in ("1", "2")) for r in eight_records()]
    said = [dataclasses.replace(r, explanation=Explanation(False, "Oslo")) for r in records]
    paired = paired_results(records, said, np.random.default_rng(0))
    apart = shifted_differences(records, said, np.random.default_rng(0))
    arm = arm_results(records, SERIES, 12.5, np.random.default_rng(0))
    arm = dataclasses.replace(arm, references={"majority": reference_entry(paired, said, apart)})
    shown = with_few_groups(arm)
    of_arm, of_reference = shown.by_shifted, shown.references["majority"].by_shifted
    for half in ("shifted", "unshifted"):
        few = getattr(of_arm, half).gap.exact_match.few
        assert few is not None
        assert getattr(of_reference, half) == Estimate(getattr(apart, half).mean, few=few)


def test_levels_stand_beside_the_differences():
    records = [dataclasses.replace(r, shifted=r.id in ("1", "2")) for r in eight_records()]
    emitter = random_records(0, n=4)
    said = {(r.seed, r.id): r.explanation for r in emitter}
    replaced = [dataclasses.replace(r, explanation=said[r.seed, str(int(r.id) - 1)]) for r in records]
    paired = paired_results(records, replaced, np.random.default_rng(0))
    shifted_by = shifted_differences(records, replaced, np.random.default_rng(0))
    reference, level = reference_entry(paired, replaced, shifted_by), control_results(replaced)
    arm = dataclasses.replace(
        arm_results(records, SERIES, 12.5, np.random.default_rng(0)),
        references={"input_only": reference},
        best_static="input_only",
    )
    arm = on_enough_groups(arm)
    words = "not askable: labels did not teach ([kl]: Orig +0.3 points above shuffled)" + 40 * " and so on"
    results = RunResults({"kl": arm}, {"input_only": {"kl": level}}, Askable(words=words))
    text = printed(results)
    assert text.splitlines()[0] == words
    verdict, text = text.removeprefix(words).lstrip().split("\n", 1)
    assert verdict.startswith("kl: Undecided: not known whether labels teach.")
    assert "…" not in text  # nothing is cut off
    assert max(map(len, text.splitlines())) <= TABLE_WIDTH
    rows = [line.split() for line in text.splitlines()]

    def difference(value):
        return with_interval(value).split()

    gap, minus = difference(arm.gap.exact_match), difference(reference.gap_difference)
    start = next(index for index, cells in enumerate(rows) if cells[:1] == ["kl"])
    # Agreement is the mean over training: 0.95, 0.7 and 0.85.
    assert rows[start] == ["kl", "62.5", "37.5", *gap, *minus, "50.0", "75.0", "83.3", "12.5", "100.0"]
    assert rows[start + 1] == ["8", "items", "→", "87.5"]
    shifted, after, unshifted = rows[start + 2 : start + 5]
    assert shifted[:4] == ["shifted", "100.0", "25.0", "+75.0"]
    assert shifted[6:] == [*difference(shifted_by.shifted), "75.0", "100.0", "–", "0.0", "100.0"]
    assert after == ["→", "75.0"]
    assert unshifted[:4] == ["unshifted", "25.0", "50.0", "−25.0"]
    control = next(cells for cells in rows if cells[:1] == ["input_only*"])
    assert control[1] == f"{100 * level.self.exact_match.mean:.1f}"
    assert control[6:] == [*minus, "–", "–", "–", f"{100 * level.invalid_rate:.1f}", "–"]
    assert len(results_table(results).rows) == 4


def test_results_without_references_or_arms_have_a_table_too():
    results = arm_results(random_records(1), {}, 0.0, np.random.default_rng(0))
    shown = printed(RunResults({"kl": results}, {}))
    assert next(line.split() for line in shown.splitlines() if line.split()[:1] == ["kl"])[6] == "–"
    assert printed(RunResults({}, {}))
