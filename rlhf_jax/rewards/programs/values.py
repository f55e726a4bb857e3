"""What a reward program gives on arrays: pure, so that it can be jitted, mapped and differentiated.

Each part of the tree is visited once, so that the time of a run is bounded by its size.
"""

import ast
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from rlhf_jax.rewards.programs.functions import CONDITIONS, FUNCTIONS, OPERATORS, choose, truth
from rlhf_jax.rewards.programs.syntax import ProgramError, RewardProgram, function_name

Variables = Mapping[str, ArrayLike]  # of [*B], or shapes that broadcast
TextFunction = Callable[[str], ArrayLike]  # a text to [*B]
NO_TEXTS: Mapping[str, TextFunction] = {}


class ProgramValues(NamedTuple):
    """rewards: [*B]. parts: name -> [*B], the components that the program names."""

    rewards: Array
    parts: dict[str, Array]


def program_values(
    program: RewardProgram, variables: Variables, *, texts: Mapping[str, TextFunction] = NO_TEXTS
) -> ProgramValues:
    """The rewards of a program.

    Args:
      variables: name -> [*B], shapes that broadcast.
      texts: name -> function of a text that the program has, to [*B].
    Returns:
      ProgramValues of the common shape of all variables. No value is checked, see `check_program`.
    Raises:
      ProgramError: a variable is missing.
    """
    given = {name: jnp.asarray(x, float) for name, x in variables.items()}
    shape = jnp.broadcast_shapes(*(x.shape for x in given.values()))
    for name, value in program.steps:
        given[name] = _value(value, given, texts)
    rewards = jnp.broadcast_to(_value(program.result, given, texts), shape)
    parts = {name: jnp.broadcast_to(_value(x, given, texts), shape) for name, x in program.parts}
    return ProgramValues(rewards, parts)


def check_program(program: RewardProgram, variables: Variables) -> None:
    """Tries a program on samples of its variables.

    Args:
      variables: name -> [N] samples.
    Raises:
      ProgramError: a reward is not finite, or all are equal and no policy could learn from them.
    """
    rewards = np.asarray(program_values(program, variables).rewards)
    if not np.isfinite(rewards).all():
        place = np.argwhere(~np.isfinite(rewards))[0]
        values = {name: np.broadcast_to(x, rewards.shape) for name, x in variables.items()}
        where = ", ".join(f"{name} = {x[tuple(place)]:g}" for name, x in values.items())
        raise ProgramError(f"the program gives {rewards[tuple(place)]:g} where {where}: {program}")
    if rewards.size and np.ptp(rewards) <= 1e-9 * max(1.0, float(np.abs(rewards).max())):
        raise ProgramError(f"the program is the same number everywhere: {program}")


def _value(node: ast.expr, known: Mapping[str, Array], texts: Mapping[str, TextFunction]) -> Array:
    """The value of an expression that `parse_program` allowed."""

    def value(each: ast.expr) -> Array:
        return _value(each, known, texts)

    match node:
        case ast.Constant(value=number):
            return jnp.asarray(number, float)
        case ast.Name(id=name):
            if name not in known:
                raise ProgramError(f"the program reads {name!r}, which is not given")
            return known[name]
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](value(operand))
        case ast.BinOp(op=op, left=left, right=right):
            return OPERATORS[type(op)](value(left), value(right))
        case ast.IfExp(test=test, body=body, orelse=other):
            return choose(value(test), value(body), value(other))
        case ast.BoolOp(op=op, values=sides):
            found = jnp.stack(jnp.broadcast_arrays(*(truth(value(each)) for each in sides)))
            both = isinstance(op, ast.And)
            return (jnp.all(found, axis=0) if both else jnp.any(found, axis=0)).astype(float)
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [value(each) for each in (left, *others)]
            pairs = zip(ops, sides[:-1], sides[1:], strict=True)
            found = [CONDITIONS[type(op)](a, b) for op, a, b in pairs]
            return jnp.all(jnp.stack(jnp.broadcast_arrays(*found)), axis=0).astype(float)
        case ast.Call(args=arguments):
            name = function_name(node)
            if name in texts:
                return jnp.asarray(texts[name](ast.literal_eval(arguments[0])), float)
            return FUNCTIONS[name].apply(*map(value, arguments))
    raise AssertionError(f"not a part of a program: {ast.dump(node)}")
