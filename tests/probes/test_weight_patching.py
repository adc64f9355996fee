"""Weights: matrices of another model, and gradients by matrix."""

import functools

import numpy as np
import pytest
from test_patching import contrasts, session
from tiny import task_model

from introspection.models.config import LoraConfig
from introspection.probes.patching import patch_sites
from introspection.probes.weight_patching import (
    WeightPart,
    by_part,
    cosine,
    difference_gradients,
    patch_weights,
    trained_collection,
    weight_parts,
)

LORA = LoraConfig(2, 2.0, ("query", "down"))


@functools.cache
def unpatched(seed=0, lora=None):
    return patch_sites(task_model(seed, lora=lora), contrasts(), [[]], session()).base


@pytest.mark.parametrize("lora", [pytest.param(None, marks=pytest.mark.slow), LORA])
def test_parts_of_a_donor_are_put_in_one_by_one_or_all_together(lora):
    model, donor = task_model(0, lora=lora), task_model(1, lora=lora)
    if lora is not None:  # adapters of one base
        donor = donor.with_variables({**model.variables, "lora": donor.variables["lora"]})
    parts = weight_parts(model.variables[trained_collection(model)])
    assert len(set(parts)) == len(parts)
    sets = [[], parts, *([part] for part in parts)]
    found = patch_weights(model, donor, contrasts(), sets, session())
    np.testing.assert_allclose(found[:, 0], unpatched(lora=lora), atol=1e-5)
    whole = patch_sites(donor, contrasts(), [[]], session()).base
    np.testing.assert_allclose(found[:, 1], whole, atol=1e-5)
    changes = np.abs(found[:, 2:] - found[:, :1]).max(axis=0)
    assert (changes > 1e-4).all()  # every part matters, also those of one layer alone
    itself = patch_weights(model, model, contrasts(), sets, session())
    np.testing.assert_array_equal(itself, np.repeat(itself[:, :1], len(sets), axis=1))


def test_a_gradient_is_the_slope_along_its_part():
    model, donor, step = task_model(0), task_model(1), 1e-3
    gradients = difference_gradients(model, contrasts(), session())
    here, there = by_part(model.variables["params"]), by_part(donor.variables["params"])
    part = WeightPart(1, "value")
    assert list(gradients) == weight_parts(model.variables["params"])
    moved = {sign: model.with_variables({"params": towards(model, donor, sign * step)}) for sign in (1, -1)}
    up, down = (patch_weights(model, moved[sign], contrasts(), [[part]], session()).sum() for sign in (1, -1))
    slope = gradients[part] @ (there[part] - here[part])
    assert slope == pytest.approx((up - down) / (2 * step), rel=2e-2)


def towards(model, donor, share):
    def mixed(one, other):
        if isinstance(one, dict):
            return {name: mixed(one[name], other[name]) for name in one}
        return one + share * (other - one)

    return mixed(model.variables["params"], donor.variables["params"])


def test_cosines():
    assert cosine(np.array([1.0, 0.0]), np.array([2.0, 0.0])) == pytest.approx(1)
    assert cosine(np.array([1.0, 0.0]), np.array([0.0, 3.0])) == 0
    assert cosine(np.zeros(2), np.ones(2)) is None
