"""README and the documents beside the code: links lead somewhere, paths exist, lines keep to 120 columns."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("introspection", "experiments", "configs", "tests")
DOCUMENTS = [
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *(found for name in FOLDERS for found in (ROOT / name).rglob("*.md")))
]
LINK = re.compile(r"\]\((?!https?://)([^)#]+)(#[^)]*)?\)")
PATH = re.compile(r"`((?:introspection|experiments|configs|tests)/[\w./-]+\.\w+)`")
# Records of what was done: they name what stood where it stood then.
RECORDS = {"experiments/notebook.md"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_paths_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [ROOT / Path(document).parent / link for link, _ in LINK.findall(text)]
    named = [] if document in RECORDS else [ROOT / path for path in PATH.findall(text)]
    assert [str(path) for path in (*links, *named) if not path.exists()] == []


def test_the_readme_fits_a_newcomer():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120] == []
    assert len(lines) <= 150
