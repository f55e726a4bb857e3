"""A stage with several loops, ended within a later one: the same files as if never ended."""

import shutil
import signal

import jax
import jax.numpy as jnp
import pytest

from rlhf_jax.training import loop, open_run, run_stage, train_stage, write_metrics
from rlhf_jax.training.errors import Interrupted, ResultsError

STEPS, SAVE_EVERY = 9, 4


class Killed(Exception):
    """Stands for SIGKILL: nothing is saved after it, but rows already written stay."""


@jax.jit
def update(state, step):
    state = state + jax.random.normal(jax.random.fold_in(jax.random.key(0), step))
    return state, {"loss": state**2}


def session(out, *, kill_at=None, stop_at=None, parts=("steps", "more"), until=loop.unending):
    """One session; kill_at and stop_at name a step (part, step) within which it ends."""
    asked = []

    def stepper(part):
        def step_fn(state, step):
            if (part, step) == kill_at:
                raise Killed
            if (part, step) == stop_at:
                asked.append(signal.SIGTERM)
            return update(state, step)

        return step_fn

    def work(stage):
        state = jnp.float32(0)
        for part in parts:
            write_metrics(stage.run.writer, stage.name, [(0, {f"before_{part}": state})])
            enough = until if part == "steps" else loop.unending
            state = train_stage(
                stage,
                stepper(part),
                state,
                steps=STEPS,
                save_every=SAVE_EVERY,
                part=part,
                until=enough,
            )
            write_metrics(stage.run.writer, stage.name, [(STEPS, {f"after_{part}": state})])
        return {"state": state}, {}

    stop = lambda: asked[0] if asked else 0  # noqa: E731
    with open_run(out, slug="loops", config={}, resume=True, stop=stop) as run:
        return float(run_stage(run, "fit", work).arrays["state"])


@pytest.fixture(autouse=True)
def rows_are_written_after_one_more_step(monkeypatch):
    monkeypatch.setattr(loop, "PENDING_STEPS", 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Final state and metrics.jsonl of a run that nobody stopped, of two loops and of three."""
    found = {}
    for parts in (("steps", "more"), ("steps", "more", "most")):
        out = tmp_path_factory.mktemp("whole") / "r"
        found[parts] = session(out, parts=parts), (out / "metrics.jsonl").read_bytes()
    return found


def end(out, expected, **options):
    """Finishes a run and compares it."""
    assert (session(out, **options), (out / "metrics.jsonl").read_bytes()) == expected


@pytest.mark.parametrize(
    "steps",
    [(0,), (2,), (6,), (8,), (2, 3, 6, 6)],
    ids=["at once", "before its checkpoint", "after it", "in the last step", "again and again"],
)
def test_killed_in_the_second_loop(tmp_path, whole, steps):
    for step in steps:
        with pytest.raises(Killed):
            session(tmp_path / "r", kill_at=("more", step))
    end(tmp_path / "r", whole["steps", "more"])


@pytest.mark.parametrize("lost", range(0, 90, 15))
def test_killed_with_rows_still_in_memory(tmp_path, whole, lost):
    """A kill may leave any part of what was written since the last checkpoint, half rows too."""
    for step in (3, 7):
        with pytest.raises(Killed):
            session(tmp_path / "r", kill_at=("more", step))
        path = tmp_path / "r" / "metrics.jsonl"
        rows = path.read_bytes()
        since = b"".join(rows.splitlines(keepends=True)[-2:])  # both are newer than the checkpoint
        path.write_bytes(rows[: len(rows) - min(lost, len(since))])
    end(tmp_path / "r", whole["steps", "more"])


@pytest.mark.parametrize("steps", [(0,), (1, 6), (6, 8)])
def test_sigterm_in_the_second_loop(tmp_path, whole, steps):
    for step in steps:
        with pytest.raises(Interrupted):
            session(tmp_path / "r", stop_at=("more", step))
    end(tmp_path / "r", whole["steps", "more"])


def test_killed_in_each_of_three_loops(tmp_path, whole):
    parts = ("steps", "more", "most")
    for part in parts:
        for step in (2, 6):
            with pytest.raises(Killed):
                session(tmp_path / "r", kill_at=(part, step), parts=parts)
    end(tmp_path / "r", whole[parts], parts=parts)


@pytest.mark.long
def test_killed_after_a_first_loop_that_ended_early(tmp_path):
    def far(state):
        return abs(state) > 1.0

    found = session(tmp_path / "whole", until=far)
    rows = (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert rows.count(b'"stage": "fit",') < STEPS
    with pytest.raises(Killed):
        session(tmp_path / "r", kill_at=("more", 6), until=far)
    end(tmp_path / "r", (found, rows), until=far)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_loop_that_lost_its_last_checkpoint_does_not_go_on_under_a_later_one(
    tmp_path, whole, kept
):
    out = tmp_path / "r"
    with pytest.raises(Killed):
        session(out, kill_at=("more", 6))
    first = out / "stages" / "fit" / "steps"
    for path in sorted(first.iterdir())[kept:]:
        shutil.rmtree(path)
    before = (out / "metrics.jsonl").read_bytes()
    message = rf"steps has {'8' if kept else '0'} of 9 steps but .*fit/more goes on from its end: "
    for _ in range(2):
        with pytest.raises(ResultsError, match=message + r"delete .*fit/more and resume$"):
            session(out)
        assert (out / "metrics.jsonl").read_bytes().startswith(before)
    shutil.rmtree(out / "stages" / "fit" / "more")
    end(out, whole["steps", "more"])
