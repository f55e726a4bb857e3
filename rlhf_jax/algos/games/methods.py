"""The update rules of preference games, each a use of one map of log-probabilities.

    S(l; u) = log_softmax((1 - eta beta) l + eta beta log mu + eta u),   u(y) = P(y > opponent)

eta is the step size in every method; papers that write 1 / eta are translated.
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
        KL(pi_{t+1} || pi_t) in nats; "win_rate/best", the highest win rate in the last call of the
        oracle (for an exact oracle against pi_t it equals 1/2 + exploitability / 2).
    """

    init: Callable[[Array], GameState]
    update: Callable[[GameState, Oracle, jax.Array], tuple[GameState, Metrics]]


class _Move(NamedTuple):
    """Result of one step: next policy, policy played, memory, last win rates."""

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

    In self-play this is MMD, INPO and the first form of online IPO; at beta = 0 it is Hedge, MWU
    and SPO. The fixed point is the regularised Nash policy. In a game with cycles a fixed step
    converges only if eta is small, of the order of beta; `decaying_steps` always converge.

    Args:
      ref_logps: [*B, n] log mu.
      eta: step size, a number or a function of t.
      beta: KL weight >= 0.
      opponent: from `games.opponents`; None is self-play, pi_t.
    Raises:
      ValueError: eta or beta < 0, or eta beta > 1; traced numbers are not checked, schedules are
        checked at t = 0.
    Reference: Zhang et al. 2024, arXiv:2407.00617; Swamy et al. 2024, arXiv:2401.04056, for SPO.
    """
    check_step(eta, beta)
    return _against(mirror_step, ref_logps, eta=eta, beta=beta, opponent=opponent)


def nash_md(ref_logps: Float[Array, "*B n"], *, eta: Scalar | Schedule, beta: Scalar) -> Method:
    """Nash-MD: a mirror step from pi_t^(1 - eta beta) mu^(eta beta), which is also the opponent.

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
    """Smooth best response to the mean of all policies so far; the mean converges."""
    return mirror_descent(ref_logps, eta=1.0 / beta, beta=beta, opponent=past_average())


def policy_gradient(
    ref_logps: Float[Array, "*B n"],
    *,
    eta: Scalar | Schedule,
    beta: Scalar,
    opponent: Opponent | None = None,
) -> Method:
    """Regularised policy gradient on the logits of a table, one call of the oracle.

    In self-play it is SP-PG, which is SGD on the second form of online IPO at eta = 4 lr / beta;
    against `mixture` it is Nash-MD-PG, against `moving_average` Nash-EMA-PG. The regularised Nash
    policy is a stationary point only in self-play.

    Args:
      ref_logps, beta, opponent: as in `mirror_descent`.
      eta: rate of gradient ascent, a number or a function of t; eta beta may exceed 1.
    Reference: Munos et al. 2023, arXiv:2312.00886; Zhou et al. 2025, arXiv:2503.08942.
    """
    return _against(softmax_gradient_step, ref_logps, eta=eta, beta=beta, opponent=opponent)


def nash_mp(ref_logps: Float[Array, "*B n"], *, eta: Scalar | Schedule, beta: Scalar) -> Method:
    """Nash mirror prox and EGPO (the same map): two steps from pi_t, two calls of the oracle.

    h = S(l; P pi_t),   l+ = S(l; P exp h).

    For eta <= 2 / (1 + 2 beta), each update multiplies KL(pi* || pi_t) by 1 - eta beta or less, in
    every game. The paper of Nash-MP has a step eta' with eta = eta' / (beta (1 + eta')). `average`
    is the mean of the half steps; its exploitability is O(1 / T) at beta = 0.

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

    base_t = S(base_{t-1}; P pi_t),   l_{t+1} = S(base_t; P pi_t): the last win rates predict the
    next ones. At beta = 0, l_{t+1} = l_t + 2 eta u_t - eta u_{t-1}. `memory` is the base [*B, n].

    Args, Raises: as `mirror_descent`.
    Reference: Zhang et al. 2025, arXiv:2502.16852, for ONPO.
    Departs: ONPO has beta = 0 only; beta > 0 pulls both steps towards the reference.
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

    The fixed point is the regularised Nash policy for every lambda, but the largest stable step
    depends on lambda. `memory` is l_{t-1} .. l_{t-K+1}, [*B, K - 1, n].

    Args:
      ref_logps, eta, beta: as in `mirror_descent`; `ratio` in the official code is rho.
      history_weights: [K] lambda >= 0, newest first, summing to 1; (1,) is `mirror_descent`.
    Raises:
      ValueError: as `mirror_descent`; history_weights are negative or do not sum to 1.
    Reference: Wu et al. 2025, arXiv:2509.23102, Eq. 17.
    Departs: the history starts with K copies of the first policy; the official code starts with a
      shorter history.
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

    l_i+ = log_softmax((1 - rho) mean_j l_j + rho log mu + eta mean_j P pi_j),   j != i: the means
    leave out the player's own policy. The players are the last axis but one of the state.

    Args:
      ref_logps: [*B, N, n] log mu of each player.
      eta, beta: as in `mirror_descent`, rho = eta beta; beta = 0 in the paper.
    Raises:
      ValueError: as `mirror_descent`; fewer than two players.
    Reference: Wu et al. 2025, arXiv:2509.23102, Eq. 10.
    """
    return _players(ref_logps, eta=eta, beta=beta, judged_on=_mean_of_others)


def ht_mnpo(ref_logps: Float[Array, "*B N n"], *, eta: Scalar | Schedule, beta: Scalar) -> Method:
    """HT-MNPO: each player moves from the mean of the others, in self-play on a game of its own.

    l_i+ = log_softmax((1 - rho) mean_{j != i} l_j + rho log mu + eta P_i pi_i),   rho = eta beta.

    Args, Raises: as `mnpo`; the oracle has one game per player, prefs [*B, N, n, n].
    Reference: Wu et al. 2025, arXiv:2509.23102, Eq. 18.
    """
    return _players(ref_logps, eta=eta, beta=beta, judged_on=lambda wins: wins)


def _number(eta: Scalar | Schedule, state: GameState) -> Array:
    """eta at this step, in the dtype of the policy."""
    return jnp.asarray(at_step(eta, state.step), state.logps.dtype)


def _method(
    move: Callable[[GameState, Oracle, jax.Array], _Move], remember: Callable[[Array], Any]
) -> Method:
    """Method with this `move(state, oracle, key)`; `remember(logps)` gives the first memory."""

    def init(logps: Float[Array, "*B n"]) -> GameState:
        logps = jax.nn.log_softmax(logps, axis=-1)
        return GameState(logps, jnp.exp(logps), remember(logps), jnp.zeros((), jnp.int32))

    def update(state: GameState, oracle: Oracle, key: jax.Array) -> tuple[GameState, Metrics]:
        moved = move(state, oracle, key)
        logps = moved.logps.astype(state.logps.dtype)
        probs = jnp.exp(logps)
        # Where both policies have -inf the difference is NaN, and the term of the KL is 0.
        gains = jnp.where(probs > 0, logps - state.logps, 0.0)
        metrics = {
            "kl/step": jnp.sum(probs * gains, axis=-1),
            "win_rate/best": jnp.max(moved.win_rates, axis=-1),
        }
        average = averaged(state, moved.played)
        return GameState(logps, average, moved.memory, state.step + 1), metrics

    return Method(init, update)


def _against(
    step: Callable[..., Array],
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
    judged_on: Callable[[Array], Array],
) -> Method:
    """Players that start from the mean of the others."""
    check_step(eta, beta)
    if ref_logps.shape[-2] < 2:
        raise ValueError(f"a game needs at least two players, got {ref_logps.shape[-2]}")

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
