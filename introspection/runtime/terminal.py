"""What a command prints: texts of other people's files as they are, but nothing that acts on the terminal."""

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

LONGEST_LINE = 2_000  # characters of a message; a file's names and lists may have millions
# What a terminal obeys, or what makes a line read as another: C0 and C1 controls (tabs and line feeds apart),
# marks and isolates that reorder text, line separators. Lone surrogates can't be encoded.
_ACTING = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


_names: dict[str, str] = {}  # by local path: what the user called it


def show_as(path: str, name: str) -> None:
    """From now on, messages call a local path by the name that the user gave, such as a URL."""
    _names[path] = name


def shown(text: str) -> str:
    """The text with local paths as `show_as` says."""
    for path, name in _names.items():
        text = text.replace(path, name)
    return text


def visible(text: str) -> str:
    r"""The text as `shown`, with control characters and the like as escapes, such as `\x1b` and `\u202e`."""
    return _ACTING.sub(lambda found: repr(found[0])[1:-1], shown(text))


def one_line(message: object, most: int = LONGEST_LINE) -> str:
    """A message as one visible line of at most `most` characters and the number of the others."""
    line = visible(" ".join(str(message).split()))
    left = len(line) - most
    return line if left <= 0 else f"{line[:most]} … ({left:,} more characters)"


class Terminal(Console):
    """A console that shows every text as it is: no markup, no emoji codes, and controls as `visible` does."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escapes come before the layout, which counts their characters."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed, also where it was no `str`; what rich itself makes to move the cursor stays."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
