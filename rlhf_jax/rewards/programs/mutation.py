"""Reward programs as sums of weighted terms, drawn at random and changed a little.

    rng = random.Random("icpl 0")
    first = random_program(grammar, rng)
    child = mutated(first, grammar, rng, worst=bad)         # away from a program that is bad

The result of any program is such a sum; a term that is no sum and has no number in front has the
weight 1. Assignments and named components stay as they are.
"""

import ast
import math
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import NamedTuple

from rlhf_jax.rewards.programs.syntax import LARGEST, RewardProgram, parse_program, write_program


class Grammar(NamedTuple):
    """What programs are made of.

    variables: names that a program may read. terms: expressions of them, the summands.
    most_terms: of a random program, from 1. spread: of the log of a factor of a weight.
    """

    variables: tuple[str, ...]
    terms: tuple[str, ...]
    most_terms: int = 4
    spread: float = 0.5


class Weighted(NamedTuple):
    """A summand. term: its text without the weight."""

    weight: float
    term: str


ADD, DROP, FLIP = 0.5, 0.65, 0.8  # ends of the shares of each change; above the last: none
AGAINST = 0.8  # chance that a term of the worst program is added with the opposite sign


def weighted_terms(program: RewardProgram) -> list[Weighted]:
    """The summands of the result, equal terms together, in their order.

    >>> weighted_terms(parse_program("2 * goal - (dist - 0.5 * goal)", ["goal", "dist"]))
    [Weighted(weight=2.5, term='goal'), Weighted(weight=-1.0, term='dist')]
    """
    found: dict[str, float] = {}
    for weight, node in _summands(program.result, 1.0):
        term = ast.unparse(node)
        found[term] = found.get(term, 0.0) + weight
    return [Weighted(weight, term) for term, weight in found.items()]


def sum_program(
    terms: Sequence[Weighted], variables: Sequence[str], *, steps: RewardProgram | None = None
) -> RewardProgram:
    """The program with these summands, and with the assignments and components of another."""
    written_terms = [f"{_number(weight)} * ({term})" for weight, term in terms]
    result = ast.parse(" + ".join(written_terms), mode="eval").body
    if steps is None:
        return write_program((), result, (), variables)
    return write_program(steps.steps, result, steps.parts, variables)


def random_program(grammar: Grammar, rng: Random) -> RewardProgram:
    """1 to `most_terms` different terms with weights N(0, 1)."""
    size = rng.randint(1, min(grammar.most_terms, len(grammar.terms)))
    terms = [_canonical(term, grammar) for term in rng.sample(grammar.terms, size)]
    return sum_program([Weighted(rng.gauss(0, 1), x) for x in terms], grammar.variables)


def mutated(
    program: RewardProgram, grammar: Grammar, rng: Random, *, worst: RewardProgram | None = None
) -> RewardProgram:
    """A program near another.

    Each weight is multiplied by exp(spread N(0, 1)) with probability 1/2. Then a term is added
    (0.5), dropped (0.15), has its sign changed (0.15), or nothing (0.2).

    Args:
      worst: a program to avoid. A term of it is added with the opposite sign with probability 0.8.
    """
    terms = [
        Weighted(_bounded(w * math.exp(grammar.spread * rng.gauss(0, 1))), x)
        if rng.random() < 0.5
        else Weighted(w, x)
        for w, x in weighted_terms(program)
    ]
    change = rng.random()
    place = rng.randrange(len(terms))
    if change < ADD:
        here = {term for _, term in terms}
        missing = [x for each in grammar.terms if (x := _canonical(each, grammar)) not in here]
        if missing:
            terms.append(_added(rng.choice(missing), worst, rng))
    elif change < DROP and len(terms) > 1:
        del terms[place]
    elif DROP <= change < FLIP:
        terms[place] = Weighted(-terms[place].weight, terms[place].term)
    return sum_program(terms, grammar.variables, steps=program)


def _added(term: str, worst: RewardProgram | None, rng: Random) -> Weighted:
    """A new term; against the sign that it has in the worst program, if it is there."""
    weight = rng.gauss(0, 1)
    bad = {} if worst is None else {x: w for w, x in weighted_terms(worst)}
    if bad.get(term) and rng.random() < AGAINST:
        weight = -math.copysign(weight, bad[term])
    return Weighted(weight, term)


def _summands(node: ast.expr, weight: float) -> list[tuple[float, ast.expr]]:
    """(weight, term) of a sum, of differences and of products with a number."""
    match node:
        case ast.BinOp(op=ast.Add() | ast.Sub() as op, left=left, right=right):
            sign = 1.0 if isinstance(op, ast.Add) else -1.0
            return _summands(left, weight) + _summands(right, sign * weight)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _summands(operand, -weight)
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            for number, other in ((left, right), (right, left)):
                if (value := _constant(number)) is not None:
                    return _summands(other, value * weight)
    return [(weight, node)]


def _constant(node: ast.expr) -> float | None:
    """The value of a number with or without a sign."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -float(value)
    return None


@cache
def _canonical(term: str, grammar: Grammar) -> str:
    """A term of the grammar as `weighted_terms` writes it."""
    return ast.unparse(parse_program(term, grammar.variables).result)


def _number(weight: float) -> str:
    return repr(_bounded(float(f"{weight:.6g}")))


def _bounded(weight: float) -> float:
    return min(max(weight, -LARGEST), LARGEST)
