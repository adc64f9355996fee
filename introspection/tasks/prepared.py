"""Data sets that a TFDS builder prepares once and that are then read one record at a time.

A task's builder (`TaskBuilder`) turns the publishers' files into flat rows in splits. `load_prepared` builds
the data set in a temporary folder and moves it into place, named by a digest of its inputs: a changed file or
setting gives another data set. `LazyItems` turns rows into items on access.
"""

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import operator
import os
import tempfile
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, SupportsIndex

import tensorflow_datasets as tfds
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
from tensorflow_datasets.proto import tf_example_pb2

from introspection.errors import RunError
from introspection.runtime.digests import file_digest
from introspection.tasks.sequences import Row

_ATTEMPTS = 3  # to prepare: another process may replace the data set just before it is read
# TFDS writes each record as its own group. A reader's index takes 8 bytes per group; for 10 M groups, loading
# it takes four times that memory, and seconds. In groups of 64, reading a record costs microseconds more.
GROUP = "group_size:64"
_RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER = 32_768  # bytes of a reader's file buffer
DIGESTS = "digests.json"  # of all other files of a data set, by name: what is damaged is made anew


class _LocalInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Skips TFDS's lookup of a published copy, which leaves a temporary folder behind each time."""


class TaskBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder of a task's rows, in the file format that needs no TensorFlow.

    A subclass defines its version, texts, features (flat: text, numbers, lists of them) and `splits`.
    """

    DESCRIPTION: ClassVar[str]
    CITATION: ClassVar[str]
    LICENSE: ClassVar[str]
    FEATURES: ClassVar[Mapping[str, tfds.features.FeatureConnector]]

    def __init__(self, data_dir: Path, files: Sequence[Path], settings: Any):
        self.files = tuple(files)  # the inputs
        self.settings = settings  # a frozen dataclass: everything else that determines the rows
        super().__init__(data_dir=data_dir, file_format="array_record")

    def splits(self) -> tuple[Mapping[str, Iterable[Row]], Mapping[str, Any]]:
        """The rows of every split, and extra fields for `metadata.json`.

        Raises:
          InputError: the files are unusable.
        """
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(dict(self.FEATURES)),
            citation=self.CITATION,
            license=self.LICENSE,
            disable_shuffling=True,  # the splits are already in drawn order
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        splits, about = self.splits()
        metadata = self.info.metadata
        assert metadata is not None  # set in `_info`
        metadata.update(
            source_digest=digest_of(self.files),
            settings=dataclasses.asdict(self.settings),
            **about,
        )
        return {split: self._generate_examples(rows) for split, rows in splits.items()}

    def _generate_examples(self, rows: Iterable[Row]) -> Iterator[tuple[int, Row]]:
        yield from enumerate(rows)


@dataclasses.dataclass(frozen=True)
class PreparedRows(Sequence[Row]):
    """The rows of one split, each read on access and not cached. Thread-safe."""

    shards: tuple[Path, ...]
    lengths: tuple[int, ...]  # rows of each shard
    lists: frozenset[str]  # columns with several values
    _readers: dict[int, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    _lock: Any = dataclasses.field(default_factory=threading.Lock, compare=False, repr=False)

    @property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(self.lengths))

    def __len__(self) -> int:
        return sum(self.lengths)

    def __getitem__(self, index: SupportsIndex) -> Row:
        number = range(len(self))[operator.index(index)]  # handles negative indices; raises IndexError
        shard = bisect_right(self._ends, number)
        position = number - sum(self.lengths[:shard])
        with self._lock:  # a reader has a single file position
            try:
                reader = self._reader(shard)
                reader.seek(position)
                record = reader.read()
            except (ValueError, RuntimeError, IndexError) as error:
                raise RunError(
                    f"{self.shards[shard]}: record {position} can't be read ({error}); delete the folder"
                ) from error
        return self._row(record)

    def check(self) -> None:
        """Opens every shard; raises any kind of exception if one is damaged."""
        for shard, length in enumerate(self.lengths):
            if self._reader(shard).num_records() != length:
                raise ValueError(f"{self.shards[shard]} does not have {length} records")

    def _reader(self, shard: int) -> Any:
        if shard not in self._readers:
            self._readers[shard] = array_record_module.ArrayRecordReader(
                str(self.shards[shard]), options=_RANDOM_ACCESS, file_reader_buffer_size=_BUFFER
            )
        return self._readers[shard]

    def _row(self, record: bytes) -> Row:
        """Decodes like TFDS, except text to str; ten times as fast, since it skips TFDS's arrays."""
        row = {}
        example = tf_example_pb2.Example.FromString(record)  # pyright: ignore[reportAttributeAccessIssue]
        for name, feature in example.features.feature.items():
            values = list(getattr(feature, feature.WhichOneof("kind")).value)
            values = [value.decode() if isinstance(value, bytes) else value for value in values]
            row[name] = values if name in self.lists else values[0]
        return row


@dataclasses.dataclass(frozen=True)
class Prepared:
    folder: Path
    splits: dict[str, PreparedRows]
    metadata: dict[str, Any]  # contents of metadata.json


def load_prepared(
    builder: type[TaskBuilder], files: Sequence[Path], settings: Any, data_dir: Path
) -> Prepared:
    """The data set that `builder` makes of these files and settings; prepared if missing or damaged.

    Several processes may call this at the same time.

    Raises:
      InputError: a file can't be read, or the builder can't use it.
      RunError: the data set can't be prepared.
    """
    made_from = json.dumps([digest_of(files), dataclasses.asdict(settings)], sort_keys=True)
    digest = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    folder = data_dir / builder.name / digest / str(builder.VERSION)
    found = _read(folder)
    for _ in range(_ATTEMPTS):
        if isinstance(found, Prepared):
            return found
        try:
            _prepare(builder, files, settings, data_dir, folder)
        except OSError as error:
            raise RunError(f"{folder}: the data set {builder.name} can't be prepared: {error}") from error
        found = _read(folder)
    if isinstance(found, Prepared):
        return found
    raise RunError(
        f"{folder}: the data set {builder.name} is still unusable after {_ATTEMPTS} attempts: {found!r}"
    ) from found


def digest_of(files: Sequence[Path]) -> str:
    """16 hex digits of the names and contents of files. Raises InputError if a file can't be read."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {file_digest(path)}\n".encode())
    return digest.hexdigest()[:16]


def _read(folder: Path) -> Prepared | Exception:
    """The data set in a folder, or the exception that reading it raised."""
    try:
        for name, digest in json.loads((folder / DIGESTS).read_text(encoding="utf-8")).items():
            if file_digest(folder / name) != digest:
                raise ValueError(f"{folder / name} was changed or is damaged")
        builder = tfds.builder_from_directory(folder)
        features: Any = builder.info.features
        lists = frozenset(name for name, feature in features.items() if feature.shape != ())
        splits = {
            name: PreparedRows(
                tuple(Path(path) for path in split.filepaths), tuple(split.shard_lengths), lists
            )
            for name, split in builder.info.splits.items()
        }
        for rows in splits.values():
            rows.check()
        return Prepared(folder, splits, json.loads((folder / "metadata.json").read_text(encoding="utf-8")))
    except Exception as error:  # a partial data set can fail anywhere: JSON, splits, the record reader
        return error


def _prepare(
    builder: type[TaskBuilder], files: Sequence[Path], settings: Any, data_dir: Path, folder: Path
) -> None:
    """Prepares the data set in a temporary folder and moves it into place, so it is never half-written."""
    tfds.disable_progress_bar()
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{builder.name}-", dir=data_dir) as staging:
        made = builder(Path(staging), files, settings)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints; stdout is the program's own output
            made.download_and_prepare(download_dir=Path(staging) / "downloads")
        for shard in Path(made.data_path).glob("*.array_record*"):
            _regroup(shard)
        digests = {path.name: file_digest(path) for path in sorted(Path(made.data_path).iterdir())}
        (Path(made.data_path) / DIGESTS).write_text(json.dumps(digests, indent=1), encoding="utf-8")
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Checked again: another process may have replaced it in the meantime.
        if folder.exists() and not isinstance(_read(folder), Prepared):
            with contextlib.suppress(FileNotFoundError):  # another process moved the damaged one away
                os.rename(folder, Path(staging) / "damaged")
        with contextlib.suppress(OSError):  # another process put its own in place; the caller reads that
            os.rename(made.data_path, folder)


def _regroup(shard: Path) -> None:
    """Rewrites a file of records in groups that keep its index small."""
    regrouped = shard.with_name(f"{shard.name}.regrouped")
    reader = array_record_module.ArrayRecordReader(str(shard))
    writer = array_record_module.ArrayRecordWriter(str(regrouped), GROUP)
    for _ in range(reader.num_records()):
        writer.write(reader.read())
    writer.close()
    reader.close()
    os.replace(regrouped, shard)
