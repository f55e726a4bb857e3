"""What the README shows is what happens."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.long
def test_the_example_runs_and_prefers_what_was_preferred(capsys):
    example, certificate = BLOCK.findall(README)
    language = BLOCK.findall((ROOT / "docs" / "language.md").read_text())[-1]
    names: dict = {}
    exec(example, names)
    rows = names["policy"].logits(names["state"].params, np.zeros((1, 1), int))
    first, second, third = np.ravel(rows)
    assert first > second > third
    assert capsys.readouterr().out.startswith("[[")
    exec(certificate, names)
    assert capsys.readouterr().out.splitlines()[-1].endswith(": holds")
    # A transformer: its pairs, and then the lines of the first example as they stand.
    exec(language, names)
    starts = ("params", "pairs = attach", "update", "state", "for", "    state")
    lines = [line for line in example.splitlines() if line.startswith(starts)]
    exec("\n".join(line for line in lines if "states, good" not in line), names)
    assert float(names["metrics"]["rewards/accuracy"]) == 1
    assert float(names["metrics"]["loss"]) < 0.1 * np.log(2)


def test_the_two_commands_are_there_and_the_page_is_short():
    lines = [line.strip() for line in README.splitlines()]
    assert "pip install -c constraints.txt -e . && python -m experiments run shop" in lines
    assert "pip install -c constraints.txt -e '.[test]' && pytest" in lines
    assert len(lines) <= 150
