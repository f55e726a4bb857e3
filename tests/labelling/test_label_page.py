"""The page in a headless Chromium, by mouse and keys; skipped where there is none.

CHROMIUM in the environment is its path; otherwise it is looked for by name.
"""

import json

import pytest
from chromium import SHIFT, find_chromium, open_tab
from labelled_rows import serving, write_rows

from rlhf_jax.data.formats import read_rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium"),
]
MARKUP = '<script>window.ran = 1</script><img src=x onerror="window.ran = 1"><b>4</b>'


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with open_tab(find_chromium(), tmp_path_factory.mktemp("profile")) as found:
        found.screen(1280, 800)
        yield found


def open_page(tab, address, name="?annotator=ann"):
    tab.open("http://{}:{}/".format(*address) + name)


def shown(tab):
    """(prompt, answers) on the screen."""
    texts = "[...document.querySelectorAll('{} .text')].map((box) => box.textContent)"
    (prompt,) = tab.run(texts.format("#prompt"))
    return prompt, tab.run(texts.format("#answers"))


def until_judged(tab, number):
    tab.until(f"!busy && document.getElementById('count').textContent.startsWith('{number} of')")


def test_ten_pairs_a_tie_an_undo_and_a_reload(start, data, out, tab):
    rows = [{"prompt": f"{i}?", "answers": [f"{i} yes", f"{i} no"]} for i in range(12)]
    write_rows(data, rows)
    wanted = []
    with serving(start()) as address:
        open_page(tab, address, "")
        tab.until("!document.getElementById('name').hidden")
        tab.click("#annotator")
        tab.call("Input.insertText", text="ann")
        tab.press("Enter")
        for number in range(10):
            until_judged(tab, number)
            prompt, (left, right) = shown(tab)
            if number % 3 == 2:
                tab.press("t") if number % 2 else tab.click("button.both_bad")
            elif number % 2:
                tab.press("2")
                tab.press("ArrowRight")
                wanted.append((prompt, right, left, 2.0))
            else:
                tab.click("button.left")
                wanted.append((prompt, left, right, None))
            until_judged(tab, number + 1)
        last = shown(tab)
        tab.press("u")
        until_judged(tab, 9)
        undone, wanted = wanted[-1], wanted[:-1]
        assert shown(tab)[0] == undone[0]
        tab.press("s")
        until_judged(tab, 9)
        tab.until(f"document.querySelector('#prompt .text').textContent === {json.dumps(last[0])}")
    with serving(start()) as address:  # another server, the same file
        open_page(tab, address)
        until_judged(tab, 9)
        assert shown(tab)[0] == undone[0]
    assert [tuple(pair)[:4] for pair in read_rows(out).records] == wanted


def test_markup_is_text_and_the_end_is_said(start, data, tab):
    write_rows(data, [{"prompt": MARKUP, "answers": [MARKUP + " one", MARKUP + " two"]}])
    with serving(start()) as address:
        open_page(tab, address)
        until_judged(tab, 0)
        prompt, answers = shown(tab)
        assert prompt == MARKUP
        assert sorted(answers) == [MARKUP + " one", MARKUP + " two"]
        assert tab.run("document.querySelectorAll('main script, main img, main b').length") == 0
        assert tab.run("window.ran") is None
        tab.press("b")
        until_judged(tab, 1)
        assert not tab.run("document.getElementById('end').hidden")
    tab.press("u")  # nobody listens any more
    tab.until("document.getElementById('fault').textContent.includes('is it still running')")


def test_ratings_by_keys_and_marks_by_keys_in_characters_beyond_16_bits(start, data, out, tab):
    write_rows(data, [{"prompt": "2+2?", "answers": ["🙂 five or so"]}])
    with serving(start("ratings", criteria=("true", "kind"))) as address:
        open_page(tab, address)
        until_judged(tab, 0)
        tab.press("2")
        tab.press("Enter")  # too early
        assert tab.run("document.getElementById('status').textContent") == "Rate every line first."
        tab.press("4")
        tab.press("Enter")
        until_judged(tab, 1)
    assert json.loads(out.read_text())["criteria"] == {"true": [2], "kind": [4]}
    out.unlink()
    with serving(start("spans")) as address:
        open_page(tab, address)
        until_judged(tab, 0)
        for _ in range(2):
            tab.press("ArrowRight")
        tab.press("ArrowRight", SHIFT)
        tab.press("3")
        tab.press("b")
        tab.press("Enter")
        until_judged(tab, 1)
    (span,) = json.loads(out.read_text())["spans"]
    assert (span["text"], span["quality"], span["category"]) == ("five or", "bad", "relevance")


def test_a_narrow_screen_needs_no_scrolling_sideways(start, tab):
    with serving(start()) as address:
        tab.screen(390, 844, dark=True)
        open_page(tab, address)
        until_judged(tab, 0)
        assert tab.run("document.documentElement.scrollWidth") <= 390
        assert tab.picture().startswith(b"\x89PNG")
        tab.screen(1280, 800)
        widths = "[...document.querySelectorAll('.answer')].map((box) => box.offsetLeft)"
        assert len(set(tab.run(widths))) == 2  # side by side
