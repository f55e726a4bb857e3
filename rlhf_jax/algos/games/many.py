"""Many small games: inside a loop the answers come first, so that every inner loop is over games.

With games in front, [1024, 10], the inner loops of products, maxima and sums are ten long; with the
answers in front, [10, 1024], they are vectorised. The steps and oracles turn their arrays where
`many_small` says so, and turn the result back; between two of them the turns cancel when compiled.
Sums then run in another order than with few games, which changes the last digits.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

GAMES, ANSWERS = 256, 16  # at least so many games of at most so many answers
Turn = Callable[[Any], Any]


def many_small(policies: Float[Array, "*B n"]) -> bool:
    """Whether the answers should come first."""
    answers = policies.shape[-1]
    return 1 < answers <= ANSWERS and policies.size >= GAMES * answers


def answers_first(x: Float[Array, "..."], axes: int = 1) -> Float[Array, "..."]:
    """[*B, n] -> [n, *B], or with two axes [*B, n, n] -> [n, n, *B]."""
    return jnp.moveaxis(x, tuple(range(-axes, 0)), tuple(range(axes)))


def answers_last(x: Float[Array, "n *B"]) -> Float[Array, "*B n"]:
    """The inverse, for one axis."""
    return jnp.moveaxis(x, 0, -1)


def turns(policies: Float[Array, "*B n"]) -> tuple[Turn, Turn]:
    """Turn of the state of a loop over these policies, and back: each of its leaves with more than
    one axis. Neither does anything unless the games are many and small."""
    if not many_small(policies):
        return lambda state: state, lambda state: state

    def every(turn: Callable[[Array], Array]) -> Turn:
        return lambda state: jax.tree.map(lambda x: turn(x) if x.ndim > 1 else x, state)

    return every(answers_first), every(answers_last)


def log_softmax_of(
    logits: Callable[..., Array], *policies: Float[Array, "*B n"]
) -> Float[Array, "*B n"]:
    """log_softmax(logits(*policies)); `logits` is element by element."""
    if not many_small(policies[0]):
        return jax.nn.log_softmax(logits(*policies), axis=-1)
    return answers_last(_log_softmax(logits(*map(answers_first, policies))))


def columnwise_win_rates(
    prefs: Float[Array, "n n *B"], probs: Float[Array, "n *B"]
) -> Float[Array, "n *B"]:
    """`ops.games.win_rates` of one policy per game, all with the answers first."""
    return reduce(jnp.add, [prefs[:, b] * probs[b] for b in range(len(probs))])


def _log_softmax(logits: Float[Array, "n *B"]) -> Float[Array, "n *B"]:
    """Over the first axis, row by row: a reduction would be compiled to a loop per game."""
    largest = reduce(lambda x, y: jnp.where(x > y, x, y), list(logits))  # faster than jnp.maximum
    total = reduce(jnp.add, list(jnp.exp(logits - largest)))
    # One number per game is subtracted: of two, the first would be computed again in every row.
    return logits - (largest + jnp.log(total))
