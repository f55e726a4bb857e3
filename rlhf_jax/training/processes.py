"""Several processes of one run: joining, agreeing on host data, and leaving together.

    with join_processes(Join(coordinator="10.0.0.1:1234", count=2, index=0)):
        check_same("the data", {"rows": len(records)})
        scores = divided(lambda rows: score(texts[rows]), len(texts))

The processes are JAX's own: each runs the same program on its devices, and arrays span them all.
Host data goes through JAX's coordination service, which process 0 holds. Every function below must
be called by all processes in the same order; with one process each does its work at once.
"""

import json
import os
import socket
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from itertools import count
from threading import Timer
from typing import Any, TypeVar

import jax
from jax._src import distributed

from rlhf_jax.training import errors
from rlhf_jax.training.environment import environment
from rlhf_jax.training.errors import Interrupted, LostProcess, UserError
from rlhf_jax.training.watchdog import Watchdog, watching

T = TypeVar("T")
# Milliseconds, a week: the watchdog ends a process that waits for a dead one.
FOREVER = 7 * 24 * 3600 * 1000


@dataclass(frozen=True, kw_only=True)
class Join:
    """Where the processes of a run meet.

    coordinator: HOST:PORT of process 0. count: of processes. index: of this one, from 0. All three
      are None where JAX finds them itself: TPU pods, Slurm, Kubernetes, Open MPI.
    start_timeout: seconds to wait for the others. heartbeat: seconds without a sign of life after
      which a process counts as dead.
    """

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None
    start_timeout: int = 300
    heartbeat: int = 60


@dataclass(frozen=True)
class _Meeting:
    """This process among the others. asked: number of the next exchange of each channel."""

    client: Any
    watchdog: Watchdog
    asked: dict[str, Any] = field(default_factory=lambda: defaultdict(count))


_meetings: list[_Meeting] = []  # at most one, as of JAX's own state


@contextmanager
def join_processes(join: Join | None) -> Generator[None, None, None]:
    """In the block this process works with the others; None and a single process change nothing.

    Only process 0 prints. If a process fails, the others end with an error that names it.

    Raises:
      UserError: the processes do not find each other, or differ in packages, code or devices.
      LostProcess: another process ended.
    """
    if join is None:
        _refuse_a_part_of_a_pod()
        yield
        return
    client = _initialize(join)
    index, total = jax.process_index(), jax.process_count()
    if total == 1:
        yield
        return
    hosts = _exchanged(client, "hosts", socket.gethostname(), join.start_timeout * 1000)
    heartbeat = float(join.heartbeat)
    with watching(client, index, hosts, heartbeat=heartbeat) as watchdog, _silent(index > 0):
        _meetings.append(_Meeting(client, watchdog))
        try:
            check_same("its environment", environment())
            yield
        except BaseException as error:
            watchdog.fail(error)
            if isinstance(error, Interrupted):  # as all of them are
                jax.distributed.shutdown()
            elif isinstance(error, Exception) and not isinstance(error, UserError):
                traceback.print_exc()
                leave(1)
            raise
        finally:
            _meetings.clear()
    jax.distributed.shutdown()


def leave(code: int) -> int:
    """The exit code of a program; after a failure it ends here: JAX would wait for the others."""
    if code and distributed.global_state.client is not None:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    return code


def process() -> int:
    """Number of this process. Process 0 writes the results and prints."""
    return jax.process_index() if _meetings else 0


def watchdog() -> Watchdog | None:
    """Of this process, if there are several."""
    return _meetings[0].watchdog if _meetings else None


def exchange(value: Any, *, channel: str = "main") -> list[Any]:
    """The JSON values of all processes, in order. Each thread needs a channel of its own."""
    if not _meetings:
        return [value]
    client, number = _meetings[0].client, next(_meetings[0].asked[channel])
    found = _exchanged(client, f"{channel}/{number}", value, FOREVER)
    if process() == 0 and number:  # all have read the one before
        client.key_value_delete(f"{channel}/{number - 1}/")
    return found


def together(work: Callable[[], T], *, channel: str = "main") -> list[T]:
    """`work()` of every process, JSON values in order; a UserError of one is raised on all."""
    if not _meetings:
        return [work()]
    own: UserError | None = None
    try:
        told = {"value": work()}
    except UserError as error:
        own, told = error, {"kind": type(error).__name__, "error": str(error)}
    found = exchange(told, channel=channel)
    for each in found:
        if "error" in each:
            raise own or getattr(errors, each["kind"], UserError)(each["error"])
    return [each["value"] for each in found]


def on_first(work: Callable[[], T], *, channel: str = "main") -> T:
    """`work()` of process 0 on all, a JSON value; so is its UserError."""
    found: list[Any] = together(work if process() == 0 else lambda: None, channel=channel)
    return found[0]


def divided(work: Callable[[slice], T], size: int, *, channel: str = "main") -> list[T]:
    """`together` of `work(rows)`, each process with its part of `size` rows."""
    total, index = (jax.process_count(), process()) if _meetings else (1, 0)
    rows = slice(size * index // total, size * (index + 1) // total)
    return together(lambda: work(rows), channel=channel)


def by_rows(work: Callable[..., Sequence[T]], *columns: Any) -> list[T]:
    """`work(*columns)`, one JSON value for each row; each process works on its part of the rows.

    So a function that is slow, costs money or never says the same twice is asked once about a row.
    """

    def part(rows: slice) -> list[T]:
        return list(work(*(column[rows] for column in columns))) if rows.start < rows.stop else []

    return [value for each in divided(part, len(columns[0])) for value in each]


def check_same(what: str, facts: dict[str, Any]) -> None:
    """UserError on all processes unless they have the same facts; it names the odd ones.

    Args:
      what: has the facts, "its data". facts: JSON values.
    """
    if not _meetings:
        return
    found = [json.dumps(each, sort_keys=True) for each in exchange(facts)]
    usual = Counter(found).most_common(1)[0][0]
    odd = [index for index, each in enumerate(found) if each != usual]
    if not odd:
        return
    wanted, given = _flat(json.loads(usual)), _flat(json.loads(found[odd[0]]))
    name = next(name for name in {**wanted, **given} if wanted.get(name) != given.get(name))
    names = _meetings[0].watchdog.name
    more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
    raise UserError(
        f"{names(odd[0])}{more} differs in {what}: {name} is {given.get(name)!r:.200}, and "
        f"{wanted.get(name)!r:.200} on {names(found.index(usual))}: start every process with the "
        "same command, code, packages and files"
    )


def _initialize(join: Join) -> Any:
    """JAX's client of the coordination service, after all processes have arrived."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    given = (join.coordinator, join.count, join.index)
    if None in given and given != (None, None, None):
        raise UserError("--coordinator, --processes and --process go together: give all three")
    alarm = Timer(join.start_timeout, _give_up, (join,))
    alarm.daemon = True
    alarm.start()
    try:
        jax.distributed.initialize(
            *given,
            # JAX would abort the process. The alarm and the watchdog are quicker and say more.
            initialization_timeout=join.start_timeout + 60,
            heartbeat_timeout_seconds=3 * join.heartbeat,
            shutdown_timeout_seconds=join.heartbeat,
        )
    except ValueError as error:
        raise UserError(
            f"--distributed: {error} JAX finds the processes of TPU pods, Slurm, Open MPI and "
            "Kubernetes (with the package kubernetes); elsewhere give --coordinator HOST:PORT, "
            "--processes and --process"
        ) from error
    finally:
        alarm.cancel()
    # The service has no public door; array storage uses the same.
    return distributed.global_state.client


def _give_up(join: Join) -> None:
    """Ends a process that waits for others at the start."""
    where = join.coordinator or "the place that JAX found"
    count = "the others" if join.count is None else f"all {join.count} processes"
    print(
        f"error: {count} did not come to {where} within {join.start_timeout} s: look at those that "
        "print no error, at their --coordinator and --processes, and whether hosts reach that port",
        file=sys.stderr,
        flush=True,
    )
    os._exit(LostProcess.exit_code)


def _refuse_a_part_of_a_pod() -> None:
    """UserError for one process of a pod that does not know of the others."""
    if jax.process_count() > 1:
        raise UserError(
            f"this is process {jax.process_index()} of {jax.process_count()}: add --distributed"
        )


def _exchanged(client: Any, key: str, value: Any, timeout: int) -> list[Any]:
    """The JSON values of all processes under a key that is used once."""
    client.key_value_set(f"{key}/{jax.process_index():06d}", json.dumps(value, default=_plain))
    # One barrier for each channel, used again and again: the service never forgets one.
    client.wait_at_barrier(key.partition("/")[0], timeout)
    return [json.loads(text) for _, text in sorted(client.key_value_dir_get(f"{key}/"))]


def _plain(value: Any) -> Any:
    """A NumPy number or array as JSON."""
    return value.tolist()


@contextmanager
def _silent(silent: bool) -> Generator[None, None, None]:
    """Without standard output."""
    with ExitStack() as held:
        if silent:
            held.enter_context(redirect_stdout(held.enter_context(open(os.devnull, "w"))))
        yield


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested JSON by dotted names."""
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, each in value.items():
        found |= _flat(each, f"{prefix}.{name}" if prefix else name)
    return found
