"""One page of all results present: claims, plots and a link to each report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from rlhf_jax.reports import filters, html
from rlhf_jax.reports.claims import Claim, Table, run_words, write_text
from rlhf_jax.reports.html import Html

MOST_PLOTS = 4
# What reading a JSON file that anything may have written can raise.
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


class Summary(NamedTuple):
    """What the page shows of a summary.json. run: how to repeat it: command, size, seed and
    versions, as far as they are known."""

    slug: str
    paper: str
    claim: str
    minutes: float
    claims: list[Claim]
    run: str


def write_gallery(root: Path, groups: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Path:
    """Writes root/index.html from every root/*/summary.json, and returns its path.

    A summary that cannot be read is named on the page; the others are shown all the same. The plots
    are the first few of each folder's plots/*.png. Nothing is read through a link that leaves its
    folder.

    groups: title -> slugs of experiments. Each is a section; results of no group come last.
    """
    found = {path.parent: _summary(root, path) for path in sorted(root.glob("*/summary.json"))}
    blocks, rest = [], dict(found)
    for title, slugs in (*groups.items(), ("Other results" if groups else "All results", None)):
        members = {
            folder: summary
            for folder, summary in rest.items()
            if slugs is None or (isinstance(summary, Summary) and summary.slug in slugs)
        }
        rest = {folder: summary for folder, summary in rest.items() if folder not in members}
        if members:
            blocks.append(html.section(title, html.table(_overview(members))))
            blocks += [_result(folder, summary) for folder, summary in members.items()]
    if not found:
        blocks = [html.paragraph("No results yet: run an experiment first.")]
    lead = "Every experiment here measured its own claims; each report holds the details."
    if any(isinstance(summary, Summary) for summary in found.values()):
        blocks.insert(0, Html(filters.claim_filter()))
    path = root / "index.html"
    write_text(path, html.page("Results", *blocks, lead=lead))
    return path


def _summary(root: Path, path: Path) -> Summary | str:
    """The summary, or what is wrong with it."""
    folder = path.parent
    if not _stays(folder, root):
        return f"{folder.name} is a link that leaves {root}: give its own folder as --out."
    try:
        written = _read(path, folder)
    except ValueError as error:
        return f"{folder.name}/summary.json is not shown: {error}."
    try:
        summary = json.loads(written)
        minutes = float(summary.get("seconds", 0)) / 60
        claims = [_claim(record) for record in summary["claims"]]
        slug, claim = (_text(summary.get(name, "")) for name in ("slug", "claim"))
        paper, run = _text(summary["paper"]), run_words(summary)
        return Summary(slug, paper, claim, minutes, claims, run)
    except DAMAGED:
        return f"{folder.name}/summary.json cannot be read: delete the folder or run it again."


def _claim(record: dict[str, Any]) -> Claim:
    """A claim as `write_summary` wrote it; numbers that are not finite were written as text."""
    interval, baseline = record["interval"], record["baseline"]
    return Claim(
        _text(record["statement"]),
        float(record["value"]),
        record["op"],
        float(record["threshold"]),
        kind=record["kind"],
        source=_text(record["source"]),
        interval=interval and (float(interval[0]), float(interval[1])),
        baseline=baseline and (_text(baseline[0]), float(baseline[1])),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _stays(path: Path, folder: Path) -> bool:
    """Whether the path is inside the folder once links are followed."""
    return path.resolve().is_relative_to(folder.resolve())


def _read(path: Path, folder: Path) -> bytes:
    """A file of a results folder.

    Raises:
      ValueError: the file is no plain one, leaves the folder by a link, or cannot be read.
    """
    if not path.is_file():  # a pipe would never end
        raise ValueError("it is not a file")
    if not _stays(path, folder):
        raise ValueError("it is a link that leaves the folder")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(str(error.strerror)) from error


def _overview(found: dict[Path, Summary | str]) -> Table:
    rows = []
    for folder, summary in found.items():
        if isinstance(summary, str):
            rows.append((folder.name, "cannot be shown", "", ""))
            continue
        verdicts = [claim.verdict for claim in summary.claims]
        held = f"{verdicts.count('holds')} of {len(verdicts)}"
        if verdicts.count("undecided"):
            held += f", {verdicts.count('undecided')} undecided"
        rows.append((folder.name, summary.paper, held, f"{summary.minutes:.1f}"))
    return Table("", ("results", "paper", "claims that hold", "minutes"), rows)


def _result(folder: Path, summary: Summary | str) -> Html:
    if isinstance(summary, str):
        return html.section(folder.name, html.paragraph(summary))
    blocks = [html.paragraph(text) for text in (summary.paper, summary.claim) if text]
    blocks.append(html.claims_list(summary.claims, summary.paper))
    blocks += [_plot(folder, path) for path in sorted(folder.glob("plots/*.png"))[:MOST_PLOTS]]
    if (folder / "report.html").is_file() and _stays(folder / "report.html", folder):
        blocks.append(html.link("Full report", f"./{folder.name}/report.html"))
    blocks += [html.note(summary.run)] if summary.run else []
    return html.section(folder.name, *blocks, marks=filters.claim_marks(summary.claims))


def _plot(folder: Path, path: Path) -> Html:
    words = path.stem.replace("_", " ")
    try:
        return html.figure(_read(path, folder), alt=f"{folder.name}: {words}", caption=words)
    except ValueError as error:
        return html.note(f"plots/{path.name} is not shown: {error}.")
