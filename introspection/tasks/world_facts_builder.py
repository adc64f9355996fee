"""The TFDS builder of the table of true facts."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from introspection.tasks.facts import COLUMNS, FACTS_TABLE, SPLIT, read_facts_table, table_digest

_DESCRIPTION = """\
True facts about countries and chemical elements, one answer for each relation and entity. The table lies
beside this builder; nothing is downloaded.
"""
_CITATION = """\
Compiled in November 2026 from the packages countryinfo 1.0.1 and mendeleev 1.3.0, with corrections from
public knowledge.
"""
_LICENSE = "MIT (countryinfo 1.0.1 and mendeleev 1.3.0 are both under the MIT licence)"


@dataclasses.dataclass(eq=False, kw_only=True)
class FactsTableConfig(tfds.core.BuilderConfig):
    """Which table the data set is made from.

    Its name holds the table's digest and is part of the data set's folder: a data set of another version
    of the table is another data set, and both may lie side by side.
    """

    table: Path


def _config_of(table: Path) -> FactsTableConfig:
    return FactsTableConfig(
        name=f"table_{table_digest(table)}", description="The facts of one version of the table.", table=table
    )


class _LocalInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Doesn't look for this data set elsewhere; TFDS would leave a temporary folder behind each time."""


class WorldFacts(tfds.core.GeneratorBasedBuilder):
    """Facts as text features `relation`, `entity` and `answer`, in one split."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [_config_of(FACTS_TABLE)]  # noqa: RUF012 (how TFDS declares it)

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict({column: tfds.features.Text() for column in COLUMNS}),
            citation=_CITATION,
            license=_LICENSE,
            # The items are shuffled where they are made; here the table's order is kept.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # the table is at hand
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, str]]]:
        for number, fact in enumerate(read_facts_table(self.builder_config.table)):
            yield number, {column: getattr(fact, column) for column in COLUMNS}


def world_facts(data_dir: Path, table: Path = FACTS_TABLE) -> WorldFacts:
    """The builder for `table` under `data_dir`, in the file format that needs no TensorFlow."""
    asked = _config_of(table)
    # TFDS refuses a second configuration of the same name, and warns of one that it does not know.
    known = {config.name: config for config in WorldFacts.BUILDER_CONFIGS}
    return WorldFacts(data_dir=data_dir, config=known.get(asked.name, asked), file_format="array_record")


def prepared_folder(data_dir: Path, table: Path = FACTS_TABLE) -> Path:
    """Where the prepared data set of `table` lies under `data_dir`."""
    return data_dir / WorldFacts.name / _config_of(table).name / str(WorldFacts.VERSION)
