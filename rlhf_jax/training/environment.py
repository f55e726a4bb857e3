"""The environment of a run: everything besides its config that can change its numbers.

Versions, sources, devices and precision.
"""

import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("rlhf-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
LIBRARY = Path(__file__).parents[1]


def environment(sources: Sequence[Path] = ()) -> dict[str, Any]:
    """The environment of this session as JSON values.

    sources: folders of Python files that count, besides the library itself.
    """
    config: Any = jax.config  # its fields are made at run time
    return {
        "versions": versions(),
        "sources": {folder.name: source_digest(folder) for folder in (LIBRARY, *sources)},
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "x64": bool(config.jax_enable_x64),
        "matmul_precision": str(config.jax_default_matmul_precision or "default"),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a run's numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"  # e.g. the library itself, imported from its folder
    return found


def source_digest(folder: Path) -> str:
    """The first 16 digits of SHA-256 over names and contents of all Python files under a folder."""
    hasher = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        data = path.read_bytes()
        hasher.update(f"{path.relative_to(folder).as_posix()} {len(data)} ".encode() + data)
    return hasher.hexdigest()[:16]
