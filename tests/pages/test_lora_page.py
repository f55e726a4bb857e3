"""docs/lora.md: its code runs as one program, and the adapter learns what was rewarded."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "lora.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.long
def test_the_page_trains_an_adapter(capsys):
    names: dict = {}
    for block in BLOCKS:
        exec(compile(block, "docs/lora.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "120 parameters" in printed
    # Answers have at most 4 words of 4 kinds: a guess has less than one red.
    assert float(re.findall(r"reds per answer: ([\d.]+)", printed)[0]) > 2
