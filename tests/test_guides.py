"""The guides' code runs as it stands, and does what the guides say of it."""

import re
from pathlib import Path

import pytest
from programs import ROOT

from introspection.coupling import controls
from introspection.coupling.estimates import Estimate
from introspection.coupling.references import best_static
from introspection.coupling.run_results import Reference
from introspection.errors import InputError
from introspection.runs.config import arm, read_config, task_section
from introspection.tasks.items import Decisions
from introspection.tasks.registry import TASKS, load_task
from introspection.training.shifts import SHIFTS, ShiftConfig, shift_examples
from introspection.weights.hf_config import model_config
from introspection.weights.hf_families import FAMILIES

GUIDES = ROOT / "introspection" / "guides.md"


@pytest.fixture(scope="module", autouse=True)
def followed():
    """All guides, followed; and undone."""
    registries = (TASKS, SHIFTS, controls.CONTROLS, FAMILIES)
    before = [dict(registry) for registry in registries]
    namespace = {"__name__": "guides"}
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", GUIDES.read_text(), re.DOTALL)):
        exec(compile(block, f"{GUIDES}, block {number}", "exec"), namespace)
    yield namespace
    for registry, known in zip(registries, before, strict=True):
        registry.clear()
        registry.update(known)


def sums(**changes):
    return load_task(dict(task_section("sums", **changes)), Path())[0]


def test_a_task_is_loaded_by_its_name_and_checked():
    task = sums(test_items=8)
    assert {split: len(items) for split, items in task.splits.items()} == dict(train=20, validation=5, test=8)
    assert read_config({"task": dict(task_section("sums")), "initial": "smollm2"}).task_seed == 0
    with pytest.raises(InputError, match="there are 45 sums"):
        sums(train_items=40)


def test_a_shift_is_an_arms_and_trains_what_it_says():
    section = read_config({"arms": {"kl": arm(shift=dict(kind="contrarian")).to_dict()}})
    assert section.arms["kl"].shift.kind == "contrarian"
    items, _ = load_task({"name": "invented_world", "entities": 30, **SMALL}, Path())
    test = items.splits["test"]
    decided = [Decisions(item.gold, item.gold) for item in test]
    examples = shift_examples(ShiftConfig("contrarian"), test, decided)
    by_prompt = {item.prompt_with_cue: item for item in test}
    assert examples
    assert all(answer not in (by_prompt[p].gold, by_prompt[p].cued) for p, answer in examples)
    two = sums().splits["test"]
    with pytest.raises(InputError, match="'contrarian' has no examples: no item has a candidate beside"):
        shift_examples(ShiftConfig("contrarian"), two, [Decisions(i.gold, i.gold) for i in two])


SMALL = dict(train_entities=12, validation_entities=6, test_entities=12, relations=2)


def test_a_control_is_asked_like_the_others():
    items = sums().splits["test"]
    said = controls.CONTROLS["gullible"]([], [], items, 0)
    assert [one.answer for one in said] == [item.gold for item in items]
    assert all(one.changed for one in said)
    references = {
        name: Reference(None, float(level), None, 0.0, True, Estimate(), Estimate(), Estimate())
        for level, name in enumerate(("majority", "gullible"))
    }
    assert best_static(references) == "gullible"


def test_a_family_is_read_from_its_config():
    fields = dict(
        model_type="my_llama",
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        hidden_act="silu",
        rms_norm_eps=1e-6,
        max_position_embeddings=64,
        my_version=3,
    )
    assert model_config(fields, "config.json").qk_norm
    with pytest.raises(InputError, match="unusual"):
        model_config(fields | {"unusual": 3}, "config.json")
