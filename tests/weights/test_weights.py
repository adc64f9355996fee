"""Model folders: what is written comes back bit by bit, on any mesh and from any dtype, or is refused."""

import json
import pickle

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from row_files import refusal
from safetensors.numpy import load_file
from tiny import assert_placed, mesh_of, tiny_config
from weights_cases import (
    FAMILIES,
    SHARDED,
    assert_same_leaves,
    change_json,
    change_tensors,
    config_of,
    load,
    params_of,
    write_model,
)

from introspection.errors import InputError
from introspection.weights.export import export_model
from introspection.weights.folder import MODEL_FOLDER, kind_of
from introspection.weights.load import load_safetensors
from introspection.weights.safetensors_files import open_folder
from introspection.weights.tensor_names import named_leaves

QUERY = "model.layers.1.self_attn.q_proj.weight"


def refused(folder, *says) -> str:
    return refusal(load, folder, says=says)


@pytest.mark.parametrize("shard_bytes", [1 << 30, SHARDED], ids=["one_file", "shards"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_exported_comes_back_bit_by_bit(tmp_path, family, shard_bytes):
    folder = tmp_path / "model"
    config = write_model(folder, family, shard_bytes)
    assert kind_of(folder) == MODEL_FOLDER
    assert json.loads((folder / "config.json").read_text())["model_type"] == family
    loaded_config, params = load(folder)
    assert loaded_config == config
    assert_same_leaves(params, params_of(family))


def test_tensors_have_hugging_faces_names_and_layout(tmp_path):
    write_model(tmp_path / "llama")
    write_model(tmp_path / "gemma", "gemma3_text")
    write_model(tmp_path / "qwen", "qwen2")
    llama, gemma, qwen = (load_file(tmp_path / n / "model.safetensors") for n in ("llama", "gemma", "qwen"))
    layers = params_of("llama")["layers"]
    assert len(llama) == 3 + 2 * 9
    np.testing.assert_array_equal(llama[QUERY], layers["query"]["kernel"][1].T)
    np.testing.assert_array_equal(llama["lm_head.weight"], params_of("llama")["head"])
    np.testing.assert_array_equal(
        llama["model.layers.0.post_attention_layernorm.weight"], layers["mlp_norm"]["scale"][0]
    )
    assert "lm_head.weight" not in gemma
    gemma_layers = params_of("gemma3_text")["layers"]
    for stored, own in (
        ("post_attention_layernorm", "attention_post_norm"),
        ("pre_feedforward_layernorm", "mlp_norm"),
        ("post_feedforward_layernorm", "mlp_post_norm"),
        ("self_attn.k_norm", "key_norm"),
    ):
        np.testing.assert_array_equal(gemma[f"model.layers.1.{stored}.weight"], gemma_layers[own]["scale"][1])
    np.testing.assert_array_equal(
        qwen["model.layers.1.self_attn.v_proj.bias"], params_of("qwen2")["layers"]["value"]["bias"][1]
    )


def test_shards_are_small_and_indexed(tmp_path):
    write_model(tmp_path / "model", shard_bytes=SHARDED)
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    held = {file: load_file(tmp_path / "model" / file) for file in files}
    for file, tensors in held.items():
        assert {name for name, said in index["weight_map"].items() if said == file} == tensors.keys()
        assert sum(array.nbytes for array in tensors.values()) <= SHARDED
    total = sum(array.nbytes for tensors in held.values() for array in tensors.values())
    assert index["metadata"]["total_size"] == total


@pytest.mark.parametrize("sizes", [(4, 1, 1), (1, 4, 1), (1, 2, 2), (2, 2, 1)])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_on_a_mesh_each_device_gets_its_part_and_each_byte_is_read_once(tmp_path, family, sizes):
    config = write_model(tmp_path / "model", family, SHARDED)
    mesh, files = mesh_of(*sizes), open_folder(tmp_path / "model")
    params = load_safetensors(files, "model", config, mesh)
    assert_same_leaves(params, params_of(family))
    assert_placed(params, mesh)
    assert files.bytes_read == sum(leaf.nbytes for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
@pytest.mark.parametrize("stored", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_any_dtype_on_disk_gives_the_one_asked_for(tmp_path, stored, asked):
    write_model(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    change_tensors(file, **{name: array.astype(stored) for name, array in load_file(file).items()})
    _, params = load(tmp_path / "model", parameter_dtype=asked)
    expected = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            np.asarray(leaf).astype(stored).astype(jnp.float32 if path[-1].key == "scale" else asked)
        ),
        params_of("llama"),
    )
    assert_same_leaves(params, expected)


def test_bfloat16_parameters_come_back_bit_by_bit(tmp_path):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params_of("llama"))
    export_model(tmp_path / "model", config_of("llama"), params, {}, {})
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    _, loaded = load(tmp_path / "model", parameter_dtype="bfloat16")
    scales = {name for name in named_leaves(params) if name.endswith("scale")}
    for name, leaf in named_leaves(loaded).items():
        assert leaf.dtype == (jnp.float32 if name in scales else jnp.bfloat16)
        np.testing.assert_array_equal(
            np.asarray(leaf, np.float32), np.asarray(named_leaves(params)[name], np.float32)
        )


def test_an_unknown_dtype_is_refused(tmp_path):
    write_model(tmp_path / "model")
    with pytest.raises(InputError, match="'int8'; choose from float32, bfloat16"):
        load(tmp_path / "model", parameter_dtype="int8")


def test_tokenizer_files_and_token_ids_are_written_as_given(tmp_path):
    export_model(
        tmp_path / "model",
        config_of("llama"),
        params_of("llama"),
        {"tokenizer.json": b"{}"},
        {"eos_token_id": 2},
    )
    assert (tmp_path / "model" / "tokenizer.json").read_bytes() == b"{}"
    assert json.loads((tmp_path / "model" / "config.json").read_text())["eos_token_id"] == 2


def test_an_export_is_whole_or_not_there(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("introspection.weights.export.save_file", full)
        with pytest.raises(OSError, match="No space"):
            write_model(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    write_model(tmp_path / "model")
    with pytest.raises(InputError, match="is not empty: name another folder"):
        write_model(tmp_path / "model")
    load(tmp_path / "model")


def test_one_report_names_every_tensor_that_does_not_fit(tmp_path):
    write_model(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    change_tensors(
        file,
        **{
            QUERY: np.zeros((4, 4), np.float32),
            "model.norm.weight": None,
            "model.layers.0.mlp.experts.weight": np.zeros(3, np.float32),
            "model.layers.0.mlp.up_proj.weight": np.zeros((24, 16), np.int32),
        },
    )
    refused(
        tmp_path / "model",
        "(4 tensors)",
        f"{QUERY} is (4, 4) in the checkpoint and (32, 16) in the model",
        "model.norm.weight (16,) is missing in the checkpoint",
        "model.layers.0.mlp.experts.weight (3,) is not in the model",
        "model.layers.0.mlp.up_proj.weight in model.safetensors is I32",
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 2)])
def test_a_number_that_is_not_finite_is_refused_with_its_tensor(tmp_path, sizes, value):
    write_model(tmp_path / "model", shard_bytes=SHARDED)
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())["weight_map"]
    file = tmp_path / "model" / index[QUERY]
    spoiled = load_file(file)[QUERY].copy()
    spoiled[-1, -1] = value
    change_tensors(file, **{QUERY: spoiled})
    says = [f"{tmp_path / 'model'} has numbers that are not finite", f"in {QUERY};"]
    refusal(load, tmp_path / "model", mesh_of(*sizes), says=says)


def test_what_overflows_is_refused_and_a_long_list_is_cut(tmp_path):
    write_model(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors = {name: array.astype(np.float64) * 1e300 for name, array in load_file(file).items()}
    change_tensors(file, **tensors)
    line = refusal(load, tmp_path / "model")
    assert f" and {len(tensors) - 5} more;" in line


def test_old_rotary_buffers_are_harmless(tmp_path):
    write_model(tmp_path / "model")
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_tensors(tmp_path / "model" / "model.safetensors", **{name: np.zeros(4, np.float32)})
    assert_same_leaves(load(tmp_path / "model")[1], params_of("llama"))


def test_a_head_stored_beside_a_tied_one_must_be_the_embedding(tmp_path):
    write_model(tmp_path / "model", "qwen2")
    file = tmp_path / "model" / "model.safetensors"
    embedding = np.asarray(params_of("qwen2")["embedding"])
    change_tensors(file, **{"lm_head.weight": embedding})
    assert_same_leaves(load(tmp_path / "model")[1], params_of("qwen2"))
    changed = embedding.copy()
    changed[-1, -1] += 1
    change_tensors(file, **{"lm_head.weight": changed})
    refused(tmp_path / "model", "lm_head.weight differs from model.embed_tokens.weight")
    # What is misshapen is in the one report of all tensors.
    change_tensors(file, **{"model.embed_tokens.weight": embedding[:-1], "model.norm.weight": None})
    missing = "model.norm.weight (16,) is missing"
    refused(tmp_path / "model", "model.embed_tokens.weight is (", missing)


@pytest.mark.parametrize("keep", [0, 5, 100, 4000, -1], ids=lambda keep: f"{keep}_bytes")
def test_a_truncated_file_is_refused(tmp_path, keep):
    write_model(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refused(tmp_path / "model", f"{file} can't be read: the file is truncated")


def test_an_unreadable_header_is_refused(tmp_path):
    write_model(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:8] + b"x" * 32 + content[40:])
    refused(tmp_path / "model", f"{file} can't be read: ")


def sharded_index(folder):
    """A sharded model's index: its path, and its map from tensors to files."""
    write_model(folder, shard_bytes=SHARDED)
    index = folder / "model.safetensors.index.json"
    return index, json.loads(index.read_text())["weight_map"]


def test_an_index_that_names_a_missing_file_is_refused(tmp_path):
    index, weight_map = sharded_index(tmp_path / "model")
    (tmp_path / "model" / weight_map[QUERY]).unlink()
    first = next(name for name, file in weight_map.items() if file == weight_map[QUERY])
    refused(tmp_path / "model", f"{index} names {weight_map[QUERY]!r}, which is missing", first)


def test_a_wrong_index_is_refused_with_every_tensor(tmp_path):
    index, weight_map = sharded_index(tmp_path / "model")
    files = sorted(set(weight_map.values()))
    other = next(file for file in files if file != weight_map[QUERY])
    changed = {**weight_map, QUERY: other, "made.up": files[0]}
    del changed["model.norm.weight"]
    change_json(index, weight_map=changed)
    refused(
        tmp_path / "model",
        f"{index} is wrong (3 tensors)",
        f"{QUERY} should be in {other}, but is in {weight_map[QUERY]}",
        f"made.up should be in {files[0]}, but is in no file",
        f"model.norm.weight is in {weight_map['model.norm.weight']} but not in the index",
    )


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    _, weight_map = sharded_index(tmp_path / "model")
    folder, files = tmp_path / "model", sorted(set(weight_map.values()))
    other = next(file for file in files if file != weight_map[QUERY])
    change_tensors(folder / other, **{QUERY: load_file(folder / weight_map[QUERY])[QUERY]})
    assert f"{QUERY} is in two files" in refused(folder)


def test_a_tensor_twice_in_one_header_is_refused(tmp_path):
    """The library takes the last, and other programs the first."""
    write_model(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    content = file.read_bytes()
    header = content[8 : 8 + int.from_bytes(content[:8], "little")].rstrip()
    header = header[:-1] + b"," + json.dumps({QUERY: json.loads(header)[QUERY]}).encode()[1:]
    file.write_bytes(
        len(header).to_bytes(8, "little") + header + content[8 + int.from_bytes(content[:8], "little") :]
    )
    refused(tmp_path / "model", f"{file} has tensors twice: {QUERY}")


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ("{", "can't be read"),
        ("[]", "not a JSON object"),
        ("{}", "weight_map, from tensors to files, is missing"),
        ('{"weight_map": {"a": "../other/model.safetensors"}}', "not a file in its folder"),
        (
            '{"weight_map": {"a": "' + "x" * 4000 + '"}}',
            "which is missing; it should contain 1 tensors, a first",
        ),
        ('{"weight_map": {"a": "x\\u0000"}}', "is missing; it should contain 1 tensors, a first"),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path, content, phrase):
    index, _ = sharded_index(tmp_path / "model")
    index.write_text(content)
    refused(tmp_path / "model", str(index), phrase)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth"])
def test_pickled_weights_are_never_read(tmp_path, name):
    write_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    (tmp_path / "model" / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    refused(tmp_path / "model", f"only pickled weights ({name})", "save_pretrained")
    assert not (tmp_path / "sprung").exists()


def test_a_folder_says_what_it_lacks(tmp_path):
    def lacks(folder, message):
        with pytest.raises(InputError, match=message):
            kind_of(folder)

    folder = tmp_path / "model"
    lacks(folder, "does not exist")
    (tmp_path / "empty").mkdir()
    lacks(tmp_path / "empty", r"neither config\.json .* nor adapter_config\.json")
    write_model(folder)
    lacks(folder / "model.safetensors", "name the folder with this file")
    lacks(folder / "config.json", "is not a GGUF file")
    (folder / "model.safetensors").unlink()
    lacks(folder, r"has no weights: model\.safetensors or .*index\.json is missing")


def test_a_config_that_no_model_type_has_is_not_exported(tmp_path):
    config = tiny_config(qkv_bias=True, qk_norm=True)
    with pytest.raises(InputError, match="no model_type"):
        export_model(tmp_path / "model", config, params_of("llama"), {}, {})
    assert not (tmp_path / "model").exists()


def test_a_file_that_vanished_is_told_of(tmp_path):
    config = write_model(tmp_path / "model")
    files = open_folder(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="can't be read: the file does not exist"):
        load_safetensors(files, "model", config, mesh_of())
