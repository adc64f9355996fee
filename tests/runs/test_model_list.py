"""Models named in a file."""

import pytest

from introspection.errors import InputError
from introspection.runs.model_list import listed_models


def test_a_file_lists_one_model_a_line(tmp_path):
    path = tmp_path / "models.txt"
    path.write_text("\ufeff# ours\nruns/a:kl@20\n\n  hub/b+adapters/c#1  # merged\r\n", encoding="utf-8")
    expected = ("first", "runs/a:kl@20", "hub/b+adapters/c#1", "last")
    assert listed_models(["first", f"@{path}", "last"], "--models") == expected
    assert listed_models(["first", str(path), "last"], "--models") == expected
    assert listed_models([""], "--model") == ("",)


@pytest.mark.parametrize(("content", "says"), [(b"# none\n", "names no model"), (b"\xff", "can't be read")])
def test_a_bad_list_is_one_line(tmp_path, content, says):
    path = tmp_path / "models.txt"
    with pytest.raises(InputError, match=f"--models: {path} is no file"):
        listed_models([str(path)], "--models")
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"--models: {path} {says}"):
        listed_models([f"@{path}"], "--models")
