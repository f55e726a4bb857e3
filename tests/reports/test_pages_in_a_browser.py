"""The gallery and three reports as a browser shows them, at the width of a desk and of a hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from chromium import find_chromium, open_tab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium"),
]
ROOT = Path(__file__).parents[2]
WIDTHS = (1200, 390)
REPORTS = ("shop", "raft", "nlhf")
# Elements that a reader cannot see whole: beyond the window, or wider than what holds them.
CUT_OFF = """
[...document.querySelectorAll('main, main *')].filter(e =>
  e.getBoundingClientRect().right > innerWidth + 1
  || e.clientWidth && e.scrollWidth > e.clientWidth + 1
).map(e => `${e.tagName}.${e.className}: ${e.innerText.slice(0, 80)}`)
"""
UNLOADED = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)"
VISIBLE = "[...document.querySelectorAll('tr.claimed')].filter(e => e.offsetParent).length"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with three results and their gallery."""
    folder = tmp_path_factory.mktemp("results")

    def experiments(*words):
        command = [sys.executable, "-m", "experiments", *map(str, words)]
        env = os.environ | {"JAX_PLATFORMS": "cpu"}
        return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode

    for slug in REPORTS:
        assert experiments("run", slug, "--quick", "--out", folder / slug) in (0, 3)
    assert experiments("report", "--out", folder) == 0
    return folder


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with open_tab(find_chromium(), tmp_path_factory.mktemp("profile")) as found:
        for domain in ("Network", "Log"):
            found.call(f"{domain}.enable")
        yield found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", ["index.html", *(f"{slug}/report.html" for slug in REPORTS)])
def test_a_page_is_whole_and_asks_nobody(results, tab, page, width):
    tab.events.clear()
    tab.screen(width, 900)
    tab.open((results / page).as_uri())
    assert tab.run(CUT_OFF) == []
    assert tab.run(UNLOADED) == []
    assert tab.run("document.images.length") > 0
    asked = [e["params"]["request"]["url"] for e in tab.events_of("Network.requestWillBeSent")]
    assert {url.split(":")[0] for url in asked} <= {"file", "data"}, asked
    wrong = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    assert [e for name in wrong for e in tab.events_of(name)] == []


def test_what_is_cut_off_is_found(results, tab):
    tab.screen(390, 900)
    tab.open((results / "index.html").as_uri())
    wide = "<section><pre>a long line".ljust(200, "x")
    tab.run(f"document.querySelector('main').insertAdjacentHTML('beforeend', '{wide}')")
    assert tab.run(CUT_OFF)


def test_claims_are_chosen_by_verdict_and_kind(results, tab):
    tab.screen(1200, 900)
    tab.open((results / "index.html").as_uri())
    everything = tab.run(VISIBLE)
    counts = {}
    for verdict in ("holds", "fails", "undecided"):
        tab.run(f"document.getElementById('verdict-{verdict}').click()")
        counts[verdict] = tab.run(VISIBLE)
        assert counts[verdict] == tab.run(f"document.querySelectorAll('td.{verdict}').length")
    assert sum(counts.values()) == everything > counts["holds"] > 0
    tab.run("document.getElementById('verdict-holds').click()")
    tab.run("document.getElementById('kind-theorem').click()")
    both = "document.querySelectorAll('tr.verdict-holds-kind-theorem').length"
    assert counts["holds"] > tab.run(VISIBLE) == tab.run(both) > 0
    sections = "[...document.querySelectorAll('section.claimed')].filter(e => e.offsetParent)"
    with_one = "every(e => e.querySelector('tr.verdict-holds-kind-theorem'))"
    assert tab.run(f"{sections}.{with_one}")
    tab.run("document.getElementById('verdict-all').click()")
    tab.run("document.getElementById('kind-all').click()")
    assert tab.run(VISIBLE) == everything


def test_a_page_says_how_it_was_made(results, tab):
    for slug in REPORTS:
        tab.open((results / slug / "report.html").as_uri())
        footer = tab.run("document.querySelector('footer').innerText")
        for part in (f"python -m experiments run {slug} --quick", "size quick", "seed 0", "jax 0."):
            assert part in footer
