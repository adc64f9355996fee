"""Bad models given to the programs: one line on stderr that says what to do, exit code 2, nothing written."""

import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
from elsewhere import adapter_folder, chat_folder, cut, gguf_model, run_workdir, vocabulary
from programs import TINY, refused
from rich.console import Console
from small_tokenizers import model_folder
from tiny import tiny_task
from weights_cases import change_json, change_tensors

from introspection.checkpoints.names import StoredModel, find_models
from introspection.errors import InputError
from introspection.probes.context import check_candidates, token_counter, within_context
from introspection.runs.compare_probes import shown_names
from introspection.text.chat_template import ChatOptions
from introspection.text.hf_tokenizer import read_hf_tokenizer

TENSOR = "model.layers.0.mlp.up_proj.weight"
ROOT_REACHING = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
RAISING = "{{ raise_exception('no user turns here') }}"


def without(folder, *names):
    for name in names:
        (folder / name).unlink()


def missing_shard(folder):
    shutil.rmtree(folder)
    chat_folder(folder, shard_bytes=20_000)
    without(folder, "model-00001-of-00003.safetensors")


def wrong_index(folder):
    shutil.rmtree(folder)
    chat_folder(folder, shard_bytes=20_000)
    index = folder / "model.safetensors.index.json"
    fields = json.loads(index.read_text())
    fields["weight_map"][TENSOR] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(fields))


def template(text):
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def unwritable(folder):
    """A vocabulary without the byte that begins é, ã and the like."""
    definition = json.loads((folder / "tokenizer.json").read_text())
    definition["model"]["vocab"]["unused"] = definition["model"]["vocab"].pop("Ã")
    (folder / "tokenizer.json").write_text(json.dumps(definition))


# Each case: what is done to a good folder, and what the line must say.
FOLDERS = {
    "nothing in it": (shutil.rmtree, ["neither a workdir with checkpoints nor a model (it does not exist)"]),
    "no config": (lambda folder: without(folder, "config.json"), ["has neither config.json"]),
    "no weights": (lambda folder: without(folder, "model.safetensors"), ["has no weights", "is missing"]),
    "pickled weights": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        ["only pickled weights (pytorch_model.bin)", "never read", "save_pretrained"],
    ),
    "no tokenizer": (lambda folder: without(folder, "tokenizer.json"), ["tokenizer.json is missing"]),
    "cut weights": (
        lambda folder: cut(folder / "model.safetensors", -100),
        ["model.safetensors can't be read", "truncated"],
    ),
    "cut config": (lambda folder: cut(folder / "config.json", 40), ["config.json can't be read"]),
    "missing shard": (missing_shard, ["index.json names 'model-00001-of-00003.safetensors'", "is missing"]),
    "wrong index": (
        wrong_index,
        ["index.json is wrong (1 tensors)", f"{TENSOR} should be in model-00001", "but is in model-0000"],
    ),
    "missing tensor": (
        lambda folder: change_tensors(folder / "model.safetensors", **{TENSOR: None}),
        ["does not fit the model (1 tensors)", f"{TENSOR} (24, 16) is missing"],
    ),
    "a number that is none": (
        lambda folder: change_tensors(
            folder / "model.safetensors", **{TENSOR: np.full((24, 16), np.nan, np.float32)}
        ),
        [f"numbers that are not finite (NaN or infinite) in {TENSOR}"],
    ),
    "a vocabulary beyond counting": (
        lambda folder: change_json(folder / "config.json", vocab_size=2**62),
        [f"config.json: vocab_size is {2**62}; it must be at most"],
    ),
    "layers beyond the tensors": (
        lambda folder: change_json(folder / "config.json", num_hidden_layers=9000, layer_types=None),
        ["the queries (layers × width × heads × head_dim) would have", "all tensors together have"],
    ),
    "another family": (
        lambda folder: change_json(folder / "config.json", model_type="mamba"),
        ["model_type 'mamba' is not supported", "supported are llama"],
    ),
    "an option": (
        lambda folder: change_json(folder / "config.json", mlp_bias=True),
        ["mlp_bias=True is not supported"],
    ),
    "more tokens than rows": (
        lambda folder: change_json(folder / "config.json", vocab_size=300),
        ["the tokenizer has 407 tokens, but the model's embedding has 300 rows"],
    ),
    "a head beside a tied one": (
        lambda folder: (
            change_json(folder / "config.json", tie_word_embeddings=True),
            change_tensors(folder / "model.safetensors", **{"lm_head.weight": np.ones((407, 16))}),
        ),
        ["tie_word_embeddings is true, but lm_head.weight differs"],
    ),
    "template that raises": (
        template(RAISING),
        ["chat_template.jinja: the chat template rejects the conversation: no user turns here"],
    ),
    "template that reaches out": (
        template(ROOT_REACHING),
        ["chat_template.jinja: the chat template accesses something forbidden", "__class__"],
    ),
    "template that never ends": (
        template("{% for i in range(10 ** 9) %}x{% endfor %}"),
        ["chat_template.jinja: the chat template fails", "Range too big"],
    ),
    "short context": (
        lambda folder: change_json(folder / "config.json", max_position_embeddings=60),
        ["test items exceed the model's context of 60 tokens", "with a longer context"],
    ),
    "vocabulary without a letter": (
        unwritable,
        ["this model can't use a candidate", "can't write 'Asunción'"],
    ),
}


@pytest.fixture
def folder(tmp_path):
    return chat_folder(tmp_path / "model")


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_can_not_be_used_is_refused_by_compare(programs, tmp_path, folder, case):
    spoil, phrases = FOLDERS[case]
    spoil(folder)
    line = refused(programs, "compare", f"--models={folder}", workdir=tmp_path / "compared")
    assert str(folder) in line
    for phrase in phrases:
        assert phrase in line


@pytest.mark.parametrize(
    "case", ["cut weights", "a number that is none", "template that reaches out", "short context"]
)
def test_the_main_job_refuses_it_too_and_names_the_field(programs, tmp_path, folder, case):
    spoil, phrases = FOLDERS[case]
    spoil(folder)
    cache = tmp_path / "cache"
    (cache / "programs").mkdir(parents=True)
    model = [f"--config.initial={folder}", "--config.label_teacher=pretrain"]
    line = refused(programs, "run", TINY, *model, workdir=tmp_path / "run", cache=cache)
    if case == "short context":
        assert "train items exceed the model's context of 60 tokens" in line
    else:
        assert line.startswith("error: config.initial: ")
        assert phrases[0] in line
    assert not (cache / "organisms").exists()  # no base is trained before


def test_a_truncated_gguf_file_is_refused(programs, tmp_path):
    file = gguf_model(tmp_path / "model.gguf")
    cut(file, 3000)
    line = refused(programs, "compare", f"--models={file}", workdir=tmp_path / "compared")
    assert f"{file} can't be read: it is truncated or damaged" in line


def test_a_file_that_is_no_model_is_refused(programs, tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04")
    line = refused(programs, "compare", f"--models={tmp_path}/weights.pt", workdir=tmp_path / "compared")
    assert "weights.pt is not a GGUF file" in line


def test_adapters_that_do_not_fit_are_refused(programs, tmp_path, folder):
    adapters = adapter_folder(tmp_path / "adapters", width=8)
    line = refused(programs, "compare", f"--models={folder}+{adapters}", workdir=tmp_path / "compared")
    assert f"{adapters} does not fit the model (6 tensors)" in line


def test_the_last_model_is_checked_before_the_first_is_asked(programs, tmp_path, folder):
    bad = chat_folder(tmp_path / "bad")
    cut(bad / "model.safetensors", -100)
    outcome = programs.run("compare", f"--models={folder},{bad}", f"--workdir={tmp_path / 'compared'}")
    assert outcome.code == 2
    assert "bad/model.safetensors can't be read" in outcome.stderr
    assert "probing" not in outcome.stdout


def test_runs_that_disagree_on_the_candidates_are_named_with_the_field(programs, tmp_path):
    section = {"name": "world_facts", "candidates": 4, "seed": 0}
    four = run_workdir(tmp_path / "four", {"task": section})
    three = run_workdir(tmp_path / "three", {"task": section | {"candidates": 3}})
    line = refused(programs, "compare", f"--models={four},{three}", workdir=tmp_path / "compared")
    assert f"{four} and {three} asked different items" in line
    assert line.endswith("config.task.candidates is 4 there and 3 here")


def test_two_candidates_that_a_tokenizer_writes_alike_are_refused(tmp_path):
    folder = model_folder(tmp_path, vocabulary(), "{{ messages[-1]['content'] }}<|im_end|>")
    tokenizer = read_hf_tokenizer(folder, ChatOptions())
    (item, *_) = tiny_task().splits["test"]
    check_candidates(tokenizer, [item])
    # One é is a letter, the other a letter and an accent: to a vocabulary that composes them they are one.
    alike = dataclasses.replace(item, candidates=("caf\u00e9", "cafe\u0301", "tea"), gold="tea", cued="tea")
    with pytest.raises(InputError, match=rf"item {item.id}: the model.s tokenizer writes the candidates"):
        check_candidates(tokenizer, [alike])


def test_a_generated_reply_has_to_fit_the_context_too(tmp_path):
    tokenizer = read_hf_tokenizer(chat_folder(tmp_path / "model"))
    task = tiny_task()
    task = dataclasses.replace(task, splits={"test": task.splits["test"]})
    scored = max(token_counter(task, tokenizer)(task.splits["test"]))
    replied = max(token_counter(task, tokenizer, 100)(task.splits["test"]))
    prompts = [
        len(tokenizer.encode_prompt(prompt))
        for item in task.splits["test"]
        for prompt in (item.prompt_with_cue, item.prompt_without_cue)
    ]
    assert replied == max(prompts) + 100 > scored
    console = Console(file=io.StringIO())
    assert within_context(task, tokenizer, scored, 0.0, console) == task
    assert within_context(task, tokenizer, replied, 0.0, console, 100) == task
    with pytest.raises(InputError, match=rf"context of {scored} tokens with a generated reply of 100"):
        within_context(task, tokenizer, scored, 0.0, console, 100)


def test_a_long_prompt_without_its_cue_counts(tmp_path):
    tokenizer = read_hf_tokenizer(chat_folder(tmp_path / "model"))
    task = tiny_task()
    item = task.splits["test"][0]
    longer = dataclasses.replace(item, prompt_without_cue=item.prompt_without_cue * 20)
    needed = token_counter(task, tokenizer)
    both, alone = needed([longer, item])
    assert both > 2 * alone


def test_models_of_two_workdirs_of_one_name_are_told_apart(tmp_path):
    runs = [run_workdir(tmp_path / place / "run") for place in ("here", "there")]
    stored = [one for run in runs for one in find_models(f"{run}:full:0")]
    assert len({one.name for one in stored}) == 1
    assert [*shown_names(stored).values()] == [f"{run}:full:0@4" for run in runs]
    assert [*shown_names(stored[:1] * 2).values()] == ["run:full:0@4"]
    assert isinstance(stored[0], StoredModel)
