"""From a text to a reward program: read by `ast` and checked, never run.

A program is one expression, or one function of named variables with assignments before its return:

    def reward(dist, goal):
        near = exp(-dist / 0.2)
        return 2.0 * goal + near, {"near": near}

It has no loop, no import, no attribute, no text and no call but those of FUNCTIONS, so that it can
neither run for ever nor reach files, the network or the interpreter: there is no name for them.
"""

import ast
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from rlhf_jax.checks import check_fields
from rlhf_jax.rewards.programs.functions import CONDITIONS, FUNCTIONS, OPERATORS, PREFIXES

LARGEST = 1e6  # of a number in a program
LOOPS = (
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)
IMPORTS = (ast.Import, ast.ImportFrom)
NO_CODE = (ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.arguments)


class ProgramError(ValueError):
    """A reward program that is refused; the message says where and why."""


@dataclass(frozen=True)
class ProgramLimits:
    """characters: of the text. nodes, depth: of its tree; a run visits each node once."""

    characters: int = 10_000
    nodes: int = 400
    depth: int = 40

    def __post_init__(self):
        check_fields(self, "[1, inf)", "characters", "nodes")
        check_fields(self, "[1, 100]", "depth")


@dataclass(frozen=True)
class RewardProgram:
    """A program that passed. source: its text in one form, however it was written.

    steps: (name, value) of its assignments. result: what it returns. parts: (name, value) of the
    components that it names.
    """

    source: str
    steps: tuple[tuple[str, ast.expr], ...] = field(compare=False)
    result: ast.expr = field(compare=False)
    parts: tuple[tuple[str, ast.expr], ...] = field(compare=False)

    def __str__(self) -> str:
        return self.source


def parse_program(
    source: str,
    variables: Collection[str],
    *,
    texts: Collection[str] = (),
    limits: ProgramLimits = ProgramLimits(),
) -> RewardProgram:
    """The program of a text.

    >>> str(parse_program("2*goal - dist", ["goal", "dist"]))
    'def reward(dist, goal):\\n    return 2 * goal - dist'

    Args:
      variables: names that it may read; a function need not have all of them as arguments.
      texts: functions of one text each, `count("please")`.
    Raises:
      ProgramError: the text does not compile, is too large, or has anything that is not allowed.
    """
    tree = _read(source, limits)
    function = _function(tree, variables)
    known = set(variables)
    steps: list[tuple[str, ast.expr]] = []
    *before, last = function.body
    for line in before:
        name, value = _assignment(line)
        _check(value, known, texts)
        if name in FUNCTIONS or name in texts or name in variables:
            raise _refusal(line, f"{name!r} has a meaning already; give the value another name")
        known.add(name)
        steps.append((name, value))
    if not isinstance(last, ast.Return) or last.value is None:
        raise _refusal(last, "a program ends with `return VALUE` or `return VALUE, {NAME: VALUE}`")
    result, parts = _returned(last.value)
    for value in (result, *(value for _, value in parts)):
        _check(value, known, texts)
    return write_program(tuple(steps), result, parts, variables)


def write_program(
    steps: tuple[tuple[str, ast.expr], ...],
    result: ast.expr,
    parts: tuple[tuple[str, ast.expr], ...],
    variables: Collection[str],
) -> RewardProgram:
    """The program of these trees, with its text."""
    values = [value for _, value in (*steps, *parts)] + [result]
    read = {node.id for value in values for node in ast.walk(value) if isinstance(node, ast.Name)}
    lines = [f"{name} = {ast.unparse(value)}" for name, value in steps]
    named = ", ".join(f"{name!r}: {ast.unparse(value)}" for name, value in parts)
    lines.append(f"return {ast.unparse(result)}" + (f", {{{named}}}" if parts else ""))
    body = "".join(f"\n    {line}" for line in lines)
    used = ", ".join(sorted(read & set(variables)))
    return RewardProgram(f"def reward({used}):{body}", steps, result, parts)


def _read(source: str, limits: ProgramLimits) -> ast.Module:
    """The tree of a text within the limits."""
    if len(source) > limits.characters:
        raise ProgramError(
            f"the program has {len(source)} characters; at most {limits.characters} are allowed"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes in its texts
            tree = ast.parse(source.strip())
    except SyntaxError as error:
        raise ProgramError(
            f"line {error.lineno}: the program does not compile: {error.msg}"
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ProgramError(f"the program does not compile: {error or 'too deep'}") from error
    levels = [*map(len, _levels(tree))]
    count, depth = sum(levels), len(levels) - 1
    if count > limits.nodes:
        raise ProgramError(f"the program has {count} parts; at most {limits.nodes} are allowed")
    if depth > limits.depth:
        raise ProgramError(f"the program is nested {depth} deep; at most {limits.depth} is allowed")
    return tree


def _levels(tree: ast.AST) -> Iterator[list[ast.AST]]:
    """The nodes at each depth; without recursion, since the depth is not known to be small."""
    level = [tree]
    while level:
        yield level
        below = [child for node in level for child in ast.iter_child_nodes(node)]
        level = [node for node in below if not isinstance(node, NO_CODE)]


def _function(tree: ast.Module, variables: Collection[str]) -> ast.FunctionDef:
    """The one function of a text; an expression alone becomes one."""
    if len(tree.body) != 1:
        wrong = tree.body[1] if tree.body else tree
        raise _refusal(wrong, "a program is one function or one expression")
    (only,) = tree.body
    if isinstance(only, ast.Expr):
        arguments = ast.arguments([], [], None, [], [], None, [])
        back = ast.copy_location(ast.Return(only.value), only)
        return ast.FunctionDef("reward", arguments, [back], [])
    if not isinstance(only, ast.FunctionDef):
        raise _refusal(only, _why(only))
    if only.decorator_list:
        raise _refusal(only, "a program has no decorator")
    given = only.args
    if given.vararg or given.kwarg or given.defaults or any(given.kw_defaults):
        raise _refusal(only, "the arguments of a program are names of variables, without defaults")
    for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs):
        if argument.arg not in variables:
            raise _refusal(argument, _unknown(argument.arg, variables))
    if ast.get_docstring(only) is not None:
        only.body = only.body[1:]
    if not only.body:
        raise _refusal(only, "the program returns nothing")
    return only


def _assignment(line: ast.stmt) -> tuple[str, ast.expr]:
    """(name, value) of `name = value` or `name += value`."""
    if isinstance(line, ast.Assign) and len(line.targets) == 1:
        target, value = line.targets[0], line.value
    elif isinstance(line, ast.AugAssign):
        target = line.target
        read = ast.Name(ast.unparse(target), ast.Load())
        value = ast.copy_location(ast.BinOp(read, line.op, line.value), line)
        ast.copy_location(read, line)
    else:
        raise _refusal(line, _why(line))
    if not isinstance(target, ast.Name):
        raise _refusal(line, "a value gets one plain name")
    return target.id, value


def _returned(value: ast.expr) -> tuple[ast.expr, tuple[tuple[str, ast.expr], ...]]:
    """The reward, and the components by name."""
    match value:
        case ast.Tuple(elts=[result, ast.Dict(keys=names, values=parts)]):
            pass
        case ast.Tuple():
            raise _refusal(value, "a program returns a number, or a number and a dict of parts")
        case _:
            return value, ()
    found = []
    for name, part in zip(names, parts, strict=True):
        if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
            raise _refusal(part, "the names of components are texts")
        found.append((name.value, part))
    return result, tuple(found)


def _check(node: ast.expr, known: Collection[str], texts: Collection[str]) -> None:
    """ProgramError unless every part of an expression is allowed."""
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            if not abs(value) <= LARGEST:
                raise _refusal(node, f"a number is at most {LARGEST:g} in size")
        case ast.Name(id=name):
            if name not in known:
                raise _refusal(node, _unknown(name, known))
        case ast.BinOp(op=op) | ast.UnaryOp(op=op) if type(op) in OPERATORS:
            pass
        case ast.Compare(ops=ops) if all(type(op) in CONDITIONS for op in ops):
            pass
        case ast.BoolOp() | ast.IfExp():
            pass
        case ast.Call():
            _check_call(node, texts)
            if function_name(node) in texts:
                return
            for each in node.args:
                _check(each, known, texts)
            return
        case _:
            raise _refusal(node, _why(node))
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            _check(child, known, texts)


def _check_call(node: ast.Call, texts: Collection[str]) -> None:
    """A function of the list with as many plain arguments as it takes, or one of texts."""
    name = function_name(node)
    given = node.args
    if name in texts:
        if len(given) != 1 or node.keywords or not _is_text(given[0]):
            raise _refusal(node, f'{name} takes one text, as in {name}("please")')
        return
    if name not in FUNCTIONS:
        allowed = ", ".join(sorted({*FUNCTIONS, *texts}))
        raise _refusal(node, f"{ast.unparse(node.func)} is no function of programs: {allowed}")
    size = FUNCTIONS[name].arguments
    if len(given) != size or node.keywords or any(isinstance(x, ast.Starred) for x in given):
        raise _refusal(node, f"{name} takes {size} values")


def function_name(node: ast.Call) -> str:
    """`exp` of `exp(x)` and of `jnp.exp(x)`; the whole text of what is called otherwise."""
    match node.func:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=prefix), attr=name) if prefix in PREFIXES:
            return name
    return ast.unparse(node.func)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != ""


def _why(node: ast.AST) -> str:
    """What a node would do that no program may."""
    if isinstance(node, LOOPS):
        return "a program has no loops, so that it always ends"
    if isinstance(node, IMPORTS):
        return "a program imports nothing: it reaches no files and no network"
    if isinstance(node, ast.Attribute):
        return "a program reads no attributes"
    if isinstance(node, ast.Constant):
        return f"{node.value!r} is no number"
    return f"{type(node).__name__} is not allowed in a program"


def _unknown(name: str, known: Collection[str]) -> str:
    return f"{name!r} is no variable; there are {', '.join(sorted(known))}"


def _refusal(node: ast.AST, reason: str) -> ProgramError:
    return ProgramError(f"line {getattr(node, 'lineno', 1)}: {reason}")
