"""Both sides of a test, each in a sandbox of its own: `answer` holds the code, `tests` judges it.

This file runs alone, by `python -I -c`, and imports nothing of the library. Requests and replies
are lines of JSON over a socket. Values of the types of data cross it as data and are compared
where the tests are. Any other object stays where it is and is operated from afar by a `Remote`:
functions, classes and instances of the answer, and functions that a test passes to it. An object
never equals data, nor is it less or more, whatever its methods say: the answer could not lose.
"""

import builtins
import contextlib
import importlib
import io
import json
import operator
import os
import subprocess
import sys

LONGEST = 2**25  # bytes of one message
OF_TESTS = {"__call__", "__iter__", "__next__"}  # what an answer may do with objects of the tests

# Operations on objects, by the special method that a Remote forwards.
DO = {
    "__getattr__": getattr,
    "__setattr__": setattr,
    "__len__": len,
    "__iter__": iter,
    "__next__": next,
    "__bool__": bool,
    "__str__": str,
    "__repr__": repr,
    "__int__": int,
    "__float__": float,
    "__hash__": hash,
    "__instancecheck__": lambda kind, value: isinstance(value, kind),
    "__enter__": lambda value: type(value).__enter__(value),
    "__exit__": lambda value, *_: type(value).__exit__(value, None, None, None),
}
OPERATORS = [
    *("call", "getitem", "setitem", "delitem", "contains", "neg", "abs", "invert", "add", "sub"),
    *("mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"),
    *("eq", "ne", "lt", "le", "gt", "ge"),
]
DO |= {f"__{name}__": getattr(operator, f"__{name}__") for name in OPERATORS}
ALONE = {"__eq__": False, "__ne__": True, "__lt__": None, "__le__": None, "__gt__": None}
ALONE |= {"__ge__": None}

# Type -> how it is written in JSON, and read back.
DATA = {
    "builtins.tuple": (list, tuple),
    "builtins.set": (list, set),
    "builtins.frozenset": (list, frozenset),
    "collections.deque": (list, None),
    "builtins.bytes": (bytes.hex, bytes.fromhex),
    "builtins.bytearray": (bytes.hex, bytearray.fromhex),
    "builtins.complex": (lambda z: [z.real, z.imag], lambda parts: complex(*parts)),
    "builtins.range": (lambda r: [r.start, r.stop, r.step], lambda parts: range(*parts)),
    "decimal.Decimal": (str, None),
    "fractions.Fraction": (str, None),
    "datetime.date": (lambda day: day.isoformat(), lambda text: _named("datetime.date", text)),
    "datetime.datetime": (lambda time: time.isoformat(), None),
}


class Remote:
    """An object on the other side."""

    __slots__ = ("_remote_number", "_remote_peer")  # other attributes are those of the object


def remote(peer, number):
    """The object with this number at the other end of the socket."""
    made = Remote()
    object.__setattr__(made, "_remote_peer", peer)
    object.__setattr__(made, "_remote_number", number)
    return made


class Peer:
    """One end of the socket."""

    def __init__(self, read, write, allowed):
        self.read, self.write, self.allowed, self.kept = read, write, allowed, []

    def ask(self, do, *args, **options):
        """What the other side makes of a request; it may ask back before it replies."""
        self.send({"do": do, "args": self.pack(list(args)), "options": self.pack(options)})
        while "do" in (message := self.receive()):
            self.serve(message)
        for old, new in zip(args, message.get("args", ()), strict=False):
            refill(old, self.unpack(new))
        if "raised" in message:
            name, base, text = message["raised"]
            raise error_class(name, base)(text)
        return self.unpack(message["value"])

    def serve(self, message):
        """Replies to one request."""
        reply = {}
        try:
            args, options = self.unpack(message["args"]), self.unpack(message["options"])
            if message["do"] not in self.allowed:
                raise TypeError(f"{message['do']} is not allowed")
            before = [self.pack(arg) if refillable(arg) else None for arg in args]
            value = self.allowed[message["do"]](*args, **options)
            after = [self.pack(arg) if refillable(arg) else None for arg in args]
            reply = {"value": self.pack(value)} | ({"args": after} if after != before else {})
        except BaseException as error:
            reply = {"raised": [type(error).__name__, builtin_base(type(error)), str(error)]}
        self.send(reply)

    def send(self, message):
        self.write.write(json.dumps(message).encode() + b"\n")
        self.write.flush()

    def receive(self):
        line = self.read.readline(LONGEST)
        if not line.endswith(b"\n"):
            raise EOFError("the other side ended, or sent too much")
        return json.loads(line)

    def pack(self, value):
        """JSON of a value: itself, a list, or an object with its type for a key."""
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is list:
            return [self.pack(each) for each in value]
        if isinstance(value, dict):  # Counter, defaultdict and OrderedDict too
            return {"dict": [[self.pack(k), self.pack(v)] for k, v in value.items()]}
        if kind is Remote:
            return {"yours": value._remote_number}
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in DATA:
            plain = DATA[name][0](value)
            return {name: [self.pack(v) for v in plain] if isinstance(plain, list) else plain}
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return {"namedtuple": [kind.__name__, list(kind._fields), self.pack(list(value))]}
        if kind.__module__ == "numpy" and getattr(value, "dtype", None) is not None:
            array = value if hasattr(value, "flags") and kind.__name__ == "ndarray" else None
            number = kind.__name__ if array is None else "ndarray"
            return {"numpy": [number, value.dtype.str, list(value.shape), value.tobytes().hex()]}
        if kind is type(json):
            return {"module": value.__name__}
        self.kept.append(value)
        return {"mine": len(self.kept) - 1}

    def unpack(self, packed):
        if isinstance(packed, list):
            return [self.unpack(each) for each in packed]
        if not isinstance(packed, dict):
            return packed
        ((name, content),) = packed.items()
        if name == "dict":
            return {self.unpack(key): self.unpack(value) for key, value in content}
        if name == "mine":
            return remote(self, int(content))
        if name == "yours":
            return self.kept[content]
        if name == "module":
            return importlib.import_module(content)
        if name == "namedtuple":
            kind, fields, values = content
            return _named("collections.namedtuple", kind, fields)(*self.unpack(values))
        if name == "numpy":
            return numpy_array(*content)
        content = self.unpack(content)
        return (DATA[name][1] or (lambda plain: _named(name, plain)))(content)


def _forward(name):
    def method(self, *args, **options):
        if name in ALONE and type(args[0]) is not Remote:
            return NotImplemented if ALONE[name] is None else ALONE[name]
        return self._remote_peer.ask(name, self, *args, **options)

    return method


for _name in DO:
    setattr(Remote, _name, _forward(_name))


def _named(name, *args):
    """A call of a class of the standard library, or of its reader of ISO dates."""
    module, kind = name.rsplit(".", 1)
    found = getattr(importlib.import_module(module), kind)
    return found.fromisoformat(*args) if module == "datetime" else found(*args)


def numpy_array(kind, dtype, shape, data):
    """An array or a number of NumPy; never of Python objects."""
    import numpy

    array = numpy.frombuffer(bytes.fromhex(data), numpy.dtype(dtype)).reshape(shape).copy()
    return array if kind == "ndarray" else array[()]


def refillable(value):
    """Whether `refill` can give the value new contents."""
    return type(value) in (list, dict, set, bytearray)


def refill(old, new):
    """Gives a container that the answer has changed in place its new contents."""
    if refillable(old) and type(new) is type(old) and new != old:
        old.clear()
        (old.extend if isinstance(old, list | bytearray) else old.update)(new)


def builtin_base(kind):
    """The first built-in exception among the bases of an exception."""
    for base in kind.__mro__:
        if base.__module__ == "builtins" and issubclass(base, Exception):
            return base.__name__
    return "Exception"


_errors = {}


def error_class(name, base):
    """A built-in exception by name, or one class for each other name."""
    known = getattr(builtins, base)
    if not issubclass(known, Exception):
        raise TypeError(f"{base} is no exception")
    return known if name == base else _errors.setdefault(name, type(str(name), (known,), {}))


def answer(read, write):
    """Serves one answer: its names and objects, or its runs as a program."""
    program = "/tmp/answer.py"
    names = {"__name__": "answer"}

    def load(source):
        exec(compile(source, program, "exec"), names)
        found = {name: value for name, value in names.items() if not name.startswith("__")}
        errors = {
            name: [value.__name__, builtin_base(value)]
            for name, value in found.items()
            if isinstance(value, type) and issubclass(value, BaseException)
        }
        return {name: value for name, value in found.items() if name not in errors}, errors

    def run(source, text):
        with open(program, "w") as file:
            file.write(source)
        with open("/tmp/out", "wb+") as out:
            done = subprocess.run(
                [sys.executable, "-I", "-B", program],
                input=text.encode(),
                stdout=out,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            out.seek(0)
            return done.returncode, out.read().decode(errors="replace")

    peer = Peer(read, write, DO | {"load": load, "run": run})
    while True:
        peer.serve(peer.receive())


def tests(read, write):
    """Runs tests against the answer on the other side; returns (passed, total, first failure)."""
    asked = json.load(sys.stdin)
    peer = Peer(read, write, {name: DO[name] for name in OF_TESTS})
    source, each = asked["answer"], asked["tests"]
    passed, failure = 0, ""
    try:
        calls = any(isinstance(test, str) for test in each)
        names, errors = peer.ask("load", source) if calls else ({}, {})
        names |= {name: error_class(*value) for name, value in errors.items()}
        # An answer's own `abs` or `isinstance` would judge it: these names stay Python's.
        names = {name: names[name] for name in names if not hasattr(builtins, name)}
    except Exception as error:
        return 0, len(each), f"the answer: {type(error).__name__}: {error}"
    for number, test in enumerate(each):
        try:
            if isinstance(test, str):
                run_source(test, dict(names))
            else:
                run_program(peer, source, **test)
            passed += 1
        except BaseException as error:  # SystemExit too
            failure = failure or f"test {number + 1}: {type(error).__name__}: {error}"
    return passed, len(each), failure


def run_source(source, names):
    """Statements, then functions test_* and unittest's test cases among them."""
    names["__name__"] = "tests"
    names.pop("__builtins__", None)
    known = set(names)
    exec(compile(source, "tests", "exec"), names)
    for name in [name for name in names if name not in known]:
        value = names[name]
        if name.startswith("test") and type(value) is type(run_source):
            value()
        if isinstance(value, type) and issubclass(value, test_case()):
            import unittest

            suite = unittest.defaultTestLoader.loadTestsFromTestCase(value)
            done = unittest.TextTestRunner(io.StringIO()).run(suite)
            if not done.wasSuccessful():
                raise AssertionError((done.failures + done.errors)[0][1].splitlines()[-1])


def test_case():
    """unittest.TestCase if the tests have imported it."""
    return sys.modules["unittest"].TestCase if "unittest" in sys.modules else ()


def run_program(peer, source, input, output):
    """One run with text on standard input; trailing white space does not count."""
    code, found = peer.ask("run", source, input)
    lines = [[line.rstrip() for line in text.rstrip().splitlines()] for text in (found, output)]
    if code != 0:
        raise AssertionError(f"the program ended with {code}")
    if lines[0] != lines[1]:
        raise AssertionError(f"the program printed {found[:80]!r}, expected {output[:80]!r}")


def main(role, *number):
    """Runs one end: "answer", or the tests with the number of their socket; ends the process."""
    sys.set_int_max_str_digits(0)
    if role == "answer":
        read, write = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        quiet = os.open("/dev/null", os.O_RDWR)
        os.dup2(quiet, 0)
        os.dup2(quiet, 1)
        with contextlib.suppress(EOFError):
            answer(read, write)
    else:
        read, write = (os.fdopen(os.dup(int(number[0])), mode) for mode in ("rb", "wb"))
        verdict, sys.stdout = sys.stdout, io.StringIO()
        print(json.dumps(tests(read, write)), file=verdict, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
