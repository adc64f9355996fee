"""How every figure looks, and how one is written: colours, text and byte-for-byte reproducible files."""

import dataclasses
import functools
import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from introspection.coupling.estimates import Estimate
from introspection.reports.figure_numbers import Numbers, csv_text
from introspection.runtime.workdir import write_whole

Arguments = ParamSpec("Arguments")

# Self and Orig keep these colours in every figure and on the page. They stay apart for colour-blind readers
# (Okabe and Ito) and both have a contrast of at least 3:1 on white.
SELF_COLOR = "#0072B2"
ORIG_COLOR = "#D55E00"
INK = "#1d232b"
MUTED = "#5c6672"
RULE = "#d5dae0"
BAND = "#f2f4f6"
NEUTRAL = "#c3c9d0"
# Arms differ by colour and, beyond these, by dashes; none is close to Self's or Orig's.
ARM_COLORS = ("#009E73", "#AA4499", "#E69F00", "#333333", "#56B4E9", "#882255", "#999933")
ARM_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))

WIDTH = 8.0  # inches; the page shows a figure at about 800 px, so sizes below are what a reader sees
LEGEND_WIDTH, LEGEND_SYMBOL = 115, 8  # characters: all its columns, and what stands before a label
PNG_DPI = 160

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a name is a `$`
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#e6e9ed",
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text: small files, searchable, read aloud
    "svg.hashsalt": "introspection",  # ids by content, not by chance
}


@contextmanager
def _style() -> Iterator[None]:
    style: Any = STYLE  # whose keys the stubs list one by one
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A name in a script that the PNG's font lacks is drawn as boxes there; the SVG shows it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draws a figure in the house style, whatever the process's matplotlib settings are."""

    @functools.wraps(draw)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with _style():
            return draw(*args, **kwargs)

    return wrapper


def new_figure(height: float, width: float = WIDTH) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.04)
    return figure


@dataclasses.dataclass(frozen=True)
class FigureFiles:
    """A figure's files: what the page embeds is what the folder holds."""

    svg: bytes
    png: bytes
    width: int  # CSS pixels at which its text has the size it was drawn for
    csv: str = ""  # its numbers; empty: no file


def render_figure(figure: Figure, numbers: Numbers = ()) -> FigureFiles:
    """Draws a figure as SVG and PNG, its numbers as CSV; the same figure gives the same bytes at any time."""
    files = {}
    formats: dict[str, dict[str, Any]] = {
        "svg": {"metadata": {"Date": None, "Creator": None}},
        "png": {"dpi": PNG_DPI},
    }
    for kind, options in formats.items():
        buffer = io.BytesIO()
        with _style():
            figure.savefig(buffer, format=kind, **options)
        files[kind] = buffer.getvalue()
    csv = csv_text(numbers) if numbers else ""
    return FigureFiles(**files, width=round(100 * figure.get_size_inches()[0]), csv=csv)


def save_figure(files: FigureFiles, folder: Path, name: str) -> None:
    """Writes `name.svg`, `name.png` and, if there are numbers, `name.csv`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"svg": files.svg, "png": files.png, **({"csv": files.csv} if files.csv else {})}
    for suffix, content in contents.items():
        write_whole(folder / f"{name}.{suffix}", content)


def lighter(color: str, share: float = 0.6) -> str:
    """A colour mixed with white."""
    red, green, blue = (1 - (1 - channel) * (1 - share) for channel in to_rgb(color))
    return to_hex((red, green, blue))


def printable(text: str) -> str:
    """The text without what a drawing can't hold: control characters and marks that reorder text."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def wrapped(name: str, width: int, lines: int = 3) -> str:
    """A name over several lines, also broken after `_ - / = @`, as identifiers have no spaces."""
    # A zero-width space is where a line may break, and is taken out again: a name keeps its characters.
    pieces = re.sub(r"([_\-/=@])(?=\S)", "\\1\u200b", printable(name)).split("\u200b")
    found, line = [], ""
    for piece in (word for part in pieces for word in re.findall(r"\S+\s*|\s+", part)):
        for chunk in textwrap.wrap(piece, width, drop_whitespace=False) or [piece]:
            if line and len((line + chunk).rstrip()) > width:
                found.append(line.rstrip())
                line = ""
            line += chunk
    found.append(line.rstrip())
    return (
        "\n".join(found) if len(found) <= lines else "\n".join([*found[: lines - 1], found[lines - 1] + " …"])
    )


def draw_interval(axes: Axes, value: Estimate, y: float, color: str, *, linewidth: float = 1.4) -> None:
    """A horizontal 95% whisker, in per cent; nothing where the interval is missing."""
    if value.ci95 is not None:
        axes.plot(
            [100 * end for end in value.ci95],
            [y, y],
            color=color,
            linewidth=linewidth,
            solid_capstyle="butt",
        )


def percent_axis(axes: Axes, label: str, low: int = 0, high: int = 100) -> None:
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in range(0, 101, 20) if low <= tick <= high])
    axes.grid(axis="x")
    axes.set_xlabel(label)
    axes.spines["left"].set_visible(False)


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend under all axes, in as many columns as its longest label leaves room for."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = min(4, max(1, LEGEND_WIDTH // (longest + LEGEND_SYMBOL)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def grid_shape(count: int, most_columns: int) -> tuple[int, int]:
    """Rows and columns of small panels; columns as equal as they can be (4 panels: 2 by 2, not 3 and 1)."""
    rows = -(-count // most_columns)
    return rows, -(-count // rows)


def arm_styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A line style an arm."""
    return {
        name: {
            "color": ARM_COLORS[index % len(ARM_COLORS)],
            "linestyle": ARM_DASHES[index // len(ARM_COLORS) % len(ARM_DASHES)],
        }
        for index, name in enumerate(names)
    }
