"""Progress where there is no terminal: a line now and then, with the time that is left."""

import io

from rich.console import Console

from introspection.runtime import progress


def test_lines_say_how_much_is_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=80)
    with progress.progress_bar(console, "asking", 40) as advance:
        advance(5)  # too soon for a line
        now[0] += 30
        advance(5, "loss 0.5")
        now[0] += 90
        advance(20)
    assert console.file.getvalue().splitlines() == [
        "asking: 10 of 40, about 0:01:30 left loss 0.5",
        "asking: 30 of 40, about 0:00:40 left",
    ]
