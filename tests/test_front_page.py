"""The doors of the packages: one list each, true examples, and `import rlhf_jax` stays light."""

import ast
import doctest
import importlib
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import rlhf_jax
from rlhf_jax import losses

LIBRARY = Path(__file__).parent.parent / "rlhf_jax"
DOORS = [path for path in sorted(LIBRARY.rglob("__init__.py")) if "import " in path.read_text()]
WITH_EXAMPLES = ["rlhf_jax.hf", "rlhf_jax.losses", "rlhf_jax.ops", "rlhf_jax.sampling"]
SCREEN = 30  # lines

HEAVY = [
    "array_record",
    "flax",
    "grain",
    "matplotlib",
    "optax",
    "orbax",
    "rich",
    "safetensors",
    "scipy.stats",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
    "tokenizers",
    "tyro",
]


@pytest.mark.long
def test_importing_the_library_imports_nothing_heavy():
    """In a fresh interpreter: what JAX itself imports is free."""
    program = (
        f"import sys, jax\nbefore = set(sys.modules)\nimport rlhf_jax\n"
        f"print([name for name in {HEAVY} if name in set(sys.modules) - before])"
    )
    command = [sys.executable, "-c", program]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_fits_two_screens():
    assert len(pydoc.plain(pydoc.render_doc(rlhf_jax)).splitlines()) <= 2 * SCREEN


def listed(door: Path) -> list[str]:
    """The names that a door re-exports, each in the form `from x import name as name`."""
    found = []
    for node in ast.parse(door.read_text()).body:
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            assert alias.asname == alias.name or alias.name == "*", f"{door}: {alias.name}"
            found.append(alias.name)
    return found


@pytest.mark.parametrize("door", DOORS, ids=[path.parent.name for path in DOORS])
def test_a_door_is_one_list_of_documented_names(door):
    names = listed(door)
    assert len(names) == len(set(names))
    assert "__all__" not in door.read_text()
    package = importlib.import_module(".".join(door.parent.relative_to(LIBRARY.parent).parts))
    for name in set(names) - {"*"}:
        value = getattr(package, name)
        assert getattr(value, "__doc__", None) or not callable(value), name


def test_every_loss_is_at_the_door_and_entered_once():
    inner = LIBRARY / "losses" / "preference"
    entered = [name for door in (inner.parent, inner) for name in listed(door / "__init__.py")]
    assert len(entered) == len(set(entered))
    names = [
        node.name
        for path in (LIBRARY / "losses").rglob("*.py")
        if path.stem not in ("links", "ratios")  # a module; a first step
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    assert len(names) > 100
    assert [name for name in names if name not in entered or not hasattr(losses, name)] == []


@pytest.mark.long
@pytest.mark.parametrize("package", WITH_EXAMPLES)
def test_the_examples_at_the_door_are_true(package):
    result = doctest.testmod(importlib.import_module(package))
    assert result.attempted > 5
    assert result.failed == 0
