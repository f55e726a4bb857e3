"""Who may import whom. Every import of every file is parsed and held against one table.

A room is a folder or file of the library. An import anywhere counts: at the top, inside a
function, relative, under TYPE_CHECKING, or by `import_module` with a constant name.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from import_graph import import_graph, imports, module_name, reachable, source_files

ROOT = Path(__file__).parent.parent
PACKAGE = "rlhf_jax"

# Room -> the rooms of this library it may import, besides itself.
ROOMS = {
    "": {"types", "ops", "losses", "certify"},  # rlhf_jax/__init__.py
    "types": set(),
    "checks": set(),
    "ops": set(),
    "losses": {"ops"},
    "algos": {"types", "ops", "losses", "rewards"},
    "models": {"sharding"},
    "policies": set(),  # its empty door
    "policies.tabular": {"types", "ops"},
    "policies.linear": {"types", "ops"},
    "policies.implicit": {"types", "ops"},
    "policies.entailment": {"types", "ops"},
    "policies.language": {"types", "ops", "models", "sharding"},
    "policies.latent": {"types", "models"},
    "policies.features": {"types", "models"},
    "policies.network": {"types", "ops", "models"},
    "policies.rewriting": {"types", "policies.language"},
    "policies.verdicts": {"types", "models", "policies.language"},
    "feedback": {"types", "ops"},
    "envs": {"types", "feedback"},
    "exact": {"ops", "envs"},
    "sampling": {"types", "ops", "policies", "envs", "data"},
    "data": {"types"},
    "labelling": {"data"},
    "hf": {"types", "models", "data", "sharding"},
    "rewards": {"types"},
    "sharding": {"types"},
    "layouts": {"types"},
    "certify": {"types", "ops", "sharding", "layouts"},
    "training": {"types", "sharding"},
    "reports": {"types"},
    "recipes": {
        *("types", "ops", "losses", "algos", "models", "policies", "feedback", "rewards"),
        *("sampling", "data", "sharding", "training", "exact"),
    },
    "plan": {
        *("types", "ops", "algos", "models", "policies", "recipes", "sampling", "sharding"),
        "training",
    },
    "serving": {"types", "ops", "models", "sampling", "data"},
    "cli": {
        *("types", "ops", "losses", "algos", "models", "policies", "rewards", "sampling", "data"),
        *("hf", "labelling", "sharding", "training", "recipes", "plan", "reports", "serving"),
    },
    "labs": {
        *("types", "ops", "losses", "algos", "models", "policies", "feedback", "envs", "sampling"),
        *("data", "hf", "sharding", "training", "recipes"),
    },
}

EVERYONE_MAY_IMPORT = {"checks"}
ALIASES = {"rlhf_jax.types.Scalar"}  # all that arithmetic and losses take from types

# Rooms that may import only these from outside, besides the standard library.
OUTSIDE = {
    "types": {"jax", "jaxtyping"},
    "checks": {"jax", "jaxtyping", "numpy"},
    "ops": {"jax", "jaxtyping", "chex"},
    "losses": {"jax", "jaxtyping", "chex"},
}
ONLY_IN_MODELS = {"flax"}


def room_of(name: str) -> str:
    """The room a dotted name under rlhf_jax lies in: the longest one in the table.

    A name that is in no room counts as the front page, "", which no other room may import.
    """
    parts = name.split(".")[1:]
    for length in (2, 1):
        if len(parts) >= length and ".".join(parts[:length]) in ROOMS:
            return ".".join(parts[:length])
    return ""


def may_import(room: str, target: str) -> bool:
    """Whether the table has the edge; `policies` stands for each of its files."""
    free = ROOMS[room] | EVERYONE_MAY_IMPORT
    return target == room or target in free or target.split(".")[0] in free


def home_of(path: Path, root: Path) -> tuple[str, str]:
    """(kind, name) of a file: a room of the library, an experiment, or the experiments' CLI."""
    name = module_name(path, root)
    if name.split(".")[0] == PACKAGE:
        return "room", room_of(name)
    parts = path.relative_to(root).parts
    return ("experiment", parts[1]) if len(parts) > 2 else ("cli", "experiments")


def complaint(kind: str, home: str, name: str) -> str | None:
    """Why this home may not import this name; None where it may."""
    top = name.split(".")[0]
    if top in ONLY_IN_MODELS and home != "models":
        return f"{top} is for models/ only"
    if top == "tests":
        return "nothing imports the tests"
    if top == "experiments" and kind == "room":
        return "the library never imports an experiment"
    if top == "experiments" and kind == "experiment":
        slug = [*name.split("."), ""][1]
        return None if slug == home else "an experiment imports only rlhf_jax and itself"
    if name in ALIASES:
        return None
    if top == PACKAGE and kind == "room":
        target = room_of(name)
        return None if may_import(home, target) else f"{home or PACKAGE} may not import {target!r}"
    if home in OUTSIDE and kind == "room":
        free = OUTSIDE[home] | sys.stdlib_module_names
        return None if top in free else f"{home} imports only {sorted(OUTSIDE[home])}"
    return None


def violations(root: Path) -> list[str]:
    """One line per forbidden import under `root`, with file, line and reason."""
    found = []
    for path in source_files(root):
        kind, home = home_of(path, root)
        place = path.relative_to(root)
        if kind == "room" and place.parts[-1] not in ("__init__.py",) and home in ("", "policies"):
            found.append(f"{place}: no such room in the table of {Path(__file__).name}")
            continue
        for name, line in imports(path, root):
            reason = complaint(kind, home, name)
            if reason:
                found.append(f"{place}:{line}: imports {name}: {reason}")
    return found


def test_every_import_is_an_edge_of_the_table():
    assert violations(ROOT) == []


def test_the_table_is_acyclic():
    """Rooms can be built one on top of the other."""
    edges = {
        room: {full for full in ROOMS for name in names if full.split(".")[0] == name}
        for room, names in ROOMS.items()
    }
    for room in ROOMS.keys() - EVERYONE_MAY_IMPORT:
        edges[room] |= EVERYONE_MAY_IMPORT
    for room in ROOMS:
        assert room not in reachable(room, edges)


def is_model(name: str) -> bool:
    return name.split(".")[0] == "flax" or name.startswith(
        (f"{PACKAGE}.models", f"{PACKAGE}.policies")
    )


def test_no_loss_and_no_algorithm_imports_a_model():
    """Neither directly nor through anything that it imports."""
    graph = import_graph(ROOT)
    homes = tuple(f"{PACKAGE}.{room}" for room in ("losses", "algos"))
    modules = [module for module in graph if module.startswith(homes)]
    assert len(modules) >= 8
    for module in modules:
        assert [name for name in reachable(module, graph) if is_model(name)] == []
    # The same search does find the model below the language policy.
    below = reachable(f"{PACKAGE}.policies.language", graph)
    assert "flax" in below
    assert any(name.startswith(f"{PACKAGE}.models.") for name in below)


@pytest.mark.long
def test_losses_and_algorithms_run_without_flax_or_any_heavy_import():
    """The same in a fresh interpreter: nothing arrives through third parties either."""
    modules = [
        module_name(path, ROOT)
        for room in ("losses", "algos", "ops", "exact")
        for path in sorted((ROOT / PACKAGE / room).rglob("*.py"))
    ]
    heavy = ["flax", "orbax", "tensorflow_datasets", "grain", "matplotlib", "tokenizers"]
    program = (
        f"import sys, importlib\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"models = [name for name in sys.modules if name.startswith('{PACKAGE}.models')]\n"
        f"print(models + [name for name in {heavy!r} if name in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def write(root: Path, place: str, source: str) -> None:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)


BAD = {
    "from": ("rlhf_jax/losses/new.py", "from rlhf_jax.models.layers import Block"),
    "plain": ("rlhf_jax/losses/new.py", "import rlhf_jax.types"),
    "beside the scalar": ("rlhf_jax/losses/new.py", "from rlhf_jax.types import Policy, Scalar"),
    "several": ("rlhf_jax/algos/new.py", "import os, rlhf_jax.policies.tabular as tabular"),
    "room by name": ("rlhf_jax/algos/new.py", "from rlhf_jax import models"),
    "in a function": (
        "rlhf_jax/algos/new.py",
        "def update():\n    from rlhf_jax.policies.language import language_policy",
    ),
    "for typing": (
        "rlhf_jax/losses/new.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rlhf_jax.models",
    ),
    "relative": ("rlhf_jax/losses/new.py", "from ..models import transformer"),
    "relative name": ("rlhf_jax/ops/new.py", "from .. import losses"),
    "relative from a package": ("rlhf_jax/ops/__init__.py", "from ..types import Policy"),
    "relative, deep": ("rlhf_jax/envs/shop/new.py", "from ...data import loader"),
    "by string": (
        "rlhf_jax/training/new.py",
        "import importlib\nimportlib.import_module('rlhf_jax.algos.ppo')",
    ),
    "front page from inside": ("rlhf_jax/algos/new.py", "from rlhf_jax import dpo_loss"),
    "front page too heavy": ("rlhf_jax/__init__.py", "import rlhf_jax.training.loop"),
    "policy to policy": (
        "rlhf_jax/policies/linear.py",
        "from rlhf_jax.policies.language import language_policy",
    ),
    "second door to models": ("rlhf_jax/sampling/new.py", "from rlhf_jax import models"),
    "flax outside models": ("rlhf_jax/policies/language.py", "from flax import nnx"),
    "flax in an experiment": ("experiments/one/run.py", "import flax.nnx"),
    "optax in a loss": ("rlhf_jax/losses/new.py", "import optax"),
    "numpy in the types": ("rlhf_jax/types.py", "import numpy as np"),
    "another experiment": ("experiments/one/run.py", "from experiments.two import config"),
    "another, relative": ("experiments/one/run.py", "from ..two.config import Config"),
    "shared helpers": ("experiments/one/run.py", "from experiments import plots"),
    "library to experiment": ("rlhf_jax/reports/new.py", "import experiments.one.run"),
    "library to tests": ("rlhf_jax/reports/new.py", "from tests import conftest"),
    "room not in the table": ("rlhf_jax/utils.py", "import os"),
    "policy not in the table": ("rlhf_jax/policies/neural.py", "import os"),
}

GOOD = {
    "rlhf_jax/__init__.py": "from rlhf_jax.losses.preference import dpo_loss",
    "rlhf_jax/types.py": "from typing import Any\nimport jax\nfrom jaxtyping import Array",
    "rlhf_jax/ops/scalars.py": "from rlhf_jax.types import Scalar",
    "rlhf_jax/ops/kl.py": "import math\nimport chex\nfrom rlhf_jax.ops.logprobs import ratios",
    "rlhf_jax/losses/rewards.py": "from .reward import loss\nfrom ..ops import kl",
    "rlhf_jax/algos/ppo.py": "import optax\nfrom rlhf_jax import losses, ops, types",
    "rlhf_jax/models/transformer.py": "from flax import nnx\nfrom rlhf_jax.models import layers",
    "rlhf_jax/policies/language.py": "from rlhf_jax.models import transformer",
    "rlhf_jax/sampling/decode.py": "from rlhf_jax.policies.language import language_policy",
    "rlhf_jax/training/loop.py": "import orbax.checkpoint\nfrom rlhf_jax.sharding import mesh",
    "experiments/__main__.py": "import tyro\nfrom experiments.one.run import main",
    "experiments/one/run.py": "from rlhf_jax import dpo_loss\nfrom experiments.one import config",
}


@pytest.mark.parametrize(("place", "source"), BAD.values(), ids=BAD.keys())
def test_a_forbidden_import_is_caught(tmp_path, place, source):
    write(tmp_path, place, source)
    found = violations(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(place)


def test_allowed_imports_pass(tmp_path):
    for place, source in GOOD.items():
        write(tmp_path, place, source)
    assert violations(tmp_path) == []


def test_a_model_behind_two_modules_is_found(tmp_path):
    write(tmp_path, "rlhf_jax/losses/a.py", "from rlhf_jax.ops.b import helper")
    write(tmp_path, "rlhf_jax/ops/b.py", "def helper():\n    from . import c")
    write(tmp_path, "rlhf_jax/ops/c.py", "import rlhf_jax.models.transformer")
    below = reachable("rlhf_jax.losses.a", import_graph(tmp_path))
    assert [name for name in sorted(below) if is_model(name)] == [
        "rlhf_jax.models",
        "rlhf_jax.models.transformer",
    ]


def test_a_model_behind_a_front_page_is_found(tmp_path):
    """Importing a.b runs a's front page first."""
    write(tmp_path, "rlhf_jax/__init__.py", "import rlhf_jax.models")
    write(tmp_path, "rlhf_jax/losses/a.py", "import jax")
    assert "rlhf_jax.models" in reachable("rlhf_jax.losses.a", import_graph(tmp_path))
