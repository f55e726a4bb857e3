"""Reports as one HTML file that needs nothing else: no script, no font, no request to anywhere.

Every builder takes plain text, escapes it, spells out its control characters and returns `Html`;
only `Html` is joined unescaped.
"""

import base64
import html
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NewType
from urllib.parse import quote

from matplotlib.figure import Figure

from rlhf_jax.reports.claims import Claim, Table, claim_cells, format_cell
from rlhf_jax.reports.filters import claim_marks
from rlhf_jax.reports.plots import DOTS, png_bytes
from rlhf_jax.reports.text import visible

Html = NewType("Html", str)

ARXIV = re.compile(r"(?<![\d.])\d{4}\.\d{5}(?!\d)")
SIGNS = {">=": "≥", ">": "&gt;", "<=": "≤", "<": "&lt;", "==": "="}
STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1f2328; line-height: 1.55; font-size: 16px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .7rem; padding-bottom: .3rem;
  border-bottom: 1px solid #d8dee4; }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
p { margin: .6rem 0; max-width: 46rem; }
a { color: #0b5cad; }
.lead, .note, figcaption, footer { color: #57606a; }
.note, figcaption, footer { font-size: .875rem; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .38rem .75rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e4e8ec; }
th { font-weight: 600; }
thead th { border-bottom: 2px solid #afb8c1; vertical-align: bottom; }
tbody th { font-weight: 500; }
.number { text-align: right; }
td.number { white-space: nowrap; }
.holds, .fails, .undecided { font-weight: 600; white-space: nowrap; }
.holds { color: #11662f; }
.fails { color: #a40e26; }
.undecided { color: #7a5200; }
figure { margin: 1.2rem 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: .3rem; max-width: 46rem; }
.prompt { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f8fa; margin: .6rem 0;
  border-left: 3px solid #afb8c1; padding: .6rem .9rem; font-size: .9rem; }
.answers { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
.answer { border: 1px solid #d8dee4; border-radius: 6px; padding: .65rem .85rem; font-size: .9rem; }
.answer h4 { margin: 0 0 .3rem; font-size: .9rem; display: flex; flex-wrap: wrap;
  justify-content: space-between; gap: .5rem; }
.answer h4 span { font-weight: 400; color: #57606a; font-variant-numeric: tabular-nums; }
.answer div { white-space: pre-wrap; overflow-wrap: anywhere; }
footer { margin-top: 3rem; border-top: 1px solid #d8dee4; padding-top: .8rem; }
@media (max-width: 40rem) { main { padding: 1.2rem .9rem 3rem; } .answers { display: block; }
  .answer { margin-bottom: .8rem; }
  .wide table, .wide caption, .wide tbody, .wide tr, .wide th { display: block; }
  .wide thead, .wide td:empty { display: none; }
  .wide tr { border-bottom: 1px solid #d8dee4; padding: .4rem 0; }
  .wide th, .wide td { border: 0; padding: .1rem 0; overflow-wrap: anywhere; }
  .wide tbody th { font-weight: 600; }
  .wide td { display: flex; justify-content: space-between; gap: 1rem; text-align: right; }
  .wide td, .wide td.number { white-space: normal; }
  .wide td::before { content: attr(data-head); color: #57606a; font-weight: 400;
    text-align: left; flex: none; max-width: 55%; } }
@media print { .answer, figure, tr { break-inside: avoid; } }
"""


def escape(text: str) -> str:
    """Text as it stands between tags or within quotes."""
    return html.escape(visible(text))


def page(title: str, *blocks: Html, lead: str = "", footer: str = "") -> Html:
    """A whole document.

    Args:
      title: the heading and the window's title.
      blocks: in order.
      lead: one or two sentences under the title.
      footer: versions, time and the command, for instance.
    """
    lead_html = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    footer_html = f"<footer>{escape(footer)}</footer>" if footer else ""
    return Html(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'  # keeps a browser from asking a server for one
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{escape(title)}</h1>{lead_html}</header>\n"
        + "\n".join(blocks)
        + f"\n{footer_html}\n</main>\n</body>\n</html>\n"
    )


def signed(written: str, words: str) -> Html:
    """A page of `page` with a footer at its end."""
    head, end, tail = written.rpartition("\n</main>")
    return Html(f"{head}\n<footer>{escape(words)}</footer>{end}{tail}")


def section(title: str, *blocks: Html, marks: str = "") -> Html:
    """A titled part of a page; marks: class names, by which `filters` hides it."""
    named = f' class="{escape(marks)}"' if marks else ""
    body = "\n".join(blocks)
    return Html(f"<section{named}>\n<h2>{escape(title)}</h2>\n{body}\n</section>")


def paragraph(text: str) -> Html:
    """Plain text."""
    return Html(f"<p>{escape(text)}</p>")


def note(text: str) -> Html:
    """Small grey text."""
    return Html(f'<p class="note">{escape(text)}</p>')


def link(text: str, target: str) -> Html:
    """A paragraph with a link to a file beside the page, or in a folder there.

    Args:
      target: a path; one with a colon in its first folder begins with "./".
    Raises:
      ValueError: the target is not a relative path, or leads out of the folder.
    """
    parts = target.split("/")
    if ":" in parts[0] or not parts[0] or ".." in parts:
        raise ValueError(f"links stay within the results: {target!r} is not a relative path")
    return Html(f'<p><a href="{quote(os.fsencode(target))}">{escape(text)}</a></p>')


def table(content: Table) -> Html:
    """A table, numbers to the right; on a narrow screen each row is a list of names and cells."""
    columns = list(zip(*content.rows, strict=True)) if content.rows else [()] * len(content.headers)
    right = [bool(column) and all(_is_number(cell) for cell in column) for column in columns]
    head = "".join(
        f'<th scope="col"{_number(right[i])}>{escape(header)}</th>'
        for i, header in enumerate(content.headers)
    )
    body = "".join(f"<tr>{_row(row, right, content.headers)}</tr>\n" for row in content.rows)
    caption = f"<caption>{escape(content.title)}</caption>" if content.title else ""
    return Html(
        f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>" + (note(content.note) if content.note else "")
    )


def claims_list(claims: Sequence[Claim], paper: str = "") -> Html:
    """The claims, what was measured, where they come from, and each verdict in word and colour.

    Args:
      paper: with arXiv numbers; a claim of a theorem or a paper links to them, unless its own
        source has a number.
    """
    marks = {"holds": "✓ holds", "fails": "✗ fails", "undecided": "? undecided"}
    heads = ("claim", "measured [95%]", "asked", "source", "verdict")
    head = "".join(f'<th scope="col">{word}</th>' for word in heads)
    rows = "".join(
        f'<tr class="{claim_marks([c])}"><th scope="row">{escape(statement)}</th>'
        f'<td class="number" data-head="{heads[1]}">{measured}</td>'
        f'<td class="number" data-head="{heads[2]}">{SIGNS[c.op]} {format_cell(c.threshold)}</td>'
        f'<td data-head="{heads[3]}"><span>{escape(source)}{_paper_links(c, paper)}</span></td>'
        f'<td class="{c.verdict}" data-head="{heads[4]}">{marks[c.verdict]}</td></tr>\n'
        for c in claims
        for statement, measured, _, source in [claim_cells(c)]
    )
    body = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>"
    return Html(f'<div class="wide"><table>{body}</table></div>')


def papers(text: str) -> Html:
    """A paragraph that names papers; their arXiv numbers are links."""
    linked = ARXIV.sub(lambda number: _arxiv(number[0], number[0]), escape(text))
    return Html(f"<p>{linked}</p>")


def _paper_links(claim: Claim, paper: str) -> str:
    """Links to the arXiv pages that a claim comes from."""
    own = ARXIV.findall(claim.source)
    numbers = own or (ARXIV.findall(paper) if claim.kind in ("theorem", "paper") else [])
    links = [_arxiv(number, f"arXiv:{number}") for number in dict.fromkeys(numbers)]
    return f"<br>{', '.join(links)}" if links else ""


def _arxiv(number: str, words: str) -> str:
    return f'<a href="https://arxiv.org/abs/{number}">{words}</a>'


def figure(image: Figure | bytes | Path, *, alt: str, caption: str = "") -> Html:
    """A picture held in the page itself.

    Args:
      image: a matplotlib figure, PNG bytes, or the path of a PNG file.
      alt: what it shows, for those who cannot see it; required.
      caption: text under it.
    Raises:
      ValueError: the bytes are not a PNG.
    """
    data = png_bytes(image) if isinstance(image, Figure) else image
    data = data.read_bytes() if isinstance(data, Path) else data
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("it is not a PNG")
    source = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    size = f'src="{source}" width="{_png_width(data)}"'
    return Html(f'<figure><img {size} alt="{escape(alt)}">{below}</figure>')


def answer_table(title: str, prompt: str, rows: Sequence[tuple[str, str, str]]) -> Html:
    """One prompt and its answers side by side.

    Args:
      title: of the prompt.
      prompt: its text, line breaks kept.
      rows: (method, answer, a short remark such as its score).
    """
    cards = "\n".join(
        f'<div class="answer"><h4>{escape(method)}<span>{escape(remark)}</span></h4>'
        f"<div>{escape(text) or '<em>(empty)</em>'}</div></div>"
        for method, text, remark in rows
    )
    return Html(
        f'<h3>{escape(title)}</h3>\n<div class="prompt">{escape(prompt)}</div>\n'
        f'<div class="answers">\n{cards}\n</div>'
    )


def _png_width(png: bytes) -> int:
    """Width on the page: half again as large as in print."""
    return round(int.from_bytes(png[16:20], "big") * 144 / DOTS)


def _row(row: Sequence[Any], right: Sequence[bool], headers: Sequence[str]) -> str:
    first = f'<th scope="row">{escape(format_cell(row[0]))}</th>' if row else ""
    return first + "".join(
        f'<td{_number(right[i])} data-head="{escape(headers[i])}">{escape(format_cell(cell))}</td>'
        for i, cell in enumerate(row)
        if i > 0
    )


def _is_number(cell: Any) -> bool:
    """Numbers, gaps, and texts that begin like a number ("0.61 [0.58, 0.64]")."""
    text = format_cell(cell)
    return text in ("", "–", "nan", "inf", "-inf") or text[:2].strip("+-<>=~ ")[:1].isdigit()  # noqa: RUF001


def _number(right: bool) -> str:
    return ' class="number"' if right else ""
