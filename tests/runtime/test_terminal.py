"""What reaches the terminal: texts as they are, and nothing that acts on it."""

import io
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from introspection.reports.table import Table
from introspection.runtime.command import _one_line
from introspection.runtime.progress import progress_bar
from introspection.runtime.terminal import Terminal, one_line, visible

HOSTILE = "\x1b]0;pwn\x07\x1b[31m\u202e\u2066\u200f\u2028\x9b2J\r\ud800 [red]x[/nope] :smile:"
SHOWN = r"\x1b]0;pwn\x07\x1b[31m\u202e\u2066\u200f\u2028\x9b2J\r\ud800 [red]x[/nope] :smile:"
BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def acts(text: str) -> bool:
    """By Unicode's own categories: controls, separators of lines, surrogates; and the bidi controls."""
    return any(
        one not in "\t\n" and (unicodedata.category(one) in ("Cc", "Zl", "Zp", "Cs") or one in BIDI)
        for one in text
    )


@given(st.text(st.characters(codec=None)))
def test_nothing_acts_and_every_other_character_stays(text):
    shown = visible(text)
    assert not acts(shown)
    if not acts(text):
        assert shown == text


def printed(act, **options) -> str:
    file = io.StringIO()
    act(Terminal(file=file, width=200, **options))
    return file.getvalue()


def test_prints_tables_and_progress_show_texts_as_they_are():
    table = Table(HOSTILE, ("", HOSTILE), ((HOSTILE, HOSTILE),), HOSTILE)
    found = printed(lambda console: console.print(table))
    assert found.count(SHOWN) == 5
    assert not acts(found)
    found = printed(lambda console: console.print(f"a {HOSTILE}", soft_wrap=True))
    assert found == f"a {SHOWN}\n"
    assert not acts(printed(lambda console: console.print(Text(HOSTILE))))

    def work(console):
        with progress_bar(console, HOSTILE, 3) as advance:
            advance(1, HOSTILE)

    # On a terminal, rich's own escapes move the cursor; none is the text's.
    found = printed(work, force_terminal=True)
    assert not any(one in found for one in ("\x1b]0", "\x1b[31m", "\u202e", "\u2028", "\x9b"))


def test_a_message_is_one_visible_line_and_capped(capsys):
    assert one_line(f"a\n {HOSTILE}") == f"a {SHOWN}".replace(r"\u2028", " ").replace(r"\r", " ")
    assert one_line("x" * 34_000_000) == "x" * 2_000 + " … (33,998,000 more characters)"
    _one_line(ValueError(HOSTILE * 1_000))
    said = capsys.readouterr().err
    assert (said.count("\n"), len(said) < 2_100, acts(said)) == (1, True, False)
