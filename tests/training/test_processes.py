"""What processes agree on, without starting any: the coordination service is a dictionary."""

import time

import jax
import pytest

from rlhf_jax.training import processes
from rlhf_jax.training.errors import DiskFullError, Interrupted, LostProcess, UserError
from rlhf_jax.training.watchdog import Watchdog, watching


class Service:
    """The part of JAX's client that is used, for one process; the others are what it is given."""

    def __init__(self, **others):
        self.values = dict(others)
        self.others = lambda text: text

    def key_value_set(self, key, value, allow_overwrite=False):
        assert allow_overwrite or key not in self.values
        self.values[key] = value

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in self.values.items() if key.startswith(prefix)]

    def key_value_delete(self, prefix):
        self.values = {k: v for k, v in self.values.items() if not k.startswith(prefix)}

    def wait_at_barrier(self, key, timeout):
        own = [name for name in self.values if name.startswith(f"{key}/")][-1]
        assert own.endswith("/000000")
        self.values[own[:-1] + "1"] = self.others(self.values[own])


@pytest.fixture
def pair(monkeypatch):
    """This is process 0 of two; `pair.others` makes what process 1 says of what process 0 does."""
    service = Service()
    dog = Watchdog(service, 0, ["here", "there"], heartbeat=0.1)
    monkeypatch.setattr(processes, "_meetings", [processes._Meeting(service, dog)])
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    return service


def test_one_process_works_alone():
    assert processes.process() == 0
    assert processes.watchdog() is None
    assert processes.exchange({"a": 1}) == [{"a": 1}]
    assert processes.together(lambda: 3) == [3]
    assert processes.on_first(lambda: 3) == 3
    assert processes.divided(lambda rows: [rows.start, rows.stop], 7) == [[0, 7]]
    assert processes.by_rows(lambda x, y: [*x, *y], [1, 2], [3, 4]) == [1, 2, 3, 4]
    processes.check_same("its data", {"rows": 3})
    assert processes.leave(0) == 0
    with processes.join_processes(None):
        assert processes.exchange(1) == [1]


def test_each_value_is_kept_until_all_have_read_it(pair):
    for value in (1.5, None, [float("inf")]):
        assert processes.exchange(value) == [value, value]
    assert {key.split("/")[1] for key in pair.values} == {"2"}
    assert processes.exchange(4, channel="saves") == [4, 4]


def test_each_process_has_its_part_of_the_rows(pair):
    assert processes.divided(lambda rows: [rows.start, rows.stop], 7) == [[0, 3], [0, 3]]
    asked = []
    processes.by_rows(lambda rows: asked.append(rows) or rows, [5, 6, 7])
    assert asked == [[5]]
    assert processes.by_rows(lambda rows: asked.append(rows) or rows, [5]) == []
    assert len(asked) == 1  # no row, no call


def test_an_error_of_one_process_is_raised_on_all(pair):
    pair.others = lambda text: '{"kind": "DiskFullError", "error": "no space left"}'
    with pytest.raises(DiskFullError, match=r"^no space left$"):
        processes.together(lambda: 1)
    own = UserError("this one")
    with pytest.raises(UserError, match=r"^this one$") as found:
        processes.together(lambda: (_ for _ in ()).throw(own))
    assert found.value is own


def test_the_odd_process_is_named_with_what_differs(pair):
    pair.others = lambda text: '{"jax": "0.9", "more": {"rows": 4}}'
    message = (
        r"^process 1 \(there\) differs in its data: more.rows is 4, and 3 on process 0 \(here\)"
    )
    with pytest.raises(UserError, match=message):
        processes.check_same("its data", {"jax": "0.9", "more": {"rows": 3}})
    processes.check_same("its data", {"jax": "0.9", "more": {"rows": 4}})


def test_half_a_meeting_is_refused():
    with pytest.raises(UserError, match="--coordinator, --processes and --process go together"):
        processes._initialize(processes.Join(coordinator="a:1"))


def test_a_process_without_a_sign_of_life_is_dead():
    service = Service(**{"beat/000001": '["sft", 7, 0.0]'})
    dog = Watchdog(service, 0, ["here", "there"], heartbeat=0.05)
    dog.beat()
    assert dog.failure() is None
    time.sleep(0.06)
    dog.beat()
    assert dog.failure() == "process 1 (there) has not answered for 0 s since step 7 of sft"


def test_the_cause_of_a_lost_connection_is_the_other_process():
    service = Service(**{"failure/000001": "process 1 (there) ended: no space left"})
    dog = Watchdog(service, 0, ["here", "there"], heartbeat=0.05)
    with pytest.raises(LostProcess, match=r"ended: no space left: start all processes again"):
        dog.fail(ValueError("Gloo all-reduce failed"))
    dog.fail(Interrupted(15, "sft"))
    assert "failure/000000" not in service.values
    dog.fail(UserError("a bad\nfile"))
    assert service.values["failure/000000"] == "process 0 (here) ended: a bad file"


def test_a_slow_step_prints_every_step_and_the_stacks(capfd):
    dog = Watchdog(Service(), 0, ["here", "there"], heartbeat=1.0, slow_seconds=0.02)
    for step in range(6):
        dog.see("sft", step)
    dog.beats = {1: ('["sft", 4, 0.0]', 0.0)}
    dog.check_step()
    assert capfd.readouterr().err == ""
    time.sleep(0.03)
    dog.check_step()
    dog.check_step()  # once
    text = capfd.readouterr().err
    assert text.count("process 0 (here): step 5 of sft has taken 0 s so far, the median is") == 1
    assert "process 1 (there): step 4 of sft" in text
    assert "test_a_slow_step_prints_every_step_and_the_stacks" in text
    dog.rest()
    dog.check_step()
    assert capfd.readouterr().err == ""


def test_the_thread_ends_with_the_block():
    with watching(Service(), 1, ["here", "there"], heartbeat=0.3) as dog:
        time.sleep(0.05)
    assert "beat/000001" in dog.client.values
    assert dog.left.is_set()
