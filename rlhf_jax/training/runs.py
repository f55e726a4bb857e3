"""A run: a results folder that one session at a time holds, with its metrics and its stop flag."""

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_jax.training import checkpoints, processes
from rlhf_jax.training.clock import Clock
from rlhf_jax.training.compiles import Compiles, counting_compiles
from rlhf_jax.training.environment import environment
from rlhf_jax.training.errors import Interrupted, naming_full_disk
from rlhf_jax.training.folders import (
    check_folder,
    clear,
    config_json,
    files,
    holds_work,
    locked,
    naming_bad_folder,
    note_environment,
    note_files,
)
from rlhf_jax.training.metrics import MetricWriter, close_writer, open_writer, silent_writer
from rlhf_jax.training.signals import Stop, never


@dataclass(frozen=True)
class Run:
    """An open run. Only `spent`, `done`, `marks`, `compiles` and `clock` change during the run.

    versions, compiles: of this session. environments: the distinct ones of all sessions.
    spent: finished stage -> seconds over all sessions. done: finished stage -> "sha256" of its
    result and "rows" of metrics.jsonl up to its end. marks: "inside", seconds of this session spent
    in stages.
    """

    out: Path
    slug: str
    config: dict[str, Any]
    versions: dict[str, str]
    environments: list[dict[str, Any]]
    writer: MetricWriter
    stop: Stop
    progress: bool
    began: float
    spent: dict[str, float] = field(default_factory=dict)
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    marks: dict[str, float] = field(default_factory=lambda: {"inside": 0.0})
    compiles: Compiles = field(default_factory=Compiles)
    clock: Clock = field(default_factory=Clock)


@contextmanager
def open_run(
    out: Path,
    *,
    slug: str,
    config: Any,
    resume: bool = False,
    sources: Sequence[Path] = (),
    stop: Stop = never,
    progress: bool = False,
) -> Generator[Run, None, None]:
    """Opens a results folder for a run, or refuses it and changes nothing.

    A folder is accepted if it is empty or its run has saved nothing yet; with `resume`, also if it
    has a run with the same config. If code, packages or devices have changed, that is printed, and
    noted in run.json and `Run.environments`.

    sources: folders of Python files that can change the numbers, besides the library itself.

    Raises:
      ResultsError: the folder has another run, this run without `resume`, or other files; another
        process uses it; it cannot be written; or array storage cannot use its path.
      DiskFullError: the disk became full inside the block.
    """
    began = time.perf_counter()
    now = environment(sources)
    record = {"slug": slug, "config": config_json(config), "environments": [now]}
    processes.check_same("its run", {name: record[name] for name in ("slug", "config")})
    with naming_full_disk(out), ExitStack() as held:

        def claim() -> list[dict[str, Any]]:
            with naming_full_disk(out), naming_bad_folder(out):
                return _claim(out, record, held, resume=resume, say=progress)

        environments = processes.on_first(claim)
        writer = open_writer(out) if processes.process() == 0 else silent_writer(out)
        held.callback(close_writer, writer)
        facts = (slug, record["config"], now["versions"], environments)
        compiles = held.enter_context(counting_compiles())
        clock = Clock(programs=lambda: compiles.programs)
        given = (out, *facts, writer, stop, progress, began)
        yield Run(*given, compiles=compiles, clock=clock)


def _claim(
    out: Path, record: dict[str, Any], held: ExitStack, *, resume: bool, say: bool
) -> list[dict[str, Any]]:
    """Takes the folder for a run while `held` is open; returns the environments of all sessions."""
    checkpoints.check_path(out)
    check_folder(out, record, resume=resume)
    out.mkdir(parents=True, exist_ok=True)
    held.enter_context(locked(out))
    if resume and holds_work(out):
        return note_environment(out, record["environments"][0], say=say)
    known = clear(out)
    checkpoints.write_json(out / "run.json", record)
    if known:
        held.callback(note_files, out, files(out))
    return record["environments"]


def check_stop(run: Run, where: str) -> None:
    """Raises Interrupted if the run was asked to stop: for long work outside `train_stage`."""
    if asked := run.stop():
        raise Interrupted(asked, where)


def run_seconds(run: Run) -> float:
    """Seconds of work: all stages over all sessions, and this session's time between stages."""
    outside = time.perf_counter() - run.began - run.marks["inside"]
    return sum(run.spent.values()) + outside


def say(run: Run, line: str) -> None:
    """Prints a line of progress."""
    if run.progress:
        print(line, flush=True)
