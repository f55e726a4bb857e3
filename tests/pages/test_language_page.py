"""docs/language.md: its code runs as one program, and every method on it improves on SFT."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "language.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.long
def test_every_method_on_the_page_improves_on_its_start(capsys):
    names: dict = {}
    for block in BLOCKS:
        exec(compile(block, "docs/language.md", "exec"), names)
    printed = capsys.readouterr().out
    right = {name: float(x) for name, x in re.findall(r"(\w+): ([\d.]+) right", printed)}
    assert right.keys() == {"SFT", "DPO", "GRPO", "PPO"}
    # Two words of six are right: a guess is right one time in three, and SFT imitates guesses.
    assert right.pop("SFT") < 0.5
    assert min(right.values()) > 0.5


def test_every_page_that_it_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    pages = [link for link in links if not link.startswith("https://")]
    assert [page for page in pages if not (DOCS / page).exists()] == []
