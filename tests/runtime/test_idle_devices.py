"""Devices that are left idle are named, with the flag that uses them."""

import jax
import pytest

from introspection.errors import InputError
from introspection.runtime.mesh import data_mesh, idle_devices


def test_idle_devices_are_said():
    assert jax.device_count() == 4
    assert "uses 1 of 4 devices" in idle_devices(data_mesh(1), "--devices")
    assert "; --devices=-1 splits batches" in idle_devices(data_mesh(3), "--devices")
    assert idle_devices(data_mesh(-1), "--devices") == idle_devices(data_mesh(4), "--devices") == ""
    for wrong in (0, 5):
        with pytest.raises(InputError, match=f"--devices is {wrong}; give 1 to 4, or -1 for all"):
            data_mesh(wrong)
