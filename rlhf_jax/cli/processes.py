"""Options of several processes, and how a command joins the others."""

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Several processes, one for each host. All are started with the same command."""

    distributed: bool = False
    """Join the other processes of this job. JAX finds them on TPU pods, Slurm, Open MPI and
    Kubernetes."""
    coordinator: str | None = None
    """Elsewhere: HOST:PORT of process 0, the same in all commands."""
    processes: int | None = None
    """Elsewhere: number of processes."""
    process: int | None = None
    """Elsewhere: number of this process, from 0."""
    join_timeout: int = 300
    """Seconds to wait for the others."""
    heartbeat: int = 60
    """Seconds without a sign of life after which a process counts as dead, and the others end."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "join_timeout", "heartbeat")
        found = [self.coordinator, self.processes, self.process]
        if None in found and found != [None] * 3:
            raise ValueError("--coordinator, --processes and --process go together; give all three")


# Not in config.json: they say where a run is computed, and differ between its processes.
NAMES = tuple(field.name for field in dataclasses.fields(Processes))


def joining(options: Any) -> AbstractContextManager[None]:
    """Joins the other processes of a command, if its options say so.

    Raises:
      UserError: on entering, as `join_processes`.
    """
    found = _part(options)
    if found is None:
        return nullcontext()
    from rlhf_jax.training.processes import Join, join_processes

    if not found.distributed and found.coordinator is None:
        return join_processes(None)
    return join_processes(
        Join(
            coordinator=found.coordinator,
            count=found.processes,
            index=found.process,
            start_timeout=found.join_timeout,
            heartbeat=found.heartbeat,
        )
    )


def _part(options: Any) -> Processes | None:
    """The options of processes anywhere in those of a command."""
    if isinstance(options, Processes):
        return options
    if not dataclasses.is_dataclass(options):
        return None
    parts = (_part(getattr(options, field.name)) for field in dataclasses.fields(options))
    return next((part for part in parts if part is not None), None)
