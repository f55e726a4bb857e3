"""The usual page of an experiment: claims, a table, figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from rlhf_jax.reports import html, plots
from rlhf_jax.reports.claims import Claim, Table, write_text


class Shown(NamedTuple):
    """A figure on a page. title: of its section; caption: what is drawn and how; alt: a description
    for readers who cannot see it."""

    figure: Figure
    title: str
    caption: str
    alt: str


def write_page(
    out: Path,
    title: str,
    *,
    lead: str,
    claims: Sequence[Claim],
    figures: Mapping[str, Shown],
    table: Table | None = None,
    text: str = "",
) -> None:
    """Saves out/plots/<name>.png for each figure and writes out/report.html with all of them.

    Args:
      out: the results folder.
      lead: what was asked and how, under the title.
      claims: shown first.
      figures: file name -> Shown, one section each, in this order, after table and text.
      table, text: measured numbers and a paragraph about them, if there are any.
    """
    blocks = [html.section("Claims", html.claims_list(claims))]
    measured = [html.table(table)] if table else []
    measured += [html.paragraph(text)] if text else []
    if measured:
        blocks.append(html.section("Measured", *measured))
    for name, one in figures.items():
        path = plots.save_figure(one.figure, out / "plots" / f"{name}.png")
        image = html.figure(path, alt=one.alt, caption=one.caption)
        blocks.append(html.section(one.title, image))
    write_text(out / "report.html", html.page(title, *blocks, lead=lead))
