"""The tensors of a safetensors file, or of the shards in an index, read by slice."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  gives numpy bfloat16, the dtype of BF16 tensors
import numpy as np
from safetensors import SafetensorError, safe_open

from introspection.errors import InputError, brief, listed
from introspection.weights.folder import WEIGHTS, WEIGHTS_INDEX, exists, read_json_object

# In a model with vision, of which only the text model is read: prefixes of its tensors, in the layouts of
# transformers before and since 4.52, and of all others.
_TEXT = {
    "language_model.model.": "model.",
    "model.language_model.": "model.",
    "language_model.lm_head.": "lm_head.",
}
_VISION = (
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
)
READABLE_DTYPES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}  # bytes per number


class SafetensorsFiles:
    """Names, shapes and slices of stored tensors, which are read only on access."""

    def __init__(self, files: Iterable[Path]):
        """Reads the headers of `files`.

        Raises:
          InputError: a file is missing, truncated or has no readable header, or two have the same tensor.
        """
        self.bytes_read = 0  # of tensors, to show that a process reads only its part
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self.file_of: dict[str, Path] = {}
        self.stored_as: dict[str, str] = {}  # names in the files, where they differ
        for file in files:
            try:
                with safe_open(file, framework="numpy") as opened:
                    _refuse_twice(file)
                    headers = [(name, opened.get_slice(name)) for name in opened.keys()]  # noqa: SIM118
                    for name, header in headers:
                        if name in self.file_of:
                            raise InputError(f"{name} is in two files, {self.file_of[name]} and {file}")
                        self.shapes[name] = tuple(header.get_shape())
                        self.dtypes[name] = header.get_dtype()
                        self.file_of[name] = file
            except (SafetensorError, OSError) as error:
                raise _unreadable(file, error) from error

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """A slice of a tensor, in the dtype on disk. Raises InputError if the file can no longer be read."""
        # Reopened each time: the mapped pages of an open file count as this process's memory, and would add
        # up to the whole checkpoint.
        try:
            with safe_open(self.file_of[name], framework="numpy") as opened:
                part = opened.get_slice(self.stored_as.get(name, name))[index]
        except (SafetensorError, OSError) as error:
            raise _unreadable(self.file_of[name], error, name) from error
        self.bytes_read += part.nbytes
        return part

    def unreadable(self, names: Iterable[str]) -> list[str]:
        """One phrase for each tensor of an unreadable dtype."""
        return [
            f"{name} in {self.file_of[name].name} is {self.dtypes[name]}, "
            f"readable are {', '.join(READABLE_DTYPES)}"
            for name in names
            if name in self.dtypes and self.dtypes[name] not in READABLE_DTYPES
        ]

    def take_text_model(self) -> None:
        """Of a model with vision, leaves only the text model's tensors, named as in one without."""
        if not any(name.startswith(tuple(_TEXT)) for name in self.shapes):
            return
        for name in list(self.shapes):
            prefix = next((prefix for prefix in _TEXT if name.startswith(prefix)), "")
            own = _TEXT[prefix] + name.removeprefix(prefix) if prefix else name
            if own != name and own in self.shapes:
                raise InputError(f"{own} is stored twice, also as {name}")
            shape, dtype, file = self.shapes.pop(name), self.dtypes.pop(name), self.file_of.pop(name)
            if name.startswith(_VISION):
                continue
            self.shapes[own], self.dtypes[own], self.file_of[own] = shape, dtype, file
            self.stored_as[own] = name


def open_folder(folder: Path) -> SafetensorsFiles:
    """The tensors of a model folder: of its single file, else of its index's shards.

    Raises:
      InputError: as `SafetensorsFiles`; or the index is wrong (the message names files and tensors).
    """
    if (folder / WEIGHTS).is_file() or not (folder / WEIGHTS_INDEX).is_file():
        files = SafetensorsFiles([folder / WEIGHTS])
    else:
        files = _open_shards(folder / WEIGHTS_INDEX)
    files.take_text_model()
    return files


def _open_shards(index: Path) -> SafetensorsFiles:
    folder = index.parent
    said = read_json_object(index).get("weight_map")
    if not isinstance(said, dict) or not said or not all(isinstance(file, str) for file in said.values()):
        raise InputError(f"{index}: weight_map, from tensors to files, is missing")
    names = sorted(set(said.values()))
    for name in names:
        if Path(name).name != name:
            raise InputError(f"{index} names {brief(name)}, which is not a file in its folder")
        if not exists(folder / name) or not (folder / name).is_file():
            tensors = [tensor for tensor, file in said.items() if file == name]
            raise InputError(
                f"{index} names {brief(name)}, which is missing; it should contain {len(tensors)} "
                f"tensors, {listed(tensors[:1])} first"
            )
    files = SafetensorsFiles(folder / name for name in names)
    problems = []
    for tensor in sorted(said.keys() | files.file_of.keys()):
        real = files.file_of[tensor].name if tensor in files.file_of else None
        if tensor not in said:
            problems.append(f"{tensor} is in {real} but not in the index")
        elif real is None:
            problems.append(f"{tensor} should be in {said[tensor]}, but is in no file")
        elif real != said[tensor]:
            problems.append(f"{tensor} should be in {said[tensor]}, but is in {real}")
    if problems:
        raise InputError(f"{index} is wrong ({len(problems)} tensors): {listed(problems, '; ')}")
    return files


def _refuse_twice(file: Path) -> None:
    """Raises InputError if a header that the library has read names a tensor twice: it takes the last."""
    names: list[str] = []

    def keep_names(pairs: list[tuple[str, Any]]) -> None:
        names[:] = [name for name, _ in pairs]  # the outermost object comes last

    with file.open("rb") as opened:
        json.loads(opened.read(int.from_bytes(opened.read(8), "little")), object_pairs_hook=keep_names)
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise InputError(f"{file} has tensors twice: {listed(twice)}; save the model again")


def _unreadable(file: Path, error: Exception, tensor: str | None = None) -> InputError:
    where = f"{file}: {tensor}" if tensor else f"{file}"
    if not file.is_file():
        return InputError(f"{where} can't be read: the file does not exist")
    reason = " ".join(str(error).split())
    if "not fully covered" in reason or "header too small" in reason or "invalid header length" in reason:
        reason = f"the file is truncated or not a safetensors file ({reason})"
    return InputError(f"{where} can't be read: {reason}; copy or download it again")
