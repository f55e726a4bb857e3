"""Preference games: matrices P(row beats column), P + P^T = 1, and reference policies.

Every function takes leading axes of its keys or parameters and returns one game per entry; contexts
are such an axis. The dtype is JAX's default float: float64 under `jax.enable_x64(True)`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.typing import ArrayLike

from rlhf_jax.envs.bandit import preference_matrix
from rlhf_jax.types import Scalar


def check_prefs(prefs: ArrayLike, *, atol: float = 1e-6) -> Float[Array, "*B n n"]:
    """The preferences as a JAX array of floats, after checking them; not under jit.

    Args:
      prefs: [*B, n, n], an array or nested lists, row beats column.
      atol: tolerance of P + P^T = 1 and of the diagonal 1/2.
    Raises:
      ValueError: not square, NaN, outside [0, 1], a diagonal that is not 1/2, or P + P^T != 1. The
        message names the first wrong game, row and column, and the expected value.
    """
    values = np.asarray(prefs, dtype=np.float64)
    if values.ndim < 2 or values.shape[-1] != values.shape[-2] or values.shape[-1] == 0:
        raise ValueError(
            f"preferences must be square, [..., n, n], n > 0; got shape {values.shape}"
        )
    _refuse(np.isnan(values), values, "a probability")
    _refuse((values < 0) | (values > 1), values, "a probability in [0, 1]")
    sums = values + np.swapaxes(values, -1, -2)
    wrong = np.abs(sums - 1.0) > atol
    tied = np.eye(values.shape[-1], dtype=bool)
    _refuse(wrong & tied, values, "1/2 on the diagonal, an answer against itself")
    _refuse(wrong, values, "1 minus P(column beats row), so that P + P^T = 1")
    return jnp.asarray(prefs, jnp.result_type(float, np.asarray(prefs)))


def _refuse(wrong: np.ndarray, values: np.ndarray, expected: str) -> None:
    """Raises for the first wrong entry, in order of games, rows and columns."""
    if not wrong.any():
        return
    *game, row, column = (int(index) for index in np.argwhere(wrong)[0])
    name = f"game {game[0] if len(game) == 1 else (*game,)}" if game else "the game"
    value, mirrored = values[(*game, row, column)], values[(*game, column, row)]
    beside = f", P(row {column} beats column {row}) = {mirrored}" if row != column else ""
    raise ValueError(
        f"preferences of {name}: P(row {row} beats column {column}) = {value}{beside}; "
        f"expected {expected}"
    )


def _complete(wins: Float[Array, "*B n n"]) -> Float[Array, "*B n n"]:
    """Preferences with this lower triangle, 1/2 on the diagonal, and the complementary rest."""
    lower = jnp.tril(wins, -1)
    upper = jnp.triu(1.0 - jnp.swapaxes(wins, -1, -2), 1)
    return lower + upper + 0.5 * jnp.eye(wins.shape[-1], dtype=wins.dtype)


def _each(draw: Callable[[Array], Array], key: Key[Array, "*B"]) -> Array:
    """One draw per key."""
    for _ in range(key.ndim):
        draw = jax.vmap(draw)
    return draw(key)


def rock_paper_scissors(prob: float | Float[Array, "*B"] = 1.0) -> Float[Array, "*B 3 3"]:
    """A cycle: 0 beats 1, 1 beats 2 and 2 beats 0, with probability `prob`. Nash is uniform.

    Args:
      prob: [*B] in [0, 1]; 1 is the hardest, 1/2 all ties.
    """
    prob = jnp.asarray(prob, float)[..., None, None]
    cycle = jnp.roll(jnp.eye(3), 1, axis=1)
    return 0.5 + (prob - 0.5) * (cycle - cycle.T)


def asymmetric_cycle() -> Float[Array, "3 3"]:
    """A cycle of unequal strengths 0.9, 0.9 and 0.6; its Nash policy is (4/9, 1/9, 4/9)."""
    return jnp.array([[0.5, 0.9, 0.4], [0.1, 0.5, 0.9], [0.6, 0.1, 0.5]])


def dice_game(faces: Float[Array, "*B n f"] | None = None) -> Float[Array, "*B n n"]:
    """Dice: two are thrown, and the higher face wins; a tie is half a win.

    Args:
      faces: [*B, n, f] the faces of each die. None takes the intransitive dice {2, 4, 9}, {1, 6, 8}
        and {3, 5, 7}: each beats the next with probability 5/9, and Nash is uniform.
    Reference: Munos et al. 2023, arXiv:2312.00886, App. C.1, for these three.
    """
    if faces is None:
        faces = jnp.array([[2.0, 4.0, 9.0], [1.0, 6.0, 8.0], [3.0, 5.0, 7.0]])
    row, column = faces[..., :, None, :, None], faces[..., None, :, None, :]
    return 0.5 * jnp.mean((row > column) + (row >= column).astype(faces.dtype), axis=(-1, -2))


def three_types(eps: float | Float[Array, "*B"]) -> Float[Array, "*B 3 3"]:
    """Three answers and three types of judge, each with a preference about one pair only.

    A share 1/3 - eps prefers answer 1 to 0, a share 1/3 + eps/2 prefers 0 to 2, and the same share
    prefers 2 to 1; all other pairs are ties. Nash is (1/3 + eps/2, 1/3 + eps/2, 1/3 - eps), which
    is continuous in eps; the best answer of a Bradley-Terry fit jumps at eps = 0.

    Args:
      eps: [*B] in [-2/3, 1/3].
    Reference: Munos et al. 2023, arXiv:2312.00886, Sec. 3.2.
    """
    eps = jnp.asarray(eps, float)
    first, others, none = 1 / 3 - eps, 1 / 3 + eps / 2, jnp.zeros_like(eps)
    rows = [[none, -first, others], [first, none, -others], [-others, others, none]]
    return 0.5 + 0.5 * jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def bradley_terry_game(scores: Float[Array, "*B n"]) -> Float[Array, "*B n n"]:
    """Preferences explained by scores: P(i beats j) = sigmoid(r_i - r_j).

    Nash is the answer with the highest score. The regularised Nash policy is not
    softmax(log mu + r / beta), because a win rate is at most 1. Scores `jnp.log(ratings)` give the
    Elo form r_i / (r_i + r_j).

    Args:
      scores: [*B, n] r.
    """
    return preference_matrix(scores)


def random_game(key: Key[Array, "*B"], n: int) -> Float[Array, "*B n n"]:
    """All pairs independent and uniform: the lower triangle is drawn from U(0, 1).

    Args:
      key: [*B] keys, one per game.
      n: number of answers.
    Reference: Zhou et al. 2025, arXiv:2503.08942, simulations.
    """
    return _each(lambda key: _complete(jax.random.uniform(key, (n, n))), key)


def skew_game(key: Key[Array, "*B"], n: int, *, scale: Scalar = 3.0) -> Float[Array, "*B n n"]:
    """A dense intransitive game: sigmoid(scale (G - G^T) / sqrt(2)), G of standard normals.

    Args:
      key: [*B] keys, one game for each.
      n: answers of a game.
      scale: standard deviation of the logits, >= 0. May be traced.
    """

    def draw(key: Array) -> Array:
        noise = jax.random.normal(key, (n, n))
        return _complete(jax.nn.sigmoid(scale * (noise - noise.T) / jnp.sqrt(2.0)))

    return _each(draw, key)


def low_rank_game(
    key: Key[Array, "*B"], n: int, *, rank: int = 2, scale: Scalar = 3.0
) -> Float[Array, "*B n n"]:
    """An intransitive game with few factors: sigmoid(scale (U V^T - V U^T) / sqrt(rank)).

    Args:
      key: [*B] keys, one game for each.
      n: answers of a game.
      rank: columns of U and V, standard normals; the logits' matrix has rank 2 * rank.
      scale: of the logits, >= 0. May be traced.
    """

    def draw(key: Array) -> Array:
        left, right = jax.random.normal(key, (2, n, rank))
        product = jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST)
        return _complete(jax.nn.sigmoid(scale * (product - product.T) / jnp.sqrt(float(rank))))

    return _each(draw, key)


def condorcet_game(key: Key[Array, "*B"], n: int, *, gap: Scalar) -> Float[Array, "*B n n"]:
    """A random game in which answer 0 beats every other with probability 1/2 + gap, and is Nash.

    Args:
      key: [*B] keys, one game for each; the other pairs are those of `random_game`.
      n: answers of a game.
      gap: margin in (0, 1/2]. May be traced.
    """
    prefs = random_game(key, n)
    others = jnp.arange(n) > 0
    prefs = prefs.at[..., 0, :].set(jnp.where(others, 0.5 + gap, 0.5))
    return prefs.at[..., :, 0].set(jnp.where(others, 0.5 - gap, 0.5))


def random_reference(key: Key[Array, "*B"], n: int) -> Float[Array, "*B n"]:
    """log mu of a reference with standard normal logits, as in the simulations of EGPO."""
    return _each(lambda key: jax.nn.log_softmax(jax.random.normal(key, (n,))), key)


def tilted_reference(n: int = 3, *, tilt: Scalar = 0.7) -> Float[Array, " n"]:
    """log mu of a reference with logits from tilt to -tilt, evenly spaced.

    In a symmetric game the uniform reference is already the Nash policy, and no method would move.
    """
    return jax.nn.log_softmax(jnp.linspace(1.0, -1.0, n) * tilt)
