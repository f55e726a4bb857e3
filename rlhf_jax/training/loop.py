"""The host loop: calls a step function, writes metrics, saves checkpoints, stops on request."""

import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rlhf_jax.checks import check_range
from rlhf_jax.training import checkpoints, trees
from rlhf_jax.training.checkpoints import Saver, Store
from rlhf_jax.training.clock import Clock, rates
from rlhf_jax.training.errors import DivergedError, Interrupted
from rlhf_jax.training.metrics import (
    MetricWriter,
    RowsPrefix,
    as_number,
    position,
    rewind,
    write_metrics,
)
from rlhf_jax.training.processes import exchange
from rlhf_jax.training.signals import Stop, never
from rlhf_jax.types import PyTree

StepFn = Callable[[PyTree, int], tuple[PyTree, dict[str, Any]]]
Until = Callable[[PyTree], bool]
Settle = Callable[[PyTree], None]
# Metrics stay on the device for at most so many steps or seconds: fetching them after every step
# would make the host wait for the device. Those of the newest step, which it has just begun, are
# not fetched before the next one unless the state is saved.
PENDING_STEPS = 20
PENDING_SECONDS = 0.5
LINE_SECONDS = 30.0  # between lines of progress where there is no terminal


def unending(state: PyTree) -> bool:
    """No state ends the loop before its steps are done."""
    return False


def settled(state: PyTree) -> None:
    """Steps that leave nothing to check."""


class Trained(NamedTuple):
    """The final state, and the seconds that the loop took, over all sessions of the run."""

    state: PyTree
    seconds: float


def train(
    step_fn: StepFn,
    state: PyTree,
    *,
    stage: str,
    steps: int,
    store: Store,
    writer: MetricWriter,
    save_every: int = 100,
    log_every: int = 1,
    progress: bool = False,
    stop: Stop = never,
    until: Until = unending,
    settle: Settle = settled,
    clock: Clock | None = None,
    followed: bool = False,
    metadata: Mapping[str, Any] = MappingProxyType({}),
) -> Trained:
    """Runs steps 0 .. steps - 1, from the newest checkpoint of the store if there is one.

    If a step depends only on its state and its number (`fold_in(key, step)`), a resumed loop gives
    the same numbers as an uninterrupted one, bit for bit. Checkpoints are copied to the host and
    written in the background; one that fails, as on a full disk, stops the loop at its next step.

    Args:
      step_fn: `(state, step) -> (state, metrics)`; metrics as in `write_metrics`. May donate state.
      state: the first state, and the example for reading checkpoints.
      stage: the name in metrics.jsonl and in messages. steps: total number of updates, >= 0.
      store: checkpoints of this loop only. metadata: JSON values saved with each checkpoint.
      writer: gets the metrics of every log_every-th step and of the last one.
      save_every: updates between checkpoints; 0 saves only at the end or when stopped.
      progress: show a bar on a terminal, or else a line at the end. stop: called after each step;
        if it returns the number of a signal, the loop saves and raises Interrupted.
      until: called on every state; where it is True the loop ends, as after its last step.
      settle: called on a state before it is saved: raises for what its steps left to check.
      clock: the parts of a step are added to it; its laps become "seconds/<part>".
      followed: True if a later loop was already checkpointed: keep the metric rows written after
        this loop. Otherwise a restored loop cuts metrics.jsonl back to its checkpoint.
    Raises:
      Interrupted: `stop` returned a signal; the state is saved.
      DivergedError: a metric with "loss" in its path, or a state to be saved, is not finite.
      ValueError: steps or save_every < 0.
    """
    check_range("[0, inf)", steps=steps, save_every=save_every)
    began, clock = time.perf_counter(), clock or Clock()
    state, done, earlier = _resume(state, stage, store, writer, cut=not followed)
    pending: list[_Step] = []
    loss, fetched = math.nan, time.perf_counter()
    clock.lap()
    with (
        progress_bar(stage, steps, show=progress, done=done) as advance,
        checkpoints.saving(store) as saver,
    ):
        for step in range(done, done if until(state) else steps):
            saver.check()
            done, (state, metrics) = step + 1, step_fn(state, step)
            pending.append(_Step(done, metrics, *clock.lap()))
            asked = stop()  # called once: a signal that arrives later is handled in the next step
            last = done == steps or bool(until(state))
            saving = asked or last or (save_every and done % save_every == 0)
            late = time.perf_counter() - fetched > PENDING_SECONDS
            if saving:
                with clock("update"):
                    settle(state)
            ready = pending if saving else pending[:-1]
            if ready and (saving or late or len(pending) > PENDING_STEPS):
                with clock("update"):
                    rows = jax.device_get(ready)
                loss = _last_loss(rows, stage, saver, loss)
                seconds, fetched = time.perf_counter() - fetched, time.perf_counter()
                speed = _write(writer, stage, rows, log_every, last, seconds, clock)
                clock.add(stage, _counts(rows))
                advance(rows[-1].done, _progress(loss, speed.get("speed/tokens", 0.0)))
                pending = pending[len(ready) :]
            if saving:
                kept = {**metadata, "stage": stage, "rows": position(writer), "last": last}
                with clock("checkpoint"):
                    _save(saver, done, state, kept, earlier + time.perf_counter() - began)
            if asked:
                saver.wait()
                raise Interrupted(asked, f"{stage} after step {done} of {steps}")
            if last:
                break
    seconds = earlier + time.perf_counter() - began
    _plain_line(stage, done, loss, seconds, show=progress)
    return Trained(state, seconds)


class _Step(NamedTuple):
    """A step that was begun: its number from 1 on, and what `Clock.lap` says of it."""

    done: int
    metrics: dict[str, Any]
    parts: dict[str, float]
    flops: float


def _resume(
    state: PyTree, stage: str, store: Store, writer: MetricWriter, *, cut: bool
) -> tuple[PyTree, int, float]:
    """State, steps done and seconds spent at the newest checkpoint; `cut` metrics to match."""
    checkpoint = checkpoints.restore(store, state)
    if checkpoint is None:
        # A session killed before its first checkpoint may have left TensorBoard events: hide them.
        # The rows of metrics.jsonl stay: `run_stage` has cut them, and earlier loops added theirs.
        rewind(writer, position(writer), stage=stage, step=0)
        return state, 0, 0.0
    # Rows after the checkpoint are of steps that are done again, unless this loop is finished and
    # the rows belong to later loops of the stage.
    if cut:
        rewind(writer, RowsPrefix(*checkpoint.metadata["rows"]), stage=stage, step=checkpoint.step)
    return checkpoint.tree, checkpoint.step, checkpoint.metadata["seconds"]


@contextmanager
def progress_bar(
    title: str, total: int, *, show: bool, done: int = 0
) -> Generator[Callable[..., None], None, None]:
    """A bar with the remaining time, or a line now and then where there is no terminal.

    `advance(done, "text")` moves it.
    """
    if not show:
        yield lambda done, text="": None
        return
    if not Console().is_terminal:
        yield _line_writer(title, total, done)
        return
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total, completed=done, text="")
        yield lambda done, text="": bar.update(task, completed=done, text=text)


def _line_writer(title: str, total: int, done: int) -> Callable[..., None]:
    """`advance(done, text)` that prints a line every LINE_SECONDS."""
    began = printed = time.perf_counter()
    before = done

    def advance(done: int, text: str = "") -> None:
        nonlocal printed
        now = time.perf_counter()
        if now - printed < LINE_SECONDS or done >= total:
            return
        printed, left = now, (now - began) / max(done - before, 1) * (total - done)
        shown = ", ".join(part for part in (f"{done}/{total}", text, f"{left:.0f} s left") if part)
        print(f"{title}: {shown}", flush=True)

    return advance


def _progress(loss: float, rate: float) -> str:
    """`loss 0.693, 1200 tokens/s`, without a part that is not known."""
    shown = [f"loss {loss:.4g}"] if math.isfinite(loss) else []
    return ", ".join([*shown, *([f"{rate:.0f} tokens/s"] if rate else [])])


def _last_loss(rows: list[_Step], stage: str, saver: Saver, loss: float) -> float:
    """The newest loss of these steps, or `loss`; DivergedError if one is not finite."""
    for row in rows:
        for name in row.metrics:
            if "loss" in name.split("/") and not _of_nothing(row.metrics[name]):
                loss = as_number(row.metrics[name])
                if not math.isfinite(loss):
                    raise _diverged(f"{stage}: {name} is {loss} at step {row.done}", saver)
    return loss


def _write(
    writer: MetricWriter,
    stage: str,
    rows: list[_Step],
    log_every: int,
    last: bool,
    seconds: float,
    clock: Clock,
) -> dict[str, float]:
    """Writes every log_every-th step, and the newest where `last` says that it ends the loop.

    Returns:
      The rates of all these steps, which took so many seconds; the newest step has them too, and
      "speed/programs", the number of programs that were compiled for this run so far.
    """
    counts = _counts(rows)
    speed = rates(counts["tokens"], sum(row.flops for row in rows), max(seconds, 1e-9))
    newest, now = rows[-1].done, speed | {"speed/programs": clock.programs()}
    found = []
    for row in rows:
        parts = {f"seconds/{part}": x for part, x in row.parts.items()}
        more = parts | (now if row.done == newest else {})
        if row.done % log_every == 0 or (last and row.done == newest):
            found.append((row.done, row.metrics | more))
    write_metrics(writer, stage, found)
    return speed


def _counts(rows: list[_Step]) -> dict[str, float]:
    """Seconds by part, steps, and tokens: the metrics "tokens" and ".../tokens"."""
    found: dict[str, float] = {"steps": float(len(rows)), "tokens": 0.0}
    for row in rows:
        for part, seconds in row.parts.items():
            found[part] = found.get(part, 0.0) + seconds
        named = (float(x) for name, x in row.metrics.items() if name.split("/")[-1] == "tokens")
        found["tokens"] += sum(named)
    return found


def _of_nothing(metric: Any) -> bool:
    """Whether a metric is a mean over no rows, as of a batch without a scored answer."""
    return isinstance(metric, tuple) and float(metric[1]) == 0


def _save(saver: Saver, done: int, state: PyTree, kept: dict[str, Any], seconds: float) -> None:
    """Saves a state; DivergedError if it is not finite."""
    for bad in exchange(trees.first_not_finite(state)):
        if bad:
            raise _diverged(f"{kept['stage']}: state{bad} after step {done}", saver)
    saver.start(done, state, {**kept, "seconds": seconds})


def _diverged(what: str, saver: Saver) -> DivergedError:
    """The error, with the newest checkpoint and a remedy."""
    saver.wait()
    last = max(checkpoints.steps(saver.store), default=None)
    left = "nothing is saved" if last is None else f"the newest checkpoint is of step {last}"
    return DivergedError(
        f"{what}; {left}. Lower the learning rate or clip the gradients, and choose another --out"
    )


def _plain_line(stage: str, steps: int, loss: float, seconds: float, *, show: bool) -> None:
    """How it went, where there is no terminal for a bar."""
    if show and not Console().is_terminal:
        shown = f", loss {loss:.4g}" if math.isfinite(loss) else ""
        print(f"{stage}: {steps} steps{shown}, {seconds:.1f} s", flush=True)
