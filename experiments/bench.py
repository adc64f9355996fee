"""Benchmarks of speed, memory and interval coverage, each against an alternative.

    python -m experiments.bench [--only=NAME] > benchmarks.jsonl

Prints one JSON object per line to stdout, and the same as a table, with the machine, to stderr. The two sides
of a comparison alternate, in one process or with one side in the peers' environment
(`tests/requirements-peers.txt`); ratios are ratios of medians. Without `--only`, benchmarks whose
requirements are missing (the peers, or the model that `experiments.fetch` downloads) are skipped and listed.
"""

import json
import sys
from collections.abc import Callable, Sequence

from absl import flags
from rich.table import Table

from experiments.benchmarks import (
    chunked_loss,
    first_step,
    growth,
    interval_coverage,
    packed_rows,
    patching,
    prepared_reading,
    pretrained_objective,
    pretrained_scoring,
    probing_precision,
    sharded_loading,
    shared_prefix_scoring,
    stacked_seeds,
    train_step_with_agreement,
)
from experiments.benchmarks.timing import Measure, machine
from introspection.errors import InputError
from introspection.runtime.command import STARTS_AGAIN, run_program
from introspection.runtime.terminal import Terminal

BENCHMARKS: dict[str, Callable[[], list[Measure]]] = {
    "shared_prefix_scoring": shared_prefix_scoring.run,
    "train_step_with_agreement": train_step_with_agreement.run,
    "chunked_loss": chunked_loss.run,
    "stacked_seeds": stacked_seeds.run,
    "packed_rows": packed_rows.run,
    "patching": patching.run,
    "interval_coverage": interval_coverage.run,
    "sharded_loading": sharded_loading.run,
    "prepared_reading": prepared_reading.run,
    "first_step": first_step.run,
    "growth": growth.run,
    "pretrained_scoring": pretrained_scoring.run,
    "pretrained_objective": pretrained_objective.run,
    "probing_precision": probing_precision.run,
}

flags.DEFINE_string("only", None, f"run only this benchmark: {', '.join(BENCHMARKS)}; default: all")


def main(values, console) -> None:
    if values.only is not None and values.only not in BENCHMARKS:
        raise InputError(f"--only is {values.only!r}; choose from {', '.join(BENCHMARKS)}")
    readable, measures = Terminal(file=sys.stderr), []
    for name in [values.only] if values.only else BENCHMARKS:
        try:
            own = BENCHMARKS[name]()
        except InputError as error:
            if values.only:
                raise
            readable.print(f"{name} is skipped: {error}", highlight=False, soft_wrap=True)
            continue
        for measure in own:
            print(json.dumps(measure.line(), allow_nan=False), flush=True)
            measures.append(measure)
    readable.print(table(measures))
    for name, value in machine().items():
        readable.print(f"{name}: {value}", highlight=False)


def table(measures: Sequence[Measure]) -> Table:

    shown = Table()
    for column in ("benchmark", "value", "reference", "unit", "ratio", "ratio is", "target"):
        right = column in ("value", "reference", "ratio")
        shown.add_column(column, justify="right" if right else "left", overflow="fold")
    for measure in measures:
        extra = measure.extra
        shown.add_row(
            measure.name,
            f"{measure.value:,.4g}",
            f"{measure.reference:,.4g}",
            measure.unit,
            f"{measure.ratio:.2f}",
            extra.get("ratio_is", ""),
            extra.get("target", ""),
        )
    return shown


if __name__ == "__main__":
    run_program(main, flags.FLAGS, STARTS_AGAIN)
