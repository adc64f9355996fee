"""The bytes of data files, plain or compressed, with bounds on what a file may expand to.

A file is never believed to be what its name says: compression is told by the first bytes (gzip, bzip2, xz,
zstandard), and what is not a regular file (a pipe, a device) is not opened.

| bound | |
|---|---|
| a compressed file expands to | `EXPANSION` times its size, or `LEAST_BOUND` bytes if that is more |
| one line | `MOST_LINE` bytes |
| blank lines in a row | `MOST_BLANK` |
| a file that must be read whole | `MOST_WHOLE` bytes |
"""

import bz2
import contextlib
import gzip
import io
import itertools
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow

from introspection.errors import InputError
from introspection.runtime.files import check_file

EXPANSION = 100  # English text shrinks to a third or a tenth; repeated rows to a fiftieth
LEAST_BOUND = 2**24
MOST_LINE = 2**26
MOST_WHOLE = 2**28
MOST_BLANK = 100_000
BOM = b"\xef\xbb\xbf"
_CODECS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda path: pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"),
}
_OTHERS = {  # what a file of rows is not, by its first bytes
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
    b"PAR1": "is a parquet file; name it .parquet",
    b"PK\x03\x04": "is a zip archive; unpack it",
    b"\x00\x05\x16\x07": "is a Mac's companion of a file (._NAME), not the file; name NAME itself",
}


def most_bytes(path: Path) -> int:
    """What the contents of a compressed file may come to; more is a fault or an attack."""
    return max(LEAST_BOUND, EXPANSION * path.stat().st_size)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """A file's contents, decompressed.

    Raises:
      InputError: it can't be read, its compression is damaged, or it expands beyond its bound.
    """
    check_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(8)
        codec = next((codec for magic, codec in _CODECS.items() if start.startswith(magic)), None)
        if codec is None:
            with path.open("rb") as file:
                yield file
        else:
            with codec(path) as stream, io.BufferedReader(_Expanded(stream, path), 2**18) as file:
                yield file
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error


class _Expanded(io.RawIOBase):
    """A decompressed stream that stops at its file's bound."""

    def __init__(self, stream: Any, path: Path):
        self.stream, self.path, self.left = stream, path, most_bytes(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.stream.read(len(buffer))
        except (OSError, EOFError, zlib.error, lzma.LZMAError, pyarrow.ArrowException) as error:
            why = " ".join(str(error).split())
            if "too much memory" in why:  # a long window, as in archives of Reddit
                raise InputError(
                    f"{self.path}: unpacking it takes more memory than is allowed here: unpack it yourself, "
                    "such as by zstd -d --long=31"
                ) from error
            raise InputError(f"{self.path}: the compressed file is damaged ({why})") from error
        self.left -= len(data)
        if self.left < 0:
            raise InputError(
                f"{self.path}: expands to more than {most_bytes(self.path):,} bytes, over {EXPANSION} times "
                "its size; unpack it if it is what you expect"
            )
        buffer[: len(data)] = data
        return len(data)


def read_bytes(path: Path) -> bytes:
    """A whole file's contents, decompressed.

    Raises:
      InputError: as `opened`; it is no text, or larger than `MOST_WHOLE`.
    """
    with opened(path) as file:
        data = file.read(MOST_WHOLE + 1)
    _refuse_others(path, data)
    if len(data) > MOST_WHOLE:
        raise InputError(
            f"{path}: is larger than {MOST_WHOLE:,} bytes, the most that is read whole; save it as JSON lines"
        )
    return data


def byte_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers, decompressed, without a byte-order mark; in constant memory.

    Raises:
      InputError: as `opened`; it is no text, or a line or a stretch of blank lines is too long.
    """
    blank = 0
    with opened(path) as file:
        for number in itertools.count(1):
            line = file.readline(MOST_LINE + 1)
            if number == 1:
                _refuse_others(path, line)
                line = line.removeprefix(BOM)
            if not line and number > 1:
                return
            if len(line) > MOST_LINE:
                raise InputError(f"{path}: line {number} is longer than {MOST_LINE:,} bytes; is it text?")
            blank = blank + 1 if line.isspace() else 0
            if blank > MOST_BLANK:
                raise InputError(f"{path}: line {number} ends {MOST_BLANK:,} blank lines; is it text?")
            yield number, line


def decode_text(data: bytes, place: str, first_line: int = 1) -> str:
    """Text without its byte-order mark. Raises InputError, which names line and byte, if it is not UTF-8."""
    data = data.removeprefix(BOM)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + first_line
        byte = error.start - data.rfind(b"\n", 0, error.start)
        raise InputError(
            f"{place}: line {line}, byte {byte}: {data[error.start : error.start + 1]!r} is not UTF-8 (is the"
            " file Latin-1?); save it as UTF-8"
        ) from error


def _refuse_others(path: Path, start: bytes) -> None:
    for magic, what in _OTHERS.items():
        if start.startswith(magic):
            raise InputError(f"{path}: {what}")
