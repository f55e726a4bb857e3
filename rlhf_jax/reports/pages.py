"""The usual page of an experiment: claims, a table, figures, and the numbers behind them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from rlhf_jax.reports import html, plots
from rlhf_jax.reports.claims import Claim, Table, run_words, write_text
from rlhf_jax.reports.panels import Panel, band_words, panels


class Shown(NamedTuple):
    """A figure on a page.

    title: of its section. caption: the quantity, the unit and the setting. alt: a description for
    readers who cannot see it.
    """

    figure: Figure
    title: str
    caption: str
    alt: str


def show_panels(
    items: Sequence[Panel],
    title: str,
    caption: str,
    alt: str,
    *,
    columns: int = 2,
    share_y: bool = False,
) -> Shown:
    """The panels as a figure. The caption ends with the meaning of their bands."""
    figure = panels(items, columns=columns, share_y=share_y)
    return Shown(figure, title, f"{caption} {band_words(items)}".strip(), alt)


def write_page(
    out: Path,
    title: str,
    *,
    paper: str,
    lead: str,
    claims: Sequence[Claim],
    figures: Mapping[str, Shown],
    table: Table | None = None,
    tables: Sequence[Table] = (),
    text: str = "",
) -> None:
    """Saves out/plots/<name>.png and .svg of each figure, and out/report.html with all of them.

    Args:
      out: the results folder.
      paper: the experiment's PAPER, above the claims, which link to its arXiv numbers.
      lead: the question and the method, under the title.
      claims: shown first.
      figures: file name -> Shown, one section each, in this order, after table and text.
      table, tables, text: measured numbers and a paragraph about them, if there are any.
    """
    blocks = [html.section("Claims", html.papers(paper), html.claims_list(claims, paper))]
    measured = [html.table(each) for each in ([table] if table else []) + [*tables]]
    measured += [html.paragraph(text)] if text else []
    if measured:
        blocks.append(html.section("Measured", *measured))
    for name, one in figures.items():
        path = plots.save_figure(one.figure, out / "plots" / f"{name}.png")
        image = html.figure(path, alt=one.alt, caption=one.caption)
        blocks.append(html.section(one.title, image))
    write_text(out / "report.html", html.page(title, *blocks, lead=lead))


def sign_page(out: Path) -> None:
    """Ends out/report.html, if there is one, with the paper and the run of out/summary.json."""
    report = out / "report.html"
    if report.is_file():
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        words = f"{summary['paper']}; {run_words(summary)}"
        write_text(report, html.signed(report.read_text(encoding="utf-8"), words))


def save_stages(out: Path, stages: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes out/data/<stage>.npz for each stage; arrays of nested mappings are named "a/b".

    A "/" in the name of a stage becomes "-".
    """
    (out / "data").mkdir(parents=True, exist_ok=True)
    for name, arrays in stages.items():
        path = out / "data" / f"{name.replace('/', '-')}.npz"
        np.savez_compressed(path, allow_pickle=False, **dict(_flat(arrays)))


def _flat(arrays: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}/")
        else:
            yield f"{above}{name}", np.asarray(value)
