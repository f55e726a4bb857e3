"""Every experiment has its row, README, sources and tests; every function it may use is tested."""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from experiment_checks import claim_faults, faults

from experiments.__main__ import slugs

ROOT = Path(__file__).parents[2]
ROOMS = ("exact", "algos", "recipes")


@pytest.mark.parametrize("slug", slugs())
def test_nothing_is_missing(slug):
    assert faults(slug, ROOT) == []


def test_a_claim_without_source_is_named(tmp_path):
    path = tmp_path / "claims.py"
    path.write_text(
        "from rlhf_jax.reports.claims import Claim\n"
        "from rlhf_jax.reports import rates\n"
        "from rlhf_jax.reports.intervals import mean_claim as mean_claim\n"
        "Claim('a', 1, '<', 2, kind='ours')\n"
        "Claim('b', 1, '<', 2, kind='ours', source='a table')\n"
        "rates.rate_claim('c', rate, -1.0)\n"
        "mean_claim('d', x, '<', 1, **about)\n"
        "gap_claim('e', x)\n"  # of the experiment itself: the claim inside it is looked at
    )
    assert claim_faults(path, tmp_path) == [
        f"claims.py:{line} makes a claim without source=" for line in (4, 6)
    ]


# ---- Functions of the library.


class Names(NamedTuple):
    """imported: dotted names that a file imports. used: its identifiers and attributes."""

    imported: frozenset[str]
    used: frozenset[str]


def names_of(path: Path) -> Names:
    imported, used = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Name):
            used.add(node.id)
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
    return Names(frozenset(imported), frozenset(used))


@cache
def files_of_tests() -> list[Names]:
    """Of every file below tests, helpers included."""
    return [names_of(path) for path in sorted((ROOT / "tests").rglob("*.py"))]


def public_functions(room: str) -> list[tuple[str, str]]:
    """(module, name) of the functions that a room defines for others."""
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts), node.name)
        for path in sorted((ROOT / "rlhf_jax" / room).rglob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]


def is_named(module: str, name: str, file: Names) -> bool:
    """Whether the file uses the name and imports it, its module or a package above that."""
    parts = module.split(".")
    doors = {".".join(parts[: i + 1]) for i in range(len(parts))}
    ways = doors | {f"{door}.{name}" for door in doors}
    return name in file.used and bool(ways & file.imported)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_is_named_by_a_test(room):
    missing = [
        f"{module}.{name}"
        for module, name in public_functions(room)
        if not any(is_named(module, name, file) for file in files_of_tests())
    ]
    assert not missing, f"no test names {', '.join(missing)}"
