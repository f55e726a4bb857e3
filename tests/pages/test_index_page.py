"""docs/index.md: each start is short, runs, and learns what it says."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "index.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def statements(block):
    """The lines of a block that do something."""
    lines = block.splitlines()
    return [line for line in lines if line.strip() and not line.startswith(("import", "from"))]


def test_there_are_four_starts_of_ten_lines_at_most():
    titles = [f"I have {start}" for start in ("pairs", "prompts and a reward", "a game", "an MDP")]
    assert re.findall(r"## (I have .*)", PAGE) == titles
    assert [len(statements(block)) <= 10 for block in BLOCKS] == [True] * 4


@pytest.mark.long
def test_the_four_starts_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in BLOCKS[:2]:
        exec(compile(block, "docs/index.md", "exec"), names)
    assert float(names["metrics"]["rewards/accuracy"]) == 0.5  # a tie before the first step
    assert names["tuned"].keys() == names["params"].keys()
    assert (tmp_path / "results" / "mine" / "stages" / "online" / "result").is_dir()
    for block in BLOCKS[2:]:
        exec(compile(block, "docs/index.md", "exec"), names)
    gap, regret = map(float, re.findall(r"\d+\.\d+", capsys.readouterr().out))
    assert gap < 0.01
    assert regret > 1


def test_every_page_that_it_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert len(links) > 8
    assert [link for link in links if not (DOCS / link).exists()] == []
