"""Progress: a bar on a terminal, occasional lines elsewhere, with the time that is left."""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 20


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(datetime.timedelta(seconds=round(seconds)))


@contextlib.contextmanager
def progress_bar(console: Console, title: str, total: int) -> Iterator[Callable[..., None]]:
    """Yields `advance(count, note="")`; the bar disappears when the block ends. One within another stands
    below it."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(title, total=total, note="")
            yield lambda count, note="": bar.update(task, advance=count, note=note)
    else:
        done, started = 0, time.monotonic()
        last = started

        def advance(count: int, note: str = "") -> None:
            nonlocal done, last
            done += count
            if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                left = clock((last - started) * (total - done) / done) if done else "unknown"
                console.print(
                    f"{title}: {done} of {total}, about {left} left {note}".rstrip(), highlight=False
                )

        yield advance
