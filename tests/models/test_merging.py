"""Merged adapters."""

import numpy as np
from tiny import mesh_of, task_model, tiny_task

from introspection.models.config import LoraConfig
from introspection.models.model import merge_adapters
from introspection.probes.scored import probe_behavior
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.session import Session


def test_a_merged_model_does_what_it_did_with_its_adapters():
    items, programs = tiny_task().splits["train"][:4], ProgramTable()
    adapted = task_model(lora=LoraConfig(3, 6.0, ("query", "output", "up")))
    merged = merge_adapters(adapted)
    assert merged.config.lora is None
    assert set(merged.variables) == {"params"}
    bare = task_model()
    does, did, without = (
        np.stack([b.with_cue for b in probe_behavior(m, items, Session(mesh_of(), programs))])
        for m in (merged, adapted, bare)
    )
    np.testing.assert_allclose(does, did, atol=1e-4)
    assert np.abs(without - did).max() > 0.01  # the adapters matter


def test_a_model_without_adapters_stays_itself():
    model = task_model()
    assert merge_adapters(model) is model
