"""Tests of one answer, in two sandboxes."""

import json
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_jax.rewards.sandbox.namespaces import Limits, python_in_sandbox

PEERS = Path(__file__).with_name("peers.py").read_text()
PROGRAM = {"input", "output"}
GRACE = 10.0  # seconds for a machine under load, after a sandbox's own limit


class Verdict(NamedTuple):
    """passed, total: tests. failure: of the first that failed, or "" ."""

    passed: int
    total: int
    failure: str


def run_tests(answer: str, tests: str | Sequence[Any], limits: Limits) -> Verdict:
    """Runs the tests of an answer.

    Args:
      answer: Python source.
      tests: Python source that fails by raising, with functions test_* and unittest.TestCase run;
        or a list with such sources, and with {"input": text, "output": text} for the answer as a
        program. Names of the answer are names in the source.
      limits: of each of the two sandboxes.
    Raises:
      SandboxError: no sandbox can be made.
      ValueError: a test is neither of the two.
    """
    each = [tests] if isinstance(tests, str) else list(tests)
    for number, test in enumerate(each):
        if not isinstance(test, str) and not (isinstance(test, dict) and set(test) == PROGRAM):
            raise ValueError(
                f"test {number + 1} must be Python source or "
                f'{{"input": "2 3\\n", "output": "5"}}, got {test!r:.80}'
            )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        one, other = ours.fileno(), theirs.fileno()
        code = python_in_sandbox(PEERS, ["answer"], limits, stdin=one, stdout=one)
        judge = python_in_sandbox(PEERS, ["tests", str(other)], limits, sockets=[theirs])
        with code:
            ours.close()  # so that the tests see its end
            with judge as process:
                asked = json.dumps({"answer": answer, "tests": each}).encode()
                try:
                    said, _ = process.communicate(asked, timeout=limits.seconds + GRACE)
                except subprocess.TimeoutExpired:
                    said = b""
    if not said:
        return Verdict(0, len(each), f"no verdict within {limits.seconds:g} s or the memory limit")
    return Verdict(*json.loads(said))
