"""The update rules of preference games, each a use of one map of log-probabilities.

    S(l; u) = log_softmax((1 - eta beta) l + eta beta log mu + eta u),   u(y) = P(y > opponent)

eta is always the step.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.algos.games.opponents import (
    GameState,
    Opponent,
    averaged,
    mixture,
    past_average,
    self_play,
)
from rlhf_jax.algos.games.oracles import Oracle
from rlhf_jax.algos.games.steps import (
    Schedule,
    at_step,
    check_step,
    check_weights,
    mirror_step,
    scaled,
    softmax_gradient_step,
)
from rlhf_jax.types import Metrics, Scalar


class Method(NamedTuple):
    """An update rule.

    Attributes:
      init: logps or logits [*B, n] of the first policy -> GameState.
      update: pure `(state, oracle, key) -> (state, metrics)`. Metrics, each [*B]: "kl/step",
        KL(pi_{t+1} || pi_t) in nats; "win_rate/best", the highest win rate that the oracle gave
        in its last call (against pi_t and exact, it is 1/2 + exploitability / 2).
    """

    init: Callable
    update: Callable


class _Move(NamedTuple):
    """What a method makes of one step: next policy, the one played, memory, the last win rates."""

    logps: Array
    played: Array
    memory: Any
    win_rates: Array


def mirror_descent(
    ref_logps: Float[Array, "*B n"],
    *,
    eta: Scalar | Schedule,
    beta: Scalar,
    opponent: Opponent | None = None,
) -> Method:
    """Online mirror descent: l+ = S(l; P opponent), one call of the oracle.

    Against itself it is MMD, INPO and the first form of online IPO; Hedge, MWU and SPO at
    beta = 0. Its fixed point is the regularised Nash policy, and at a fixed step it gets there only
    if eta is small, of the order of beta, where the game has cycles; `decaying_steps` always do.

    Args:
      ref_logps: [*B, n] log mu.
      eta: step, a number or a function of t.
      beta: KL weight >= 0.
      opponent: from `games.opponents`; pi_t unless given.
    Raises:
      ValueError: eta or beta < 0, or eta beta > 1, where they are known numbers (schedules: at 0).
    Reference: Zhang et al. 2024, arXiv:2407.00617; Swamy et al. 2024, arXiv:2401.04056, for SPO.
    """
    check_step(eta, beta)
    return _against(mirror_step, ref_logps, eta=eta, beta=beta, opponent=opponent)


def nash_md(ref_logps: Float[Array, "*B n"], *, eta: Scalar | Schedule, beta: Scalar) -> Method:
    """Nash-MD: the opponent is pi_t^(1 - eta beta) mu^(eta beta), where the step starts from.

    With `decaying_steps`, KL(pi* || pi_t) <= 8 / (beta^2 (t + 1)). A fixed step ends O(eta^2) away.

    Args, Raises: as `mirror_descent`.
    Reference: Munos et al. 2023, arXiv:2312.00886, Eqs. 3 to 5.
    """
    opponent = mixture(ref_logps, weight=lambda step: at_step(eta, step) * beta)
    return mirror_descent(ref_logps, eta=eta, beta=beta, opponent=opponent)


def best_response(ref_logps: Float[Array, "*B n"], *, beta: Scalar) -> Method:
    """Best response to the last policy, log mu + P pi_t / beta: mirror descent at eta beta = 1."""
    return mirror_descent(ref_logps, eta=1.0 / beta, beta=beta)


def fictitious_play(ref_logps: Float[Array, "*B n"], *, beta: Scalar) -> Method:
    """Smooth best response to the mean of all policies so far; the mean is what converges."""
    return mirror_descent(ref_logps, eta=1.0 / beta, beta=beta, opponent=past_average())


def policy_gradient(
    ref_logps: Float[Array, "*B n"],
    *,
    eta: Scalar | Schedule,
    beta: Scalar,
    opponent: Opponent | None = None,
) -> Method:
    """Regularised policy gradient on the logits of a table, one call of the oracle.

    Against itself: SP-PG, which is SGD on the second form of online IPO at eta = 4 lr / beta.
    Against `mixture`: Nash-MD-PG; against `moving_average`: Nash-EMA-PG. Only against itself is the
    regularised Nash policy a stationary point.

    Args:
      ref_logps, beta, opponent: as in `mirror_descent`.
      eta: rate of gradient ascent, a number or a function of t; eta beta may exceed 1.
    Reference: Munos et al. 2023, arXiv:2312.00886; Zhou et al. 2025, arXiv:2503.08942.
    """
    return _against(softmax_gradient_step, ref_logps, eta=eta, beta=beta, opponent=opponent)


def nash_mp(ref_logps: Float[Array, "*B n"], *, eta: Scalar | Schedule, beta: Scalar) -> Method:
    """Nash mirror prox and EGPO, which are one map: two steps from pi_t, two calls of the oracle.

    h = S(l; P pi_t),   l+ = S(l; P exp h).

    For eta <= 2 / (1 + 2 beta), KL(pi* || pi_t) shrinks by 1 - eta beta or better at every update,
    in every game. Nash-MP's own eta' is eta = eta' / (beta (1 + eta')) here. What is averaged are
    the half steps, of which at beta = 0 the exploitability is O(1 / T).

    Args, Raises: as `mirror_descent`.
    Reference: Tiapkin et al. 2025, arXiv:2505.19731; Zhou et al. 2025, arXiv:2503.08942.
    """
    check_step(eta, beta)

    def move(state: GameState, oracle: Oracle, key: jax.Array) -> _Move:
        first, second = jax.random.split(key)
        now = _number(eta, state)
        step = partial(mirror_step, state.logps, ref_logps, eta=now, beta=beta)
        half = step(oracle(state.logps, first))
        wins = oracle(half, second)
        return _Move(step(wins), half, (), wins)

    return _method(move, lambda logps: ())


def omwu(ref_logps: Float[Array, "*B n"], *, eta: Scalar | Schedule, beta: Scalar = 0.0) -> Method:
    """Optimistic mirror descent: OMWU and ONPO at beta = 0, one call of the oracle.

    base_t = S(base_{t-1}; P pi_t),   l_{t+1} = S(base_t; P pi_t): the last win rates stand for the
    next. At beta = 0, l_{t+1} = l_t + 2 eta u_t - eta u_{t-1}. `memory` is the base [*B, n].

    Args, Raises: as `mirror_descent`.
    Reference: Zhang et al. 2025, arXiv:2502.16852, for ONPO.
    Departs: beta > 0 is not in ONPO; it pulls both steps to the reference.
    """
    check_step(eta, beta)

    def move(state: GameState, oracle: Oracle, key: jax.Array) -> _Move:
        wins = oracle(state.logps, key)
        now = _number(eta, state)
        base = mirror_step(state.memory, ref_logps, wins, eta=now, beta=beta)
        logps = mirror_step(base, ref_logps, wins, eta=now, beta=beta)
        return _Move(logps, state.logps, base, wins)

    return _method(move, lambda logps: logps)


def td_mnpo(
    ref_logps: Float[Array, "*B n"],
    *,
    eta: Scalar | Schedule,
    beta: Scalar,
    history_weights: Float[Array, "K"] | Sequence[float],
) -> Method:
    """TD-MNPO: a mirror step against pi_t from a geometric mean of the last K policies.

    l+ = log_softmax(rho log mu + (1 - rho) sum_j lambda_j l_{t-j} + eta P pi_t),   rho = eta beta.

    The fixed point is the regularised Nash policy for every lambda; how large a step is stable
    depends on it. `memory` is l_{t-1} .. l_{t-K+1}, [*B, K - 1, n].

    Args:
      ref_logps, eta, beta: as in `mirror_descent`; the code's `ratio` is rho.
      history_weights: [K] lambda >= 0, newest first, summing to 1; (1,) is `mirror_descent`.
    Raises:
      ValueError: as `mirror_descent`; known history_weights are negative or do not sum to 1.
    Reference: Wu et al. 2025, arXiv:2509.23102, Eq. 17.
    Departs: before the start lies the first policy, K - 1 times; the code has a shorter history.
    """
    check_step(eta, beta)
    weights = check_weights(history_weights)
    older = weights.shape[0] - 1

    def move(state: GameState, oracle: Oracle, key: jax.Array) -> _Move:
        wins = oracle(state.logps, key)
        past = jnp.concatenate([state.logps[..., None, :], state.memory], axis=-2)
        mean = jnp.sum(scaled(weights.astype(past.dtype)[:, None], past), axis=-2)
        logps = mirror_step(mean, ref_logps, wins, eta=_number(eta, state), beta=beta)
        return _Move(logps, state.logps, past[..., :older, :], wins)

    return _method(move, lambda logps: jnp.repeat(logps[..., None, :], older, axis=-2))


def mnpo(ref_logps: Float[Array, "*B N n"], *, eta: Scalar | Schedule, beta: Scalar) -> Method:
    """MNPO of N players: each moves from the mean of the others against all of them.

    l_i+ = log_softmax((1 - rho) mean_j l_j + rho log mu + eta mean_j P pi_j),   j != i, in which a
    player's own policy is not. The state holds the players as its last axis but one.

    Args:
      ref_logps: [*B, N, n] log mu of each player.
      eta, beta: as in `mirror_descent`, rho = eta beta; beta = 0 in the paper.
    Raises:
      ValueError: as `mirror_descent`; one player (at trace time).
    Reference: Wu et al. 2025, arXiv:2509.23102, Eq. 10.
    """
    return _players(ref_logps, eta=eta, beta=beta, judged_on=_mean_of_others)


def ht_mnpo(ref_logps: Float[Array, "*B N n"], *, eta: Scalar | Schedule, beta: Scalar) -> Method:
    """HT-MNPO: each player moves from the mean of the others against itself, in its own game.

    l_i+ = log_softmax((1 - rho) mean_{j != i} l_j + rho log mu + eta P_i pi_i),   rho = eta beta.

    Args, Raises: as `mnpo`; the games are the oracle's, prefs [*B, N, n, n].
    Reference: Wu et al. 2025, arXiv:2509.23102, Eq. 18.
    """
    return _players(ref_logps, eta=eta, beta=beta, judged_on=lambda wins: wins)


def _number(eta: Scalar | Schedule, state: GameState) -> Array:
    """eta of this step, in the precision of the policy."""
    return jnp.asarray(at_step(eta, state.step), state.logps.dtype)


def _method(move: Callable, remember: Callable) -> Method:
    """The method that moves so; `remember` gives its first memory from the first log-probs."""

    def init(logps: Float[Array, "*B n"]) -> GameState:
        logps = jax.nn.log_softmax(logps, axis=-1)
        return GameState(logps, jnp.exp(logps), remember(logps), jnp.zeros((), jnp.int32))

    def update(state: GameState, oracle: Oracle, key: jax.Array) -> tuple[GameState, Metrics]:
        moved = move(state, oracle, key)
        logps = moved.logps.astype(state.logps.dtype)
        probs = jnp.exp(logps)
        gains = jnp.where(probs > 0, logps - state.logps, 0.0)
        metrics = {
            "kl/step": jnp.sum(probs * gains, axis=-1),
            "win_rate/best": jnp.max(moved.win_rates, axis=-1),
        }
        average = averaged(state, moved.played)
        return GameState(logps, average, moved.memory, state.step + 1), metrics

    return Method(init, update)


def _against(
    step: Callable,
    ref_logps: Float[Array, "*B n"],
    *,
    eta: Scalar | Schedule,
    beta: Scalar,
    opponent: Opponent | None,
) -> Method:
    """One step against the opponent."""
    foe = self_play() if opponent is None else opponent

    def move(state: GameState, oracle: Oracle, key: jax.Array) -> _Move:
        wins = oracle(foe.play(state), key)
        logps = step(state.logps, ref_logps, wins, eta=_number(eta, state), beta=beta)
        return _Move(logps, state.logps, foe.track(state.memory, logps), wins)

    return _method(move, foe.init)


def _players(
    ref_logps: Float[Array, "*B N n"],
    *,
    eta: Scalar | Schedule,
    beta: Scalar,
    judged_on: Callable,
) -> Method:
    """Players that start from the mean of the others."""
    check_step(eta, beta)
    if ref_logps.shape[-2] < 2:
        raise ValueError(f"a game of players needs two at least, got {ref_logps.shape[-2]}")

    def move(state: GameState, oracle: Oracle, key: jax.Array) -> _Move:
        wins = oracle(state.logps, key)
        start, now = _mean_of_others(state.logps), _number(eta, state)
        logps = mirror_step(start, ref_logps, judged_on(wins), eta=now, beta=beta)
        return _Move(logps, state.logps, (), wins)

    return _method(move, lambda logps: ())


def _mean_of_others(x: Float[Array, "*B N n"]) -> Float[Array, "*B N n"]:
    """For each player, the mean over the others."""
    count = x.shape[-2]
    others = ~jnp.eye(count, dtype=bool)[..., None]
    return jnp.sum(jnp.where(others, x[..., None, :, :], 0.0), axis=-2) / (count - 1)
