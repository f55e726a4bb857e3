"""`import rlhf_jax` offers what it lists and stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import rlhf_jax

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


def test_the_page_lists_exactly_what_it_imports():
    page = ast.parse(Path(str(rlhf_jax.__file__)).read_text())
    imported = [
        alias.name for node in page.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert sorted(imported) == sorted(rlhf_jax.__all__)
    assert all(getattr(rlhf_jax, name).__doc__ for name in imported)
