"""The card of a store and its steps: what a run wrote is read, and nothing else is taken for it."""

import dataclasses
import json

import pytest

from introspection.checkpoints.names import ModelCard, find_stored, stored_steps
from introspection.errors import InputError
from introspection.models.config import LoraConfig, ModelConfig, RopeScaling

CONFIG = ModelConfig(
    50, 16, 2, 4, 2, 8, 24, 64, lora=LoraConfig(3, 5.0, ("query",)), rope_scaling=RopeScaling("linear", 2.0),
    window=8, windowed_layers=(True, False),
)  # fmt: skip
CARD = ModelCard(CONFIG, (0, 3), base="initial")


def test_a_card_is_read_as_it_was_written_and_older_ones_have_fewer_fields(tmp_path):
    CARD.write(tmp_path)
    assert ModelCard.read(tmp_path) == CARD
    fields = json.loads((tmp_path / "model.json").read_text())
    del fields["model"]["rope_scaling"], fields["model"]["windowed_layers"]
    (tmp_path / "model.json").write_text(json.dumps(fields))
    older = dataclasses.replace(CONFIG, rope_scaling=None, windowed_layers=())
    assert ModelCard.read(tmp_path) == dataclasses.replace(CARD, model=older)


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("model", "width"), 32.5, "model.width is 32.5"),
        (("model", "layers"), 10**400, "model.layers is 1000"),
        (("model", "kv_heads"), 0, "model.kv_heads is 0"),
        (("model", "tied_head"), 1, "model.tied_head is 1"),
        (("model", "new_field"), 1, "model.new_field is no field"),
        (("model", "lora", "new_field"), 1, "model.lora.new_field is no field"),
        (("model",), [], "model is not an object"),
        (("seeds",), [], "seeds are []"),
        (("seeds",), [0, 0], "seeds are [0, 0]"),
        (("seeds",), "01", "seeds is '01'"),
        (("base",), "../../other", "base is '../../other'"),
    ],
)
def test_a_value_that_no_run_writes_is_refused(place, value, says, tmp_path):
    CARD.write(tmp_path)
    fields = inner = json.loads((tmp_path / "model.json").read_text())
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    (tmp_path / "model.json").write_text(json.dumps(fields))
    with pytest.raises(InputError) as refused:
        ModelCard.read(tmp_path)
    assert says in str(refused.value)
    assert "model.json" in str(refused.value)


def test_only_what_orbax_writes_is_a_step(tmp_path):
    store = tmp_path / "checkpoints" / "kl"
    CARD.write(store)
    for name in ("0", "40", "²", "٣", "007", "-1", "4.5", "9" * 200, "60.orbax-checkpoint-tmp"):
        (store / name).mkdir()
    (store / "50").write_text("a file")
    assert stored_steps(store) == [0, 40]
    assert [found.step for found in find_stored(f"{tmp_path}:kl")] == [40, 40]
