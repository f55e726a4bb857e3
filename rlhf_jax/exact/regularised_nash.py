"""The Nash policy of a regularised preference game, to float64 precision.

On the host: arrays of any kind and precision in, NumPy float64 out. Preferences are first made
exactly complementary, (P + 1 - P^T) / 2.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float64

from rlhf_jax.exact.nash import game_name, skew_part
from rlhf_jax.ops.linear_systems import solve

WARM_STEPS, NEWTON_STEPS = 100, 50  # in the first round; each round has ten times the warm steps
ROUNDS = 4
SHRINKS = 0.5 ** np.arange(16)  # lengths that are tried for a Newton step


class _Game(NamedTuple):
    """One game: P - 1/2 [n, n], log mu [n], whether mu(y) > 0 [n], beta."""

    skew: Array
    ref_logps: Array
    allowed: Array
    beta: Array


def regularised_nash(
    prefs: ArrayLike, ref_logps: ArrayLike, *, beta: ArrayLike, tolerance: float = 1e-12
) -> Float64[np.ndarray, "*B n"]:
    """Log-probs of the regularised Nash policy (quantal response equilibrium), which is unique.

    pi*(y) = mu(y) exp(P(y > pi*) / beta) / Z.

    Extragradient steps, which contract from any start, are followed by Newton steps on
    l - log mu - P softmax(l) / beta, each shortened until its norm decreases. The Jacobian is the
    identity plus a matrix that is skew in the metric of pi, so it is never singular and every step
    is a descent direction. If 50 Newton steps are not enough, the next round starts with more
    extragradient steps. All games are solved in one compiled program.

    Args:
      prefs: [*B, n, n], row beats column.
      ref_logps: [*B, n] log mu in nats, normalised here; -inf for an answer that is never given.
      beta: [*B] KL weight > 0; tau in some papers. Tested from 1e-3 to 10 with up to 1,000 answers;
        for much smaller beta, the rounding of P pi / beta exceeds the tolerance.
      tolerance: largest accepted max_y |log pi - log_softmax(log mu + P pi / beta)|.
    Returns:
      [*B, n] log-probs in nats; leading axes of the three arguments broadcast.
    Raises:
      ValueError: as `check_prefs`; beta <= 0 or not finite; log mu is NaN, +inf, or -inf for all
        answers, or has another number of answers.
      RuntimeError: the tolerance was not reached; the message names the game and beta.
    Reference: Munos et al. 2023, arXiv:2312.00886, Prop. 1 (uniqueness).
    """
    skew, ref, betas = skew_part(prefs), _checked_reference(ref_logps), _checked_beta(beta)
    n = skew.shape[-1]
    if ref.shape[-1] != n:
        raise ValueError(f"log mu has {ref.shape[-1]} answers, the games have {n}")
    batch = np.broadcast_shapes(skew.shape[:-2], ref.shape[:-1], betas.shape)
    with jax.enable_x64(True):
        logps, residuals = _solve_all(
            np.broadcast_to(skew, (*batch, n, n)).reshape(-1, n, n),
            np.broadcast_to(ref, (*batch, n)).reshape(-1, n),
            np.broadcast_to(betas, batch).reshape(-1),
            tolerance,
        )
        logps, residuals = np.asarray(logps), np.asarray(residuals)
    for index, residual in np.ndenumerate(residuals.reshape(batch)):
        if not residual <= tolerance:
            raise RuntimeError(
                f"regularised Nash policy of {game_name(index)} at beta = "
                f"{np.broadcast_to(betas, batch)[index]}: residual {residual:.1e}, more than "
                f"{tolerance}"
            )
    return logps.reshape(*batch, n)


def _checked_reference(ref_logps: ArrayLike) -> np.ndarray:
    """log mu in float64; ValueError if it is NaN, +inf, or -inf for all answers."""
    ref = np.asarray(ref_logps, dtype=np.float64)
    if np.any(np.isnan(ref) | (ref == np.inf)) or np.any(np.all(ref == -np.inf, axis=-1)):
        raise ValueError("log mu must be finite, or -inf for some of the answers")
    return ref


def _checked_beta(beta: ArrayLike) -> np.ndarray:
    """beta in float64; ValueError unless it is positive and finite."""
    betas = np.asarray(beta, dtype=np.float64)
    if not np.all(np.isfinite(betas) & (betas > 0)):
        raise ValueError(f"beta must be positive and finite, got {beta}")
    return betas


@jax.jit
def _solve_all(
    skew: Array, ref_logps: Array, betas: Array, tolerance: Array
) -> tuple[Array, Array]:
    """Policies [G, n] and residuals [G] of games [G, n, n]."""
    return jax.vmap(partial(_solve, tolerance=tolerance))(skew, ref_logps, betas)


def _solve(skew: Array, ref_logps: Array, beta: Array, *, tolerance: Array) -> tuple[Array, Array]:
    """One game: log pi and the residual."""
    ref = jax.nn.log_softmax(ref_logps)
    game = _Game(skew, ref, ref_logps > -jnp.inf, beta)

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        _, logits, done = state
        return (done < ROUNDS) & ~(_residual(game, logits) <= tolerance)

    def rounds(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        warm, _, done = state
        count = WARM_STEPS * 10**done
        warm = jax.lax.fori_loop(0, count, lambda _, logps: _extragradient(game, logps), warm)
        return warm, _newton(game, warm, 0.1 * tolerance), done + 1

    start = ref, jnp.where(game.allowed, ref, 0.0), jnp.array(0)
    _, logits, _ = jax.lax.while_loop(unfinished, rounds, start)
    return _policy(game, logits), _residual(game, logits)


def _policy(game: _Game, logits: Array) -> Array:
    """log pi of logits [*B, n]; logits are finite also for answers with mu(y) = 0."""
    return jax.nn.log_softmax(jnp.where(game.allowed, logits, -jnp.inf))


def _extragradient(game: _Game, logps: Array) -> Array:
    """An extragradient step of size 2 / (1 + 2 beta), the largest that contracts in every game."""
    eta = 2.0 / (1.0 + 2.0 * game.beta)
    pulled = (1.0 - eta * game.beta) * logps + eta * game.beta * game.ref_logps
    half = jax.nn.log_softmax(pulled + eta * game.skew @ jnp.exp(logps))
    return jax.nn.log_softmax(pulled + eta * game.skew @ jnp.exp(half))


def _residual(game: _Game, logits: Array) -> Array:
    """max_y |log pi - log_softmax(log mu + P pi / beta)|."""
    logps = _policy(game, logits)
    best = _policy(game, game.ref_logps + game.skew @ jnp.exp(logps) / game.beta)
    return jnp.max(jnp.abs(jnp.where(game.allowed, logps - best, 0.0)))


def _offsets(game: _Game, logits: Array) -> Array:
    """l - log mu - P softmax(l) / beta of logits [*B, n], minus its mean: 0 at the Nash policy."""
    played = jnp.exp(_policy(game, logits)) @ game.skew.T
    offsets = logits - jnp.where(game.allowed, game.ref_logps, 0.0) - played / game.beta
    mean = jnp.mean(offsets, axis=-1, keepdims=True, where=game.allowed)
    return jnp.where(game.allowed, offsets - mean, 0.0)


def _newton(game: _Game, logps: Array, goal: Array) -> Array:
    """Logits after Newton steps, until the residual reaches the goal or no step helps."""

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        logits, count, stuck = state
        return (count < NEWTON_STEPS) & ~stuck & (_residual(game, logits) > goal)

    start = jnp.where(game.allowed, logps, 0.0), jnp.array(0), jnp.array(False)
    return jax.lax.while_loop(unfinished, partial(_newton_step, game), start)[0]


def _newton_step(game: _Game, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """The longest of 16 shortened Newton steps that reduces the offsets; stuck if none does."""
    logits, count, _ = state
    offsets, probs = _offsets(game, logits), jnp.exp(_policy(game, logits))
    slopes = game.skew * probs - jnp.outer(game.skew @ probs, probs)
    move = solve(jnp.eye(len(probs)) - slopes / game.beta, -offsets[:, None])[:, 0]
    tried = logits + SHRINKS[:, None] * jnp.where(game.allowed, move, 0.0)
    lengths = jnp.linalg.norm(_offsets(game, tried), axis=-1)
    good = lengths < (1.0 - 1e-4 * SHRINKS) * jnp.linalg.norm(offsets)
    moved = jnp.where(jnp.any(good), tried[jnp.argmax(good)], logits)
    # Shifted so that the likely answers have logits near 0, where floats are most precise.
    top = jnp.max(moved, where=game.allowed, initial=-jnp.inf)
    return moved - top, count + 1, ~jnp.any(good)
