"""The loop counts, writes, saves and stops; the writer's file survives a resume unchanged."""

import ctypes
import json
import os
import select
import signal
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.training import checkpoints, loop, signals, train
from rlhf_jax.training.checkpoints import Store
from rlhf_jax.training.clock import Clock
from rlhf_jax.training.errors import DiskFullError, DivergedError, Interrupted, ResultsError
from rlhf_jax.training.metrics import (
    MetricWriter,
    RowsPrefix,
    as_number,
    close_writer,
    open_writer,
    position,
    read_metrics,
    rewind,
    write_metrics,
)


@pytest.fixture
def writer(tmp_path):
    opened = open_writer(tmp_path / "out")
    yield opened
    close_writer(opened)


@jax.jit
def step_fn(state, step):
    state = state + jax.random.normal(jax.random.fold_in(jax.random.key(0), step))
    return state, {"loss": state**2, "pair": (state, jnp.float32(2))}


def rows_of(writer):
    position(writer)
    return [json.loads(line) for line in (writer.folder / "metrics.jsonl").read_text().splitlines()]


def events_of(writer, stage):
    """(step, whether it voids what came before from that step on) of each event of a stage."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    position(writer)
    (path,) = (writer.folder / "tensorboard" / stage).iterdir()
    data, events = path.read_bytes(), []
    while data:  # length (8), its checksum (4), the event, its checksum (4)
        size = int.from_bytes(data[:8], "little")
        events.append(event_pb2.Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    start = event_pb2.SessionLog.START
    return [(event.step, event.session_log.status == start) for event in events[1:]]


def test_rows_and_checkpoints(tmp_path, writer):
    store = Store(tmp_path / "store", keep=9)
    options: dict[str, Any] = {"stage": "s", "steps": 7, "store": store, "writer": writer}
    trained = train(step_fn, jnp.float32(0), save_every=3, log_every=2, **options)
    rows = rows_of(writer)
    assert [row["step"] for row in rows] == [2, 4, 6, 7]
    assert checkpoints.steps(store) == [3, 6, 7]
    assert rows[-1]["loss"] == pytest.approx(float(trained.state) ** 2, rel=1e-6)
    assert rows[-1]["pair"] == pytest.approx(float(trained.state) / 2, rel=1e-6)
    again = train(step_fn, jnp.float32(0), save_every=3, log_every=2, **options)
    assert float(again.state) == float(trained.state)
    assert rows_of(writer) == rows
    newest = checkpoints.restore(store, jnp.float32(0))
    assert newest is not None
    assert again.seconds >= newest.metadata["seconds"]


def test_a_loop_ends_at_the_first_state_that_is_enough(tmp_path, writer):
    """A sum of ones that is 5 after 5 of 9 steps: saved, written, and no step more when resumed."""
    store = Store(tmp_path / "store")
    options: dict[str, Any] = {"stage": "s", "steps": 9, "store": store, "writer": writer}

    def one(state, step):
        return state + 1, {"sum": state + 1}

    def enough(state):
        return state >= 5

    for _ in range(2):
        trained = train(one, 0, save_every=3, log_every=2, until=enough, **options)
        assert trained.state == 5
        assert [row["step"] for row in rows_of(writer)] == [2, 4, 5]
        assert checkpoints.steps(store) == [3, 5]
    assert train(one, 7, until=enough, **options | {"store": Store(tmp_path / "other")}).state == 7


def test_a_stop_saves_and_the_rest_follows(tmp_path, writer):
    seen = []

    def counting(state, step):
        seen.append(step)
        return step_fn(state, step)

    options: dict[str, Any] = {"stage": "s", "steps": 9, "writer": writer, "save_every": 0}
    with pytest.raises(Interrupted, match="s after step 4 of 9") as stopped:
        train(
            counting,
            jnp.float32(0),
            store=Store(tmp_path / "a"),
            stop=lambda: signal.SIGTERM if len(seen) == 4 else 0,
            **options,
        )
    assert stopped.value.signum == signal.SIGTERM
    assert checkpoints.steps(Store(tmp_path / "a")) == [4]
    part = train(counting, jnp.float32(0), store=Store(tmp_path / "a"), **options)
    assert seen == list(range(9))
    resumed = rows_of(writer)
    whole = train(step_fn, jnp.float32(0), store=Store(tmp_path / "b"), **options)
    assert float(part.state) == float(whole.state)
    assert rows_of(writer)[9:] == resumed


def test_a_loss_that_is_not_finite_is_named_and_never_saved(tmp_path, writer):
    def diverging(state, step):
        return state, {"value/loss": jnp.where(step < 4, 1.0, jnp.inf), "kl": jnp.nan}

    store = Store(tmp_path / "store")
    options: dict[str, Any] = {"stage": "ppo", "steps": 9, "store": store, "writer": writer}
    message = "ppo: value/loss is inf at step 5; the newest checkpoint is of step 3. Lower the "
    with pytest.raises(DivergedError, match=message):
        train(diverging, jnp.float32(0), save_every=3, **options)
    assert checkpoints.steps(store) == [3]
    assert rows_of(writer)[0] == {"stage": "ppo", "step": 1, "value/loss": 1.0, "kl": None}


def test_a_loss_of_no_rows_is_no_divergence(tmp_path, writer):
    def empty(state, step):
        return state + 1, {"loss": (jnp.zeros(()), jnp.where(step == 1, 0.0, 2.0))}

    store = Store(tmp_path / "store")
    done = train(empty, jnp.float32(0), stage="ppo", steps=3, store=store, writer=writer)
    assert float(done.state) == 3.0
    assert [row["loss"] for row in rows_of(writer)] == [0.0, None, 0.0]


@pytest.mark.parametrize(("bad_at", "left"), [(5, "the newest checkpoint is of step 3"), (2, "no")])
def test_a_state_that_is_not_finite_is_named_and_never_saved(tmp_path, writer, bad_at, left):
    """The loss of a step is measured before its update: the state breaks while it is finite."""

    def breaking(state, step):
        w = jnp.where(step == bad_at, jnp.inf, state["w"] + 1)
        return {**state, "w": w}, {"loss": state["b"]}

    first = {"b": jnp.zeros(2, jnp.bfloat16)[0], "n": 3, "key": jax.random.key(0), "w": jnp.ones(2)}
    store = Store(tmp_path / "store")
    options: dict[str, Any] = {"stage": "ppo", "steps": bad_at + 1, "store": store}
    message = rf"ppo: state\['w'\] holds inf after step {bad_at + 1}; {left}"
    with pytest.raises(DivergedError, match=message):
        train(breaking, first, save_every=3, writer=writer, **options)
    assert checkpoints.steps(store) == ([3] if bad_at == 5 else [])


def test_rewind_cuts_the_file(tmp_path, writer):
    write_metrics(writer, "a", [(1, {"x": 1}), (2, {"x": np.float32(0.1)})])
    length = position(writer)
    whole = (writer.folder / "metrics.jsonl").read_bytes()
    write_metrics(writer, "a", [(3, {"x": 3})])
    rewind(writer, length, stage="a", step=2)
    assert (writer.folder / "metrics.jsonl").read_bytes() == whole
    write_metrics(writer, "a", [(3, {"x": True})])
    position(writer)
    assert read_metrics(writer.folder)[1:] == [
        {"stage": "a", "step": 2, "x": 0.1},
        {"stage": "a", "step": 3, "x": 1},
    ]
    with pytest.raises(ResultsError, match=r"metrics\.jsonl has lost rows"):
        rewind(writer, RowsPrefix(10_000), stage="a", step=2)
    with pytest.raises(ResultsError, match=r"has changed in the 70 bytes known to stage a"):
        rewind(writer, RowsPrefix(length.length), stage="a", step=2)


def test_tensorboard_is_told_which_steps_are_void(writer):
    write_metrics(writer, "a", [(1, {"x": 1.0}), (2, {"x": 2.0})])
    rewind(writer, RowsPrefix(), stage="a", step=1)
    assert events_of(writer, "a") == [(1, False), (2, False), (2, True)]


def test_a_loop_without_a_checkpoint_voids_the_events_of_an_earlier_session(tmp_path, writer):
    write_metrics(writer, "s", [(0, {"x": 1.0}), (1, {"loss": 2.0})])
    train(step_fn, jnp.float32(0), stage="s", steps=1, store=Store(tmp_path / "a"), writer=writer)
    new = [(1, False)] * 4  # loss, pair, seconds/step and speed/programs
    assert events_of(writer, "s") == [(0, False), (1, False), (1, True), *new]
    assert [row["step"] for row in rows_of(writer)] == [0, 1, 1]


def test_the_newest_step_has_the_number_of_compiled_programs(tmp_path, writer, monkeypatch):
    written = []
    monkeypatch.setattr(loop, "write_metrics", lambda _, stage, rows: written.extend(rows))
    clock = Clock(programs=lambda: 7)
    options: dict[str, Any] = {"stage": "s", "store": Store(tmp_path / "s"), "writer": writer}
    train(step_fn, jnp.float32(0), steps=3, clock=clock, **options)
    counts = [metrics.get("speed/programs") for _, metrics in written]
    assert counts == [None, None, 7]


def test_numbers():
    assert as_number(jnp.float32(0.1)) == 0.1
    assert as_number((np.float32(6), np.float32(4))) == 1.5
    assert np.isnan(as_number((1.0, 0.0)))
    assert as_number(np.int32(3)) == 3
    with pytest.raises(ValueError, match=r"must be a scalar .* got \(2,\)"):
        as_number(jnp.ones(2))


def test_reserved_names(writer):
    with pytest.raises(ValueError, match="a metric of stage a is called 'step'"):
        write_metrics(writer, "a", [(1, {"step": 1.0})])


def test_full_disk_is_named(tmp_path):
    with open("/dev/full", "ab", buffering=0) as rows, pytest.raises(DiskFullError, match="space"):
        write_metrics(MetricWriter(tmp_path, rows), "a", [(1, {"x": 1.0})])


def test_signals_raise_a_flag_once(capfd):
    before = signal.getsignal(signal.SIGTERM)
    with signals.stop_on_signals() as stop:
        assert stop() == 0
        signal.raise_signal(signal.SIGINT)
        assert stop() == signal.SIGINT
        with pytest.raises(KeyboardInterrupt) as second:
            signal.raise_signal(signal.SIGTERM)
    assert second.value.args == (signal.SIGTERM,)
    assert signal.getsignal(signal.SIGTERM) is before
    assert capfd.readouterr().err == signals.STOPPING.decode()


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"save_every": -1}])
def test_steps_below_zero_are_refused(tmp_path, writer, wrong):
    options: dict[str, Any] = {"stage": "s", "steps": 9, "writer": writer} | wrong
    with pytest.raises(ValueError, match=r"\[0, inf\), got -1"):
        train(step_fn, jnp.float32(0), store=Store(tmp_path / "s"), **options)


def test_signals_are_answered_while_compiled_code_runs(monkeypatch):
    """Compiled code does not return to Python, which hears nothing meanwhile: here, a read."""
    shown, screen = os.pipe()
    waiting, work = os.pipe()
    seen, ended = [], []

    def user():
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
            ready, _, _ = select.select([shown], [], [], 30)
            seen.extend(os.read(shown, 200) for _ in ready)
        os.write(work, b"!")

    monkeypatch.setattr(signals, "SCREEN", screen)
    monkeypatch.setattr(signals, "GRACE", 0.0)
    monkeypatch.setattr(os, "_exit", ended.append)
    thread = threading.Thread(target=user)

    def compiled_code():
        thread.start()  # here, because on a busy machine both signals may come before the read
        ctypes.CDLL(None).read(waiting, ctypes.create_string_buffer(1), 1)

    with signals.stop_on_signals() as stop:
        for number in signals.NUMBERS:
            signal.siginterrupt(number, False)  # the system takes the read up again
        with pytest.raises(KeyboardInterrupt):
            compiled_code()
        thread.join()
        assert stop() == signal.SIGINT
    assert seen == [signals.STOPPING, signals.STOPPED]
    assert ended == [128 + signal.SIGTERM]
    for end in (shown, screen, waiting, work):
        os.close(end)
