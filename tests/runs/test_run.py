"""What a run leaves in its workdir and prints: the contract that reports and other programs read."""

import json
import math
import re
import struct
from pathlib import Path

import pytest
from programs import NO_REPORT, TINY, read_json, read_lines, snapshot

ARMS = ("kl", "no_kl", "kl_shift", "shuffled")


def table_rows(output: str) -> list[tuple[str, str, int]]:
    """(program, shapes, calls) of the printed table of compiled programs."""
    table = output[output.index("Compiled programs") :]
    rows = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        if line.startswith("│") and cells[2]:
            rows.append((cells[0], cells[1], int(cells[2])))
    return rows


def test_the_workdir_holds_what_the_contract_names(finished_run):
    workdir = finished_run.workdir
    names = {path.name for path in workdir.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "labels", "predictions.jsonl"} <= names
    assert {"results.json", "controls.jsonl", "report.html", "figures", "tensorboard"} <= names
    assert (workdir / "report.html").read_text(encoding="utf-8").startswith("<!")
    assert list((workdir / "figures").glob("*.svg"))
    assert {path.name for path in (workdir / "labels").iterdir()} == {"clean", *ARMS}
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"initial", *ARMS}
    for arm in ARMS:
        steps = {path.name for path in (workdir / "checkpoints" / arm).iterdir() if path.is_dir()}
        assert steps == {"0", "20", "40"}
    assert not list(workdir.rglob("*tmp*"))


def test_config_json_is_the_resolved_config(finished_run):
    config = read_json(finished_run.workdir / "config.json")
    assert config["name"] == "quickstart-tiny"
    assert config["seeds"] == [0, 1]
    assert config["train"]["steps"] == 40  # of `:tiny`
    assert config["arms"]["kl_shift"]["shift"]["kind"] == "less_sycophantic"
    assert config["arms"]["no_kl"]["kl_weight"] == 0.0


def test_every_file_of_json_is_strict(finished_run):
    paths = list(finished_run.workdir.rglob("*.json"))
    paths = [path for path in paths if "checkpoints" not in path.parts]
    assert len(paths) >= 8
    for path in paths:
        read_json(path)
    for name in ("predictions.jsonl", "controls.jsonl", "metrics.jsonl"):
        assert read_lines(finished_run.workdir / name)


def test_predictions_have_the_keys_of_the_contract(finished_run):
    lines = read_lines(finished_run.workdir / "predictions.jsonl")
    assert len(lines) == len(ARMS) * 2 * 20 * 4  # arms, seeds, test facts, cue kinds
    assert len({(line["arm"], line["seed"], line["id"]) for line in lines}) == len(lines)
    for line in lines:
        assert {"arm", "seed", "id", "group", "cue_kind", "candidates", "teacher", "initial"} <= set(line)
        assert {"current", "explanation"} <= set(line)
        for model in ("teacher", "initial", "current"):
            assert set(line[model]) == {"with_cue", "without_cue"}
            assert set(line[model].values()) <= {*line["candidates"], "none"}
        explanation = line["explanation"]
        assert set(explanation) == {"text", "changed", "answer", "logprobs"}
        assert len(explanation["logprobs"]) == 2 * (len(line["candidates"]) + 1)
        assert set(line["cue_effects"]) == {"teacher", "initial", "current"}
        assert line["cue_effects"]["teacher"] == line["cue_effects"]["initial"]
        assert (explanation["changed"] is None) == (explanation["answer"] is None)
        assert line["teacher"] == line["initial"]  # of this config, one model


def test_results_have_the_keys_of_the_contract(finished_run):
    workdir = finished_run.workdir
    results = read_json(workdir / "results.json")
    assert {"arms", "controls", "fingerprints", "versions"} <= set(results)
    predicted = list(dict.fromkeys(line["arm"] for line in read_lines(workdir / "predictions.jsonl")))
    assert list(results["arms"]) == predicted == list(ARMS)
    for arm in results["arms"].values():
        for score in ("self", "orig", "gap"):
            for metric in ("exact_match", "has_changed_f1", "content_match"):
                entry = arm[score][metric]
                assert set(entry) == {"mean", "ci95"}
                low, high = entry["ci95"]
                assert low <= entry["mean"] <= high
        assert {"n", "self", "orig", "current_share", "sign_flip_p"} <= set(arm["disagreement"])
        for name in ("agreement", "kept_behavior"):
            assert set(arm[name]) == {"start", "end", "min", "mean"}
        assert set(arm["changed_rate"]) == {"teacher", "current"}
        for name in ("drift", "invalid_rate", "runtime_s"):
            assert math.isfinite(arm[name])
        assert arm["seeds"] == [0, 1]
    for name, control in results["controls"].items():
        # Labels without content are a reference of the other arms.
        assert list(control) == [arm for arm in ARMS if name != "shuffled" or arm != "shuffled"]
    assert results["askable"]["arm"] == "kl"
    assert "by_shifted" in results["arms"]["kl_shift"]
    fingerprints = results["fingerprints"]
    assert {"initial", "label_teacher", "kl_reference", *ARMS} == set(fingerprints)
    assert fingerprints["initial"] == fingerprints["label_teacher"] == fingerprints["kl_reference"]
    assert len({json.dumps(fingerprints[arm][seed]) for arm in ARMS for seed in ("0", "1")}) == 8
    assert "jax" in results["versions"]


def test_labels_say_whose_they_are(finished_run):
    workdir = finished_run.workdir
    initial = read_json(workdir / "results.json")["fingerprints"]["initial"]
    for name in ("clean", *ARMS):
        metadata = read_json(workdir / "labels" / name / "metadata.json")
        assert {"teacher_fingerprint", "task", "template_version", "noise", "seed"} <= set(metadata)
        assert metadata["teacher_fingerprint"] == initial
        assert metadata["task"] == "invented_world"
        assert metadata["shuffled"] == (name == "shuffled")
        assert (workdir / "labels" / name / "labels.array_record").stat().st_size > 0


def event_records(path: Path) -> int:
    """How many records a TensorBoard file holds: length, its checksum, the record, its checksum."""
    content, place, count = path.read_bytes(), 0, 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        place += 8 + 4 + length + 4
        count += 1
    assert place == len(content)  # nothing is cut short
    return count


def test_metrics_are_also_events_for_tensorboard(finished_run):
    lines = read_lines(finished_run.workdir / "metrics.jsonl")
    for arm in ARMS:
        for seed in (0, 1):
            (path,) = (finished_run.workdir / "tensorboard" / f"{arm}-seed{seed}").iterdir()
            written = [line for line in lines if (line["arm"], line["seed"]) == (arm, seed)]
            scalars = sum(len(line) - 3 for line in written)
            # A few more open the file: its version, and from which step it goes on.
            assert scalars < event_records(path) <= scalars + 3


def test_few_executables_serve_all_arms(finished_run):
    rows = table_rows(finished_run.output)
    trained = [row for row in rows if row[0] == "train_steps"]
    # The base; then one for the arms kl, no_kl and shuffled (3 arms x 40 steps, 10 in a call, a call a seed);
    # then one for the arm whose batches hold shift rows.
    assert [calls for *_, calls in trained] == [500 // 20, 2 * 3 * 40 // 10, 2 * 40 // 10]
    assert len({shapes for _, shapes, _ in trained}) == 3
    probes = {
        name: [row for row in rows if row[0] == name] for name in ("score_continuations", "greedy_decode")
    }
    for name, found in probes.items():
        shapes = [shapes for _, shapes, _ in found]
        assert len(set(shapes)) == len(shapes), name  # no shape is compiled twice, whatever the checkpoint
    assert len(probes["score_continuations"]) == 3  # candidate answers; explanations, and with `none` too
    assert len(probes["greedy_decode"]) == 1
    assert len(rows) == 3 + 3 + 1 + 1  # and the hidden states of kl_reference


def test_a_finished_run_is_left_as_it_is(programs, finished_run):
    before = snapshot(finished_run.workdir)
    outcome = programs.run_well("run", TINY, f"--workdir={finished_run.workdir}")
    assert "is finished" in outcome.stdout
    assert "report.html" in outcome.stdout
    assert snapshot(finished_run.workdir) == before


@pytest.mark.slow
def test_the_base_is_trained_and_asked_once(programs, finished_run, tmp_path):
    organisms = programs.cache / "organisms"
    before = snapshot(organisms)  # this base and those of other tests, any of which may have been the first
    assert before
    workdir = finished_run.workdir.parent / tmp_path.name  # behaviour is kept beside the workdirs
    arguments = ["--config.seeds=(2,3)", "--config.run_arms=('kl',)", f"--workdir={workdir}"]
    outcome = programs.run_well("run", TINY, *arguments, patch=NO_REPORT)
    assert "training the base model" not in outcome.stdout
    assert "initial: its behaviour is known from before" in " ".join(outcome.stdout.split())
    after = snapshot(organisms)
    assert set(after) == set(before)
    assert {name for name, (_, time) in before.items() if after[name][1] != time} <= {
        name for name in before if name.endswith(".lock")
    }
    results = read_json(workdir / "results.json")
    assert results["arms"]["kl"]["seeds"] == [2, 3]
    initial = read_json(finished_run.workdir / "results.json")["fingerprints"]["initial"]
    assert results["fingerprints"]["initial"] == initial
    # Same shapes, so no executable is another one than the first run's.
    first = {row[:2] for row in table_rows(finished_run.output)}
    assert {row[:2] for row in table_rows(outcome.stdout)} <= first


def test_pretrain_reads_the_base_from_the_cache(programs, finished_run):
    outcome = programs.run_well("pretrain", TINY)
    assert "training the base model" not in outcome.stdout
    told = re.search(r"model: (\S+)", outcome.stdout)
    assert told
    organism = read_json(Path(told[1]) / "organism.json")
    assert organism == read_json(finished_run.workdir / "organism.json")
