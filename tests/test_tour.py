"""The tour's code runs as it stands, from the tiny quickstart to its last picture."""

import json
import os
import re
import subprocess
import sys

import pytest
from programs import ROOT, new_cache

TOUR = ROOT / "experiments" / "tour.ipynb"


def cells(kind):
    notebook = json.loads(TOUR.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.mark.slow
def test_the_tour_runs(tmp_path):
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    environment |= {"INTROSPECTION_CACHE": str(new_cache(tmp_path / "cache"))}
    environment |= {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache" / "programs")}
    done = subprocess.run(
        [sys.executable, "-c", "\n\n".join(cells("code"))],
        cwd=ROOT / "experiments",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "it says:" in done.stdout
    assert "not askable: labels did not teach" in done.stdout


def test_what_the_tour_links_to_is_there():
    links = [link for text in cells("markdown") for link in re.findall(r"\]\(([^)]+)\)", text)]
    assert len(links) == 5
    assert all((TOUR.parent / link).is_file() for link in links)


def test_no_path_of_the_machine_that_drew_the_pictures_is_kept():
    assert not re.search(r"/(?:root|home|tmp|work)/", TOUR.read_text(encoding="utf-8"))
