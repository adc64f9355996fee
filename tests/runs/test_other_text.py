"""Other text for the KL term: passages of a file."""

import pytest
from tiny import tiny_tokenizer

from introspection.errors import InputError
from introspection.runs.other_text import file_passages


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
