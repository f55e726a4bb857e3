"""What an experiment claims, whether it held, and `summary.json`."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, SupportsFloat

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

OPERATORS = {
    ">=": lambda value, threshold: value >= threshold,
    ">": lambda value, threshold: value > threshold,
    "<=": lambda value, threshold: value <= threshold,
    "<": lambda value, threshold: value < threshold,
    "==": lambda value, threshold: value == threshold,
}


@dataclass(frozen=True)
class Claim:
    """`value op threshold`, to be checked by the run that measured the value.

    op: one of >=, >, <=, <, ==.
    """

    name: str
    value: SupportsFloat
    op: str
    threshold: SupportsFloat

    def __post_init__(self) -> None:
        if self.op not in OPERATORS:
            raise ValueError(f"claim {self.name!r}: op must be in {list(OPERATORS)}, got {self.op}")

    @property
    def holds(self) -> bool:
        """Whether it is so. A value that is not a number never holds."""
        return bool(OPERATORS[self.op](float(self.value), float(self.threshold)))


@dataclass(frozen=True)
class Table:
    """Rows of cells for the screen and the report. The first column names the row."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


class Outcome(NamedTuple):
    """What an experiment's `run` returns.

    claims: checked by the command line, which exits with 3 if one fails.
    numbers: any JSON values to keep in summary.json.
    table: printed last on the screen.
    """

    claims: Sequence[Claim]
    numbers: Mapping[str, Any] = MappingProxyType({})
    table: Table | None = None


def write_summary(
    out: Path,
    *,
    slug: str,
    paper: str,
    seconds: float,
    versions: Mapping[str, str],
    config: Any,
    claims: Sequence[Claim],
    **extra: Any,
) -> Path:
    """Writes out/summary.json, the old one or the new but never half, and returns its path.

    Args:
      out: the results folder.
      slug: the experiment's folder name.
      paper: title and identifier.
      seconds: of work, over all sessions.
      versions: package -> version.
      config: the config as JSON values.
      claims: written with `holds`; a value that is not finite is written as text.
      extra: further JSON values.
    """
    summary = {
        "slug": slug,
        "paper": paper,
        "seconds": round(seconds, 2),
        "versions": dict(versions),
        "config": config,
        "claims": [asdict(claim) | {"holds": claim.holds} for claim in claims],
        **extra,
    }
    path = out / "summary.json"
    write_text(path, json.dumps(_plain(summary), indent=1, allow_nan=False) + "\n")
    return path


def write_text(path: Path, text: str) -> None:
    """Writes a text file through a temporary one and a rename."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def format_cell(value: Any) -> str:
    """A table cell: numbers to three decimals (powers of ten when tiny or huge), else text."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]  # noqa: RUF001
    if isinstance(value, int) or not hasattr(value, "__float__"):
        return str(value)
    number = float(value)
    plain = number == 0 or 0.001 <= abs(number) < 1e6 or not math.isfinite(number)
    return f"{number:.3f}" if plain else f"{number:.2g}"


def claims_table(claims: Sequence[Claim]) -> Table:
    """Claim, measured value, what was asked, and whether it holds."""
    rows = [
        (c.name, c.value, f"{c.op} {format_cell(c.threshold)}", "holds" if c.holds else "FAILS")
        for c in claims
    ]
    return Table("Claims", ("claim", "measured", "asked", ""), rows)


def print_table(table: Table, console: Console | None = None) -> None:
    """Prints a table on the terminal, numbers right-aligned; full width when it is not one."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=10_000)
    # Text, because "[low, high]" in a plain string would be taken for a style and vanish.
    title = Text(table.title, style="table.title")
    note = Text(table.note, style="table.caption") if table.note else None
    shown = RichTable(title=title, title_justify="left", caption=note)
    for i, header in enumerate(table.headers):
        shown.add_column(Text(header), justify="left" if i == 0 else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(format_cell(cell)) for cell in row))
    console.print(shown)


def _plain(value: Any) -> Any:
    """JSON values with NumPy scalars made plain and non-finite floats made text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)
