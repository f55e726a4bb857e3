"""docs/huggingface.md: its code runs as one program, and its table has every family."""

import re
from pathlib import Path

import pytest

from rlhf_jax import hf

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "huggingface.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.long
def test_the_code_runs_from_top_to_bottom(capsys):
    names: dict = {}
    for block in BLOCKS:
        exec(compile(block, "docs/huggingface.md", "exec"), names)
    texts, shape = capsys.readouterr().out.splitlines()
    assert texts.startswith("[")
    assert shape == "(32,)"
    assert (names["folder"] / "tuned" / "tokenizer.json").is_file()


def test_page_and_door_name_every_family():
    table = PAGE[: PAGE.index("## Save")]
    for name in hf.FAMILIES:
        assert f"`{name}`" in table
        assert re.search(rf"\b{name}\b", hf.__doc__ or "")


def test_every_page_that_it_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert [link for link in links if not (DOCS / link).exists()] == []
