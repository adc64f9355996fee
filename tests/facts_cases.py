"""Small tables of facts for tests."""

from pathlib import Path

HEADER = "relation\tentity\tanswer"
SMALL = [
    ("country_capital", "Norway", "Oslo"),
    ("country_capital", "São Tomé and Príncipe", "São Tomé"),
    ("element_symbol", "iron", "Fe"),
]


def write_table(path: Path, rows: list[tuple[str, ...]], header: str = HEADER) -> Path:
    path.write_text("".join(line + "\n" for line in [header, *map("\t".join, rows)]), encoding="utf-8")
    return path
