"""What patching found, as a table of arms and in words."""

from introspection.coupling.estimates import Estimate
from introspection.patching.results import PatchedModel, PatchingResults
from introspection.reports.findings import isolated
from introspection.reports.numbers import DASH, MINUS
from introspection.reports.table import Cell, Table, estimate_cell

COLUMNS = (
    "",
    "items",
    "map\ncorrelation",
    "within layer\nand kind",
    "same minus\nother item",
    "follow",
    "follow,\nrandom sites",
    "restored minus\nrandom",
    "gap minus best\nstatic's",
)
NOTE = """\
[95% interval]; map correlation: Pearson's, of the effects on behaviour and on the explanation over sites
within layer and kind: after the mean of each layer × kind of block is taken out
same minus other item: correlation of an item's own two maps, minus that with another fact's explanation map
follow: with the behaviour's strongest sites patched together, percent of explanations that flip where the
behaviour flips; random sites are of the same layers and kinds
restored: share of the explanation's logit difference, with those sites minus with random ones, in points"""


def decimal(value: float | None) -> str:
    return DASH if value is None else f"{value:+.2f}".replace("-", MINUS)


def decimal_cell(value: Estimate) -> Cell:
    ends = f"[{decimal(value.low)}, {decimal(value.high)}]" if value.ci95 else ""
    return Cell(decimal(value.mean), ends, order=value.mean)


def patching_table(results: PatchingResults) -> Table:
    """One row a model: the models before training, then the arms."""
    return Table(
        "Do behaviour and its explanation depend on the same parts?",
        COLUMNS,
        tuple(
            (
                name,
                Cell(f"{model.n:,}", order=model.n),
                decimal_cell(model.similarity.correlation),
                decimal_cell(model.similarity.within_cells),
                decimal_cell(model.similarity.same_minus_other),
                estimate_cell(model.causal.follow, "percent"),
                estimate_cell(model.causal.random_follow, "percent"),
                estimate_cell(model.causal.restored_minus_random),
                estimate_cell(model.gap_minus_reference),
            )
            for name, model in results.models.items()
        ),
        NOTE,
    )


def attribution_table(results: PatchingResults) -> Table:
    """How well one backward pass predicts exact patching, and what both logit differences are."""
    return Table(
        "Attribution against exact patching",
        ("", "behaviour", "explanation", "behaviour, x", "x\\C", "explanation, x", "x\\C "),
        tuple(
            (
                name,
                *map(decimal, model.attribution),
                *map(decimal, model.behavior_difference),
                *map(decimal, model.explanation_difference),
            )
            for name, model in results.models.items()
        ),
        "Correlation over sites of mean exact and mean first-order changes; then mean logit differences in"
        " nats, above 0 where they fit x",
    )


def summary(results: PatchingResults) -> str:
    """One or two sentences: the first arm, then the others beside it."""
    trained = {name: model for name, model in results.models.items() if model.swaps} or results.models
    first, *others = trained.items()
    said = f"{isolated(first[0])}: {_in_words(first[1])}"
    beside = [f"{isolated(name)} {_in_short(model)}" for name, model in others]
    return f"{said} Beside it: {'; '.join(beside)}." if beside else said


def _in_words(model: PatchedModel) -> str:
    alike, causal = model.similarity, model.causal
    return (
        f"the maps of behaviour and explanation correlate at {decimal_cell(alike.correlation)},"
        f" {decimal_cell(alike.within_cells)} within layer and kind of block; where patching the behaviour's"
        f" strongest sites flips the behaviour, {estimate_cell(causal.follow, 'percent')}% of explanations"
        f" follow, {estimate_cell(causal.random_follow, 'percent')}% at random sites of the same layers and"
        f" kinds ({estimate_cell(causal.follow_minus_random)} points)."
    )


def _in_short(model: PatchedModel) -> str:
    follow = estimate_cell(model.causal.follow, "percent").text
    return f"{decimal(model.similarity.correlation.mean)} and {follow}%"
