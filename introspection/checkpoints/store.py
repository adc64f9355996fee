"""The Orbax store: a folder of steps, saved asynchronously and atomically, and verified when read.

All of the project's use of Orbax is here, and uses its v1 API.
"""

import errno
import logging
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp

from introspection.checkpoints.fingerprint import fingerprint_tree
from introspection.errors import InputError, RunError, listed
from introspection.runtime.processes import any_process, first, together
from introspection.weights.tensor_names import leaf_shapes, shape_problems

_UNFINISHED = "*.orbax-checkpoint-tmp"


def is_step(name: str) -> bool:
    """Whether a folder's name is a step as Orbax writes it; `²` and `٣` are digits, too."""
    return re.fullmatch("0|[1-9][0-9]{0,14}", name) is not None


class CorruptCheckpointError(RunError):
    """A stored step differs from what was saved, or can't be read."""


class CheckpointStore:
    """Steps of a training state: `trainable`, `optimizer` and JSON `metadata`, each separately loadable."""

    def __init__(self, directory: Path, keep: int = 0, *, read_only: bool = False):
        """Keeps the `keep` newest steps and step 0; 0 keeps all. A reader changes nothing: a run may write.

        Raises:
          InputError: there are no checkpoints to read.
        """
        # Orbax logs progress as absl warnings, and tracebacks beside the exceptions that it raises; the
        # exceptions are enough for the user.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", "coroutine 'PyTreeHandler", RuntimeWarning)  # of failed loads
        self.directory = directory.absolute()
        if read_only and not self.directory.is_dir():
            raise InputError(f"{self.directory}: no checkpoints found")
        if not read_only:
            first(self._make)
        policies = ocp.training.preservation_policies
        checkpointer: Any = ocp.training.Checkpointer  # its stubs do not allow pathlib
        self._checkpointer = checkpointer(
            self.directory,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(keep), policies.CustomSteps([0])]
            )
            if keep
            else policies.PreserveAll(),
        )

    def _make(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        # Of an interrupted process; Orbax ignores but never deletes them.
        for leftover in self.directory.glob(_UNFINISHED):
            shutil.rmtree(leftover, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def steps(self) -> list[int]:
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    def save(self, step: int, trainable, optimizer, metadata: dict[str, Any]) -> None:
        """Starts saving a step in the background; `optimizer` is None if training will not resume from it.

        Raises:
          RunError: this or the previous save failed (such as a full disk); earlier steps stay.
        """
        metadata = {**metadata, "step": step, "content": fingerprint_tree(trainable)}
        checkpointables = {"trainable": trainable, "metadata": metadata}
        if optimizer is not None:
            checkpointables["optimizer"] = optimizer
            metadata["optimizer_content"] = fingerprint_tree(optimizer)
        try:
            self._checkpointer.save_checkpointables_async(step, checkpointables, overwrite=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise self._save_error(f"step {step}", error) from error

    def wait(self) -> None:
        """Returns when every save is on disk. Raises RunError as `save`."""
        try:
            self._checkpointer.wait()
        except (OSError, ValueError, RuntimeError) as error:
            raise self._save_error("the last step", error) from error

    def close(self) -> None:
        try:
            self._checkpointer.close()
        except (OSError, ValueError, RuntimeError) as error:
            raise self._save_error("the last step", error) from error

    def metadata(self, step: int) -> dict[str, Any]:
        together(lambda: self._check_step(step))
        return self._load(step, {"metadata": None})["metadata"]

    def restore(self, step: int, trainable, optimizer=None) -> tuple[Any, Any]:
        """`(trainable, optimizer)` of a step, placed like the abstract trees; `optimizer` may be None.

        Raises:
          InputError: no such step, or the checkpoint is of another model (the message names every parameter
            that differs).
          CorruptCheckpointError: the files are damaged.
        """
        wanted = {"trainable": trainable, "metadata": None}
        if optimizer is not None:
            wanted["optimizer"] = optimizer
        together(lambda: self._check_shapes(step, trainable))
        loaded = self._load(step, wanted)
        # Orbax reads changed bytes and missing chunks without an error, so compare with what was saved.
        for name, key in (("trainable", "content"), ("optimizer", "optimizer_content")):
            # Perhaps one process alone: it would fall back to another step, and leave the others waiting.
            if name in loaded and any_process(fingerprint_tree(loaded[name]) != loaded["metadata"].get(key)):
                raise CorruptCheckpointError(
                    f"{self.directory / str(step)}: the numbers read differ from those saved ({name})"
                )
        return loaded["trainable"], loaded.get("optimizer")

    def delete(self, step: int) -> None:
        first(lambda: shutil.rmtree(self.directory / str(step), ignore_errors=True))
        self._checkpointer.reload()

    def _check_step(self, step: int) -> None:
        if step not in self.steps():
            self._checkpointer.reload()  # another process may have seen it earlier on shared storage
        if step not in self.steps():
            has = listed(self.steps(), most=20) or "none"
            raise InputError(f"{self.directory}: no checkpoint at step {step}; the steps are: {has}")

    def _check_shapes(self, step: int, trainable) -> None:
        self._check_step(step)
        try:
            stored = self._checkpointer.checkpointables_metadata(step).metadata["trainable"]
        except Exception as error:  # Orbax raises many kinds for a damaged folder
            raise self._corrupt(step, error) from error
        if stored is None:
            raise CorruptCheckpointError(f"{self.directory / str(step)}: contains no parameters")
        problems = shape_problems(leaf_shapes(stored), leaf_shapes(trainable))
        if problems:
            raise InputError(
                f"{self.directory / str(step)} does not fit the model ({len(problems)} parameters): "
                + listed(problems, "; ")
            )

    def _load(self, step: int, wanted):
        def load() -> Any:
            try:
                return self._checkpointer.load_checkpointables(step, wanted)
            except Exception as error:  # Orbax and TensorStore raise many kinds for damaged files
                raise self._corrupt(step, error) from error

        return together(load)  # each process reads its own parts, and perhaps only one of them a damaged file

    def _corrupt(self, step: int, error: Exception) -> CorruptCheckpointError:
        return CorruptCheckpointError(f"{self.directory / str(step)}: damaged ({_first_line(error)[:200]})")

    def _save_error(self, what: str, error: Exception) -> RunError:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        # The reason comes last in TensorStore's long line.
        why = "the disk is full" if full else _first_line(error)[-200:]
        return RunError(f"{self.directory}: could not save {what}: {why}; earlier steps are kept")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
