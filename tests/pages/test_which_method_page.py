"""docs/which_method.md names what exists, and its numbers are those of the experiment."""

import importlib
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from rlhf_jax import recipes
from rlhf_jax.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "which_method.md").read_text()
README = (ROOT / "experiments" / "shop_methods" / "README.md").read_text()
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


def test_numbers_are_those_of_the_table():
    """Gold by method is in the second column of numbers of the experiment's README."""
    rows = re.findall(r"^\| (\w+), o\w+ \|[^|]*\| ([0-9.]+)", README, re.MULTILINE)
    gold = {name.replace("_", " "): value for name, value in rows}
    said = re.findall(r"([A-Z]\w+|online DPO)(?: on the chosen answers)? (0\.\d{3})", PAGE)
    known = [(name.lower(), value) for name, value in said if name.lower() in gold]
    assert len(known) >= 9
    for name, value in known:
        assert gold[name] == value
    assert "| SFT |  | 0.781" in README
    assert "gold 0.781 at the start" in PAGE.replace("\n", " ")
