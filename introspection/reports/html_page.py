"""What all pages share: one self-contained HTML file from a Jinja2 template that escapes its values."""

import base64
import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from introspection.reports.figure_style import FigureFiles
from introspection.reports.tables import name, text

TEMPLATES = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Section:
    id: str
    title: str
    body: str  # HTML


def html_page(
    *,
    title: str,
    heading: str,
    question: str,
    facts: Mapping[str, Any],
    sections: Sequence[Section],
    made_from: str,
    own: Path | None = None,
    script: str = "",
    words: bool = True,
) -> str:
    """The whole page as text.

    Args:
        facts: the line under the question; what is not known is left out.
        made_from: what the footer says the files are of.
        own: a folder with a `page.css` of its own, after the shared one.
        words: whether the words used here are explained after the first section.
    """
    styles = [folder / "page.css" for folder in (TEMPLATES, own) if folder is not None]
    style = "".join(path.read_text(encoding="utf-8") for path in styles)
    # A second wall behind the escaping: the browser runs this one script and fetches nothing.
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"
    policy += f"; style-src {digest(style)}"
    return _template("page.html").render(
        policy=Markup(policy + (f"; script-src {digest(script)}" if script else "")),
        title=title,
        heading=heading,
        question=question,
        facts={label: value for label, value in facts.items() if value not in (None, "")},
        sections=sections,
        made_from=made_from,
        style=style,
        script=script,
        words=words,
    )


def figure_card(files: FigureFiles, file_name: str, title: str, caption: str, alternative: str) -> str:
    """A figure with its caption, as HTML; the drawing is inside it."""
    return _template("figure.html").render(
        files=files,
        file_name=file_name,
        title=title,
        caption=caption,
        alternative=alternative,
        source=base64.b64encode(files.svg).decode(),
    )


def digest(part: str) -> str:
    """What a page's policy knows its own style or script by, quoted."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"


@functools.cache
def _template(file_name: str) -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(TEMPLATES))
    environment.filters |= {
        "name": lambda value: Markup(name(value)),
        "text": lambda value: Markup(text(value)),
    }
    return environment.get_template(file_name)
