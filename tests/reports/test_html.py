"""Pages hold everything they show, and show what they were given as text."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from rlhf_jax.reports import html, plots
from rlhf_jax.reports.claims import Claim, Table, write_summary
from rlhf_jax.reports.gallery import write_gallery

EVIL = "<script>alert('x')</script> & \"quoted\""
VOID = {"meta", "link", "img", "br"}


class Checked(HTMLParser):
    """Collects text and attributes, and fails on tags that do not match."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.tags = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def assert_self_contained(page):
    found = Checked(page)
    assert not re.search(r"https?://|//[a-z]|@import|url\(", page.split("</style>")[0])
    for tag, attributes in found.tags:
        assert tag not in ("script", "iframe", "object")
        for name in ("src", "href"):
            value = attributes.get(name, "")
            assert ":" not in value or value.startswith("data:")
        if tag == "img":
            assert attributes["alt"]
    return found


def full_page():
    figure = plots.curves({EVIL: plots.Series([0, 1], [1, 2])}, title="t", x_label="x", y_label="y")
    claims = [Claim(EVIL, 0.5, ">=", 0.75), Claim("b", 1, "<", 2)]
    return html.page(
        EVIL,
        html.section(EVIL, html.paragraph(EVIL), html.note(EVIL), html.claims_list(claims)),
        html.table(Table(EVIL, (EVIL, "n"), [(EVIL, 1.5), ("b", None)], note=EVIL)),
        html.figure(figure, alt=EVIL, caption=EVIL),
        html.answers(EVIL, EVIL, [(EVIL, EVIL, EVIL), ("empty", "", "")]),
        html.link(EVIL, "shop/report.html"),
        lead=EVIL,
        footer=EVIL,
    )


def test_escaping_and_self_containment():
    page = full_page()
    found = assert_self_contained(page)
    assert "<script" not in page
    assert sum(text.count(EVIL) for text in found.text) == 19
    assert [a["alt"] for tag, a in found.tags if tag == "img"] == [EVIL]


def test_numbers_stand_on_the_right():
    page = html.table(Table("", ("m", "x", "ci", "word"), [("a", 1.5, "0.61 [0.5, 0.7]", "w")]))
    assert '<td class="number">1.500</td><td class="number">0.61 [0.5, 0.7]</td><td>w</td>' in page
    assert Checked(html.table(Table("nothing", ("m",), []))).text[0] == "nothing"


def test_links_stay_within_the_results():
    for target in ("https://example.org", "/etc/passwd", "javascript:alert(1)"):
        with pytest.raises(ValueError, match="is not a relative path"):
            html.link("x", target)


def test_gallery(tmp_path):
    about = {"paper": EVIL, "seconds": 90.0, "versions": {}, "config": {}, "claim": EVIL}
    for slug in ("maze", "shop"):
        folder = tmp_path / slug
        folder.mkdir()
        write_summary(folder, slug=slug, claims=[Claim("c", 1, ">", 0)], **about)
    (tmp_path / "shop" / "report.html").write_text("x")
    map_ = plots.heat_map([[0.1, 0.9]], ["r"], ["a", "b"], title="t")
    plots.save(map_, tmp_path / "shop" / "plots" / "gold_scores.png")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "summary.json").write_text('{"claims": [{}]}')
    found = assert_self_contained(write_gallery(tmp_path).read_text())
    links = [a["href"] for tag, a in found.tags if tag == "a"]
    assert links == ["shop/report.html"]
    assert [a["alt"] for tag, a in found.tags if tag == "img"] == ["shop: gold scores"]
    text = "".join(found.text)
    assert "bad/summary.json cannot be read" in text
    assert "1.5" in text


def test_an_empty_gallery_says_so(tmp_path):
    assert "No results yet" in write_gallery(tmp_path).read_text()


def figures():
    x = np.linspace(0, 1, 5)
    names: dict[str, Any] = {"title": "t", "x_label": "x", "y_label": "y"}
    band = plots.Series(x, x, x - 0.1, x + 0.1)
    gaps = plots.Series([0, 1, 2], [1, None, float("nan")])
    yield plots.curves({"a": band, "b": gaps}, lines={"base": 0.5}, **names)
    yield plots.curves({"a": plots.Series(x, 10**x)}, log_y=True, **names)
    yield plots.curves({}, **names)
    yield plots.frontier({str(i): band for i in range(9)}, title="t")
    yield plots.reliability(x, [0, 0.2, float("nan"), 0.8, 1], [3, 4, 0, 5, 6], title="t")
    yield plots.heat_map(np.eye(3), list("abc"), ["long names", "tilt", "x"], title="t", low=0)


def test_the_same_data_give_the_same_bytes(tmp_path):
    first = [plots.png_bytes(figure) for figure in figures()]
    again = [plots.png_bytes(figure) for figure in figures()]
    assert first == again
    assert all(png.startswith(b"\x89PNG") for png in first)
    assert len({*first}) == len(first)
    path = plots.save(next(figures()), tmp_path / "plots" / "a.png")
    assert path.read_bytes() == first[0]
