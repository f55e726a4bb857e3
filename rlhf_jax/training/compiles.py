"""How often a run compiles, and where its programs are kept for the next one.

XLA compiles a program anew for every shape of its arguments.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from rlhf_jax.types import PyTree

EVENT = "/jax/core/compile/backend_compile_duration"


@dataclass
class Compiles:
    """Programs compiled or read from the cache of compiled programs, and the seconds it took.

    shapes: stage -> shapes of the batches that it trained on; its step is compiled for each.
    """

    programs: int = 0
    seconds: float = 0.0
    shapes: dict[str, set[tuple[tuple[int, ...], ...]]] = field(default_factory=dict)

    def see(self, stage: str, batch: PyTree) -> None:
        """Notes the shapes of a batch."""
        found = tuple(getattr(x, "shape", ()) for x in jax.tree.leaves(batch))
        self.shapes.setdefault(stage, set()).add(found)

    def as_json(self) -> dict[str, Any]:
        """The numbers, for summary.json."""
        shapes = {stage: len(found) for stage, found in self.shapes.items()}
        return {"programs": self.programs, "seconds": self.seconds, "batch_shapes": shapes}

    def note(self) -> str:
        """One line."""
        line = f"compiled: {self.programs} programs in {self.seconds:.1f} s"
        parts = [
            f"{stage} for {len(found)} shape{'s'[: len(found) > 1]} of batches"
            for stage, found in self.shapes.items()
        ]
        return ", ".join([line, *parts])


@contextmanager
def counting_compiles() -> Generator[Compiles]:
    """Counts within the block, in all threads."""
    found = Compiles()

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == EVENT:
            found.programs += 1
            found.seconds += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def keep_programs() -> None:
    """Compiled programs are kept for the next process, unless JAX_COMPILATION_CACHE_DIR is set.

    They go to $XDG_CACHE_HOME/rlhf_jax/jax, by default in ~/.cache. All are kept: a first step
    needs dozens of small ones, which together take as long as the large one.
    """
    config: Any = jax.config  # its fields are made at run time
    if config.jax_compilation_cache_dir is not None:  # by the variable or a caller
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(folder / "rlhf_jax" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
