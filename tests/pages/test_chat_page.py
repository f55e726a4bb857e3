"""docs/chat.md: its code runs as one program and prints what the page says."""

import re
from pathlib import Path

import pytest

pytest.importorskip("jinja2")
DOCS = Path(__file__).parents[2] / "docs"


def test_the_code_of_the_page_prints_what_it_shows(capsys):
    page = (DOCS / "chat.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(block, "docs/chat.md", "exec"), names)
    shown = re.findall(r"```text\n(.*?)```", page, re.S)
    assert capsys.readouterr().out == "".join(shown)
