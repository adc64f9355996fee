"""A comparison's table and page: why a cell is low, and a single model's."""

import io
import json
import re
from pathlib import Path

from report_workdir import MATRIX
from rich.console import Console

from introspection.coupling.matrix_results import Matrix
from introspection.reports import console
from introspection.reports.figures import matrix_figure
from introspection.reports.page import write_report
from introspection.runtime.json_values import from_json


def test_a_comparison_says_why_a_cell_is_low_and_a_single_model_is_not_empty(tmp_path: Path) -> None:
    name = "a model with a name that takes several lines"
    matrix = {"emitters": [name], "teachers": [name], "exact_match": [[0.0]], "n": 40}
    (tmp_path / "matrix.json").write_text(json.dumps(matrix | {"invalid_rate": [1.0], "none_rate": [0.625]}))
    text = " ".join(write_report(tmp_path).read_text(encoding="utf-8").split())
    assert "on 0.0% of items. Whether it explains itself better than others do takes another model" in text
    assert re.search(r"100\.0% of the explanations of .{,99} can&#39;t be parsed", text)
    assert re.search(r"62\.5% of the decisions of .{,99} are none of the candidates", text)
    read = from_json(Matrix, matrix | {"invalid_rate": [1.0], "none_rate": [0.625]})
    shown = Console(width=120, record=True, file=io.StringIO())
    shown.print(console.matrix_table(read))
    assert re.search(r"several lines +│ +0\.0 │ +100\.0 │ +62\.5", shown.export_text())
    figure = matrix_figure(read)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    label = axes.yaxis.label.get_window_extent()
    assert 0 <= label.y0 < label.y1 <= figure.bbox.height


def test_the_matrix_of_an_older_comparison_has_no_rates(tmp_path: Path) -> None:
    (tmp_path / "matrix.json").write_text(json.dumps(MATRIX))
    assert "Invalid %" not in write_report(tmp_path).read_text(encoding="utf-8")
