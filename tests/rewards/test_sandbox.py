"""Code of a model in a sandbox: what honest answers may do, and what attacks do not reach."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_jax.rewards import Limits, SandboxError, code_reward, run_tests
from rlhf_jax.rewards.sandbox import check_sandbox
from rlhf_jax.rewards.sandbox.namespaces import python_in_sandbox

try:
    check_sandbox()
except SandboxError as error:
    pytest.skip(str(error), allow_module_level=True)

QUICK = Limits(seconds=20.0)


def test_answers_pass_their_tests_or_do_not():
    score = code_reward()
    good = "Like this:\n```python\ndef double(x):\n    print('hm')\n    return 2 * x\n```"
    bad = "def double(x): return x"
    tests = ["assert double(3) == 6", "assert double('a') == 'aa'"]
    assert score(["p"] * 2, [good, bad], tests=[tests, tests]) == [1.0, 0.0]


STACK = """
class Empty(ValueError): pass
class Stack:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x)
    def pop(self):
        if not self.items: raise Empty("nothing here")
        return self.items.pop()
    def __len__(self): return len(self.items)
    def __eq__(self, other): return self.items == other.items
def sort(xs, key): xs.sort(key=key)
def halves(n):
    import numpy as np
    return np.arange(n) / 2
def shapes():
    from collections import Counter, deque, namedtuple
    from fractions import Fraction
    import datetime, decimal
    point = namedtuple("Point", "x y")(1, 2.5)
    return [(1, {2}), frozenset([3]), b"4", 5j, range(6), deque([7]), Counter("88"), point,
            Fraction(1, 9), decimal.Decimal("10.0"), datetime.date(2011, 11, 11), None, 10**5000,
            float("inf"), datetime.datetime(2012, 12, 12, 12)]
"""

STACK_TESTS = [
    """
def test_stack():
    stack = Stack()
    stack.push(3)
    assert len(stack) == 1 and stack and stack.pop() == 3 and isinstance(stack, Stack)
    try: stack.pop()
    except Empty as error: assert isinstance(error, ValueError) and str(error) == "nothing here"
    else: raise AssertionError("no error")
    assert stack == Stack() and stack.items == []
    stack.number = 4
    assert stack.number == 4
""",
    "xs = [3, -5, 1]\nsort(xs, key=lambda x: -abs(x))\nassert xs == [-5, 3, 1], xs",
    """
import numpy as np
import unittest
class Halves(unittest.TestCase):
    def test_values(self): self.assertTrue(np.allclose(halves(3), [0, 0.5, 1]))
""",
    """
import datetime, decimal
from collections import Counter, deque
from fractions import Fraction
found = shapes()
assert found[:7] == [(1, {2}), frozenset([3]), b"4", 5j, range(6), deque([7]), Counter("88")]
assert found[7].y == 2.5 and found[7] == (1, 2.5) and found[8:10] == [Fraction(1, 9), 10]
assert found[10:] == [datetime.date(2011, 11, 11), None, 10**5000, float("inf"),
                      datetime.datetime(2012, 12, 12, 12)]
""",
]


@pytest.mark.slow
def test_values_cross_as_data_and_objects_work_from_afar():
    assert run_tests(STACK, STACK_TESTS, QUICK) == (4, 4, "")


@pytest.mark.slow
def test_a_failing_unittest_and_a_failing_function_are_named():
    tests = [
        "def test_one(): assert f() == 2, 'two'",
        "import unittest\nclass T(unittest.TestCase):\n def test(self): self.assertEqual(f(), 3)",
    ]
    verdict = run_tests("f = lambda: 1", tests, QUICK)
    assert verdict == (0, 2, "test 1: AssertionError: two")
    assert run_tests("f = lambda: 1", tests[1:], QUICK).failure.endswith("1 != 3")


@pytest.mark.slow
def test_a_program_is_run_on_its_input():
    program = "import sys\nn = int(input())\nprint(n * 2, '')\nif n > 4: sys.exit(3)"
    tests = [{"input": "4\n", "output": "8\n"}, {"input": "5\n", "output": "10"}]
    verdict = run_tests(program, tests, QUICK)
    assert verdict == (1, 2, "test 2: AssertionError: the program ended with 3")


@pytest.mark.parametrize("test", [3, {"input": "1"}, {"inputs": ["1"], "outputs": ["2"]}])
def test_a_test_of_no_kind_is_named(test):
    with pytest.raises(ValueError, match=r'test 2 must be Python source or \{"input"'):
        run_tests("x = 1", ["assert x == 1", test], QUICK)


def in_sandbox(source: str, limits: Limits = QUICK) -> str:
    with python_in_sandbox(source, [], limits) as process:
        return process.communicate()[0].decode().strip()


@pytest.mark.slow
def test_there_is_no_home_no_etc_no_network_no_secret_and_nothing_to_write_to(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    source = f"""
import os, socket
def refused(f, *args):
    try: f(*args)
    except OSError as error: return True
for path in ("/etc/passwd", "/etc/hosts", "/proc/1/environ", "/sys", {str(Path.home())!r} + "/.ssh",
             {__file__!r}):
    assert refused(os.stat, path), path
for path in ("/usr/x", "/x", "/dev/x", {sys.prefix!r} + "/x", {sys.executable!r}):
    assert refused(open, path, "w"), path
assert refused(socket.create_connection, ("127.0.0.1", 22), 1)
assert refused(socket.create_connection, ("1.1.1.1", 53), 1)
assert "OPENAI_API_KEY" not in os.environ and os.environ["HOME"] == "/tmp"
assert [name for name in os.listdir("/old")] == []
open("/tmp/x", "w").write("fine")
print("held")
"""
    assert in_sandbox(source) == "held"


@pytest.mark.slow
def test_no_privilege_is_left_or_gained():
    source = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
NEWUSER, NEWNS, PTRACE_ATTACH = 0x10000000, 0x20000, 16
assert libc.unshare(NEWUSER) == -1 and libc.unshare(NEWNS) == -1
assert libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == -1
assert libc.ptrace(PTRACE_ATTACH, 1, 0, 0) == -1
assert libc.sethostname(b"x", 1) == -1
print("held")
"""
    assert in_sandbox(source) == "held"


@pytest.mark.slow
def test_memory_files_and_processes_end_at_their_limits():
    source = """
import os, signal, time
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try: bytearray(2**28)
except MemoryError: print("memory")
try: open("/tmp/x", "wb").write(bytes(2**21))
except OSError: print("file")
try:
    for n in range(100): open(f"/tmp/{n}", "wb").write(bytes(2**19))
except OSError: print("disk")
started = 0
try:
    while started < 100:
        if os.fork() == 0: time.sleep(60); os._exit(0)
        started += 1
except OSError: print("processes", started < 8)
"""
    limits = Limits(seconds=20.0, memory=2**28, processes=8, file_bytes=2**20)
    assert in_sandbox(source, limits).split("\n") == ["memory", "file", "disk", "processes True"]


def alive(marker: str) -> bool:
    """Whether a process has the marker in its command line."""
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and marker.encode() in (folder / "cmdline").read_bytes():
                return True
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return False


@pytest.mark.slow
def test_nothing_outlives_the_block_or_the_limit():
    """Not a child in a session of its own, nor the parent when this process stops waiting."""
    marker = f"sleeper-{os.getpid()}"
    sleeper = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", {marker!r}],
                 start_new_session=True)
print("started", flush=True)
"""
    assert in_sandbox(sleeper) == "started"
    assert not alive(marker)
    with python_in_sandbox(sleeper + "while True: pass", [], QUICK) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        assert alive(marker)
    assert not alive(marker)
    assert in_sandbox(sleeper + "while True: pass", Limits(seconds=2.0)) == "started"
    assert not alive(marker)


SEEN = "assert secret(20) == 'only the tests know this'"
ATTACKS = {
    "ends first": "import os\ndef secret(n): os._exit(0)",
    "ends while it is read": "import sys\nsys.exit(0)",
    "always equal": """
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
def secret(n): return Yes()""",
    "always less and more": """
class Yes(float):
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = lambda self, other: True
def between(n): return Yes()""",
    "a str that is always equal": """
class Yes(str):
    def __eq__(self, other): return True
    __hash__ = str.__hash__
def secret(n): return Yes("x")""",
    "its own names of Python": """
isinstance = lambda *_: True
abs = len = lambda _: 0
def secret(n): return 3
def between(n): return -9.0""",
    "changes Python": """
import builtins
builtins.AssertionError = type("Never", (Exception,), {})
builtins.abs = lambda _: 0
def secret(n): return 1""",
    "writes a verdict": """
import os
def secret(n):
    for fd in range(64):
        try: os.write(fd, b'[3, 3, ""]\\n')
        except OSError: pass
    return 1""",
    "writes a reply": """
import gc, json
def secret(n):
    for peer in [x for x in gc.get_objects() if type(x).__name__ == "Peer"]:
        peer.send({"value": True})
        peer.send({"raised": ["SystemExit", "SystemExit", "0"]})
    return 1""",
    "asks the tests' objects": """
import gc
def secret(n):
    for peer in [x for x in gc.get_objects() if type(x).__name__ == "Peer"]:
        for do in ("__getattr__", "load", "run"):
            try: return peer.ask(do, peer.kept[0], "__globals__")
            except BaseException: pass
    return 1""",
    "a reply without end": """
import gc
def secret(n):
    (peer,) = [x for x in gc.get_objects() if type(x).__name__ == "Peer"]
    while True: peer.write.write(b"[" * 2**20)""",
    "prints without end": "def secret(n):\n    while True: print('x' * 2**16)",
    "sleeps": "import time\ndef secret(n): time.sleep(300)",
    "bomb of forks": "import os\ndef secret(n):\n    while True:\n        try: os.fork()\n"
    "        except OSError: pass",
    "bomb of memory": "def secret(n):\n    x = []\n    while True: x.append(bytearray(2**20))",
    "looks for the tests": """
import gc, glob, sys
def secret(n):
    frame, found = sys._getframe(), []
    while frame: found.append(repr(frame.f_locals) + repr(frame.f_globals)); frame = frame.f_back
    found += [repr(x) for x in gc.get_objects() if isinstance(x, (dict, list, str))]
    for name in glob.glob("/tmp/**", recursive=True) + glob.glob("/proc/*/cmdline"):
        try: found.append(open(name).read())
        except OSError: pass
    place = "".join(found).find("only the " + "tests know")
    return "only the " + "tests know this" if place >= 0 else 1""",
}


HONEST = "between = lambda n: 3.5\ndef secret(n): return 'only the tests know this'"
ATTACKED = [SEEN, "assert 2 < between(3) < 4", "assert abs(between(3) - 3.5) < 0.6"]


@pytest.mark.slow
def test_an_honest_answer_passes_what_is_attacked():
    assert run_tests(HONEST, ATTACKED, QUICK) == (3, 3, "")


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_an_attack_passes_no_test(attack):
    verdict = run_tests(attack, ATTACKED, Limits(seconds=6.0))
    assert verdict.passed == 0
    assert verdict.total == 3


@pytest.mark.slow
def test_where_no_namespace_can_be_made_nothing_runs():
    """In a namespace that may have no others, the reward is refused as it is made."""
    program = (
        "from rlhf_jax.rewards import code_reward, run_tests, Limits, SandboxError\n"
        "for make in (code_reward, lambda: run_tests('print(1)', 'pass', Limits())):\n"
        "    try: make()\n"
        "    except SandboxError as error: print(error)\n"
    )
    shell = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-euc", shell, "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("no sandbox: unshare: unshare failed: ")
    assert "allow user namespaces (sysctl kernel" in lines[1]


@pytest.mark.slow
def test_an_absent_command_is_named(monkeypatch):
    monkeypatch.setattr("rlhf_jax.rewards.sandbox.namespaces.PATH", "/nowhere")
    with pytest.raises(SandboxError, match="there is no command unshare; code of a model"):
        in_sandbox("")


def test_limits_are_positive():
    with pytest.raises(ValueError, match="processes must be in"):
        Limits(processes=0)
