"""The document of a workdir's files is what the dataclasses say, and has the keys that are written."""

import json
from pathlib import Path

from report_workdir import synthetic_results
from results_records import eight_records
from workdir_schemas import document

DOCUMENT = Path(__file__).parents[1] / "introspection" / "workdir_files.md"


def keys_of(title: str) -> set[str]:
    section = DOCUMENT.read_text(encoding="utf-8").split(f"# {title}", 1)[1].split("\n#", 1)[0]
    return {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}


def test_the_document_is_up_to_date():
    remake = "PYTHONPATH=. python tests/workdir_schemas.py > introspection/workdir_files.md"
    assert DOCUMENT.read_text(encoding="utf-8") == document(), f"make it again: {remake}"


def test_it_has_the_keys_that_are_written():
    written = json.loads(json.dumps(eight_records()[0].to_json()))
    assert set(written) == {key for key in keys_of("`predictions.jsonl`") if "." not in key}
    results = synthetic_results()
    assert set(results) <= keys_of("`results.json`")
    for arm in results["arms"].values():
        assert set(arm) <= keys_of("ArmResults\n")
        assert set(arm["disagreement"]) <= keys_of("Disagreement\n")
