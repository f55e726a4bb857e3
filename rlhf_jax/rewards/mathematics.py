"""Equality of mathematical expressions, by `math-verify` in a process of its own."""

import contextlib
import json
import subprocess
import sys
import weakref
from collections.abc import Sequence
from threading import Lock
from typing import Any

from rlhf_jax.checks import check_range
from rlhf_jax.rewards.checked import need_package
from rlhf_jax.rewards.verifiers import exact_match, extract_result, normalised
from rlhf_jax.types import TextReward

# A line [reference, answer] in, a line out: whether they are equal, or null for a reference that
# is not mathematics. SIGALRM ends the process, whatever it computes: the limit holds in any thread
# of the caller, where math-verify's own limits, which are signals too, would not.
WORKER = """
import json, logging, resource, signal, sys
seconds, memory = float(sys.argv[1]), 2**32
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
from math_verify import parse, verify
logging.disable()
print("ready", flush=True)
for line in sys.stdin:
    reference, answer = json.loads(line)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    gold = parse(reference, parsing_timeout=None)
    found = parse(answer, parsing_timeout=None) if gold else []
    equal = bool(found) and verify(gold, found, timeout_seconds=None)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(json.dumps(equal if gold else None), flush=True)
"""


def math_reward(column: str = "answer", *, seconds: float = 5.0) -> TextReward:
    r"""Whether the answer's result is mathematically equal to the reference: 1.0 or 0.0.

    Numbers, expressions, equations, sets, intervals, matrices in LaTeX or plain text. The result is
    the last \boxed{...}, what follows the last ####, or the last expression that math-verify finds.
    A reference that it cannot read is compared by `exact_match`.

    Needs `math-verify` (extra `verify`).

    Args:
      seconds: limit for each answer; an answer that takes longer counts as wrong.
    """
    check_range("(0, inf)", seconds=seconds)
    need_package("math_verify", extra="verify")
    lock, workers = Lock(), []

    def equal(reference: str, answer: str) -> bool:
        if normalised(_result(answer)) == normalised(_result(reference)):
            return True
        if not workers:
            workers.append(_start(seconds))
        worker = workers[0]
        line = ""
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.write(json.dumps([_as_latex(reference), _result(answer)]) + "\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        if not line:  # killed by its limit of time or memory
            _stop(workers.pop())
            return False
        known = json.loads(line)
        return exact_match(answer, reference) if known is None else known

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        references = map(str, columns[column])
        with lock:
            pairs = zip(references, answers, strict=True)
            return [float(equal(reference, answer)) for reference, answer in pairs]

    weakref.finalize(score, lambda: [_stop(worker) for worker in workers])
    return score


def _start(seconds: float) -> Any:
    """A process that is ready; a Popen with three pipes."""
    worker: Any = subprocess.Popen(
        [sys.executable, "-I", "-c", WORKER, str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if worker.stdout.readline() != "ready\n":
        said = worker.stderr.read().strip().splitlines()
        _stop(worker)
        raise RuntimeError(f"math-verify does not start: {said[-1] if said else worker.returncode}")
    return worker


def _stop(worker: Any) -> None:
    worker.kill()
    worker.wait()
    for stream in (worker.stdin, worker.stdout, worker.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def _as_latex(reference: str) -> str:
    r"""A bare "\frac{1}{2}" in dollars: outside of them, only its last number would be read."""
    result = _result(reference)
    return result if "$" in result or "\\(" in result else f"${result}$"


def _result(text: str) -> str:
    """The marked result, in dollars, or the whole text."""
    found = extract_result(text)
    return text if found is None else f"${found.strip('$')}$"
