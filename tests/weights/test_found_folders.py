"""Folders as users have them: the Hugging Face cache, and models with vision."""

import json
from pathlib import Path

import numpy as np
import pytest
from elsewhere import adapter_folder, chat_folder
from row_files import refusal
from safetensors.numpy import load_file, save_file
from weights_cases import assert_same_leaves, change_json, config_of, load, params_of, write_model

from introspection.checkpoints.names import find_models
from introspection.weights.folder import kind_of, snapshot_of
from introspection.weights.hf_config import model_config
from introspection.weights.pretrained import _is_called, find_pretrained, has_vision

VISION = "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight"


def cached(folder, *revisions):
    """A model in the layout of the cache: snapshots of links to blobs."""
    root = folder / "models--acme--tiny"
    for number, revision in enumerate(revisions):
        write_model(root / "snapshots" / revision, "llama", layers=1 + number)
        for file in (root / "snapshots" / revision).iterdir():
            blob = root / "blobs" / f"{revision}-{file.name}"
            blob.parent.mkdir(exist_ok=True)
            file.rename(blob)
            file.symlink_to(f"../../blobs/{blob.name}")
    return root


@pytest.mark.parametrize("below", ["", "snapshots"])
def test_the_only_snapshot_of_a_cached_model_is_read_and_said(tmp_path, below):
    root = cached(tmp_path, "abc123")
    (found,) = find_models(str(root / below))
    assert found.path == root / "snapshots" / "abc123"
    assert found.notes == [f"{root / below} is read as its snapshot abc123"]
    assert_same_leaves(load(found.path)[1], params_of("llama", layers=1))


def test_of_several_snapshots_main_is_read(tmp_path):
    root = cached(tmp_path, "one", "two", "three")
    refusal(
        find_models, str(root), says=[f"{root} has 3 snapshots", "refs/main names none", "one, three, two"]
    )
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("two\n")
    assert snapshot_of(root) == root / "snapshots" / "two"
    (root / "refs" / "main").write_text("../../elsewhere")
    refusal(find_models, str(root), says=["3 snapshots"])
    assert find_models(str(root / "snapshots" / "one"))[0].path.name == "one"


def test_a_cache_of_one_model_is_it_and_of_several_they_are_named(tmp_path):
    cached = tmp_path / "hub" / "models--acme--tiny" / "snapshots" / "abc"
    write_model(cached, "llama")
    assert snapshot_of(tmp_path / "hub") == cached
    (tmp_path / "hub" / "models--acme--other").mkdir()
    refusal(
        snapshot_of,
        tmp_path / "hub",
        says=["hub is a cache of 2 models; give", "models--acme--other, models--acme--tiny"],
    )


def test_a_snapshot_without_its_blobs_is_refused(tmp_path):
    cached = tmp_path / "models--acme--tiny" / "snapshots" / "abc"
    write_model(cached, "llama")
    (cached / "model.safetensors").unlink()
    (cached / "model.safetensors").symlink_to("../../blobs/missing")
    refusal(
        snapshot_of,
        tmp_path / "models--acme--tiny",
        says=["model.safetensors is a link to", "which is missing"],
    )


@pytest.mark.parametrize(("file", "says"), [
    ("model.safetensors.gz", "is missing; model.safetensors.gz is not read: unpack or rename it"),
    ("consolidated.safetensors", "is missing; consolidated.safetensors is not read"),
])  # fmt: skip
def test_weights_under_another_name_are_named(tmp_path, file, says):
    write_model(tmp_path, "llama")
    (tmp_path / "model.safetensors").rename(tmp_path / file)
    refusal(kind_of, tmp_path, says=[says])


def test_a_folder_of_gguf_files_is_told_to_name_one(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    refusal(kind_of, tmp_path, says=["is a folder of GGUF files; name the file", "a.gguf"])


def test_adapters_of_another_base_are_said(tmp_path):
    base = chat_folder(tmp_path / "models--acme--tiny" / "snapshots" / "abc")
    for told, notes in (("acme/Tiny", 0), (str(base), 0), (None, 0), ("acme/other", 1), ("acme/tin", 1)):
        adapters = adapter_folder(tmp_path / str(told).replace("/", "-"), told)
        found = [one for one in find_pretrained(f"{base}+{adapters}").notes if "was made for the base" in one]
        assert len(found) == notes


def test_a_cache_copied_without_its_links_is_refused(tmp_path):
    root = cached(tmp_path, "abc123")
    config = root / "snapshots" / "abc123" / "config.json"
    target = config.readlink()
    config.unlink()
    config.write_text(str(target))
    for name in (root, config.parent):
        refusal(
            find_models,
            str(name),
            says=[
                f"{config} contains the path",
                "copied without its links",
                "cp -rL",
                "acme/tiny --local-dir",
            ],
        )


def test_a_cache_copied_without_its_files_is_refused(tmp_path):
    root = cached(tmp_path, "abc123")
    weights = root / "snapshots" / "abc123" / "model.safetensors"
    weights.resolve().unlink()
    for name in (root, weights.parent):
        refusal(
            find_models,
            str(name),
            says=[f"{weights} is a link to ../../blobs/", "which is missing", "acme/tiny --local-dir"],
        )
    for file in weights.parent.iterdir():
        file.unlink()
    refusal(find_models, str(root), says=[f"{weights.parent} is empty"])


def with_vision(folder, prefix="language_model.model."):
    """A Gemma 3's folder as one with vision is published."""
    write_model(folder, "gemma3_text")
    file = folder / "model.safetensors"
    tensors = {name.replace("model.", prefix, 1): array for name, array in load_file(file).items()}
    save_file({**tensors, VISION: np.zeros((4, 4), np.float32)}, file)
    own = json.loads((folder / "config.json").read_text())
    whole = {"model_type": "gemma3", "text_config": own, "vision_config": {}, "image_token_index": 262144}
    (folder / "config.json").write_text(json.dumps(whole))
    return own


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_of_a_model_with_vision_the_text_model_is_read(tmp_path, prefix):
    own = with_vision(tmp_path / "model", prefix)
    assert has_vision(tmp_path / "model")
    config, params = load(tmp_path / "model")
    assert config == config_of("gemma3_text")
    assert_same_leaves(params, params_of("gemma3_text"))
    assert "read as its text model alone" in find_models(str(tmp_path / "model"))[0].notes[0]
    (tmp_path / "model" / "config.json").write_text(json.dumps(own))  # with its text_config put in place
    assert not has_vision(tmp_path / "model")
    assert_same_leaves(load(tmp_path / "model")[1], params_of("gemma3_text"))


def test_options_beside_a_text_config_are_not_ignored(tmp_path):
    with_vision(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    whole = json.loads(config.read_text())
    for changes, says in (
        ({"quantization_config": {"bits": 4}}, "quantization_config={'bits': 4} is not supported"),
        ({"unusual": 1}, "unknown key 'unusual'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False, but True in text_config; keep one"),
        ({"text_config": 3}, "needs a text_config, not 3"),
    ):
        config.write_text(json.dumps(whole))
        change_json(config, **changes)
        refusal(load, tmp_path / "model", says=[says])


def test_a_list_of_hundreds_of_tensors_is_one_short_line(tmp_path):
    write_model(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    save_file({f"other.{name}": array for name, array in load_file(file).items()}, file)
    line = refusal(load, tmp_path / "model", says=["(42 tensors)", "and 37 more"])
    assert len(line) < 1000


def test_the_published_gemma_3_4b_has_its_publishers_size():
    """Of google/gemma-3-4b-it: 4,300,079,472 parameters, of which 3,880,263,168 are the text model's."""
    text = {
        **{"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240},
        **{"num_hidden_layers": 34, "sliding_window": 1024},
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    }
    fields = {
        **{"architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999},
        **{"eoi_token_index": 256000, "eos_token_id": [1, 106], "image_token_index": 262144},
        **{"initializer_range": 0.02, "mm_tokens_per_image": 256, "model_type": "gemma3"},
        **{"text_config": text, "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0"},
        "vision_config": {"model_type": "siglip_vision_model", "num_hidden_layers": 27},
    }
    config = model_config(fields, "config.json")
    mlp, head = 3 * config.width * config.mlp_width, config.head_dim
    attention = 2 * config.width * head * (config.query_heads + config.kv_heads)
    layer = mlp + attention + 4 * config.width + 2 * head
    assert config.vocab_size * config.width + config.layers * layer + config.width == 3_880_263_168
    assert (config.window, config.context_length, config.tied_head) == (1024, 131_072, True)


@pytest.mark.parametrize(
    ("file", "told", "same"),
    [
        ("Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B", False),
        ("Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct", False),
        ("models--meta-llama--Llama-3.1-8B", "meta-llama/Llama-3.1-8B", True),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "HuggingFaceTB/SmolLM2-135M-Instruct", True),
        ("llama-3.1-8b-bf16", "meta-llama/Llama-3.1-8B", True),
        ("Qwen3-18B", "Qwen/8B", False),
    ],
)
def test_a_base_is_named_by_all_of_its_name(file, told, same):
    assert _is_called(Path("/models") / file, told) == same


def test_what_would_change_a_greedy_reply_elsewhere_is_said(tmp_path):
    base = chat_folder(tmp_path / "model")
    assert not [one for one in find_pretrained(str(base)).notes if "greedy" in one]
    (base / "generation_config.json").write_text('{"repetition_penalty": 1.05, "no_repeat_ngram_size": 0}')
    (note,) = [one for one in find_pretrained(str(base)).notes if "greedy" in one]
    assert note.endswith("without its generation_config.json's repetition_penalty=1.05")
