"""docs/shop.md is what the shop writes, and no module with examples is missing on it."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
make_shop = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "make_shop.py")))


def test_the_code_runs_and_prints_what_it_says(capsys):
    text = (ROOT / "docs" / "shop.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    said = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert len(code) == len(said) == 1
    exec(code[0], {})
    assert capsys.readouterr().out.split() == said[0].split()


@pytest.mark.long
def test_the_page_is_up_to_date():
    page = make_shop.PAGE.read_text()
    assert page == make_shop.renewed(page)


def test_no_module_with_examples_is_forgotten():
    listed = [name for names in make_shop.CHAPTERS.values() for name in names]
    assert len(set(listed)) == len(listed)
    written = {
        path.stem
        for path in (ROOT / "rlhf_jax" / "envs" / "shop").glob("*.py")
        if "\ndef examples(" in path.read_text()
    }
    assert written <= set(listed)
    page = make_shop.PAGE.read_text()
    assert all(f"### `shop.{name}`" in page for name in written)


def test_a_page_without_a_region_is_refused():
    with pytest.raises(ValueError, match="the regions of the page must be"):
        make_shop.renewed("<!-- shop: gold -->\n<!-- end -->\n")


def test_folded_text_is_escaped_and_wrapped():
    block = make_shop.folded("two", ["a < b", "word " * 40])
    assert block.startswith("<details><summary>two</summary>\n\n<pre>\na &lt; b\n\nword word")
    assert max(map(len, block.splitlines())) <= make_shop.WIDTH
