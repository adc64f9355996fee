"""A page as its elements, and as a browser shows it."""

import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.found if found == tag]


def open_page(path: Path, fragment: str = "") -> str:
    """The document after its scripts ran; fails on anything in the console."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((found for found in map(shutil.which, names) if found), None)
    if browser is None:
        message = f"no browser: none of {', '.join(names)} is on the PATH"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    switches = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        " --disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=4000"
    )
    address = f"{path.resolve().as_uri()}#{fragment}"
    command = [
        browser,
        *switches.split(),
        "--dump-dom",
        f"--user-data-dir={path.parent / 'browser'}",
        address,
    ]
    done = subprocess.run(command, capture_output=True, timeout=50, check=True)
    console = [line for line in done.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line]
    assert console == []
    return done.stdout.decode("utf-8")
