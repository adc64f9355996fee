"""Bad input: one line on stderr that says what to do, exit code 2, and nothing written."""

import dataclasses
import io
import json
import shutil
import subprocess
import sys

import pytest
from programs import NO_REPORT, ROOT, TINY, refused
from rich.console import Console

from configs import quickstart
from introspection.coupling.labels import read_labels, write_labels
from introspection.errors import InputError
from introspection.probes.context import token_counter, within_context
from introspection.runtime.config import cache_dir
from introspection.runtime.workdir import check_workdir
from introspection.tasks.items import Decisions
from introspection.tasks.registry import load_task
from introspection.text.tokenizer import phrase_tokenizer

PROGRAMS = sorted(path.stem for path in (ROOT / "experiments").glob("*.py") if path.stem != "__init__")


# What is told from fields alone. Each case: the overrides, and what the line must say.
FIELDS = {
    "unknown field": (["--config.train.stepz=3"], ["train.stepz", "did you mean 'steps'"]),
    "unknown field of an arm": (["--config.arms.kl.kl_weigth=1"], ["did you mean 'kl_weight'"]),
    "unlike any field": (["--config.zzz=1"], ["no field 'zzz'", "choose from", "seeds"]),
    "word for a number": (["--config.train.steps=abc"], ["train.steps", "abc"]),
    "fraction for a count": (["--config.train.steps=1.5"], ["train.steps", "1.5"]),
    "section": (["--config.task={}"], ["config.task is a section", "--config.task.answers"]),
    "arm as a section": (["--config.arms.kl={}"], ["config.arms.kl is a section"]),
    "seeds that are words": (["--config.seeds=x"], ["config.seeds", "'x'", "integers"]),
    "no seeds": (["--config.seeds=()"], ["config.seeds"]),
    "a seed twice": (["--config.seeds=(0,0)"], ["config.seeds", "different"]),
    "negative seed": (["--config.seeds=(-1,)"], ["config.seeds"]),
    "unknown arm": (["--config.run_arms=('kk',)"], ["'kk'", "kl, no_kl, kl_shift, shuffled"]),
    "direction": (["--config.arms.kl.kl_direction=foo"], ["kl_direction", "'foo'", "current_to_reference"]),
    "support": (["--config.arms.kl.kl_support=foo"], ["kl_support", "'foo'", "candidates"]),
    "prompts": (["--config.arms.kl.kl_prompts=foo"], ["kl_prompts", "'foo'", "without_cue"]),
    "noise": (["--config.arms.kl.label_noise=1.5"], ["label_noise", "1.5"]),
    "shift kind": (["--config.arms.kl_shift.shift.kind=foo"], ["shift.kind", "'foo'", "new_facts"]),
    "shift groups": (["--config.arms.kl_shift.shift.groups=foo"], ["shift.groups", "held_out"]),
    "not a number": (["--config.arms.kl.learning_rate=nan"], ["finite"]),
    "schedule": (["--config.train.schedule=foo"], ["schedule", "cosine"]),
    "remat": (["--config.train.remat=some"], ["config.train.remat", "some", "full"]),
    "stacking": (["--config.train.stack_seeds=foo"], ["stack_seeds", "vectorize"]),
    "logging and calls": (["--config.train.log_steps=7"], ["log_steps (7)", "steps_per_call (10)"]),
    "checkpoints and evaluation": (
        ["--config.train.checkpoint_steps=30"],
        ["checkpoint_steps (30)", "log_steps (20)"],
    ),
    "pretraining's checkpoints": (["--config.pretrain.checkpoint_steps=130"], ["130", "steps_per_call (20)"]),
    "no steps": (["--config.train.steps=0"], ["steps is 0"]),
    "an arm twice": (["--config.run_arms=('kl',)", "--config.run_arms=('kl',)"], ["run_arms", "once"]),
    "no rows": (["--config.train.explanation_rows=0"], ["explanation", "0"]),
    "negative seed of statistics": (
        ["--config.evaluation.seed=-1"],
        ["evaluation.seed", "at least 0"],
    ),
    "negative seed of items": (["--config.task.seed=-1"], ["config.task.seed", "at least 0"]),
    "negative seed of a shift": (
        ["--config.arms.kl_shift.shift.seed=-1"],
        ["shift.seed is -1", "at least 0"],
    ),
    "negative checkpoints": (
        ["--config.train.keep_checkpoints=-1"],
        ["keep_checkpoints", "at least 0"],
    ),
    "no head chunk": (["--config.train.head_chunk=0"], ["head_chunk is 0"]),
    "no gradient": (["--config.train.gradient_clip=0.0"], ["gradient_clip is 0.0"]),
    "chat of an organism": (["--config.chat.system=Hm"], ["config.chat", "external models"]),
    "no validation items": (["--config.evaluation.validation_items=0"], ["validation_items"]),
    "rank": (["--config.lora.rank=-1"], ["lora.rank", "-1"]),
    "targets": (["--config.lora.rank=4", "--config.lora.targets=('foo',)"], ["lora.targets", "foo", "query"]),
    "a first layer beyond the last": (
        ["--config.lora.rank=4", "--config.lora.from_layer=9"],
        ["lora.from_layer is 9", "give 0 to"],
    ),
    "negative packs": (["--config.train.pack_tokens=-1"], ["train.pack_tokens is -1", "at least 0"]),
    "packs of rows made anew": (
        ["--config.train.pack_tokens=64", "--config.arms.kl.refresh_steps=20"],
        ["config.arms.kl", "refresh_steps", "pack_tokens to 0"],
    ),
    "heads": (["--config.model.kv_heads=3"], ["query_heads (4)", "kv_heads (3)"]),
    "mixture": (["--config.pretrain.mixture.plain=0.5"], ["mixture", "sum to 1"]),
    "mesh too large": (["--config.mesh.data=64"], ["64 devices"]),
    "mesh of nothing": (["--config.mesh.data=0"], ["config.mesh", "at least 1"]),
    "mesh with two rests": (
        ["--config.mesh.data=-1", "--config.mesh.fsdp=-1"],
        ["one of the former may be -1"],
    ),
    "task": (["--config.task.name=mmlu"], ["'mmlu'", "world_facts"]),
    "cue kind": (["--config.task.cue_kinds=('nope',)"], ["nope", "gossip"]),
    "too many entities": (["--config.task.train_entities=400"], ["415 entities", "27"]),
    "too many relations": (["--config.task.relations=5"], ["task.relations is 5", "1 to 4"]),
    "one answer": (["--config.task.answers=1"], ["task.answers is 1", "at least two"]),
    "more candidates than answers": (["--config.task.candidates=5"], ["candidates is 5", "4 answers"]),
    "likelihood ratios": (["--config.world.likelihood_ratios=(2.0,6.0)"], ["2 numbers", "4 cues"]),
    "unusual world": (["--config.world.known_share=1.5"], ["known_share", "from 0 to 1"]),
    "nobody to explain": (
        ["--config.pretrain.mixture.explained=0.25", "--config.pretrain.mixture.hinted=0.5"],
        ["every entity is in a split", "task.entities"],
    ),
    "share of foreign labels": (["--config.arms.kl.foreign_labels=1.5"], ["foreign_labels is 1.5", "0 to 1"]),
    "foreign labels of nobody": (["--config.arms.kl.foreign_labels=0.5"], ["a model in config.foreign"]),
    "a refresh that never comes": (
        ["--config.arms.kl.refresh_steps=40"],
        ["config.arms.kl", "refresh_steps (40) never comes", "40 steps"],
    ),
    "a refresh within a call": (["--config.arms.kl.refresh_steps=15"], ["refresh_steps (15)", "(10)"]),
    "groups of the KL term": (["--config.arms.kl.kl_groups=all"], ["kl_groups is 'all'", "explained, other"]),
    "nothing left unshifted": (
        ["--config.arms.kl_shift.shift.fraction=1.0"],
        ["shift.fraction is 1.0", "none of 20 test groups unshifted"],
    ),
    "one candidate": (["--config.task.candidates=1"], ["task.candidates", "at least 2"]),
    "no published teacher": (
        ["--config.label_teacher=published:Qwen3-8B"],
        ["label_teacher", "the data of invented_world bring no model's decisions"],
    ),
    "a published teacher without a name": (["--config.label_teacher=published:"], ["name the teacher"]),
    "no such teacher": (["--config.label_teacher=/nonexistent"], ["label_teacher", "/nonexistent"]),
    "no such reference": (["--config.kl_reference=/nonexistent"], ["kl_reference", "/nonexistent"]),
    "no such initial": (["--config.initial=/nonexistent"], ["config.initial", "/nonexistent"]),
    "nameless reference": (["--config.kl_reference="], ["kl_reference", "empty"]),
    "no labels": (["--config.arms.kl.labels=/nonexistent"], ["/nonexistent", "labels folder"]),
    "long prompts": (
        ["--config.model.context_length=7"],
        ["288 of 288 train items", "context of 7", "skipped_share"],
    ),
    "unknown flag": (["--nope=3"], ["nope"]),
    "argument": (["more"], ["unexpected argument 'more'"]),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_config_that_cannot_be_used_is_refused_before_anything_is_trained(programs, tmp_path, case):
    overrides, phrases = FIELDS[case]
    cache = tmp_path / "cache"
    (cache / "programs").mkdir(parents=True)
    line = refused(programs, "run", TINY, *overrides, workdir=tmp_path / "run", cache=cache)
    for phrase in phrases:
        assert phrase in line
    assert not (cache / "organisms").exists()


def test_a_config_file_that_is_not_there_or_is_none(programs, tmp_path):
    workdir = tmp_path / "run"
    line = refused(programs, "run", "--config=configs/quikstart.py", workdir=workdir)
    assert "configs/quikstart.py does not exist; choose from " in line
    assert "configs/organism.py, configs/privileged.py, configs/quickstart.py" in line
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    assert "no function get_config" in refused(programs, "run", f"--config={empty}", workdir=workdir)
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name\ndef get_config(): pass\n")
    assert "nothing_of_this_name" in refused(programs, "run", f"--config={broken}", workdir=workdir)
    line = refused(programs, "run", "--config=configs/quickstart.py:large", workdir=workdir)
    assert "'large'" in line
    assert "give --config" in refused(programs, "run", workdir=workdir)


def test_a_workdir_begun_with_another_model_is_refused(programs, finished_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run.workdir, run)
    (run / "results.json").unlink()
    metadata = run / "labels" / "clean" / "metadata.json"
    begun = json.loads(metadata.read_text())
    begun["models"]["kl_reference"] = "0123456789abcdef"
    metadata.write_text(json.dumps(begun))
    line = refused(programs, "run", TINY, workdir=run)
    assert "begun with another model as config.kl_reference (0123456789abcdef; now " in line


def test_a_workdir_that_was_being_claimed_is_claimed_again(tmp_path):
    (tmp_path / "config.json.tmp").write_text("{")
    check_workdir(tmp_path, {"task": {}})


def test_a_workdir_of_another_config_is_named_field_by_field(programs, finished_run):
    changed = ["--config.train.steps=80", "--config.arms.kl.kl_weight=2.5"]
    line = refused(programs, "run", TINY, *changed, workdir=finished_run.workdir)
    assert "belongs to another config" in line
    assert "train.steps is 40 there and 80 here" in line
    assert "arms.kl.kl_weight is 1.0 there and 2.5 here" in line
    assert "seeds" not in line


def test_a_folder_of_other_files_is_no_workdir(programs, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "not empty" in refused(programs, "run", TINY, workdir=tmp_path)
    assert "is a file" in refused(programs, "run", TINY, workdir=tmp_path / "thesis.tex")


def test_labels_of_another_model_or_task_are_refused(programs, finished_run, tmp_path):
    labels = tmp_path / "labels"
    shutil.copytree(finished_run.workdir / "labels" / "clean", labels)
    metadata = (labels / "metadata.json").read_text()
    override = f"--config.arms.kl.labels={labels}"

    (labels / "metadata.json").write_text(metadata.replace("invented_world/", "invented_world/other-"))
    line = refused(programs, "run", TINY, override, workdir=tmp_path / "run")
    assert "template_version is 'invented_world/other-" in line

    (labels / "metadata.json").write_text(metadata)
    teacher = f"--config.label_teacher={finished_run.workdir}:kl:0@40"
    line = refused(programs, "run", TINY, override, teacher, workdir=tmp_path / "run")
    assert "teacher_fingerprint is" in line
    assert "another model or task" in line


def test_labels_of_behavior_that_was_asked_for_otherwise_are_refused(programs, finished_run, tmp_path):
    clean = finished_run.workdir / "labels" / "clean"
    metadata = json.loads((clean / "metadata.json").read_text())
    items = load_task(quickstart.get_config("tiny").to_dict()["task"], cache_dir())[0].splits["train"]
    # What another wording or readout makes of the same model: other decisions on some items.
    swapped = [
        dataclasses.replace(label, teacher=Decisions(*reversed(label.teacher)))
        for label in read_labels(clean, {}, items)
    ]
    write_labels(tmp_path / "labels", swapped, metadata)
    labels = f"--config.arms.kl.labels={tmp_path / 'labels'}"
    line = refused(programs, "run", TINY, labels, workdir=tmp_path / "run")
    assert "asked for or read in another way (config.task, config.behavior, config.chat)" in line
    assert "differ, such as " in line


@pytest.mark.slow
def test_a_teacher_that_means_several_models_lists_them(programs, finished_run, tmp_path):
    teacher = f"--config.label_teacher={finished_run.workdir}"
    line = refused(programs, "run", TINY, teacher, workdir=tmp_path / "run")
    assert "8 different models" in line
    assert f"{finished_run.workdir}:no_kl:1@40" in line
    line = refused(programs, "run", TINY, f"{teacher}:kl:0@7", workdir=tmp_path / "run")
    assert "label_teacher" in line
    assert "the steps are: 0, 20, 40" in line


@pytest.mark.slow
def test_labels_of_one_class_are_refused(programs, finished_run, tmp_path):
    # One fact with one cue and one item is one label, so the other class is missing whatever the base does.
    one = ["--config.task.train_entities=1", "--config.task.relations=1", "--config.train.explained_groups=0"]
    one += ["--config.task.cue_kinds=('right',)", "--config.task.repeats=1"]
    one += ["--config.world.likelihood_ratios=()"]
    line = refused(programs, "run", TINY, *one, workdir=tmp_path / "run")
    assert "can't balance 1 training items" in line


def test_a_shift_that_fits_no_item_is_refused_before_any_arm_is_trained(programs, finished_run, tmp_path):
    shift = ["--config.arms.kl_shift.shift.kind=source_reliability", "--config.arms.kl_shift.shift.source=x"]
    assert "no examples" in refused(programs, "run", TINY, *shift, workdir=tmp_path / "run")


def test_prompts_that_are_too_long_are_counted_up_to_the_share_and_refused_beyond():
    section = {
        "name": "world_facts",
        "facts": 60,
        "train_facts": 40,
        "validation_facts": 5,
        "test_facts": 15,
        "seed": 0,
        "candidates": 4,
        "cue_kinds": ("unsure", "friend"),
        "repeats": 1,
    }
    task, _ = load_task(section, cache_dir())
    task = dataclasses.replace(task, splits={"train": task.splits["train"], "validation": (), "test": ()})
    # A vocabulary of words: names of several words are several tokens, so prompts differ in length.
    words = {word for name in task.names for word in name.split()}
    tokenizer = phrase_tokenizer(words, task.phrases)
    lengths = token_counter(task, tokenizer)(task.splits["train"])
    limit = sorted(lengths)[-5]  # at most four items are longer
    longer = sum(length > limit for length in lengths)
    assert 0 < longer < len(lengths)

    console = Console(record=True, width=200, file=io.StringIO())
    kept = within_context(task, tokenizer, limit, 1.0, console)
    assert len(kept.splits["train"]) == len(lengths) - longer
    assert f"skipped {longer} of {len(lengths)} train items" in console.export_text()
    share = longer / len(lengths)
    assert len(within_context(task, tokenizer, limit, share + 1e-9, Console(quiet=True)).splits["train"])
    with pytest.raises(InputError, match=f"{longer} of {len(lengths)} train items exceed"):
        within_context(task, tokenizer, limit, share - 1e-9, Console(quiet=True))


COMPARED = {
    "no workdir": ("/nonexistent", ["/nonexistent", "neither a workdir with checkpoints"]),
    "no arm": ("{run}:kk", ["no arm 'kk'", "kl, kl_shift, no_kl, shuffled"]),
    "no seed": ("{run}:kl:7", ["no seed 7", "(0, 1)"]),
    "no step": ("{run}:kl:0@7", ["the steps are: 0, 20, 40"]),
    "nothing": ("", ["--models"]),
}


@pytest.mark.parametrize("case", COMPARED)
def test_models_that_are_not_there_cannot_be_compared(programs, finished_run, tmp_path, case):
    name, phrases = COMPARED[case]
    models = f"--models={name.format(run=finished_run.workdir)}"
    line = refused(programs, "compare", models, workdir=tmp_path / "compared")
    for phrase in phrases:
        assert phrase in line


def test_flags_of_compare_are_checked(programs, finished_run, tmp_path):
    workdir, models = tmp_path / "compared", f"--models={finished_run.workdir}@0"
    assert "--limit" in refused(programs, "compare", models, "--limit=-1", workdir=workdir)
    assert "limit" in refused(programs, "compare", models, "--limit=many", workdir=workdir)
    assert "invented_world" in refused(programs, "compare", models, "--task=aita", workdir=workdir)
    assert "reads no file" in refused(programs, "compare", models, "--data=mine.jsonl", workdir=workdir)
    assert "--set=facts: give" in refused(programs, "compare", models, "--set=facts", workdir=workdir)
    line = refused(programs, "compare", models, "--chat=system=Be brief.", workdir=workdir)
    assert "--chat applies to external models" in line


def test_runs_that_asked_different_items_cannot_be_compared(programs, finished_run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(finished_run.workdir, other)
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace('"test_entities": 10', '"test_entities": 9'))
    assert config != (other / "config.json").read_text()
    models = f"--models={finished_run.workdir}@0,{other}@0"
    line = refused(programs, "compare", models, workdir=tmp_path / "compared")
    assert "different items" in line
    assert "such as --task=invented_world; config.task.test_entities is 10 there and 9 here" in line


def test_a_report_needs_a_finished_run(programs, tmp_path):
    assert "is not a folder" in refused(programs, "report", workdir=tmp_path / "nothing")
    assert "results.json" in refused(programs, "report", workdir=tmp_path)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_tells_what_a_program_does(programs, name):
    outcome = programs.run_well(name, "--help")
    assert outcome.stderr == ""
    assert f"experiments.{name}" in outcome.stdout  # its example
    assert "Exit codes" in outcome.stdout
    for line in outcome.stdout.splitlines():
        assert "absl" not in line


def test_help_lists_the_flags_for_meshes_and_processes(programs):
    outcome = programs.run_well("run", "--help")
    for name in ("workdir", "mesh", "coordinator", "processes", "process", "start-timeout"):
        assert f"  --{name}  " in outcome.stdout
    assert outcome.stdout.count("--config=FILE.py") == 1


@pytest.mark.parametrize("name", ["run", "pretrain"])
def test_help_lists_the_fields_of_a_config(programs, name):
    outcome = programs.run_well(name, TINY, "--help")
    assert "--config.train.steps=40" in outcome.stdout
    assert "--config.arms.kl.shift.kind='none'" in outcome.stdout
    assert "--config.pretrain.mixture.plain=0.25" in outcome.stdout


def test_config_can_be_given_as_two_arguments(programs, finished_run):
    outcome = programs.run_well(
        "run", "--config", TINY.removeprefix("--config="), f"--workdir={finished_run.workdir}"
    )
    assert "is finished" in outcome.stdout
    line = refused(
        programs, "run", "--config", "configs/no.py", workdir=finished_run.workdir, patch=NO_REPORT
    )
    assert "configs/no.py does not exist" in line


def test_a_real_process_ends_with_the_same_line_and_code(tmp_path):
    """The other tests fork a warm interpreter; this one starts as a user does."""
    command = [
        sys.executable,
        "-m",
        "experiments.run",
        TINY,
        "--config.seeds=()",
        f"--workdir={tmp_path}/run",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: config.arms and config.seeds need at least one arm and one seed\n"
    assert not (tmp_path / "run").exists()
