"""A run: a results folder and a sequence of named stages, each of which is done once.

    with open_run(out, slug="shop", config=config, resume=True) as run:
        sft = run_stage(run, "sft", lambda stage: (fit(stage), {"rows": 12}), like=params)

Under the folder: `run.json` (slug, config, environments), `metrics.jsonl`, `tensorboard/<stage>/`,
`stages/<stage>/result/` when a stage is finished, and `stages/<stage>/<part>/step_<n>/` before
that. A resumed run loads finished stages and continues the unfinished one from its last checkpoint.
If the result of a finished stage is missing but later stages exist, the stage is repeated in
`stages/<stage>/.again/`. It must give the same result, because the later stages depend on it; its
rows are already in metrics.jsonl.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rlhf_jax.training import checkpoints, origins, processes, trees
from rlhf_jax.training.checkpoints import Store
from rlhf_jax.training.errors import DivergedError, ResultsError, naming_full_disk
from rlhf_jax.training.loop import Settle, StepFn, Until, settled, train, unending
from rlhf_jax.training.metrics import RowsPrefix, check_rows, muted, position, rewind
from rlhf_jax.training.runs import Run, check_stop, say
from rlhf_jax.types import PyTree

AGAIN = ".again"


@dataclass(frozen=True)
class Stage:
    """A stage in progress. `loops`: loop -> seconds that earlier sessions spent in it.

    again: whether the stage is repeated because its result is missing but later stages exist.
    """

    run: Run
    name: str
    again: bool = False
    loops: dict[str, float] = field(default_factory=dict)


class StageResult(NamedTuple):
    """Result of a finished stage: arrays (any pytree), JSON info, seconds over all sessions."""

    arrays: PyTree
    info: dict[str, Any]
    seconds: float


def run_stage(
    run: Run,
    name: str,
    work: Callable[[Stage], tuple[PyTree, dict[str, Any]]],
    *,
    like: PyTree | None = None,
) -> StageResult:
    """Does a stage, or loads its result if an earlier session finished it.

    Args:
      run: the open run. Stages must come in the same order each time.
      name: folder name, unique within the run.
      work: `stage -> (arrays, info)`, only what the run needs later. When resumed it starts again
        from the beginning, except for its `train_stage` loops.
      like: a tree with the structure and shapes of the arrays. Not needed for dicts, lists and
        tuples of arrays, which are read as NumPy arrays.
    Raises:
      Interrupted: a stop was requested before the stage, in it, or before its result was saved.
      DivergedError: the result contains NaN and is not saved.
    """
    if name == ".." or Path(name).parts != (name,):
        raise ValueError(f"a stage is a folder and needs a name without slashes, got {name!r}")
    if name in run.done:
        raise ValueError(f"stage {name} has been done in this run: give this one another name")
    check_stop(run, f"before {name}")
    folder, origin = run.out / "stages" / name, _origin(run, name)
    began = time.perf_counter()

    def look() -> tuple[bool, bool]:
        for path in (folder, *_folders(folder), *_folders(folder / AGAIN)):
            checkpoints.clean(path)
        there = (folder / "result").is_dir()
        return there, not there and bool(origins.later(folder, run.done))

    there, again = processes.on_first(look)
    if there:
        result = _load(run, folder, like, origin)
    else:
        stage = Stage(run, name, again=again)
        result = _work(stage, work, like, began)
    run.spent[name] = result.seconds
    run.marks["inside"] += time.perf_counter() - began
    check_stop(run, f"after {name}")
    return result


def run_stages(
    run: Run, works: Mapping[str, Callable[[], PyTree]], *, x64: bool = False
) -> dict[str, PyTree]:
    """`run_stage` for each name in order; arrays alone, as NumPy arrays.

    Args:
      works: name -> work without arguments that returns the arrays.
      x64: work in float64.
    """

    def stage(work: Callable[[], PyTree]) -> tuple[PyTree, dict[str, Any]]:
        with jax.enable_x64(True) if x64 else nullcontext():
            return jax.tree.map(np.asarray, work()), {}

    return {
        name: run_stage(run, name, lambda _, work=work: stage(work)).arrays
        for name, work in works.items()
    }


def train_stage(
    stage: Stage,
    step_fn: StepFn,
    state: PyTree,
    *,
    steps: int,
    save_every: int = 100,
    log_every: int = 1,
    part: str = "steps",
    until: Until = unending,
    settle: Settle = settled,
) -> PyTree:
    """`train` with the folder, writer, progress bar and stop flag of the run; returns the state.

    `part` is the folder of the loop's checkpoints; each further loop of a stage needs another one.
    Its rows have the name of the stage, or `<stage>/<part>` if part is given. The loops of a stage
    must come in the same order each time. `until` ends the loop early, at the first state for which
    it is True; `settle` is called on a state before it is saved.

    Raises:
      ResultsError: this loop is not finished, but a later one has a checkpoint.
    """
    if part in stage.loops:
        raise ValueError(f"stage {stage.name} has a loop {part!r} already: give this one a part=")
    began = time.perf_counter()
    store = Store(_folder(stage) / part)
    followed = processes.on_first(lambda: _followed(stage, store, steps))
    state, seconds = train(
        _watched(stage, step_fn),
        state,
        stage=stage.name if part == "steps" else f"{stage.name}/{part}",
        steps=steps,
        store=store,
        writer=stage.run.writer,
        save_every=save_every,
        log_every=log_every,
        progress=stage.run.progress,
        stop=stage.run.stop,
        until=until,
        settle=settle,
        clock=stage.run.clock,
        followed=followed,
        metadata={"part": part, "origin": _origin(stage.run, stage.name)},
    )
    if watchdog := processes.watchdog():
        watchdog.rest()
    stage.loops[part] = max(seconds - (time.perf_counter() - began), 0.0)
    return state


def _watched(stage: Stage, step_fn: StepFn) -> StepFn:
    """The same step; the watchdog of several processes sees it begin."""
    watchdog = processes.watchdog()
    if watchdog is None:
        return step_fn

    def step(state: PyTree, number: int) -> tuple[PyTree, dict[str, Any]]:
        watchdog.see(stage.name, number)
        return step_fn(state, number)

    return step


def _origin(run: Run, name: str) -> origins.Origin:
    """The origin that results and checkpoints of a stage must have now."""
    digest = checkpoints.json_digest(run.config)
    return {"slug": run.slug, "stage": name, "config": digest, "after": dict(run.done)}


def _folder(stage: Stage) -> Path:
    """Folder for the checkpoints of a stage in progress and, at first, for its result."""
    folder = stage.run.out / "stages" / stage.name
    return folder / AGAIN if stage.again else folder


def _load(run: Run, folder: Path, like: PyTree | None, origin: origins.Origin) -> StageResult:
    """The result of a finished stage, after all checks."""

    def check(record: dict[str, Any]) -> None:
        origins.check(folder / "result", record.get("origin"), origin, folder)

    arrays, record = checkpoints.read_checkpoint(folder / "result", like, check=check)
    check_rows(run.writer, RowsPrefix(*record["rows"]), folder.name)
    run.done[folder.name] = {"sha256": origins.result_digest(record), "rows": record["rows"]}
    say(run, f"{folder.name}: done before, in {record['seconds']:.1f} s")
    return StageResult(arrays, record["info"], record["seconds"])


def _work(
    stage: Stage,
    work: Callable[[Stage], tuple[PyTree, dict[str, Any]]],
    like: PyTree | None,
    began: float,
) -> StageResult:
    """Runs a stage and saves its result."""
    run, folder = stage.run, _folder(stage)
    origin = _origin(run, stage.name)

    def look() -> tuple[dict[str, Any] | None, bool]:
        before = _left_before(stage) if stage.again else None
        held = origins.loops(folder)
        for part, found in held.items():
            origins.check(folder / part, found, origin, run.out / "stages" / stage.name)
        return before, bool(held)

    before, held = processes.on_first(look)
    with muted(run.writer, stage.again):
        if not held:
            end = [done["rows"] for done in run.done.values()]
            rewind(
                run.writer, RowsPrefix(*end[-1]) if end else RowsPrefix(), stage=stage.name, step=-1
            )
        arrays, info = work(stage)
    # An infinity may be the right number: log 0, or a bound that does not exist.
    faults = processes.exchange(
        trees.first_not_finite({"arrays": arrays, "info": info}, allow_infinite=True)
    )
    if bad := next(filter(None, faults), None):
        raise DivergedError(
            f"{stage.name}: its result{bad}, so the stage is not finished. Change the options and "
            "choose another --out, or fix the code and resume"
        )
    seconds = time.perf_counter() - began + sum(stage.loops.values())
    rows = before["rows"] if before else list(position(run.writer))
    record = {"info": info, "seconds": seconds, "rows": rows, "origin": origin}
    with naming_full_disk(run.out):
        checkpoints.write(folder / "result", arrays, record)
    if not stage.loops:
        say(run, f"{stage.name}: {seconds:.1f} s")
    # Read back, so that later stages get the same leaves as in a run that loads this stage.
    arrays, record = checkpoints.read_checkpoint(folder / "result", like)
    left = {"sha256": origins.result_digest(record), "rows": record["rows"]}
    processes.on_first(lambda: _keep(stage, left, before))
    run.done[stage.name] = left
    return StageResult(arrays, record["info"], seconds)


def _left_before(stage: Stage) -> dict[str, Any]:
    """Digest and rows of the first result of a repeated stage, from the origins of later stages."""
    run, folder = stage.run, stage.run.out / "stages" / stage.name
    later = origins.later(folder, run.done)
    for origin in later.values():
        after = origin["after"]
        other = [name for name in run.done if after.get(name) != run.done[name]]
        if other or stage.name not in after:
            raise origins.went_on(folder.parent, [*later], other or [stage.name])
    before = next(iter(later.values()))["after"][stage.name]
    check_rows(run.writer, RowsPrefix(*before["rows"]), stage.name)
    return before


def _keep(stage: Stage, left: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Moves a result to its place if it equals `before`, and deletes the stage's checkpoints."""
    folder = stage.run.out / "stages" / stage.name
    if before and left != before:
        later = origins.later(folder, stage.run.done)
        raise origins.went_on(folder.parent, [*later], [stage.name])
    if before:
        (folder / AGAIN / "result").rename(folder / "result")
    for part in stage.loops:
        checkpoints.remove(Store(folder / part))
    shutil.rmtree(folder / AGAIN, ignore_errors=True)


def _followed(stage: Stage, store: Store, steps: int) -> bool:
    """Whether a later loop of the stage has a checkpoint from an earlier session.

    Then this loop is finished, and metrics.jsonl has rows of the later loop after its own.
    """
    folder = store.root.parent
    later = [folder / part for part in origins.loops(folder, but={*stage.loops, store.root.name})]
    done = max(checkpoints.steps(store), default=0)
    if later and done < steps and not _ended(store, done):
        names = " and ".join(str(path) for path in later)
        raise ResultsError(
            f"{store.root} has {done} of {steps} steps but {names} goes on from its end: "
            f"delete {names} and resume"
        )
    return bool(later) or stage.again


def _ended(store: Store, step: int) -> bool:
    """Whether the checkpoint of this step, if there is one, is of the loop's end."""
    folder = checkpoints.folder_of(store, step)
    return folder.is_dir() and checkpoints.read_record(folder)["metadata"].get("last", False)


def _folders(folder: Path) -> list[Path]:
    """The subfolders of a folder; none if it does not exist."""
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
