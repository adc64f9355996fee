"""Labels on disk: whole or not at all, and refused where another model or task made them."""

import json
import shutil

import pytest

from introspection.coupling import labels as labels_module
from introspection.coupling.labels import Label, read_labels, write_labels
from introspection.errors import InputError
from introspection.tasks.items import NONE, Decisions, Explanation, Item

METADATA = {"teacher_fingerprint": "aa11", "task": "world_facts", "template_version": "1", "noise": 0.0}


def item(name: str) -> Item:
    return Item(
        id=name,
        group=name.split("/")[0],
        stratum="capital",
        cue_kind="friend",
        prompt_with_cue="Where? It is Bern.",
        prompt_without_cue="Where?",
        candidates=("Zürich", "Bern"),
        gold="Zürich",
        cued="Bern",
    )


def some_labels() -> list[Label]:
    return [
        Label("a/1", "a", Decisions("Bern", "Zürich"), Explanation(True, "Zürich")),
        Label("b/1", "b", Decisions("Bern", "Bern"), Explanation(True, "Zürich")),  # noisy
        Label("c/1", "c", Decisions(NONE, "Zürich"), Explanation(True, NONE)),
    ]


def test_what_is_written_is_read_back_in_the_order_of_the_items(tmp_path):
    folder = tmp_path / "labels" / "clean"
    write_labels(folder, some_labels(), METADATA)
    a, b, c = some_labels()
    read = read_labels(folder, METADATA, [item("c/1"), item("a/1"), item("b/1")])
    assert read == [c, a, b]
    assert read[2].clean == Explanation(False, "Bern")  # what its teacher does, whatever is trained on
    assert read_labels(folder, {}, [item("b/1")]) == [b]
    assert json.loads((folder / "metadata.json").read_text()) == METADATA


def test_labels_of_others_are_refused_by_every_field_that_differs(tmp_path):
    write_labels(tmp_path / "clean", some_labels(), METADATA)
    expected = METADATA | {"teacher_fingerprint": "bb22", "template_version": "2"}
    with pytest.raises(InputError) as caught:
        read_labels(tmp_path / "clean", expected, [])
    message = str(caught.value)
    assert "teacher_fingerprint is 'aa11' in its metadata.json but 'bb22' in this run" in message
    assert "template_version is '1' in its metadata.json but '2' in this run" in message
    assert "task is" not in message
    assert "config.label_teacher" in message


def test_items_without_a_label_are_counted(tmp_path):
    write_labels(tmp_path / "clean", some_labels(), METADATA)
    with pytest.raises(InputError, match=r"2 of \d+ training items have no label, such as d/1"):
        read_labels(tmp_path / "clean", METADATA, [item("a/1"), item("d/1"), item("e/1")])


def damage_metadata(folder):
    (folder / "metadata.json").write_text('{"task": ')


def damage_records(folder):
    (folder / "labels.array_record").write_bytes(b"no record")


def remove_records(folder):
    (folder / "labels.array_record").unlink()


def remove_metadata(folder):
    (folder / "metadata.json").unlink()


def not_an_object(folder):
    (folder / "metadata.json").write_text("[]")


def other_labels(folder):
    write_labels(folder.with_name("other"), some_labels()[:1], METADATA)
    shutil.copy(folder.with_name("other") / "labels.array_record", folder)


@pytest.mark.parametrize(
    "damage", [other_labels, damage_metadata, damage_records, remove_records, remove_metadata, not_an_object]
)
def test_a_damaged_folder_is_refused(tmp_path, damage):
    folder = tmp_path / "clean"
    write_labels(folder, some_labels(), METADATA)
    damage(folder)
    with pytest.raises(InputError, match="not a readable labels folder"):
        read_labels(folder, METADATA, [item("a/1")])


def test_there_is_never_half_a_folder(tmp_path, monkeypatch):
    folder = tmp_path / "clean"
    seen = []
    real = labels_module.array_record_module.ArrayRecordWriter

    class Watching:
        def __init__(self, *arguments):
            self._writer = real(*arguments)

        def write(self, record):
            seen.append(folder.exists())
            self._writer.write(record)
            if len(seen) == 2:
                raise KeyboardInterrupt

        def close(self):
            self._writer.close()

    monkeypatch.setattr(labels_module.array_record_module, "ArrayRecordWriter", Watching)
    with pytest.raises(KeyboardInterrupt):
        write_labels(folder, some_labels(), METADATA)
    assert seen == [False, False]
    assert not folder.exists()
    monkeypatch.undo()
    write_labels(folder, some_labels(), METADATA)  # what the first left is no hindrance
    assert len(read_labels(folder, METADATA, [item("a/1"), item("b/1"), item("c/1")])) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["clean"]


def test_labels_are_replaced_whole(tmp_path):
    folder = tmp_path / "clean"
    write_labels(folder, some_labels(), METADATA)
    write_labels(folder, some_labels()[:1], METADATA | {"noise": 0.5})
    assert read_labels(folder, {"noise": 0.5}, [item("a/1")]) == some_labels()[:1]
    with pytest.raises(InputError, match="have no label"):
        read_labels(folder, {}, [item("b/1")])
