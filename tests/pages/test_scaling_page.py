"""docs/scaling.md: its commands have these options, and its table has every plan."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from rlhf_jax.cli.arguments import parse
from rlhf_jax.cli.plan import PlanOptions, make_job
from rlhf_jax.plan import read_topology

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scaling.md"
plans = runpy.run_path(str(ROOT / "docs" / "make_plans.py"))


def jobs():
    lines = re.findall(r"^rlhf plan .*$", PAGE.read_text(), re.MULTILINE)
    return [*map(shlex.split, lines), *(["rlhf", *row.words] for row in plans["rows"]())]


@pytest.mark.parametrize("words", jobs(), ids=" ".join)
def test_every_command_is_understood(words):
    options = parse(PlanOptions, words[2:], "plan")
    assert read_topology(options.topology).count >= 8
    assert make_job(options).batch == options.batch


def test_the_table_has_every_plan():
    rows = plans["rows"]()
    assert len(rows) == 2 * 4 * 3
    assert len({row.name for row in rows}) == len(rows)
    text = PAGE.read_text()
    for row in rows:
        assert f"| {row.method} {row.model} {row.topology} {row.mesh}, {row.batch} x 4096" in text
