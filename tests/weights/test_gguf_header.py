"""GGUF headers: what the package reads, split files, and claims that a file can't hold."""

import struct

import gguf
import numpy as np
import pytest
from elsewhere import vocabulary
from gguf_cases import config_of, fields_of, metadata_of, params_of, tensors_of, write_gguf
from row_files import refusal
from tiny import mesh_of
from weights_cases import assert_same_leaves

from introspection.weights.gguf import GGUFFile
from introspection.weights.gguf_header import read_header
from introspection.weights.load import load_gguf_tensors

NORM, EMBEDDING = "output_norm.weight", "token_embd.weight"


@pytest.mark.parametrize("quantized", [False, True])
def test_a_header_is_what_the_package_reads(tmp_path, quantized):
    file = tmp_path / "model.gguf"
    write_gguf(file, quantized=quantized, tokenizer=fields_of(vocabulary()))
    header, reader = read_header(file), gguf.GGUFReader(file)
    own = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert header.fields == own
    assert list(header.tensors) == [tensor.name for tensor in reader.tensors]
    for tensor in reader.tensors:
        found = header.tensors[tensor.name]
        assert found.shape == tuple(map(int, tensor.shape[::-1]))
        place = (tensor.tensor_type, tensor.data_offset, tensor.n_bytes)
        assert (found.kind, found.start, found.size) == place


def write_parts(path, most=5):
    """A model in parts, as the package splits it; `path` is their common stem."""
    config = config_of("llama")
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=most)
    for name, value in metadata_of("llama", config).items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(f"llama.{name}", value)
    for name, array in tensors_of("llama", config, params_of("llama")).items():
        writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(path.parent.glob(f"{path.stem}-*.gguf"))


def test_any_part_of_a_split_model_is_the_whole_model(tmp_path):
    parts = write_parts(tmp_path / "model.gguf")
    assert [part.name for part in parts][:2] == ["model-00001-of-00005.gguf", "model-00002-of-00005.gguf"]
    for part in (parts[0], parts[-1]):
        file = GGUFFile(part)
        assert file.config == config_of("llama")
        assert_same_leaves(load_gguf_tensors(file, mesh_of()), params_of("llama"))


def test_parts_that_do_not_make_one_model_are_refused(tmp_path):
    parts = write_parts(tmp_path / "model.gguf")
    second = parts[1].read_bytes()
    parts[1].unlink()
    refusal(read_header, parts[0], says=[f"{parts[0]} is one of 5 parts", f"{parts[1].name} are missing"])
    parts[1].write_bytes(parts[2].read_bytes())
    refusal(read_header, parts[0], says=[f"{parts[1]}: split.no and split.count are [2, 5], not 1 and 5"])
    parts[1].write_bytes(second)
    alone = parts[0].rename(tmp_path / "renamed.gguf")
    refusal(read_header, alone, says=["renamed.gguf is one of 5 parts", "gguf-split --merge"])


def patched(path, after: bytes, skip: int, form: str, value) -> str:
    """Overwrites the number that stands `skip` bytes after a text of the header; the refusal."""
    content = bytearray(path.read_bytes())
    at = content.index(after) + len(after) + skip
    struct.pack_into(form, content, at, value)
    path.write_bytes(content)
    return refusal(read_header, path, says=[f"{path} can't be read: it is truncated or damaged"])


@pytest.mark.parametrize("count", [10**9, 2**60, 2**63, 2**64 - 1])
@pytest.mark.parametrize(
    ("after", "skip"),
    [
        (b"GGUF", 4),  # number of tensors
        (b"GGUF", 12),  # of metadata
        (b"general.architecture", 4),  # length of a text
        (b"tokenizer.ggml.tokens", 8),  # of an array of texts
        (b"tokenizer.ggml.token_type", 8),  # of an array of numbers
        (b"tokenizer.ggml.tokens", 16),  # length of its first text
        (b"token_embd.weight", 4),  # a dimension
        (b"token_embd.weight", 24),  # a place
    ],
)
def test_a_count_is_held_against_the_file(tmp_path, after, skip, count):
    file = tmp_path / "model.gguf"
    write_gguf(file, tokenizer=fields_of(vocabulary()))
    patched(file, after, skip, "<Q", count)


@pytest.mark.parametrize(
    ("after", "skip", "form", "value", "says"),
    [
        (NORM.encode(), 0, "<I", 5, "output_norm.weight has 5 dimensions"),
        (NORM.encode(), 4, "<Q", 0, "has the shape (0,)"),
        (NORM.encode(), 12, "<I", 99, "of the type 99, which is unknown"),
        (NORM.encode(), 12, "<I", gguf.GGMLQuantizationType.Q4_K, "which Q4_K can't have"),
        (NORM.encode(), 16, "<Q", 8, "output_norm.weight is at 8, which is not a multiple of 32"),
        (EMBEDDING.encode(), 24, "<Q", 32, "overlap"),
        (b"general.architecture", 0, "<I", 77, "there is no type 77"),
        (b"GGUF", 0, "<I", 1, "version 1 is not supported"),
        (b"GGUF", 0, "<I", 3 << 24, "version 50331648 of a big-endian machine"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, after, skip, form, value, says):
    file = tmp_path / "model.gguf"
    write_gguf(file)
    assert says in patched(file, after, skip, form, value)


def test_a_model_of_more_layers_than_the_file_has_is_refused_at_once(tmp_path):
    for architecture in ("llama", "gemma3"):
        write_gguf(tmp_path / "a.gguf", architecture, metadata={"block_count": 10**9})
        refusal(GGUFFile, tmp_path / "a.gguf", says=[".block_count is 1000000000, but there are 2 layers"])


def test_a_number_that_is_not_finite_is_refused_with_its_tensor(tmp_path):
    spoiled = {NORM: np.full(32, np.nan, np.float32)}
    write_gguf(tmp_path / "a.gguf", tensors=spoiled)
    refusal(load_gguf_tensors, GGUFFile(tmp_path / "a.gguf"), mesh_of(), says=["not finite", NORM])
