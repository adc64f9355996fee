"""What experiments.export writes is the same model again: for compare, by its logits, numbers and tokens."""

import io
import json
import re
import shutil
from pathlib import Path

import chat_templates
import jax
import numpy as np
import pytest
from elsewhere import LORA, adapter_folder, chat_folder, gguf_model, run_workdir, with_adapters
from programs import one_error_line, snapshot
from rich.console import Console
from safetensors.numpy import load_file
from tiny import mesh_of, tiny_task
from weights_cases import assert_same_leaves, change_json, change_tensors

from introspection.checkpoints.names import load_one, model_fingerprint
from introspection.errors import InputError
from introspection.models.decoder import Decoder
from introspection.models.head import head_matrix
from introspection.models.model import merge_adapters
from introspection.runs import export as export_module
from introspection.runs.export import export
from introspection.text.chat_template import ChatOptions
from introspection.text.tokenizer import WordTokenizer

FILES = ["README.md", "config.json", "generation_config.json", "model.safetensors", "special_tokens_map.json"]
FILES += ["tokenizer.json", "tokenizer_config.json"]


def exported(name, folder: Path, kind="hf", dtype="float32") -> str:
    """Exports in this process; returns what it printed."""
    console = Console(file=io.StringIO(), width=200)
    export(str(name), folder, kind, dtype, console)
    return console.file.getvalue()


def load(name, chat=None):
    return load_one(str(name), mesh_of(), chat)


def logits(model) -> np.ndarray:
    tokens = jax.numpy.arange(20, 40)[None]
    hidden = Decoder(model.config).apply(model.variables, tokens, tokens - 20, tokens * 0).hidden
    return np.asarray(hidden[0] @ head_matrix(model.variables, model.config).T)


def assert_same_model(model, source) -> None:
    assert model_fingerprint(model) == model_fingerprint(source)
    for name in ("end_id", "padding_id", "stop_ids"):
        assert getattr(model.tokenizer, name) == getattr(source.tokenizer, name)
    item = tiny_task().splits["test"][0]
    assert model.tokenizer.encode_prompt(item.prompt_with_cue) == source.tokenizer.encode_prompt(
        item.prompt_with_cue
    )
    assert model.tokenizer.encode_reply(item.gold) == source.tokenizer.encode_reply(item.gold)


@pytest.mark.parametrize("kind", ["folder", "gguf", "qwen2_gguf"])
def test_a_model_of_elsewhere_comes_back(tmp_path, kind):
    if kind == "folder":
        source = chat_folder(tmp_path / "source", tied_head=False)
    else:
        source = gguf_model(tmp_path / "model.gguf", kind.removesuffix("gguf").strip("_") or "llama")
    told = exported(source, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    assert_same_model(load(tmp_path / "out"), load(source))
    assert told == f"{tmp_path / 'out'}: {source}, float32, fingerprint {model_fingerprint(load(source))}\n"


@pytest.mark.parametrize("name", ["full:1", "initial"])
def test_an_organism_comes_back_with_its_words(tmp_path, name):
    source = f"{run_workdir(tmp_path / 'run')}:{name}"
    exported(source, tmp_path / "out")
    assert isinstance(load(tmp_path / "out").tokenizer, WordTokenizer)
    assert_same_model(load(tmp_path / "out"), load(source))


@pytest.mark.parametrize("kind", ["elsewhere", "run"])
@pytest.mark.slow
def test_adapters_are_merged_into_a_whole_model(tmp_path, kind):
    source = with_adapters(tmp_path) if kind == "elsewhere" else f"{run_workdir(tmp_path / 'run')}:lora:1"
    exported(source, tmp_path / "out")
    model, adapted = load(tmp_path / "out"), load(source)
    assert model.config.lora is None
    assert_same_leaves(model.variables, merge_adapters(adapted).variables)
    np.testing.assert_allclose(logits(model), logits(adapted), atol=1e-3)


def test_adapters_alone_name_their_base(tmp_path):
    name = with_adapters(tmp_path)
    told = exported(name, tmp_path / "out", "peft")
    assert told == f"{tmp_path / 'out'}: adapters of {name}; their base: {tmp_path / 'base'}\n"
    assert_same_model(load(tmp_path / "out"), load(name))  # by the base that they name


def test_adapters_of_a_run_name_the_model_that_it_started_from(tmp_path):
    base = chat_folder(tmp_path / "base")
    run = run_workdir(tmp_path / "run", {"initial": str(base)})
    assert f"their base: {base}" in exported(f"{run}:lora:0", tmp_path / "out", "peft")
    fields = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert fields["base_model_name_or_path"] == str(base)
    assert (fields["r"], fields["lora_alpha"]) == (LORA.rank, LORA.alpha)


@pytest.mark.parametrize("initial", ["pretrain", "smollm2", "{adapted}", None], ids=str)
def test_adapters_on_what_no_path_names_say_how_to_export_it(tmp_path, initial, monkeypatch):
    monkeypatch.setenv("INTROSPECTION_CACHE", str(tmp_path / "cache"))
    initial = with_adapters(tmp_path) if initial == "{adapted}" else initial
    run = run_workdir(tmp_path / "run", None if initial is None else {"initial": initial})
    told = exported(f"{run}:lora:0", tmp_path / "out", "peft")
    assert f"none that other programs read; for PEFT, --model={run}:initial exports it as a folder" in told
    fields = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert fields["base_model_name_or_path"] == f"{run}:initial"  # text, which every reader expects
    exported(f"{run}:initial", tmp_path / "initial")
    assert_same_model(load(f"{tmp_path / 'initial'}+{tmp_path / 'out'}"), load(f"{run}:lora:0"))


def test_adapters_alone_keep_the_template_that_they_are_addressed_by(tmp_path):
    name = with_adapters(tmp_path / "adapted")
    base, adapters = name.split("+")
    exported(name, tmp_path / "plain", "peft")
    assert not (tmp_path / "plain" / "chat_template.jinja").exists()
    (Path(adapters) / "chat_template.jinja").write_text("{{ messages[-1]['content'] }}<|im_end|>")
    exported(name, tmp_path / "out", "peft")
    assert_same_model(load(f"{base}+{tmp_path / 'out'}"), load(name))
    assert load(f"{base}+{tmp_path / 'plain'}").tokenizer.frame != load(name).tokenizer.frame


def test_adapters_of_a_model_with_vision_are_exported_merged_alone(tmp_path, monkeypatch):
    name = with_adapters(tmp_path)
    monkeypatch.setattr(export_module, "has_vision", lambda base: base == (tmp_path / "base").resolve())
    with pytest.raises(InputError, match=r"has vision.*export it with --format=hf"):
        exported(name, tmp_path / "refused", "peft")
    assert not (tmp_path / "refused").exists()


def test_adapters_that_replace_the_head_are_exported_merged(tmp_path):
    name = with_adapters(tmp_path)
    base, adapters = map(Path, name.split("+"))
    head = np.random.default_rng(0).normal(size=load(base).variables["params"]["embedding"].shape)
    change_tensors(
        adapters / "adapter_model.safetensors", **{"base_model.model.lm_head.weight": head.astype(np.float32)}
    )
    change_json(adapters / "adapter_config.json", modules_to_save=["lm_head"])
    with pytest.raises(InputError, match=r"replace the base's head.*--format=hf"):
        exported(name, tmp_path / "refused", "peft")
    exported(name, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    np.testing.assert_array_equal(tensors["lm_head.weight"], head.astype(np.float32))
    np.testing.assert_allclose(logits(load(tmp_path / "out")), logits(load(name)), atol=1e-3)


def test_a_whole_model_beside_a_leftover_config_of_adapters_is_the_model(tmp_path):
    folder = chat_folder(tmp_path / "merged")
    left = adapter_folder(tmp_path / "adapters", folder)
    shutil.copy(left / "adapter_config.json", folder)
    told = exported(folder, tmp_path / "out")
    assert f"note: {folder} is read as the whole model that it holds; adapter_config.json is ignored" in told
    (folder / "adapter_config.json").unlink()
    assert_same_model(load(tmp_path / "out"), load(folder))
    # With their weights, either could be meant.
    for file in left.iterdir():
        shutil.copy(file, folder)
    with pytest.raises(InputError, match="both a whole model and adapters"):
        load(folder)
    assert_same_model(load(f"{tmp_path / 'out'}+{folder}"), load(f"{tmp_path / 'out'}+{left}"))


def test_modules_without_tensors_are_told_of(tmp_path):
    name = with_adapters(tmp_path)
    adapters = Path(name.split("+")[1])
    change_json(adapters / "adapter_config.json", target_modules=["q_proj", "k_proj", "v_proj", "down_proj"])
    told = exported(name, tmp_path / "out", "peft")
    assert "no tensors for 2 of the modules" in told
    assert "(model.layers.0.self_attn.k_proj first)" in told


def test_a_base_that_is_no_path_is_refused_in_one_line(tmp_path):
    folder = adapter_folder(tmp_path / "adapters", "a" * 5000)
    with pytest.raises(InputError, match=r"is not a path here; give BASE\+") as caught:
        load(folder)
    assert len(str(caught.value)) < 1000


def test_bfloat16_halves_the_bytes_and_rounds_once(tmp_path):
    source = chat_folder(tmp_path / "source")
    exported(source, tmp_path / "whole")
    told = exported(source, tmp_path / "half", dtype="bfloat16")
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    whole, half = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    for name, array in whole.items():
        np.testing.assert_array_equal(half[name], array.astype(half[name].dtype))
        assert half[name].nbytes * 2 == array.nbytes
    fingerprint = model_fingerprint(load(tmp_path / "half"))
    assert told.endswith(f"bfloat16, fingerprint {fingerprint}\n")
    exported(tmp_path / "half", tmp_path / "again")
    assert model_fingerprint(load(tmp_path / "again")) == fingerprint


def test_config_and_generation_config_name_the_ends(tmp_path):
    source = chat_folder(tmp_path / "source")
    tokenizer = load(source).tokenizer
    exported(source, tmp_path / "out")
    config, generation = (
        json.loads((tmp_path / "out" / name).read_text())
        for name in ("config.json", "generation_config.json")
    )
    assert config["eos_token_id"] == tokenizer.end_id
    assert config["pad_token_id"] == generation["pad_token_id"] == tokenizer.padding_id
    assert generation["eos_token_id"] == [tokenizer.end_id, *tokenizer.stop_ids]
    assert len(generation["eos_token_id"]) == 2
    assert generation["do_sample"] is False


def test_how_a_model_was_addressed_is_told_where_files_can_not_hold_it(tmp_path):
    folder = chat_folder(tmp_path / "base")
    assert "note" not in exported(folder, tmp_path / "plain")
    brief, template = ChatOptions(system="Be brief."), ChatOptions(template=chat_templates.SMOLLM2)
    for options, noted in ((brief, True), (template, False)):
        tokenizer = load(folder, options).tokenizer
        run = run_workdir(tmp_path / f"run_{noted}", tokenizer=tokenizer)
        told = exported(f"{run}:full:0", tmp_path / f"out_{noted}")
        assert ("files lack the chat options (config.chat)" in told) == noted
        again = load(tmp_path / f"out_{noted}", brief if noted else None).tokenizer
        assert again.encode_prompt("Why?") == tokenizer.encode_prompt("Why?")


def test_files_are_as_readable_as_others(tmp_path):
    exported(chat_folder(tmp_path / "source"), tmp_path / "out")
    exported(with_adapters(tmp_path / "adapted"), tmp_path / "adapters", "peft")
    other = tmp_path / "other"
    other.touch()
    for path in [*(tmp_path / "out").iterdir(), *(tmp_path / "adapters").iterdir()]:
        assert path.stat().st_mode == other.stat().st_mode


def test_what_is_in_the_folder_stays(tmp_path):
    source, out = chat_folder(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    exported(source, out)  # an empty one is fine
    before = snapshot(tmp_path)
    for kind in ("hf", "peft"):
        with pytest.raises(InputError, match="is not empty: name another folder"):
            exported(tmp_path / "not even looked at", out, kind)
    with pytest.raises(InputError, match="is not empty"):
        exported(source, out / "config.json")
    assert snapshot(tmp_path) == before


# Each case: the flags, and what the line must say.
REFUSED = {
    "no flags": ([], ["give --model=NAME and --to=FOLDER"]),
    "no folder": (["--model={base}"], ["give --model=NAME and --to=FOLDER"]),
    "no model": (["--model={base}x", "--to={out}"], ["is neither a workdir with checkpoints nor a model"]),
    "several models": (["--model={run}:full", "--to={out}"], ["2 different models", "run:full:1@4"]),
    "format": (["--model={base}", "--to={out}", "--format=gguf"], ["--format is 'gguf'", "hf, peft"]),
    "dtype": (["--model={base}", "--to={out}", "--dtype=int8"], ["--dtype is 'int8'", "float32, bfloat16"]),
    "no adapters": (["--model={base}", "--to={out}", "--format=peft"], ["has no adapters", "--format=hf"]),
    "not fetched": (["--model=smollm2", "--to={out}"], ["experiments.fetch --model=smollm2"]),
    "below a file": (["--model={base}", "--to={base}/config.json/out"], ["base/config.json is a file"]),
    "full folder": (["--model={base}", "--to={base}"], ["base is not empty: name another folder"]),
}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    chat_folder(folder / "base")
    run_workdir(folder / "run")
    return folder


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_exported_is_refused_in_one_line(programs, given, case):
    flags, phrases = REFUSED[case]
    before = snapshot(given)
    named = [flag.format(base=given / "base", run=given / "run", out=given / "out") for flag in flags]
    outcome = programs.run("export", *named)
    assert outcome.code == 2, outcome
    for phrase in phrases:
        assert phrase in one_error_line(outcome)
    assert snapshot(given) == before


def test_the_program_writes_what_compare_takes_again(programs, tmp_path):
    adapters = adapter_folder(tmp_path / "adapters", chat_folder(tmp_path / "base"))
    outcome = programs.run_well("export", f"--model={adapters}", f"--to={tmp_path / 'new' / 'merged'}")
    assert outcome.stderr == ""
    fingerprint = re.search(r"fingerprint (\w+)", outcome.stdout)[1]
    assert model_fingerprint(load(tmp_path / "new" / "merged")) == fingerprint
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["merged"]
