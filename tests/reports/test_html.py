"""Pages hold everything they show, and show what they were given as text."""

import json
import os
import re
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest

from rlhf_jax.reports import html, plots
from rlhf_jax.reports.claims import Claim, Table, write_summary
from rlhf_jax.reports.gallery import write_gallery
from rlhf_jax.reports.panels import Panel, panels

trial = partial(Claim, kind="ours", source="a trial")


EVIL = "<script>alert('x')</script> & \"quoted\""
VOID = {"meta", "link", "img", "br", "input"}


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
    figure = panels([Panel("t", "x", "y", {EVIL: plots.Series([0, 1], [1, 2])})])
    claims = [trial(EVIL, 0.5, ">=", 0.75), trial("b", 1, "<", 2)]
    return html.page(
        EVIL,
        html.section(EVIL, html.paragraph(EVIL), html.note(EVIL), html.claims_list(claims)),
        html.table(Table(EVIL, (EVIL, "n"), [(EVIL, 1.5), ("b", None)], note=EVIL)),
        html.figure(figure, alt=EVIL, caption=EVIL),
        html.answer_table(EVIL, EVIL, [(EVIL, EVIL, EVIL), ("empty", "", "")]),
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
    cells = (
        ' class="number" data-head="x">1.500',
        ' class="number" data-head="ci">0.61 [0.5, 0.7]',
    )
    assert "".join(f"<td{cell}</td>" for cell in (*cells, ' data-head="word">w')) in page
    assert Checked(html.table(Table("nothing", ("m",), []))).text[0] == "nothing"


def test_links_stay_within_the_results():
    bad = ("https://example.org", "/etc/passwd", "javascript:alert(1)", "../x", "a/../../x", "")
    for target in bad:
        with pytest.raises(ValueError, match="is not a relative path"):
            html.link("x", target)
    assert 'href="./a%3Ab/50%25%20%23%3F.html"' in html.link("x", "./a:b/50% #?.html")


def test_gallery(tmp_path):
    about = {"paper": EVIL, "seconds": 90.0, "versions": {}, "config": {}, "claim": EVIL}
    for slug in ("maze", "shop"):
        folder = tmp_path / slug
        folder.mkdir()
        write_summary(folder, slug=slug, claims=[trial("c", 1, ">", 0)], **about)
    (tmp_path / "shop" / "report.html").write_text("x")
    map_ = plots.heat_map([[0.1, 0.9]], ["r"], ["a", "b"], title="t")
    plots.save_figure(map_, tmp_path / "shop" / "plots" / "gold_scores.png")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "summary.json").write_text('{"claims": [{}]}')
    found = assert_self_contained(write_gallery(tmp_path).read_text())
    links = [a["href"] for tag, a in found.tags if tag == "a"]
    assert links == ["./shop/report.html"]
    assert [a["alt"] for tag, a in found.tags if tag == "img"] == ["shop: gold scores"]
    text = "".join(found.text)
    assert "bad/summary.json cannot be read" in text
    assert "1.5" in text
    assert "All results" in text
    grouped = write_gallery(tmp_path, {"Games": ["chess"], "Worlds": ["shop"]}).read_text()
    text = "".join(assert_self_contained(grouped).text)
    assert "Games" not in text
    assert text.index("Worlds") < text.index("Other results") < text.index("maze")


def write_results(folder, **changes):
    """A results folder whose summary has these entries; returns the summary's claim."""
    folder.mkdir()
    claim = {
        "statement": "c", "value": 1, "op": ">", "threshold": 0, "kind": "ours",
        "source": "a trial", "interval": None, "baseline": None,
    }  # fmt: skip
    summary = {"paper": "P", "seconds": 1, "claim": "C", "claims": [claim]} | changes
    (folder / "summary.json").write_text(json.dumps(summary))
    return claim


def test_an_odd_folder_does_not_keep_the_gallery_from_the_others(tmp_path):
    claim = write_results(tmp_path / "a:b 100%")
    (tmp_path / "a:b 100%" / "report.html").write_text("x")
    odd = {
        "seconds": {"seconds": None},
        "number": {"claim": 5},
        "claims": {"claims": [3]},
        "statement": {"claims": [claim | {"statement": 7}]},
        "operator": {"claims": [claim | {"op": ["<"]}]},
        "interval": {"claims": [claim | {"interval": [1]}]},
        "huge": {"claims": [claim | {"value": 10**400}]},
    }
    for name, changes in odd.items():
        write_results(tmp_path / name, **changes)
    spoilt = {"list": b"[]", "deep": b"[" * 10**5, "bytes": b"\xff\xfe{", os.fsdecode(b"\xff"): b""}
    for name, text in spoilt.items():
        write_results(tmp_path / name)
        (tmp_path / name / "summary.json").write_bytes(text)
    (tmp_path / "folder" / "summary.json").mkdir(parents=True)
    found = assert_self_contained(write_gallery(tmp_path).read_text())
    text = "".join(found.text)
    for name in (*odd, "list", "deep", "bytes", r"\udcff"):
        assert f"{name}/summary.json cannot be read: delete the folder or run it again." in text
    assert "folder/summary.json is not shown: it is not a file." in text
    assert "1 of 1" in text
    links = [a["href"] for tag, a in found.tags if tag == "a"]
    assert links == ["./a%3Ab%20100%25/report.html"]


def test_the_gallery_reads_nothing_through_a_link_that_leaves_a_folder(tmp_path):
    root, outside = tmp_path / "results", tmp_path / "outside"
    root.mkdir()
    write_results(outside)
    picture = plots.save_figure(plots.heat_map([[0.5]], ["r"], ["a"], title="t"), outside / "p.png")
    write_results(root / "mine")
    drawn = root / "mine" / "plots"
    drawn.mkdir()
    (drawn / "a.png").write_bytes(picture.read_bytes())
    (drawn / "b.png").symlink_to("a.png")
    (drawn / "c.png").symlink_to(picture)
    (drawn / "d.png").write_text("secret")
    (root / "linked").symlink_to(outside)
    (root / "half").mkdir()
    (root / "half" / "summary.json").symlink_to(outside / "summary.json")
    found = assert_self_contained(write_gallery(root).read_text())
    assert [a["alt"] for tag, a in found.tags if tag == "img"] == ["mine: a", "mine: b"]
    text = "".join(found.text)
    assert "plots/c.png is not shown: it is a link that leaves the folder." in text
    assert "plots/d.png is not shown: it is not a PNG." in text
    assert "half/summary.json is not shown: it is a link that leaves the folder." in text
    assert f"linked is a link that leaves {root}" in text


def test_control_characters_are_spelt_out_on_a_page():
    evil = "\x1b]0;t\x07 \0 \u202egnp.exe \x9b2J \ud800 ü\n日本\u3000語"
    table_, claims = Table(evil, (evil,), [(evil,)], note=evil), [trial(evil, 1, ">", 0)]
    parts = (html.paragraph(evil), html.note(evil), html.table(table_), html.claims_list(claims))
    page = html.page(
        evil, html.section(evil, *parts), html.answer_table(evil, evil, [(evil, evil, evil)])
    )
    spelt = r"\x1b]0;t\x07 \x00 \u202egnp.exe \x9b2J \ud800 ü" + "\n日本\u3000語"
    assert page.count(spelt) == 15
    assert not set(page) & set("\x1b\x07\0\u202e\x9b\ud800")


def test_an_empty_gallery_says_so(tmp_path):
    assert "No results yet" in write_gallery(tmp_path).read_text()


def figures():
    x = np.linspace(0, 1, 5)
    band = plots.Series(x, x, x - 0.1, x + 0.1)
    gaps = plots.Series([0, 1, 2], [1, None, float("nan")])
    yield panels([Panel("t", "x", "y", {"a": band, "b": gaps}, levels={"base": 0.5})])
    yield panels([Panel("t", "x", "y", {"a": plots.Series(x, 10**x)}, log_y=True)])
    yield panels([Panel("t", "x", "y", {})])
    yield plots.frontier({str(i): band for i in range(9)}, title="t")
    yield plots.reliability(x, [0, 0.2, float("nan"), 0.8, 1], [3, 4, 0, 5, 6], title="t")
    yield plots.heat_map(np.eye(3), list("abc"), ["long names", "tilt", "x"], title="t", low=0)


@pytest.mark.long
def test_the_same_data_give_the_same_bytes(tmp_path):
    first = [plots.png_bytes(figure) for figure in figures()]
    again = [plots.png_bytes(figure) for figure in figures()]
    assert first == again
    assert all(png.startswith(b"\x89PNG") for png in first)
    assert len({*first}) == len(first)
    paths = [plots.save_figure(next(figures()), tmp_path / name / "a.png") for name in "pq"]
    assert paths[0].read_bytes() == first[0]
    drawings = [path.with_suffix(".svg").read_bytes() for path in paths]
    assert drawings[0].startswith(b"<?xml")
    assert drawings[0] == drawings[1]


def test_a_heat_map_has_a_colour_bar_with_its_unit():
    figure = plots.heat_map(np.eye(2), ["r", "s"], ["a", "b"], title="t", unit="win rate")
    assert [axes.get_ylabel() for axes in figure.axes] == ["", "win rate"]


def test_a_claim_links_to_its_paper():
    """Its own source first; else the experiment's papers, if a paper claims it."""
    claims = [
        Claim("a", 1, ">", 0, kind="theorem", source="Theorem 1"),
        Claim("b", 1, ">", 0, kind="ours", source="a trial"),
        Claim("c", 1, ">", 0, kind="ours", source="2407.00617, Table 1; not 12407.00617"),
    ]
    found = Checked(html.claims_list(claims, "One (2312.00886) and arXiv:2502.16852"))
    links = [attributes["href"].rsplit("/")[-1] for tag, attributes in found.tags if tag == "a"]
    assert links == ["2312.00886", "2502.16852", "2407.00617"]
