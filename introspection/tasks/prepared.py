"""Data sets that a TFDS builder prepares once and that are read back a record at a time, never whole.

A task's builder (`TaskBuilder`) turns the publishers' files to flat rows in splits. `load_prepared` makes the
data set aside and moves it into place, under a name that is a digest of what it was made from, so that a
changed file or setting is another data set. `LazyItems` turns rows to items whenever they are asked for.
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

from introspection.errors import InputError, RunError
from introspection.tasks.sequences import Row

_ATTEMPTS = 3  # to prepare: another process may replace the data set just before it is read
# TFDS writes every record as a group of its own. A reader's index holds 8 bytes a group, and reading the
# index of 10 M groups takes four times that and seconds; reading one record of 64 costs microseconds more.
GROUP = "group_size:64"
_RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER = 32_768  # bytes of a reader's file buffer


class _LocalInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Doesn't look for this data set elsewhere; TFDS would leave a temporary folder behind each time."""


class TaskBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder of a task's rows, in the file format that needs no TensorFlow.

    A subclass names its version, texts and features (flat: text, numbers, lists of them) and gives `splits`.
    """

    DESCRIPTION: ClassVar[str]
    CITATION: ClassVar[str]
    LICENSE: ClassVar[str]
    FEATURES: ClassVar[Mapping[str, tfds.features.FeatureConnector]]

    def __init__(self, data_dir: Path, files: Sequence[Path], settings: Any):
        self.files = tuple(files)  # what it reads
        self.settings = settings  # a frozen dataclass: what else decides about the rows
        super().__init__(data_dir=data_dir, file_format="array_record")

    def splits(self) -> tuple[Mapping[str, Iterable[Row]], Mapping[str, Any]]:
        """The rows of every split, and what `metadata.json` is to say beside their number.

        Raises:
          InputError: the files can't be used.
        """
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(dict(self.FEATURES)),
            citation=self.CITATION,
            license=self.LICENSE,
            disable_shuffling=True,  # the splits are drawn already
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # the files are at hand
        splits, about = self.splits()
        metadata = self.info.metadata
        assert metadata is not None  # `_info` gives one
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
    """The rows of one split, each read when it is asked for and not kept. Threads may share it."""

    shards: tuple[Path, ...]
    lengths: tuple[int, ...]  # rows of each shard
    lists: frozenset[str]  # columns of several values
    _readers: dict[int, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    _lock: Any = dataclasses.field(default_factory=threading.Lock, compare=False, repr=False)

    @property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(self.lengths))

    def __len__(self) -> int:
        return sum(self.lengths)

    def __getitem__(self, index: SupportsIndex) -> Row:
        number = range(len(self))[operator.index(index)]  # from the end too; or IndexError
        shard = bisect_right(self._ends, number)
        position = number - sum(self.lengths[:shard])
        with self._lock:  # a reader has one place in its file
            try:
                reader = self._reader(shard)
                reader.seek(position)
                record = reader.read()
            except (ValueError, RuntimeError, IndexError) as error:
                raise RunError(
                    f"{self.shards[shard]}: record {position} can't be read ({error}); delete its folder"
                ) from error
        return self._row(record)

    def check(self) -> None:
        """Opens every shard. Raises an exception of any kind where one is damaged."""
        for shard, length in enumerate(self.lengths):
            if self._reader(shard).num_records() != length:
                raise ValueError(f"{self.shards[shard]} has not {length} records")

    def _reader(self, shard: int) -> Any:
        if shard not in self._readers:
            self._readers[shard] = array_record_module.ArrayRecordReader(
                str(self.shards[shard]), options=_RANDOM_ACCESS, file_reader_buffer_size=_BUFFER
            )
        return self._readers[shard]

    def _row(self, record: bytes) -> Row:
        """As TFDS decodes it, but for text as str; ten times as fast without its arrays."""
        row = {}
        example = tf_example_pb2.Example.FromString(record)  # pyright: ignore[reportAttributeAccessIssue]
        for name, feature in example.features.feature.items():
            values = list(getattr(feature, feature.WhichOneof("kind")).value)
            values = [value.decode() if isinstance(value, bytes) else value for value in values]
            row[name] = values if name in self.lists else values[0]
        return row


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set that is in place."""

    folder: Path
    splits: dict[str, PreparedRows]
    metadata: dict[str, Any]  # of metadata.json


def load_prepared(
    builder: type[TaskBuilder], files: Sequence[Path], settings: Any, data_dir: Path
) -> Prepared:
    """The data set that `builder` makes of these files and settings, prepared first where it is missing.

    A damaged one is replaced. Any number of processes may call this at the same time.

    Raises:
      InputError: a file can't be read, or the builder can't use it.
      RunError: no data set can be prepared.
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
    raise RunError(f"{folder}: the data set {builder.name} stays unusable: {found!r}") from found


def digest_of(files: Sequence[Path]) -> str:
    """16 hex digits that change when the name or the contents of a file do.

    Raises:
      InputError: a file can't be read.
    """
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                contents = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{path}: can't be read: {error.strerror}") from error
        digest.update(f"{path.name} {contents}\n".encode())
    return digest.hexdigest()[:16]


def _read(folder: Path) -> Prepared | Exception:
    """The data set in a folder, or why there is none that can be used."""
    try:
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
    except Exception as error:  # half a data set fails anywhere: as JSON, as a split, in the record reader
        return error


def _prepare(
    builder: type[TaskBuilder], files: Sequence[Path], settings: Any, data_dir: Path, folder: Path
) -> None:
    """Prepares the data set aside and moves it into place, so that nobody ever sees half of one."""
    tfds.disable_progress_bar()
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{builder.name}-", dir=data_dir) as staging:
        made = builder(Path(staging), files, settings)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces itself; a program's output is ours
            made.download_and_prepare(download_dir=Path(staging) / "downloads")
        for shard in Path(made.data_path).glob("*.array_record*"):
            _regroup(shard)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Looked at once more: while this one was made, another process may have mended it.
        if folder.exists() and not isinstance(_read(folder), Prepared):
            with contextlib.suppress(FileNotFoundError):  # another process took the damaged one away
                os.rename(folder, Path(staging) / "damaged")
        with contextlib.suppress(OSError):  # another process put its own there; the caller reads that one
            os.rename(made.data_path, folder)


def _regroup(shard: Path) -> None:
    """Writes a file of records again, in groups that keep its index small."""
    regrouped = shard.with_name(f"{shard.name}.regrouped")
    reader = array_record_module.ArrayRecordReader(str(shard))
    writer = array_record_module.ArrayRecordWriter(str(regrouped), GROUP)
    for _ in range(reader.num_records()):
        writer.write(reader.read())
    writer.close()
    reader.close()
    os.replace(regrouped, shard)
