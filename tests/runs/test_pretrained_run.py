"""The main job on an external model: adapters, a foreign explainer, and the trained model given back."""

import pytest
from elsewhere import chat_folder, gguf_model
from programs import NO_REPORT, read_json, read_lines, refused
from tiny import assert_trees_close
from weights_cases import halved

CONFIG = "--config=configs/smollm2.py"
CHANGES = (
    "--config.tiny=True",
    "--config.behavior.reply_tokens=6",
    "--config.evaluation.explanation_tokens=64",
    "--config.task.train_facts=8",
    "--config.task.validation_facts=2",
    "--config.task.test_facts=3",
    "--config.train.explained_items=0",
    # Random numbers say no candidate, so no cue changes what they say, and there is nothing to balance.
    "--config.train.balanced=False",
    "--config.train.steps=2",
    "--config.train.steps_per_call=2",
    "--config.train.log_steps=2",
    "--config.train.evaluation_steps=2",
    "--config.train.checkpoint_steps=2",
    "--config.train.explanation_rows=4",
    "--config.train.behavior_items=2",
    "--config.train.shift_rows=2",
    "--config.evaluation.validation_items=7",
    "--config.evaluation.agreement_items=8",
    "--config.lora.rank=2",
    "--config.lora.alpha=2.0",
)


@pytest.mark.slow
def test_the_learning_curve_reads_packs_of_short_prompts(programs, tmp_path):
    initial, curve = chat_folder(tmp_path / "model"), tmp_path / "curve"
    config = "--config=configs/learning_curve.py:tiny"
    programs.run_well(
        "sweep", config, f"--workdir={curve}", f"--config.initial={initial}", *CHANGES, patch=NO_REPORT
    )
    point = curve / "points" / "items-16"
    stored, results = (read_json(point / f"{name}.json") for name in ("config", "results"))
    assert (stored["chat"]["system"], stored["behavior"]["readout"]) == ("", "likeliest")
    assert stored["train"]["pack_tokens"] > 0
    assert list(results["arms"]) == ["kl", "shuffled"]
    assert results["askable"]["arm"] == "kl"


@pytest.mark.slow
def test_a_model_explains_itself_beside_its_foreign_explainer(programs, tmp_path):
    initial = chat_folder(tmp_path / "model")

    def run(name, *changes):
        workdir = tmp_path / name
        programs.run_well(
            "run",
            CONFIG,
            f"--workdir={workdir}",
            f"--config.initial={initial}",
            *CHANGES,
            *changes,
            patch=NO_REPORT,
        )
        return workdir, read_json(workdir / "results.json")

    noisy = "--config.arms.kl.label_noise=0.5"
    other, _ = run("other", "--config.run_arms=('no_kl','kl')", noisy)
    exact, noised = (line for line in read_lines(other / "metrics.jsonl") if line["step"] == 0)
    assert exact["agreement"] == exact["kept_behavior"] == noised["kept_behavior"] == 1.0
    assert (
        0 < noised["agreement"] < 1
    )  # with its own labels, though the arm before starts from the same model
    foreign = f"--config.foreign={other}:no_kl"
    packs = "--config.train.pack_tokens=256"
    workdir, results = run("run", foreign, packs, "--config.run_arms=('kl','foreign_kl')")
    assert set(results["arms"]) == {"kl", "foreign_kl"}
    assert results["arms"]["kl"]["n"] == 21
    assert results["fingerprints"]["foreign"] != results["fingerprints"]["initial"]
    controls = {(line["control"], line["arm"]) for line in read_lines(workdir / "controls.jsonl")}
    assert ("foreign", "kl") in controls
    first = next(line for line in read_lines(workdir / "metrics.jsonl") if line["arm"] == "kl")
    assert (first["step"], first["agreement"]) == (0, 1.0)  # adapters start as the model itself

    merged, adapters = tmp_path / "merged", tmp_path / "adapters"
    programs.run_well("export", f"--model={workdir}:kl", f"--to={merged}")
    programs.run_well("export", f"--model={workdir}:kl", f"--to={adapters}", "--format=peft")
    compared = tmp_path / "compared"
    outcome = programs.run_well(
        "compare",
        f"--models={workdir}:kl,{adapters},{merged}",
        "--task=world_facts",
        "--limit=2",
        f"--workdir={compared}",
        patch=NO_REPORT,
    )
    assert f"{adapters} is the same model as run:kl:0@2: shown once" in outcome.stdout
    assert read_json(compared / "matrix.json")["emitters"] == ["run:kl:0@2", str(merged)]
    own, other = ([line for line in read_lines(compared / "compared.jsonl") if line["model"] == name]
                  for name in ("run:kl:0@2", str(merged)))  # fmt: skip
    assert [{**line, "model": ""} for line in own] == [{**line, "model": ""} for line in other]


@pytest.mark.slow
def test_a_base_that_stays_bfloat16_trains_and_answers_as_in_float32(programs, tmp_path):
    initial, written = halved(chat_folder(tmp_path / "model")), []
    for dtype in ("float32", "bfloat16"):
        workdir = tmp_path / dtype
        given = (
            f"--config.initial={initial}",
            f"--config.lora.base_dtype={dtype}",
            "--config.run_arms=('kl',)",
        )
        programs.run_well("run", CONFIG, f"--workdir={workdir}", *CHANGES, *given, patch=NO_REPORT)
        card = read_json(workdir / "checkpoints" / "initial" / "model.json")
        assert card["model"]["parameter_dtype"] == dtype
        metrics, predictions = (read_lines(workdir / f"{name}.jsonl") for name in ("metrics", "predictions"))
        scores = [line["explanation"].pop("logprobs") for line in predictions]
        assert {line.pop("arm") for line in metrics} == {"kl"}
        written.append((predictions, metrics, scores))
    assert written[0][0] == written[1][0]
    # Equal bits are a matter of how XLA fuses the casts, which differs by compiler effort and machine.
    assert_trees_close(written[0][1:], written[1][1:], rtol=1e-4, atol=1e-3)
    asked = f"--models={tmp_path / 'bfloat16'}:kl", "--task=world_facts", "--limit=1"
    programs.run_well("compare", *asked, f"--workdir={tmp_path / 'compared'}", patch=NO_REPORT)


@pytest.mark.slow
def test_an_explanation_that_would_be_cut_is_refused(programs, tmp_path):
    initial, workdir = gguf_model(tmp_path / "model.gguf"), tmp_path / "run"
    cut = "--config.evaluation.explanation_tokens=9"
    outcome = programs.run(
        "run", CONFIG, f"--workdir={workdir}", f"--config.initial={initial}", *CHANGES, cut
    )
    assert outcome.code == 2
    (line,) = outcome.stderr.splitlines()
    assert "explanation_tokens is 9, but the longest explanation that can be right has" in line
    assert not workdir.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            "--config.train.pack_tokens=40",
            "config.train.pack_tokens is 40, but an explanation with its prompt",
        ),
        ("--config.lora.from_layer=40", "lora.from_layer is 40, but of the model's"),
        ("--config.lora.base_dtype=bfloat16", "are not all stored so, and rounding would change it"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(programs, tmp_path, change, says):
    initial, workdir = chat_folder(tmp_path / "model"), tmp_path / "run"
    refused(
        programs, "run", CONFIG, f"--config.initial={initial}", *CHANGES, change, workdir=workdir, says=[says]
    )
