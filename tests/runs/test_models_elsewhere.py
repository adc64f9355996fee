"""External models by name: what a name means, what is read of it and how often."""

import json
import shutil

import chat_templates
import jax
import pytest
from elsewhere import (
    LORA,
    adapter_folder,
    chat_config,
    chat_folder,
    found,
    gguf_model,
    run_workdir,
    vocabulary,
    with_adapters,
)
from programs import NO_REPORT, read_json, read_lines
from row_files import refusal
from small_tokenizers import byte_level, model_folder
from tiny import assert_placed, mesh_of, tiny_variables
from weights_cases import assert_same_leaves, change_json, change_tensors

from introspection.checkpoints.names import (
    StoredModel,
    check_loadable,
    context_length,
    find_models,
    load_model,
    load_one,
    model_fingerprint,
    model_path,
    tokenizer_of,
)
from introspection.errors import InputError
from introspection.runs.models import check_vocabularies
from introspection.tasks.registry import default_section, load_task
from introspection.text.chat_template import ChatOptions
from introspection.text.tokenizer import same_reading
from introspection.weights import pretrained
from introspection.weights.pretrained import is_pretrained
from introspection.weights.smollm2 import smollm2_path

QUERY = "model.layers.1.self_attn.q_proj.weight"


def refused(name) -> str:
    return refusal(find_models, str(name))


def test_a_path_names_a_folder_or_a_file_and_adapters_on_either(tmp_path):
    folder, file = chat_folder(tmp_path / "base"), gguf_model(tmp_path / "model.gguf")
    adapters = adapter_folder(tmp_path / "adapters", folder)
    assert (found(folder).path, found(folder).adapters) == (folder, None)
    assert (found(file).path, found(file).adapters) == (file, None)
    for name in (f"{folder}+{adapters}", f"{file}+{adapters}"):
        assert f"{found(name).path}+{found(name).adapters}" == name


def test_adapters_alone_are_on_the_base_that_they_name(tmp_path):
    folder = chat_folder(tmp_path / "base")
    adapters = adapter_folder(tmp_path / "adapters", folder)
    assert (found(adapters).path, found(adapters).adapters) == (folder, adapters)
    whole = load_one(f"{folder}+{adapters}", mesh_of())
    assert model_fingerprint(load_one(str(adapters), mesh_of())) == model_fingerprint(whole)


@pytest.mark.parametrize("base", ["somebody/a-model", None])
def test_adapters_whose_base_is_not_here_ask_for_it(tmp_path, base):
    adapters = adapter_folder(tmp_path / "adapters", base)
    assert f"the adapters' base {base!r} is not a path here; give BASE+{adapters}" in refused(adapters)


def test_what_can_not_be_put_together_is_refused(tmp_path):
    folder, run = chat_folder(tmp_path / "base"), run_workdir(tmp_path / "run")
    adapters = adapter_folder(tmp_path / "adapters", folder)
    nested = adapter_folder(tmp_path / "nested", adapters)
    assert f"{folder} is not a folder of adapters" in refused(f"{folder}+{folder}")
    assert "is a folder of adapters; give BASE+ADAPTERS" in refused(f"{adapters}+{adapters}")
    assert "is a folder of adapters itself" in refused(nested)
    assert f"{run} is a run's workdir" in refused(f"{run}+{adapters}")
    assert f"{tmp_path / 'none'} does not exist" in refused(f"{folder}+{tmp_path / 'none'}")


def test_a_plus_may_be_in_a_path(tmp_path):
    folder = chat_folder(tmp_path / "math+code")
    assert found(folder).path == folder
    adapters = adapter_folder(tmp_path / "ad+apters", folder)
    both = found(f"{folder}+{adapters}")
    assert (both.path, both.adapters) == (folder, adapters)
    run = run_workdir(tmp_path / "a+b")
    assert all(one.workdir == run for one in find_models(f"{run}:lora:0"))


def test_a_workdir_is_told_from_a_model_folder(tmp_path):
    run = run_workdir(tmp_path / "run", {"task": {}})
    assert not is_pretrained(str(run))
    assert all(isinstance(one, StoredModel) for one in find_models(str(run)))
    # One whose run was stopped before its first checkpoint has a config.json alone.
    shutil.rmtree(run / "checkpoints")
    assert "neither a workdir with checkpoints" in refused(run)
    # A trainer's output folder may have a folder of that name beside the model.
    folder = chat_folder(tmp_path / "model")
    (folder / "checkpoints").mkdir()
    assert found(folder).path == folder


def test_what_is_no_model_says_what_it_lacks(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "is neither a workdir with checkpoints nor a model; give" in refused(tmp_path / "empty")
    assert "(it does not exist)" in refused(tmp_path / "nothing")
    folder = chat_folder(tmp_path / "model")
    (folder / "config.json").rename(folder / "config.json.old")
    assert "has neither config.json" in refused(folder)
    (folder / "config.json.old").rename(folder / "config.json")
    (folder / "model.safetensors").unlink()
    assert "has no weights: model.safetensors or model.safetensors.index.json is missing" in refused(folder)


def test_a_model_is_loaded_as_it_was_written(tmp_path):
    folder = chat_folder(tmp_path / "base", seed=3)
    model = load_one(str(folder), mesh_of())
    assert model.config == chat_config()
    assert_same_leaves(model.variables["params"], tiny_variables(chat_config(), 3)["params"])
    tokenizer = tokenizer_of(found(folder))
    assert tokenizer.encode_prompt("Why?") == model.tokenizer.encode_prompt("Why?")
    assert context_length(found(folder)) == chat_config().context_length


def test_adapters_are_placed_on_the_mesh_of_their_base(tmp_path):
    mesh = mesh_of(1, 2, 2)
    model = load_one(with_adapters(tmp_path), mesh)
    assert model.config.lora == LORA
    expected = tiny_variables(chat_config(lora=LORA))
    assert_same_leaves(model.variables["lora"], expected["lora"])
    assert_placed(model.variables, mesh)


def test_adapters_of_one_base_share_it(tmp_path):
    """Eight adapters take the memory of one base and their own; another base takes its place."""
    run, other = run_workdir(tmp_path / "run", seeds=tuple(range(8))), run_workdir(tmp_path / "other")
    held = {}
    models = [load_model(one, mesh_of(), held) for one in find_models(f"{run}:lora")]
    assert len(models) == 8
    bases = {id(leaf) for model in models for leaf in jax.tree.leaves(model.variables["params"])}
    assert len(bases) == len(jax.tree.leaves(models[0].variables["params"]))
    for seed in (0, 7):
        alone = load_one(f"{run}:lora:{seed}", mesh_of())
        assert_same_leaves(models[seed].variables, alone.variables)
    load_model(find_models(f"{other}:lora:0")[0], mesh_of(), held)
    assert [path.parent.parent for path in held] == [other]


def test_a_gguf_file_is_opened_once(tmp_path, monkeypatch):
    opened, real = [], pretrained.GGUFFile
    monkeypatch.setattr(pretrained, "GGUFFile", lambda path: opened.append(path) or real(path))
    path = gguf_model(tmp_path / "model.gguf")
    one = found(path)
    check_loadable(one)
    assert context_length(one) == 512
    model = load_model(one, mesh_of())
    assert model.tokenizer.encode_reply("Oslo") == tokenizer_of(one).encode_reply("Oslo")
    assert opened == [path]


def test_what_does_not_fit_is_known_before_a_number_is_read(tmp_path):
    folder, file = chat_folder(tmp_path / "base"), gguf_model(tmp_path / "a.gguf")
    adapters = adapter_folder(tmp_path / "adapters", folder)
    for name in (folder, file, adapters):
        check_loadable(found(name))
    narrow = adapter_folder(tmp_path / "narrow", folder, width=8)
    with pytest.raises(InputError, match=r"narrow does not fit the model \(6 tensors\)"):
        check_loadable(found(narrow))
    change_tensors(folder / "model.safetensors", **{QUERY: None})
    with pytest.raises(InputError, match=rf"{QUERY} \(32, 16\) is missing"):
        check_loadable(found(folder))
    gguf_model(file, tensors={"blk.0.ffn_up.weight": None})
    with pytest.raises(InputError, match=r"blk.0.ffn_up.weight .* is missing"):
        check_loadable(found(file))


def test_the_short_name_of_a_fetched_model_is_its_path(tmp_path):
    advice = "is missing; run python -m experiments.fetch --model=smollm2"
    for name in ("smollm2", "smollm2+adapters"):
        with pytest.raises(InputError, match=advice):
            model_path(name, tmp_path)
    path = smollm2_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    assert model_path("smollm2", tmp_path) == str(path)
    assert model_path("smollm2+adapters", tmp_path) == f"{path}+adapters"
    assert model_path("runs/smollm2:kl", tmp_path) == "runs/smollm2:kl"


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    (tmp_path / "smollm2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert model_path("smollm2", tmp_path) == "smollm2"


def test_two_templates_on_the_same_numbers_read_differently(tmp_path):
    plain = load_one(str(chat_folder(tmp_path / "plain")), mesh_of())
    again = load_one(str(tmp_path / "plain"), mesh_of())
    thinking = load_one(str(tmp_path / "plain"), mesh_of(), ChatOptions(system="Think."))
    assert model_fingerprint(plain) == model_fingerprint(thinking)
    assert same_reading(plain.tokenizer, again.tokenizer)
    assert not same_reading(plain.tokenizer, thinking.tokenizer)


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json"])
def test_adapters_are_addressed_as_their_own_folder_says(tmp_path, file):
    folder, base_file = chat_folder(tmp_path / "base"), gguf_model(tmp_path / "model.gguf")
    adapters = adapter_folder(tmp_path / "adapters", folder)
    for base in (folder, base_file):
        assert same_reading(tokenizer_of(found(f"{base}+{adapters}")), tokenizer_of(found(base)))
    template = "{{ messages[-1]['content'] }}<|im_end|>"
    content = template if file.endswith("jinja") else json.dumps({"chat_template": template})
    (adapters / file).write_text(content)
    for base in (folder, base_file):
        assert tokenizer_of(found(f"{base}+{adapters}")).frame.after == "<|im_end|>"
    (told,) = find_models(f"{folder}+{adapters}", ChatOptions(template="{{ messages[-1]['content'] }}!"))
    assert tokenizer_of(told).frame.after == "!"
    broken = "{{ raise_exception('no') }}"
    (adapters / file).write_text(broken if file.endswith("jinja") else json.dumps({"chat_template": broken}))
    with pytest.raises(InputError, match=f"{adapters}, which has a chat template of its own: "):
        tokenizer_of(found(f"{folder}+{adapters}"))


def test_a_template_that_names_tokens_of_another_base_is_refused(tmp_path):
    folder = chat_folder(tmp_path / "base")
    adapters = adapter_folder(tmp_path / "adapters", folder)
    fields = {"chat_template": "{{ messages[-1]['content'] }}{{ eos_token }}"}
    known, missing = ({"7": {"content": text}} for text in ("<|im_end|>", "<|my_turn|>"))
    path = adapters / "tokenizer_config.json"
    for more in ({}, {"eos_token": "<|im_end|>", "added_tokens_decoder": known}):
        path.write_text(json.dumps(fields | more))
        assert tokenizer_of(found(f"{folder}+{adapters}")).frame.after == "<|im_end|>"
    path.write_text(json.dumps(fields | {"eos_token": {"content": "<|endoftext|>"}}))
    with pytest.raises(
        InputError, match=r"its eos_token is '<\|endoftext\|>', but that of its base is '<\|im_end"
    ):
        tokenizer_of(found(f"{folder}+{adapters}"))
    path.write_text(json.dumps(fields | {"added_tokens_decoder": missing}))
    with pytest.raises(InputError, match=r"it declares the token '<\|my_turn\|>', which its base's"):
        tokenizer_of(found(f"{folder}+{adapters}"))


def test_adapters_with_a_tokenizer_of_their_own_are_read_with_it(tmp_path):
    """As users of PEFT do; transformers 5 saves it without added_tokens_decoder."""
    size = vocabulary().get_vocab_size()
    base_file, rows = gguf_model(tmp_path / "model.gguf"), {"vocab_size": size + 2}
    folder = chat_folder(tmp_path / "base", **rows)
    adapters = adapter_folder(tmp_path / "adapters", folder, **rows)
    own = byte_level()
    own.add_special_tokens(["<|ask|>", "<|say|>"])
    template = "{% for m in messages %}<|ask|>{{ m.content }}<|im_end|>{% endfor %}<|say|>"
    model_folder(adapters, own, template, eos_token="<|im_end|>", extra_special_tokens=["<|ask|>", "<|say|>"])
    tokenizer = tokenizer_of(found(f"{folder}+{adapters}"))
    end, text_end = (vocabulary().token_to_id(text) for text in ("<|im_end|>", "<|endoftext|>"))
    # The ids that tokenizers gives this text, and the base's end of a generation.
    assert tokenizer.encode_prompt("user") == [size, own.token_to_id("user"), end, size + 1]
    assert (tokenizer.end_id, tokenizer.stop_ids) == (end, (text_end,))
    assert tokenizer_of(found(f"{base_file}+{adapters}")).encode_prompt("user")[0] == size
    change_json(folder / "config.json", vocab_size=size + 1)
    with pytest.raises(InputError, match=rf"has {size + 1} rows, and none for '<\|say\|>'"):
        tokenizer_of(found(f"{folder}+{adapters}"))
    change_json(folder / "config.json", vocab_size=size + 2)
    (adapters / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    base = tokenizer_of(found(folder))
    assert tokenizer_of(found(f"{folder}+{adapters}")).encode_prompt("Hi") == base.encode_prompt("Hi")
    stored = json.loads((folder / "tokenizer.json").read_text())
    stored["added_tokens"][-1]["content"] = "<|say|>"
    (folder / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=rf"'<\|say\|>' has id {size + 1} here but {size - 1} in {folder}"):
        tokenizer_of(found(f"{folder}+{adapters}"))


def test_a_tokenizer_saved_by_a_run_has_the_format_of_its_source(tmp_path):
    source = load_one(str(chat_folder(tmp_path / "base")), mesh_of())
    source.tokenizer.save(tmp_path / "tokenizer.json")
    saved = tokenizer_of(StoredModel(tmp_path, "kl", 0, 0))
    check_vocabularies({"initial": source.tokenizer, "kl_reference": saved})


@pytest.mark.slow
def test_compare_takes_paths_and_shows_each_model_once(programs, tmp_path):
    folder, file = chat_folder(tmp_path / "base"), gguf_model(tmp_path / "model.gguf")
    adapted = f"{folder}+{adapter_folder(tmp_path / 'adapters', folder)}"
    merged = chat_folder(tmp_path / "copy")  # the same numbers in another place
    other = chat_folder(tmp_path / "other", template=chat_templates.SMOLLM2)  # and otherwise addressed
    names = [str(folder), adapted, str(file), str(other)]
    names += [str(tmp_path / "adapters"), str(merged), str(folder)]
    workdir = tmp_path / "compared"
    outcome = programs.run_well(
        "compare", f"--models={','.join(names)}", f"--workdir={workdir}", "--limit=2", patch=NO_REPORT
    )
    matrix = read_json(workdir / "matrix.json")
    assert matrix["emitters"] == matrix["teachers"] == names[:4]
    assert matrix["n"] == 2
    for again, first in ((names[4], adapted), (names[5], names[0])):
        assert f"{again} is the same model as {first}: shown once" in outcome.stdout
    for name in names[:4]:
        assert matrix["fingerprints"][name] == model_fingerprint(load_one(name, mesh_of()))
    assert read_json(workdir / "config.json")["behavior"]["readout"] == "generate"
    lines = read_lines(workdir / "compared.jsonl")
    assert [line["model"] for line in lines] == [name for name in names[:4] for _ in range(2)]


@pytest.mark.slow
def test_compare_asks_a_users_own_questions_and_addresses_models_as_told(programs, tmp_path):
    folder, template = chat_folder(tmp_path / "base"), chat_templates.SMOLLM2
    other = chat_folder(tmp_path / "other", template=template)  # differs in its system line alone
    flags = ["--task=jsonl", "--data=sample", "--set=test_items=5", f"--chat=template={template}"]
    workdir = tmp_path / "compared"
    flags += [f"--models={folder},{other}", f"--workdir={workdir}"]
    outcome = programs.run_well("compare", *flags, patch=NO_REPORT)
    assert f"{other} is the same model as {folder}: shown once" in outcome.stdout
    section = default_section("jsonl") | {"data": "sample", "test_items": 5}
    task, _ = load_task(section, programs.cache)
    lines = read_lines(workdir / "compared.jsonl")
    assert [line["id"] for line in lines] == [item.id for item in task.splits["test"]]
    assert len(lines) == 5
    config = read_json(workdir / "config.json")
    assert (config["task"], config["chat"]["template"]) == (section, template)
