"""The document of a workdir's files is what the dataclasses say, and has the keys that are written."""

import dataclasses
import json
from pathlib import Path

from report_workdir import synthetic_results
from results_records import eight_records
from workdir_schemas import comments, document, is_object, stored_fields, with_insides

from introspection.coupling.records import CueEffects
from introspection.runs.config import RunConfig

DOCUMENT = Path(__file__).parents[1] / "introspection" / "workdir_files.md"


def keys_of(title: str) -> set[str]:
    section = DOCUMENT.read_text(encoding="utf-8").split(f"# {title}", 1)[1].split("\n#", 1)[0]
    return {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}


def test_the_document_is_up_to_date():
    remake = "PYTHONPATH=. python tests/workdir_schemas.py > introspection/workdir_files.md"
    assert DOCUMENT.read_text(encoding="utf-8") == document(), f"make it again: {remake}"


def test_every_field_of_a_config_says_what_it_means():
    silent = [
        f"{kind.__name__}.{name}"
        for kind in with_insides(RunConfig)
        for name, hint in stored_fields(kind).items()
        if not comments(kind).get(name) and not is_object(hint)
    ]
    assert not silent


def test_it_has_the_keys_that_are_written():
    record = dataclasses.replace(
        eight_records()[0], explanation_logprobs=(-1.0,) * 8, cue_effects=CueEffects(0.5, None, 0.1)
    )
    written = json.loads(json.dumps(record.to_json()))
    said = {f"explanation.{name}" for name in written["explanation"]} - {
        "explanation.changed",
        "explanation.answer",
    }
    assert said == {key for key in keys_of("`predictions.jsonl`") if "." in key}
    assert set(written) == {key for key in keys_of("`predictions.jsonl`") if "." not in key}
    results = synthetic_results()
    assert set(results) <= keys_of("`results.json`")
    for arm in results["arms"].values():
        assert set(arm) <= keys_of("ArmResults\n")
        assert set(arm["disagreement"]) <= keys_of("Disagreement\n")
