"""What the parts of a reward program mean, on arrays. Nothing outside these tables can be written.

A comparison is 1.0 or 0.0, and a value counts as true where it is not 0.
"""

import ast
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

PREFIXES = ("jnp", "np", "math")  # of functions, as in `jnp.exp(x)`


class Function(NamedTuple):
    """A function of programs. arguments: how many values it takes."""

    arguments: int
    apply: Callable[..., Array]


def truth(x: Array) -> Array:
    """Whether a value counts as true."""
    return x != 0


def choose(condition: Array, yes: Array, no: Array) -> Array:
    """The value of `yes if condition else no`, and of `where`."""
    return jnp.where(truth(condition), yes, no)


FUNCTIONS = {
    "abs": Function(1, jnp.abs),
    "exp": Function(1, jnp.exp),
    "log": Function(1, jnp.log),
    "sqrt": Function(1, jnp.sqrt),
    "square": Function(1, jnp.square),
    "tanh": Function(1, jnp.tanh),
    "sigmoid": Function(1, jax.nn.sigmoid),
    "min": Function(2, jnp.minimum),
    "max": Function(2, jnp.maximum),
    "minimum": Function(2, jnp.minimum),
    "maximum": Function(2, jnp.maximum),
    "clip": Function(3, jnp.clip),
    "where": Function(3, choose),
}

OPERATORS: dict[type[ast.AST], Callable[..., Array]] = {
    ast.Add: jnp.add,
    ast.Sub: jnp.subtract,
    ast.Mult: jnp.multiply,
    ast.Div: jnp.divide,
    ast.Pow: jnp.power,
    ast.UAdd: jnp.positive,
    ast.USub: jnp.negative,
    ast.Not: lambda x: jnp.where(truth(x), 0.0, 1.0),
}

CONDITIONS: dict[type[ast.AST], Callable[..., Array]] = {
    ast.Lt: jnp.less,
    ast.LtE: jnp.less_equal,
    ast.Gt: jnp.greater,
    ast.GtE: jnp.greater_equal,
    ast.Eq: jnp.equal,
    ast.NotEq: jnp.not_equal,
}
