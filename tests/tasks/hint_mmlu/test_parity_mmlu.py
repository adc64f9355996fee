"""hint_mmlu on real questions of MMLU: those that the peers' evaluation harness carries, read by path."""

import csv
import json
import re

import pytest
from peers_environment import peers_python

from introspection.tasks.hint_mmlu.files import LETTERS
from introspection.tasks.hint_mmlu.task import HintMmluConfig, build_hint_mmlu
from introspection.tasks.splits import words_of
from introspection.tasks.task import SPLITS

pytestmark = pytest.mark.parity
PROMPTS = "lm_eval/tasks/mmlu/flan_cot_fewshot/_cot_prompts.json"
# Other shapes (an option over several lines, an answer in other words) are left out.
QUESTION = re.compile(
    r"Q: (?P<question>.+?)\n\(A\) (?P<A>.+?) \(B\) (?P<B>.+?) \(C\) (?P<C>.+?) \(D\) (?P<D>[^\n]+?)\s*\n"
    r"A: .*?The answer is \((?P<answer>[A-D])\)\.",
    re.DOTALL,
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The questions in the layout of MMLU's archive, a file a subject."""
    # Beside the environment's python, whose packages are never imported here.
    (prompts,) = peers_python().parent.parent.glob(f"lib/python*/site-packages/{PROMPTS}")
    folder = tmp_path_factory.mktemp("mmlu")
    (folder / "dev").mkdir()
    for subject, text in json.loads(prompts.read_text(encoding="utf-8")).items():
        rows = [
            [one["question"], *(one[letter] for letter in LETTERS), one["answer"]]
            for one in QUESTION.finditer(text)
        ]
        with (folder / "dev" / f"{subject}_dev.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


def test_real_questions_are_read_hinted_and_split(archive, tmp_path):
    rows = {
        path.name.removesuffix("_dev.csv"): list(csv.reader(path.open(encoding="utf-8", newline="")))
        for path in archive.glob("dev/*.csv")
    }
    assert len(rows) == 57  # subjects
    count = sum(map(len, rows.values()))
    assert count > 200
    sizes = dict(train_items=0, validation_items=50, test_items=100)
    task = build_hint_mmlu(
        HintMmluConfig(data=str(archive), parts=("dev",), cue_kinds=("plain", "wrong"), **sizes), tmp_path
    )
    items = [item for split in SPLITS for item in task.splits[split]]
    by_id = {item.id: item for item in items}
    assert len(by_id) == len(items)
    assert 2 * (count - 10) <= len(items) <= 2 * count  # of each, two hints; a few options are the same text
    assert [len(task.splits[split]) for split in ("validation", "test")] == [50, 100]
    groups = {split: {item.group for item in task.splits[split]} for split in SPLITS}
    asked = {split: {words_of(str(i.prompt_without_cue)) for i in task.splits[split]} for split in SPLITS}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not groups[one] & groups[other]
        assert not asked[one] & asked[other]
    answers = {(row[0].strip(), row[5]) for own in rows.values() for row in own}
    for item in items:
        asked_plainly, hinted = str(item.prompt_without_cue), str(item.prompt_with_cue)
        assert sorted(item.candidates) == list(LETTERS)
        assert any(question in asked_plainly and item.gold == answer for question, answer in answers)
        assert item.cue_kind != "wrong" or item.cued != item.gold
        assert f"the answer is {item.cued}." in hinted
        assert len(hinted) > len(asked_plainly)
