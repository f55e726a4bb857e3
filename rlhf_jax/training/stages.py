"""A run: a results folder worked through in named stages, each finished once and for all.

    with open_run(out, slug="shop", config=config, resume=True) as run:
        sft = run_stage(run, "sft", lambda stage: (fit(stage), {"rows": 12}), like=params)

Under the folder: `run.json` (slug, config, versions), `metrics.jsonl`, `tensorboard/<stage>/`,
`stages/<stage>/result/` once a stage is finished, and `stages/<stage>/<part>/step_<n>/` while it
is not. Finished stages are loaded, the unfinished one goes on from its last checkpoint.
"""

import shutil
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_jax.training import checkpoints, trees
from rlhf_jax.training.checkpoints import Store
from rlhf_jax.training.errors import DivergedError, Interrupted, ResultsError, naming_full_disk
from rlhf_jax.training.folders import (
    check_folder,
    clear,
    config_json,
    holds_work,
    locked,
    naming_bad_folder,
    note_versions,
    versions,
)
from rlhf_jax.training.loop import StepFn, train
from rlhf_jax.training.metrics import MetricWriter, close_writer, open_writer, position, rewind
from rlhf_jax.training.signals import Stop, never
from rlhf_jax.types import PyTree


@dataclass(frozen=True)
class Run:
    """An open run. `spent` and `marks` are the only parts that change while it goes on.

    spent: seconds of each finished stage over all sessions. marks: "rows", the length of
    metrics.jsonl after the last finished stage; "inside", seconds of this session within stages.
    """

    out: Path
    slug: str
    config: dict[str, Any]
    versions: dict[str, str]
    writer: MetricWriter
    stop: Stop
    progress: bool
    began: float
    spent: dict[str, float] = field(default_factory=dict)
    marks: dict[str, float | int] = field(default_factory=lambda: {"rows": 0, "inside": 0.0})


@dataclass(frozen=True)
class Stage:
    """A stage at work. `loops`: seconds that earlier sessions gave to each loop of it."""

    run: Run
    name: str
    loops: dict[str, float] = field(default_factory=dict)


class StageResult(NamedTuple):
    """What a finished stage left: arrays (any pytree), JSON info, seconds over all sessions."""

    arrays: PyTree
    info: dict[str, Any]
    seconds: float


@contextmanager
def open_run(
    out: Path,
    *,
    slug: str,
    config: Any,
    resume: bool = False,
    stop: Stop = never,
    progress: bool = False,
) -> Generator[Run, None, None]:
    """Opens a results folder for a run, or refuses it with nothing in it changed.

    A folder is taken if it is empty, or if its run saved nothing yet. With `resume` it is also
    taken if it holds a run of the same config.

    Raises:
      ResultsError: the folder holds another run, or this one without `resume`, or other files, or
        another process is writing to it, or it cannot be written, or array storage would lose
        what is written there.
      DiskFullError: whatever in the block met a full disk.
    """
    began = time.perf_counter()
    record = {"slug": slug, "config": config_json(config), "versions": versions()}
    facts = (slug, record["config"], record["versions"])
    with naming_full_disk(out), ExitStack() as held:
        with naming_bad_folder(out):
            checkpoints.check_path(out)
            check_folder(out, record, resume=resume)
            out.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(out))
            if not (resume and holds_work(out)):
                clear(out)
                checkpoints.write_json(out / "run.json", record)
            elif progress:
                note_versions(out, record["versions"])
            writer = open_writer(out)
            held.callback(close_writer, writer)
        yield Run(out, *facts, writer, stop, progress, began)


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
      work: `stage -> (arrays, info)`; what the run needs later, and nothing else, is returned.
        It repeats from the start when resumed, but for its `train_stage` loops.
      like: a tree of the structure and shapes of the arrays. Not needed for dicts, lists and tuples
        of arrays, which come back as NumPy arrays.
    Raises:
      Interrupted: asked to stop before the stage, within it, or before its result was saved.
      DivergedError: NaN in the result, which is not saved.
    """
    check_stop(run, f"before {name}")
    folder = run.out / "stages" / name
    began = time.perf_counter()
    if (folder / "result").is_dir():
        arrays, record = checkpoints.read(folder / "result", like)
        result = StageResult(arrays, record["info"], record["seconds"])
        run.marks["rows"] = record["rows"]
        _say(run, f"{name}: done before, in {result.seconds:.1f} s")
    else:
        result = _work(run, name, work, like, began)
        check_stop(run, f"after {name}")
    run.spent[name] = result.seconds
    run.marks["inside"] += time.perf_counter() - began
    return result


def train_stage(
    stage: Stage,
    step_fn: StepFn,
    state: PyTree,
    *,
    steps: int,
    save_every: int = 100,
    log_every: int = 1,
    part: str = "steps",
) -> PyTree:
    """`train` with the run's folder, writer, bar and stop flag; returns the final state.

    `part` names the loop's checkpoints; give another one to each further loop of a stage. Its rows
    carry the stage's name, or `<stage>/<part>` if part is given. The loops of a stage must come in
    the same order each time.

    Raises:
      ResultsError: this loop is not at its end, but a later one has a checkpoint.
    """
    if part in stage.loops:
        raise ValueError(f"stage {stage.name} has a loop {part!r} already: give this one a part=")
    began = time.perf_counter()
    store = Store(stage.run.out / "stages" / stage.name / part)
    followed = _followed(stage, store, steps)
    state, seconds = train(
        step_fn,
        state,
        stage=stage.name if part == "steps" else f"{stage.name}/{part}",
        steps=steps,
        store=store,
        writer=stage.run.writer,
        save_every=save_every,
        log_every=log_every,
        progress=stage.run.progress,
        stop=stage.run.stop,
        followed=followed,
    )
    stage.loops[part] = max(seconds - (time.perf_counter() - began), 0.0)
    return state


def check_stop(run: Run, where: str) -> None:
    """Raises Interrupted if the run was asked to stop: for long work outside `train_stage`."""
    if run.stop():
        raise Interrupted(run.stop(), where)


def run_seconds(run: Run) -> float:
    """Seconds of work: every stage over all sessions, and this session's time between stages."""
    outside = time.perf_counter() - run.began - run.marks["inside"]
    return sum(run.spent.values()) + outside


def _work(
    run: Run,
    name: str,
    work: Callable[[Stage], tuple[PyTree, dict[str, Any]]],
    like: PyTree | None,
    began: float,
) -> StageResult:
    stage, folder = Stage(run, name), run.out / "stages" / name
    checkpoints.clean(folder)
    for path in loops_of(folder):
        checkpoints.clean(path)
    if not any(checkpoints.steps(Store(path)) for path in loops_of(folder)):
        rewind(run.writer, int(run.marks["rows"]), stage=name, step=-1)
    arrays, info = work(stage)
    # An infinity may be the right number: log 0, or a bound that does not exist.
    if bad := trees.first_not_finite({"arrays": arrays, "info": info}, allow_infinite=True):
        raise DivergedError(
            f"{name}: its result{bad}, so the stage is not finished. Change the options and choose "
            "another --out, or mend the code and resume"
        )
    seconds = time.perf_counter() - began + sum(stage.loops.values())
    rows = position(run.writer)
    with naming_full_disk(run.out):
        record = {"info": info, "seconds": seconds, "rows": rows}
        checkpoints.write(folder / "result", arrays, record)
    for path in loops_of(folder):
        shutil.rmtree(path, ignore_errors=True)
    run.marks["rows"] = rows
    if not stage.loops:
        _say(run, f"{name}: {seconds:.1f} s")
    # Read back, so that the run goes on from the same leaves as one that loads this stage.
    arrays, record = checkpoints.read(folder / "result", like)
    return StageResult(arrays, record["info"], seconds)


def _followed(stage: Stage, store: Store, steps: int) -> bool:
    """Whether a loop that this session has yet to come to has a checkpoint of an earlier one.

    Then this loop is finished and metrics.jsonl holds that loop's rows after its own.
    """
    later = [
        str(path)
        for path in loops_of(store.root.parent)
        if path != store.root and path.name not in stage.loops and checkpoints.steps(Store(path))
    ]
    done = max(checkpoints.steps(store), default=0)
    if later and done < steps:
        names = " and ".join(sorted(later))
        raise ResultsError(
            f"{store.root} has {done} of {steps} steps but {names} goes on from its end: "
            f"delete {names} and resume"
        )
    return bool(later)


def _say(run: Run, line: str) -> None:
    if run.progress:
        print(line, flush=True)


def loops_of(folder: Path) -> list[Path]:
    """The folders of a stage's loops, in which their checkpoints are."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_dir() and path.name != "result"]
