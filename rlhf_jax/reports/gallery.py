"""One page of all results present: claims, plots and a link to each report."""

import json
from pathlib import Path
from typing import Any

from rlhf_jax.reports import html
from rlhf_jax.reports.claims import Claim, Table, write_text
from rlhf_jax.reports.html import Html

MOST_PLOTS = 4


def write_gallery(root: Path) -> Path:
    """Writes root/index.html from every root/*/summary.json, and returns its path.

    A summary that cannot be read is named on the page; the others are shown all the same. The plots
    are the first few of each folder's plots/*.png.
    """
    found = {path.parent: _summary(path) for path in sorted(root.glob("*/summary.json"))}
    blocks = [html.section("All results", html.table(_overview(found)))] if found else []
    blocks += [_result(folder, summary) for folder, summary in found.items()]
    if not found:
        blocks = [html.paragraph("No results yet: run an experiment first.")]
    lead = "Every experiment here measured its own claims; each report holds the details."
    path = root / "index.html"
    write_text(path, html.page("Results", *blocks, lead=lead))
    return path


def _summary(path: Path) -> dict[str, Any] | None:
    """The summary with its claims as Claim, or None if it is damaged."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        claims = [_claim(record) for record in summary["claims"]]
        return summary | {"claims": claims, "paper": str(summary["paper"])}
    except (ValueError, KeyError, TypeError):
        return None


def _claim(record: dict[str, Any]) -> Claim:
    """A claim as `write_summary` wrote it; numbers that are not finite were written as text."""
    interval, baseline = record["interval"], record["baseline"]
    return Claim(
        record["statement"],
        float(record["value"]),
        record["op"],
        float(record["threshold"]),
        kind=record["kind"],
        source=record["source"],
        interval=interval and (float(interval[0]), float(interval[1])),
        baseline=baseline and (str(baseline[0]), float(baseline[1])),
    )


def _overview(found: dict[Path, dict[str, Any] | None]) -> Table:
    rows = []
    for folder, summary in found.items():
        if summary is None:
            rows.append((folder.name, "summary.json cannot be read", "", ""))
            continue
        claims = summary["claims"]
        verdicts = [claim.verdict for claim in claims]
        held = f"{verdicts.count('holds')} of {len(claims)}"
        if verdicts.count("undecided"):
            held += f", {verdicts.count('undecided')} undecided"
        minutes = f"{float(summary.get('seconds', 0)) / 60:.1f}"
        rows.append((folder.name, summary["paper"], held, minutes))
    return Table("", ("results", "paper", "claims that hold", "minutes"), rows)


def _result(folder: Path, summary: dict[str, Any] | None) -> Html:
    if summary is None:
        text = f"{folder.name}/summary.json cannot be read: delete the folder or run it again."
        return html.section(folder.name, html.paragraph(text))
    blocks = [html.paragraph(text) for text in (summary["paper"], summary.get("claim", "")) if text]
    blocks.append(html.claims_list(summary["claims"]))
    for plot in sorted((folder / "plots").glob("*.png"))[:MOST_PLOTS]:
        words = plot.stem.replace("_", " ")
        blocks.append(html.figure(plot, alt=f"{folder.name}: {words}", caption=words))
    if (folder / "report.html").exists():
        blocks.append(html.link("Full report", f"{folder.name}/report.html"))
    return html.section(folder.name, *blocks)
