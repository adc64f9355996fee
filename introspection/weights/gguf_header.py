"""The header of a GGUF file, or of all parts of a split one. No count is believed that the file can't hold.

The package `gguf` reads as many entries as a file claims to have, and neither bounds nor compares the places
of tensors, so the header is read here (layout: docs/gguf.md of ggml). Its tables of types are the package's.
"""

import dataclasses
import mmap
import re
import struct
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from introspection.errors import InputError, brief, listed

_MAGIC, _VERSIONS, _ALIGNMENT = b"GGUF", (2, 3), 32
_MOST_ENTRIES = 4_000_000  # of all metadata and arrays together; a vocabulary of 262,144 has about a million
_MOST_DIMENSIONS = 4
_MOST_NAME = 1024  # bytes of a key or of a tensor's name
_FORMATS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}
_SPLIT_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
_SPLIT_COUNT, _SPLIT_NUMBER, _SPLIT_TENSORS = "split.count", "split.no", "split.tensors.count"


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """Where a tensor's bytes are."""

    file: Path
    shape: tuple[int, ...]  # the fastest dimension last
    kind: GGMLQuantizationType
    start: int  # bytes from the start of the file
    size: int  # bytes

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape in bytes: quantised blocks lie along the last dimension."""
        *rows, last = self.shape
        block, block_bytes = GGML_QUANT_SIZES[self.kind]
        return (*rows, last // block * block_bytes)


@dataclasses.dataclass(frozen=True)
class Header:
    """Metadata as plain values, and the tensors by name."""

    fields: dict[str, Any]
    tensors: dict[str, StoredTensor]


def read_header(path: Path) -> Header:
    """The header of a file; of a split model, given any of its parts, that of all parts together.

    Raises:
      InputError: a file is truncated or not GGUF, or claims what it can't hold; a part is missing, of another
        model, or not named as llama.cpp names parts.
    """
    header = _read_file(path)
    count = header.fields.get(_SPLIT_COUNT, 1)
    if count in (0, 1):
        return header
    named = _SPLIT_NAME.fullmatch(path.name)
    if not isinstance(count, int) or named is None or int(named["count"]) != count:
        raise InputError(
            f"{path} is one of {brief(count)} parts, which must be named …-00001-of-0000N.gguf and so on: "
            "give the parts their names again, or merge them with llama-gguf-split --merge"
        )
    paths = [path.with_name(f"{named['stem']}-{part:05}-of-{count:05}.gguf") for part in range(1, count + 1)]
    if missing := [part.name for part in paths if not part.is_file()]:
        raise InputError(f"{path} is one of {count} parts, of which {listed(missing)} are missing beside it")
    parts = [header if part == path else _read_file(part) for part in paths]
    tensors: dict[str, StoredTensor] = {}
    for number, (own, part) in enumerate(zip(paths, parts, strict=True)):
        said = [part.fields.get(key) for key in (_SPLIT_NUMBER, _SPLIT_COUNT)]
        if said != [number, count]:
            raise InputError(
                f"{own}: split.no and split.count are {brief(said)}, not {number} and {count}: it is a part "
                "of another model"
            )
        if twice := sorted(part.tensors.keys() & tensors.keys()):
            raise InputError(f"{own}: {listed(twice)} are in another part too")
        tensors |= part.tensors
    if len(tensors) != parts[0].fields.get(_SPLIT_TENSORS, len(tensors)):
        raise InputError(
            f"{path}: its {count} parts have {len(tensors)} tensors, but {_SPLIT_TENSORS} is "
            f"{brief(parts[0].fields[_SPLIT_TENSORS])}"
        )
    return Header(parts[0].fields, tensors)


def _read_file(path: Path) -> Header:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Walk(data, path).header()
    except (OSError, ValueError) as error:  # among them a text that is not UTF-8
        raise InputError(f"{path} can't be read: it is truncated or damaged ({error})") from error


class _Walk:
    """One pass over a header. Whatever is read is first checked to lie in the file; raises ValueError."""

    def __init__(self, data: mmap.mmap, path: Path):
        self.data, self.path, self.at = data, path, 0
        self.entries = 0

    def header(self) -> Header:
        if self._bytes(4) != _MAGIC:
            raise ValueError("it does not start with GGUF")
        version = self._number(GGUFValueType.UINT32)
        if version not in _VERSIONS:
            big = " of a big-endian machine" if version & 0xFFFF == 0 else ""
            raise ValueError(f"version {version}{big} is not supported; convert the model again")
        tensors, keys = self._number(GGUFValueType.UINT64), self._number(GGUFValueType.UINT64)
        self._claim("metadata", keys, 13)
        fields: dict[str, Any] = {}
        for _ in range(keys):
            key = self._name()
            if key in fields:
                raise ValueError(f"the key {key!r} is there twice")
            fields[key] = self._value(self._kind(key), key)
        self._claim("tensors", tensors, 32)
        places = {}
        for _ in range(tensors):
            name, place = self._tensor()
            if name in places:
                raise ValueError(f"the tensor {name!r} is there twice")
            places[name] = place
        return Header(fields, self._placed(places, fields.get("general.alignment", _ALIGNMENT)))

    def _bytes(self, count: int) -> bytes:
        self._room(count, "bytes")
        self.at += count
        return self.data[self.at - count : self.at]

    def _room(self, size: int, what: str) -> None:
        if size > len(self.data) - self.at:
            raise ValueError(f"{what}: {size} bytes from {self.at} on, of {len(self.data)} in the file")

    def _claim(self, what: str, count: int, least: int) -> None:
        """Checks that `count` entries of at least `least` bytes can follow."""
        self._room(count * least, f"{count} {what}")
        self.entries += count
        if self.entries > _MOST_ENTRIES:
            raise ValueError(f"more than {_MOST_ENTRIES} entries of metadata")

    def _number(self, kind: GGUFValueType) -> Any:
        return struct.unpack(f"<{_FORMATS[kind]}", self._bytes(struct.calcsize(_FORMATS[kind])))[0]

    def _text(self, most: int | None = None) -> str:
        length = self._number(GGUFValueType.UINT64)
        if most is not None and length > most:
            raise ValueError(f"a name of {length} bytes")
        return self._bytes(length).decode("utf-8")

    def _name(self) -> str:
        return self._text(_MOST_NAME)

    def _kind(self, key: str) -> GGUFValueType:
        number = self._number(GGUFValueType.UINT32)
        try:
            return GGUFValueType(number)
        except ValueError:
            raise ValueError(f"{key}: there is no type {number}") from None

    def _value(self, kind: GGUFValueType, key: str) -> Any:
        if kind == GGUFValueType.STRING:
            return self._text()
        if kind != GGUFValueType.ARRAY:
            return self._number(kind)
        inner, count = self._kind(key), self._number(GGUFValueType.UINT64)
        if inner == GGUFValueType.ARRAY:
            raise ValueError(f"{key}: an array of arrays is not supported")
        if inner == GGUFValueType.STRING:
            self._claim(f"entries of {key}", count, 8)
            return [self._text() for _ in range(count)]
        size = struct.calcsize(_FORMATS[inner])
        self._claim(f"entries of {key}", count, size)
        return list(struct.unpack(f"<{count}{_FORMATS[inner]}", self._bytes(count * size)))

    def _tensor(self) -> tuple[str, tuple[tuple[int, ...], GGMLQuantizationType, int]]:
        """A tensor's name, and its shape, kind and place after the header."""
        name, dimensions = self._name(), self._number(GGUFValueType.UINT32)
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise ValueError(f"{name} has {dimensions} dimensions")
        shape = tuple(self._number(GGUFValueType.UINT64) for _ in range(dimensions))[::-1]
        number = self._number(GGUFValueType.UINT32)
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            raise ValueError(f"{name} is of the type {number}, which is unknown") from None
        return name, (shape, kind, self._number(GGUFValueType.UINT64))

    def _placed(
        self, places: dict[str, tuple[tuple[int, ...], GGMLQuantizationType, int]], alignment: Any
    ) -> dict[str, StoredTensor]:
        """The tensors, each aligned, within the file and apart from the others."""
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"general.alignment is {brief(alignment)}, not a power of two")
        begin = -(-self.at // alignment) * alignment
        placed: dict[str, StoredTensor] = {}
        for name, (shape, kind, offset) in places.items():
            block, block_bytes = GGML_QUANT_SIZES[kind]
            size = block_bytes
            for length in shape:
                size *= length
            if min(shape) < 1 or shape[-1] % block:
                raise ValueError(f"{name} has the shape {shape}, which {kind.name} can't have")
            size //= block
            if offset % alignment:
                raise ValueError(f"{name} is at {offset}, which is not a multiple of {alignment}")
            if begin + offset + size > len(self.data):
                raise ValueError(
                    f"{name}: {size} bytes from {begin + offset} on, of {len(self.data)} in the file"
                )
            placed[name] = StoredTensor(self.path, shape, kind, begin + offset, size)
        end, before = 0, ""
        for name, tensor in sorted(placed.items(), key=lambda entry: entry[1].start):
            if tensor.start < end:
                raise ValueError(f"{name} and {before} overlap")
            end, before = tensor.start + tensor.size, name
        return placed
