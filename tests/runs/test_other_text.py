"""Other text for the KL term: passages of a file."""

import numpy as np
import pytest
from tiny import tiny_tokenizer

from configs import jabberwocky
from introspection.errors import InputError
from introspection.organism.organism import world_language
from introspection.organism.world import build_world
from introspection.runs.config import read_config
from introspection.runs.other_text import file_passages, trained_facts
from introspection.runtime.config import cache_dir
from introspection.tasks.registry import load_task


def test_a_files_passages_are_its_lines_cut_and_counted(tmp_path):
    path, tokenizer = tmp_path / "text.txt", tiny_tokenizer()
    path.write_text("w01 w02 w03\n\nw04\nw05 w06\n", encoding="utf-8")
    whole = [tokenizer.encode_reply(line) for line in ("w01 w02 w03", "w04", "w05 w06")]
    assert file_passages(path, tokenizer, 9, 64) == whole
    assert file_passages(path, tokenizer, 2, 3) == [whole[0][:3], whole[1]]


@pytest.mark.parametrize("content", [None, b"\n \n", b"\xff\xfe"])
def test_a_file_without_passages_is_refused(tmp_path, content):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"config\.train\.text: .*text\.txt.*give a UTF-8 file"):
        file_passages(path, tiny_tokenizer(), 9, 64)


def test_beside_a_mixture_passages_are_about_its_trained_facts():
    config = read_config(jabberwocky.get_config("tiny"))
    task, questions = load_task(config.task, cache_dir())
    world = build_world(config.world, questions, world_language(config.organism))
    among = trained_facts(task, world)
    assert 0 < among.sum() < len(world.facts)
    groups = {item.group for item in task.splits["train"]}
    assert {f"invented_world/{fact}" in groups for fact in np.array(list(world.index))[among]} == {True}
