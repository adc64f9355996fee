"""Damaged and lying model files, made from real small ones: each is read or refused in one line.

Nothing else is raised, and no file takes more than 20 seconds or 1 GB, however much it claims to have. A
failure prints the example and how to run it again.
"""

import functools
import json
import resource
import shutil

import pytest
from elsewhere import vocabulary
from gguf_cases import fields_of, write_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import mesh_of
from weights_cases import SHARDED, write_model

from introspection.errors import InputError
from introspection.text.gguf_tokenizer import read_gguf_tokenizer
from introspection.weights.gguf import GGUFFile
from introspection.weights.load import load_folder, load_gguf_tensors

FAMILIES = ("llama", "qwen2", "gemma3_text")
ARCHITECTURES = ("llama", "gemma3")
COUNTS = (0, 1, 2, 3, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**60, 2**62, 2**63, 2**64 - 1)
VALUES = st.one_of(
    st.sampled_from([None, True, False, "", "x" * 5000, "\ud800", [], {}, [[]], {"rope_type": "llama3"}]),
    st.sampled_from([*COUNTS, -1, 10**9, 10**400, 0.5, -0.0, 1e308, 5e-324, float("inf"), float("nan")]),
    st.lists(st.sampled_from(["sliding_attention", "full_attention", 7, None]), max_size=3),
)
budget = functools.partial(
    settings, deadline=20_000, suppress_health_check=list(HealthCheck), print_blob=True
)
GIGABYTE = 1 << 20  # in KiB, as the peak memory is


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A folder of models to damage: of each family in one file and in shards, and GGUF files."""
    folder = tmp_path_factory.mktemp("originals")
    for family in FAMILIES:
        write_model(folder / family, family)
        write_model(folder / f"{family}_shards", family, SHARDED)
    for architecture in ARCHITECTURES:
        write_gguf(folder / f"{architecture}.gguf", architecture, tokenizer=fields_of(vocabulary()))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@st.composite
def damaged(draw, content: bytes, first: int) -> bytes:
    """Bytes with a few places of the first ones overwritten, taken out or put in, and perhaps cut."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, min(first, len(changed))))
        size, count = draw(st.sampled_from([1, 4, 8])), draw(st.sampled_from(COUNTS))
        put = (count % 2 ** (8 * size)).to_bytes(size, "little")
        match draw(st.sampled_from(["overwrite", "overwrite", "insert", "remove"])):
            case "overwrite":
                changed[at : at + size] = put
            case "insert":
                changed[at:at] = put
            case "remove":
                del changed[at : at + size]
    keep = draw(st.one_of(st.just(len(changed)), st.integers(0, len(changed))))
    return bytes(changed[:keep])


@st.composite
def lying(draw, value, depth=0):
    """A JSON value with one or two places in it replaced, removed or renamed."""
    if isinstance(value, dict) and value and (depth == 0 or draw(st.booleans())):
        changed = dict(value)
        for _ in range(draw(st.integers(1, 2))):
            key = draw(st.sampled_from(sorted(changed)))
            match draw(st.sampled_from(["change", "change", "change", "remove", "rename"])):
                case "change":
                    changed[key] = draw(lying(changed[key], depth + 1))
                case "remove" if len(changed) > 1:
                    del changed[key]
                case _:
                    changed[draw(st.sampled_from(["unknown", "", "../x", "x" * 4000]))] = changed[key]
        return changed
    return draw(VALUES)


def read_or_refused(read) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = ""
    try:
        read()
    except InputError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 4000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GIGABYTE


def check_folder_of(data, originals, folder) -> None:
    folder = folder / "model"
    shutil.rmtree(folder, ignore_errors=True)
    family, shards = data.draw(st.sampled_from(FAMILIES)), data.draw(st.sampled_from(["", "_shards"]))
    shutil.copytree(originals / f"{family}{shards}", folder)
    file = data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    content = (folder / file).read_bytes()
    if file.endswith(".json") and data.draw(st.booleans()):
        changed = json.dumps(data.draw(lying(json.loads(content)))).encode()
    else:
        changed = data.draw(damaged(content, 2000))
    (folder / file).write_bytes(changed)
    read_or_refused(lambda: load_folder(folder, mesh_of()))


def check_gguf(data, originals, folder) -> None:
    file = folder / "model.gguf"
    content = (originals / f"{data.draw(st.sampled_from(ARCHITECTURES))}.gguf").read_bytes()
    file.write_bytes(data.draw(damaged(content, 24_000)))

    def read():
        opened = GGUFFile(file)
        load_gguf_tensors(opened, mesh_of())
        read_gguf_tokenizer(opened.fields)

    read_or_refused(read)


@pytest.mark.parametrize("check", [check_folder_of, check_gguf])
@budget(max_examples=25)
@given(data=st.data())
def test_a_damaged_model_is_read_or_refused(check, data, originals, place):
    check(data, originals, place)


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_folder_of, check_gguf])
@budget(max_examples=1500)
@given(data=st.data())
def test_many_damaged_models_are_read_or_refused(check, data, originals, place):
    check(data, originals, place)
