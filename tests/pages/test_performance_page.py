"""docs/performance.md: its code runs, and its blocks are those of its commands."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

from rlhf_jax.training import clock

ROOT = Path(__file__).parents[2]
make_performance = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "make_performance.py")))
PAGE = make_performance.PAGE.read_text()


def test_the_code_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out == "['data', 'step']\n"


def test_every_command_has_a_block_of_its_own():
    asked = []

    def output(module, options):
        asked.append(module + options)
        return f"ran {module}"

    text = make_performance.renewed(PAGE, output)
    commands = re.findall(r"^    python -m (benchmarks\..*)$", PAGE, re.MULTILINE)
    assert asked == commands
    assert {"benchmarks.train", "benchmarks.compile"} <= {line.split()[0] for line in commands}
    assert text.count("ran benchmarks.") == len(commands)
    assert make_performance.renewed(text, output) == text
    one = make_performance.renewed(PAGE, output, "benchmarks.train")
    assert one.count("ran benchmarks.") == 1
    assert one.replace("\n", "").count("```") == PAGE.replace("\n", "").count("```")


def test_the_table_of_parts_is_that_of_the_clock():
    assert clock.__doc__ is not None
    parts = re.findall(r"^\| ([a-z]+) \|", clock.__doc__, re.MULTILINE)
    section = PAGE.split("## Where the seconds go")[1].split("##")[0]
    assert re.findall(r"^\| ([a-z]+) \|", section, re.MULTILINE) == parts
