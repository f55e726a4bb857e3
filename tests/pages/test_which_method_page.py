"""docs/which_method.md names what exists, and its numbers are what the experiment measured."""

import importlib
import json
import re
import runpy
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest

from rlhf_jax import recipes
from rlhf_jax.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "which_method.md").read_text()
make_methods = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "make_methods.py")))
MEASURED = json.loads(make_methods.MEASURED.read_text())
NAMED = re.findall(r"`rlhf ([a-z0-9-]+)((?: --[a-z-]+)?)(?: [a-z_]+)?`", PAGE)


def options(kind: Any) -> set[str]:
    """The flags of a command, those of its parts included."""
    found = set()
    for name, hint in get_type_hints(kind).items():
        parts = [part for part in (hint, *get_args(hint)) if is_dataclass(part)]
        found |= set().union(*map(options, parts)) if parts else {name.replace("_", "-")}
    return found


def test_commands_and_their_options_exist():
    assert len(NAMED) > 15
    assert PAGE.count("`rlhf ") == len(NAMED)
    for name, flag in NAMED:
        command = COMMANDS[name]
        kind = getattr(importlib.import_module(command.module), command.options)
        assert fields(kind)
        assert not flag or flag.strip(" -") in options(kind), (name, flag)


@pytest.mark.parametrize("name", re.findall(r"`recipes\.(\w+)`", PAGE))
def test_recipes_exist(name):
    assert hasattr(recipes, name)


def test_numbers_are_those_of_the_run():
    """The guide and the README of the experiment are made from the file that the run has left."""
    for path in make_methods.PAGES:
        assert path.read_text() == make_methods.renewed(path, MEASURED), path


def test_one_table_of_four_columns_and_one_figure_on_one_page():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert {line.count(" | ") for line in rows if "---" not in line} == {3}
    assert sum("---" in line for line in rows) == PAGE.count("![") == 1
    assert len(PAGE.splitlines()) <= 60


def test_how_far_a_training_went_decides_as_the_page_says():
    """Each seed beside the start of that seed."""
    near, far = [], []
    for name, each in MEASURED["methods"].items():
        for one, start in zip(each, MEASURED["start"], strict=False):
            if name != "direct_rl":  # which does not begin at SFT
                row = (one["gold"] - start["gold"], one["score"] - start["score"])
                near += [row] if one["kl"] <= 0.5 else []
                far += [row] if one["kl"] > 3.0 else []
    assert len(near) > 20
    assert all(gold > 0 for gold, _ in near)
    assert len(far) >= 4
    assert all(gold < 0 < score for gold, score in far)


def test_a_row_by_hand():
    found = {"methods": {"a": [{"gold": 0.5, "kl": 1.0}], "b": [{"gold": 0.25, "kl": 0.5}] * 2}}
    assert make_methods.cell(found, "A", "a") == "A *0.500* (1.00)"
    assert make_methods.cell(found, "B", "b") == "B 0.250 (0.50)"
    assert make_methods.cell({"best_of": [0.5, 0.75]}, "best", "best_of") == "best 0.625"
    assert make_methods.spread([0.1, 0.3]) == "0.200 (0.100 to 0.300)"


def test_a_part_of_a_run_is_refused():
    with pytest.raises(ValueError, match="not a whole run: apo_zero, "):
        make_methods.kept({"numbers": {"methods": {"dpo": []}}})
    assert make_methods.rounded({"a": [0.123456789, 3, "x"]}) == {"a": [0.12346, 3, "x"]}


def test_a_page_without_a_region_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "page.md"
    path.write_text("<!-- methods: run -->\n<!-- end -->\n")
    monkeypatch.setitem(make_methods.PAGES, path, dict.fromkeys(("run", "greedy"), len))
    with pytest.raises(ValueError, match=r"the regions of .* must be"):
        make_methods.renewed(path, MEASURED)
