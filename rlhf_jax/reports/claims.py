"""What an experiment claims, whether it held, and `summary.json`."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, SupportsFloat

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from rlhf_jax.reports.text import visible

OPERATORS = {
    ">=": lambda value, threshold: value >= threshold,
    ">": lambda value, threshold: value > threshold,
    "<=": lambda value, threshold: value <= threshold,
    "<": lambda value, threshold: value < threshold,
    "==": lambda value, threshold: value == threshold,
}


Verdict = Literal["holds", "fails", "undecided"]
KINDS = ("theorem", "paper", "ours", "regression")


@dataclass(frozen=True)
class Claim:
    """`value op threshold`, checked by the run that measured the value.

    holds: the whole interval satisfies the comparison, and the baseline does not; fails: none of
    the interval does, or the value is not a number; undecided: everything else.

    statement: what is claimed, in words; it names the variant and the size that the value reads.
    op: one of >=, >, <=, <, ==.
    kind: "theorem" (a bound or rate that a paper proves), "paper" (what a paper reports), "ours"
      (found here) or "regression" (an earlier number of this experiment).
    source: the theorem, equation, table or section; for "ours" the reason for the threshold.
    interval: 95% interval (low, high) of the value over independent units, see `reports.intervals`;
      None where the value is exact, or where the claim is about every unit that was drawn.
    baseline: (name, its value), of what must fail the same comparison: where it passes too, the
      measurement does not tell the two apart.
    """

    statement: str
    value: SupportsFloat
    op: str
    threshold: SupportsFloat
    _: KW_ONLY
    kind: str
    source: str
    interval: tuple[SupportsFloat, SupportsFloat] | None = None
    baseline: tuple[str, SupportsFloat] | None = None

    def __post_init__(self) -> None:
        name = f"claim {self.statement!r}"
        if self.op not in OPERATORS:
            raise ValueError(f"{name}: op must be in {list(OPERATORS)}, got {self.op}")
        if self.kind not in KINDS:
            raise ValueError(f"{name}: kind must be in {list(KINDS)}, got {self.kind}")
        if not self.source:
            raise ValueError(f"{name}: source must name a theorem, a table or a reason")
        if self.interval is None:
            return
        if self.op == "==":
            raise ValueError(f"{name}: an equality has no interval")
        low, high = (float(end) for end in self.interval)
        if low > high:
            raise ValueError(f"{name}: an interval is (low, high), got ({low}, {high})")

    @classmethod
    def within(
        cls,
        statement: str,
        value: SupportsFloat,
        low: SupportsFloat,
        high: SupportsFloat,
        **about: Any,
    ) -> tuple["Claim", "Claim"]:
        """low <= value <= high as two claims, "<statement>, at least" and "..., at most".

        about: kind, source and interval, as of a claim.
        """
        return (
            cls(f"{statement}, at least", value, ">=", low, **about),
            cls(f"{statement}, at most", value, "<=", high, **about),
        )

    @property
    def verdict(self) -> Verdict:
        """Whether it is so."""
        if math.isnan(float(self.value)) or math.isnan(float(self.threshold)):
            return "fails"
        ends = self.interval or (self.value,)
        if any(math.isnan(float(end)) for end in ends):
            return "undecided"  # a single unit has no interval
        ends = [self._satisfied(end) for end in ends]
        if not any(ends):
            return "fails"
        separates = self.baseline is None or not self._satisfied(self.baseline[1])
        return "holds" if all(ends) and separates else "undecided"

    @property
    def holds(self) -> bool:
        """Whether the verdict is "holds"."""
        return self.verdict == "holds"

    def _satisfied(self, value: SupportsFloat) -> bool:
        return bool(OPERATORS[self.op](float(value), float(self.threshold)))


@dataclass(frozen=True)
class Table:
    """Rows of cells for the screen and the report. The first column names the row."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


def largest_factor(found: Iterable[float], known: Iterable[float]) -> float:
    """max_i max(x_i / k_i, k_i / x_i): all numbers are within this factor of the known ones."""
    ratios = [x / k for x, k in zip(found, known, strict=True)]
    return float(max(max(ratio, 1 / ratio) for ratio in ratios))


def largest_change(found: Iterable[float], known: Iterable[float]) -> float:
    """max_i |x_i / k_i - 1|: all numbers are within this share of the known ones."""
    return float(max(abs(x / k - 1.0) for x, k in zip(found, known, strict=True)))


def behind_gates(gates: Sequence[Claim], claims: Sequence[Claim]) -> list[Claim]:
    """The gates, and the claims behind them where the value of every gate passes.

    A gate is a claim of competence: where one is missed, a comparison says nothing and is not made.
    """
    passed = all(gate._satisfied(gate.value) for gate in gates)
    return [*gates, *(claims if passed else ())]


class Outcome(NamedTuple):
    """What an experiment's `run` returns.

    claims: checked by the command line, which exits with 3 unless all hold.
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
      claims: written with their verdict; a value that is not finite is written as text.
      extra: further JSON values.
    """
    summary = {
        "slug": slug,
        "paper": paper,
        "seconds": round(seconds, 2),
        "versions": dict(versions),
        "config": config,
        "claims": [asdict(claim) | {"verdict": claim.verdict} for claim in claims],
        **extra,
    }
    path = out / "summary.json"
    write_text(path, json.dumps(_plain(summary), indent=1, allow_nan=False) + "\n")
    return path


def run_words(summary: Mapping[str, Any]) -> str:
    """How to repeat a run: command, size, seed and versions, as far as its summary has them."""
    seed = summary.get("config", {}).get("seed")
    parts = [
        summary.get("command", ""),
        f"size {summary['size']}" if "size" in summary else "",
        f"seed {seed}" if seed is not None else "",
        ", ".join(f"{name} {version}" for name, version in summary.get("versions", {}).items()),
    ]
    return "; ".join(str(part) for part in parts if part)


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
        return visible(str(value))
    number = float(value)
    plain = number == 0 or 0.001 <= abs(number) < 1e6 or not math.isfinite(number)
    return f"{number:.3f}" if plain else f"{number:.2g}"


def claims_table(claims: Sequence[Claim]) -> Table:
    """Claim, measured value with its interval, what was asked, where from, and the verdict."""
    words = {"holds": "holds", "fails": "FAILS", "undecided": "undecided"}
    rows = [(*claim_cells(claim), words[claim.verdict]) for claim in claims]
    return Table("Claims", ("claim", "measured [95%]", "asked", "source", ""), rows)


def claim_cells(claim: Claim) -> tuple[str, str, str, str]:
    """Statement, measured value [low, high], what was asked, and the source with its kind."""
    statement, measured = claim.statement, format_cell(claim.value)
    if claim.interval is not None:
        low, high = (format_cell(end) for end in claim.interval)
        measured += f" [{low}, {high}]"
    if claim.baseline is not None:
        name, value = claim.baseline
        statement += f" (must fail: {name}, {format_cell(value)})"
    asked = f"{claim.op} {format_cell(claim.threshold)}"
    return statement, measured, asked, f"{claim.kind}: {claim.source}"


def print_table(table: Table, console: Console | None = None) -> None:
    """Prints a table on the terminal, numbers right-aligned; full width when it is not one."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=10_000)
    # Text, because "[low, high]" in a plain string would be taken for a style and vanish.
    title = Text(visible(table.title), style="table.title")
    note = Text(visible(table.note), style="table.caption") if table.note else None
    shown = RichTable(title=title, title_justify="left", caption=note)
    for i, header in enumerate(table.headers):
        shown.add_column(
            Text(visible(header)), justify="left" if i == 0 else "right", overflow="fold"
        )
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
