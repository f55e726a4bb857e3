"""The language of reward programs: values by hand, and everything that is refused by name."""

import ast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.rewards.programs import (
    ProgramError,
    ProgramLimits,
    check_program,
    parse_program,
    program_values,
)
from rlhf_jax.rewards.programs.functions import FUNCTIONS, choose, truth
from rlhf_jax.rewards.programs.syntax import function_name, write_program

NAMES = ("goal", "dist")

WHOLE = '''
def reward(dist: float, goal) -> float:
    """Two terms."""
    near = jnp.exp(-dist / 0.5)
    total = 2.0 * goal
    total += near if dist < 1 else 0.0
    return total, {"goal": 2.0 * goal, "near": near}
'''


def run(source, **variables):
    given = {name: jnp.asarray(x, float) for name, x in variables.items()}
    return program_values(parse_program(source, variables), given)


def test_a_whole_program_by_hand():
    # 2 * 1 + 0 at distance 1, and 2 * 0 + e^-1 at distance 1/2
    found = run(WHOLE, dist=[1.0, 0.5], goal=[1.0, 0.0])
    np.testing.assert_allclose(found.rewards, [2.0, np.exp(-1.0)], rtol=1e-6)
    np.testing.assert_allclose(found.parts["goal"], [2.0, 0.0])
    np.testing.assert_allclose(found.parts["near"], np.exp([-2.0, -1.0]), rtol=1e-6)


VALUES = [
    ("x + 2 * y - 1", 2 + 2 * 3 - 1),
    ("-x ** 2 / y", -4 / 3),
    ("x < y", 1.0),
    ("x > y or not y", 0.0),
    ("x > y or x < y", 1.0),
    ("x < y and x > y", 0.0),
    ("1 < x <= 2 < y and True", 1.0),
    ("x == 2", 1.0),
    ("x != 2", 0.0),
    ("y if x >= 3 else -y", -3.0),
    ("where(x, 5, 6) + where(0 * x, 5, 6)", 11.0),
    ("clip(y, 0, 1) + min(x, y) + max(x, y)", 6.0),
    ("np.minimum(x, y) * math.sqrt(square(y))", 6.0),
    ("abs(-x) + tanh(0) + sigmoid(0) + log(exp(1)) + maximum(x, y)", 6.5),
    ("7", 7.0),
]


@pytest.mark.parametrize(("source", "wanted"), VALUES)
def test_every_part_of_the_language(source, wanted):
    np.testing.assert_allclose(run(source, x=2.0, y=3.0).rewards, wanted, rtol=1e-6)


def test_every_function_is_tried_above():
    text = " ".join(source for source, _ in VALUES)
    assert [name for name in FUNCTIONS if f"{name}(" not in text] == []


def test_what_counts_as_true_and_what_is_called():
    x = jnp.array([0.0, -2.0])
    assert truth(x).tolist() == [False, True]
    assert choose(x, jnp.ones(2), jnp.zeros(2)).tolist() == [0.0, 1.0]
    calls = [ast.parse(text, mode="eval").body for text in ("exp(x)", "jnp.exp(x)", "os.exp(x)")]
    names = [function_name(call) for call in calls if isinstance(call, ast.Call)]
    assert names == ["exp", "exp", "os.exp"]


def test_a_program_of_trees_is_the_program_of_its_text():
    program = parse_program(WHOLE, NAMES)
    assert write_program(program.steps, program.result, program.parts, NAMES) == program


def test_one_form_however_it_was_written():
    program = parse_program("  2*goal -dist # near\n", NAMES)
    assert str(program) == "def reward(dist, goal):\n    return 2 * goal - dist"
    again = parse_program(str(program), NAMES)
    assert again == program
    assert parse_program(parse_program(WHOLE, NAMES).source, NAMES).source.count("\n") == 4


def test_jit_vmap_and_gradient_agree_with_a_loop():
    program = parse_program("square(dist) + where(goal, 3, dist)", NAMES)
    dist, goal = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0, 0.0])

    def one(dist, goal):
        return program_values(program, {"dist": dist, "goal": goal}).rewards

    loop = [one(d, g) for d, g in zip(dist, goal, strict=True)]
    for found in (one(dist, goal), jax.jit(one)(dist, goal), jax.vmap(one)(dist, goal)):
        np.testing.assert_allclose(found, loop)
    np.testing.assert_allclose(jax.vmap(jax.grad(one))(dist, goal), [3.0, 4.0, 7.0])
    assert one(dist[:, None], goal).shape == (3, 3)


REFUSED = {
    "does not compile": ("def reward(goal:\n    return 1", "line 1: the program does not compile"),
    "a null byte": ("goal\0", "does not compile"),
    "a loop without end": (
        "def reward(goal):\n    while True: pass\n    return 1",
        "line 2.*loops",
    ),
    "a loop": ("def reward(goal):\n    for i in goal: pass\n    return 1", "line 2.*no loops"),
    "a comprehension": ("max([goal for i in goal], 1)", "no loops"),
    "reading a file": ("open('/etc/passwd')", "open is no function of programs: abs, clip"),
    "writing a file": ("pathlib.Path('x').write_text('y')", r"write_text is no function"),
    "the network": ("urllib.request.urlopen('http://x')", "urlopen is no function"),
    "an import": ("def reward(goal):\n    import os\n    return 1", "line 2.*imports nothing"),
    "an import first": ("import os\ngoal", "one function or one expression"),
    "an import alone": ("import os", "imports nothing: it reaches no files and no network"),
    "__import__": ("__import__('os').system('ls')", "is no function"),
    "eval": ("eval('1')", "eval is no function"),
    "itself": ("def reward(goal):\n    return reward(goal)", "reward is no function"),
    "a dunder": ("goal.__class__", "reads no attributes"),
    "an attribute": ("goal.sum", "reads no attributes"),
    "a method": ("goal.tofile('x')", "goal.tofile is no function"),
    "another module": ("os.exp(goal)", "os.exp is no function"),
    "a name": ("goal + __builtins__", "'__builtins__' is no variable; there are dist, goal"),
    "an argument": ("def reward(speed):\n    return 1", "'speed' is no variable"),
    "a default": ("def reward(goal=open('x')):\n    return 1", "without defaults"),
    "a decorator": ("@exec\ndef reward(goal):\n    return 1", "no decorator"),
    "two functions": (
        "def a(goal):\n  return 1\ndef b(goal):\n  return 1",
        "line 3: .*one function",
    ),
    "a lambda": ("(lambda: 1)()", "is no function"),
    "a function in it": (
        "def reward(goal):\n    def f(): pass\n    return 1",
        "FunctionDef is not",
    ),
    "a walrus": ("(a := goal)", "NamedExpr is not allowed"),
    "a star": ("max(*goal)", "max takes 2 values"),
    "a keyword": ("exp(goal, out=goal)", "exp takes 1 values"),
    "too few": ("clip(goal)", "clip takes 3 values"),
    "a text": ("'goal'", "'goal' is no number"),
    "an f-string": ("f'{goal}'", "JoinedStr is not allowed"),
    "a complex number": ("1j * goal", "1j is no number"),
    "a bit shift": ("1 << goal", "BinOp is not allowed"),
    "an index": ("goal[0]", "Subscript is not allowed"),
    "membership": ("goal in dist", "Compare is not allowed"),
    "a huge number": ("1e7 * goal", "a number is at most 1e"),
    "a number beyond floats": ("9" * 400 + " * goal", "a number is at most 1e"),
    "infinity": ("1e999 * goal", "a number is at most 1e"),
    "nothing": ("", "one function or one expression"),
    "nothing but words": ('def reward(goal):\n    """Goal."""', "returns nothing"),
    "no return": ("def reward(goal):\n    x = goal", "ends with `return VALUE`"),
    "an empty return": ("def reward(goal):\n    return", "ends with `return VALUE`"),
    "three values": ("def reward(goal):\n    return 1, 2, 3", "a number and a dict"),
    "names that are numbers": ("def reward(goal):\n    return 1, {2: goal}", "are texts"),
    "a variable overwritten": (
        "def reward(goal):\n    goal = 1\n    return goal",
        "a meaning already",
    ),
    "a function overwritten": (
        "def reward(goal):\n    exp = 1\n    return goal",
        "a meaning already",
    ),
    "two targets": ("def reward(goal):\n    a = b = 1\n    return goal", "Assign is not allowed"),
    "an attribute set": ("def reward(goal):\n    goal.x = 1\n    return 1", "one plain name"),
    "await": ("async def reward(goal):\n    return 1", "AsyncFunctionDef is not allowed"),
    "a class": ("class A: pass", "ClassDef is not allowed"),
    "too long": ("goal + " * 2000 + "1", r"14001 characters; at most 10000"),
    "too large": ("goal + (dist + 1) + " * 100 + "1", "parts; at most 400 are allowed"),
    "too deep": ("-" * 60 + "goal", "nested .* deep; at most 40"),
    "far too deep": ("-" * 9000 + "goal", "does not compile|nested|parts"),
    "brackets": ("(" * 1000 + "1" + ")" * 1000, "does not compile"),
    "a bomb": ("9**9**9**9**9**9**9 * (" * 30 + "1" + ")" * 30, "parts|deep"),
}


@pytest.mark.parametrize(("source", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_everything_else_is_refused_by_name(source, message):
    with pytest.raises(ProgramError, match=message):
        parse_program(source, NAMES)


def test_values_that_double_are_computed_once():
    """30 assignments that each add the last one to itself: 2^30 parts if they were written out."""
    lines = ["    x0 = goal"] + [f"    x{i + 1} = x{i} + x{i}" for i in range(30)]
    source = "\n".join(["def reward(goal):", *lines, "    return x30"])
    assert float(run(source, goal=1.0).rewards) == 2.0**30


def test_a_tower_of_powers_ends_at_once():
    assert np.isinf(run("9**9**9**9 * x", x=1.0).rewards)


def test_limits_are_the_callers():
    parse_program("goal + 1", NAMES, limits=ProgramLimits(nodes=6))
    with pytest.raises(ProgramError, match="at most 4"):
        parse_program("goal + 1", NAMES, limits=ProgramLimits(nodes=4))
    with pytest.raises(ValueError, match=r"depth must be in \[1, 100\]"):
        ProgramLimits(depth=1000)


def test_a_value_that_nobody_can_learn_from_is_refused():
    samples = {"dist": np.array([0.0, 0.5, 1.0]), "goal": np.zeros(3)}
    check_program(parse_program("dist", NAMES), samples)
    with pytest.raises(ProgramError, match="gives inf where dist = 0, goal = 0"):
        check_program(parse_program("1 / dist", NAMES), samples)
    with pytest.raises(ProgramError, match="gives nan where dist = 0, goal = 0"):
        check_program(parse_program("log(dist - 0.25)", NAMES), samples)
    with pytest.raises(ProgramError, match="the same number everywhere"):
        check_program(parse_program("0 * dist + 3", NAMES), samples)


def test_a_variable_that_is_not_given_is_named():
    with pytest.raises(ProgramError, match="reads 'goal', which is not given"):
        program_values(parse_program("goal + dist", NAMES), {"dist": jnp.zeros(2)})
