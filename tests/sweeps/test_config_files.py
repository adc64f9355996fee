"""Every file in `configs/`: its points can be planned."""

import importlib

import pytest
from programs import ROOT

from introspection.sweeps.grid import collect_points
from introspection.sweeps.plan import plan_points

NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_every_point_of_a_config_file_can_be_planned(name, tmp_path):
    module = importlib.import_module(f"configs.{name}")
    assert plan_points(module.get_config(), collect_points(module.sweep, ""), tmp_path)
