"""What all pages share: one self-contained HTML file from Jinja2 templates, which escape whatever they show.

A page's own templates stand beside the module that fills them in.
"""

import base64
import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from introspection.reports.figure_style import FigureFiles
from introspection.reports.numbers import p_value, percent, points, probability

ROOMS = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Section:
    id: str
    title: str
    body: Sequence[Any]  # HTML and what can be shown as such: tables


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
    styles = [folder / "page.css" for folder in (ROOMS / "reports", own) if folder is not None]
    style = "".join(path.read_text(encoding="utf-8") for path in styles)
    # A second wall behind the escaping: the browser runs this one script and fetches nothing.
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"
    policy += f"; style-src {digest(style)}"
    return render(
        "reports/page.html",
        policy=Markup(policy + (f"; script-src {digest(script)}" if script else "")),
        title=title,
        heading=heading,
        question=question,
        facts={label: value for label, value in facts.items() if value not in (None, "")},
        sections=sections,
        made_from=made_from,
        style=Markup(style),
        script=Markup(script),
        words=words,
    )


def figure_card(files: FigureFiles, file_name: str, title: str, caption: str, alternative: str) -> Markup:
    """A figure with its caption; the drawing is inside it."""
    return render(
        "reports/figure.html",
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


def render(template: str, **values: Any) -> Markup:
    """A template, named by its path from the library, filled in."""
    return Markup(_environment().get_template(template).render(values))


def macros(template: str) -> Any:
    """A template's macros, as functions that give HTML."""
    return _environment().get_template(template).module


def name(value: Any) -> Markup:
    """A name that a run gave: it can't reorder what stands around it (right-to-left marks), and a line may
    break within it where an identifier's words end."""
    breakable = re.sub(r"(?<=\w[_/=@-])(?=\w)", "\0", str(_without_nul(value)))
    return Markup("<bdi>{}</bdi>").format(Markup("<wbr>").join(breakable.split("\0")))


def _without_nul(value: Any) -> Any:
    """NUL, which HTML can't hold, is shown as such."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_without_nul,
        loader=jinja2.FileSystemLoader(ROOMS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "name": name,
        "percent": percent,
        "points": points,
        "probability": probability,
        "p_value": p_value,
    }
    return environment
