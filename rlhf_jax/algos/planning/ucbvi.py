"""Optimistic value iteration in a table, with a KL penalty to a reference: UCBVI-Ent+.

A run is `init_ucbvi`, then repeated `confidence_plan` -> `exploring_policy` -> an episode ->
`update_counts`. All are pure and vmap over seeds, penalties and references. beta = 0 is UCBVI.
"""

from dataclasses import dataclass
from math import log, sqrt
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.checks import check_fields, check_range
from rlhf_jax.ops.bellman import (
    expected_values,
    greedy_policy,
    policy_values,
    soft_policy,
    soft_values,
)
from rlhf_jax.types import Scalar


class CountState(NamedTuple):
    """counts: [H, S, A, S] number of times action a in state s at step h led to s'."""

    counts: Array


class ConfidencePlan(NamedTuple):
    """upper, lower: [H, S, A] bounds of the optimal Q; logps: [H, S, A] soft greedy policy of
    `upper`; model_logps: soft greedy policy of the empirical model without a bonus, where an
    untried action has next value 0; gaps: [H + 1, S] upper bound of V* - V^pi for pi = `logps`."""

    upper: Array
    lower: Array
    logps: Array
    model_logps: Array
    gaps: Array


@dataclass(frozen=True, kw_only=True)
class Bonus:
    """b = variance sqrt(Var(V) / n) + visits / n + width / H (mean upper V - mean lower V).

    Var and the means are over the next state under the empirical model. The coefficients include
    the logarithms of a theorem; see `theory_bonus`.
    """

    variance: float = 0.3
    visits: float = 0.3
    width: float = 0.0

    def __post_init__(self):
        check_fields(self, "[0, inf)", "variance", "visits", "width")


def theory_bonus(
    *, horizon: int, num_states: int, num_actions: int, episodes: int, delta: float
) -> Bonus:
    """Bonus at which all bounds hold with probability >= 1 - delta.

    variance = 2 sqrt(L), visits = 7 H^2 L, width = 1, with L = log(4 H S A T / delta). This is the
    empirical Bernstein inequality for V*, for every step, state, action and count up to
    T = episodes, and 2 sqrt(L Var(V* - V) / n) <= (mean upper V - mean lower V) / (2 H) + 2 H^2 L /
    n.

    Reference: Maurer and Pontil 2009, arXiv:0907.3740, Theorem 4.
    Departs: these constants replace those of UCBVI-Ent+.
    """
    scale = log(4 * horizon * num_states * num_actions * episodes / delta)
    return Bonus(variance=2 * sqrt(scale), visits=7 * horizon**2 * scale, width=1.0)


def init_ucbvi(*, horizon: int, num_states: int, num_actions: int) -> CountState:
    """All counts 0."""
    return CountState(jnp.zeros((horizon, num_states, num_actions, num_states)))


def confidence_plan(
    state: CountState,
    rewards: Float[Array, "H S A"],
    ref_logps: Float[Array, "H S A"],
    *,
    beta: Scalar,
    bonus: Bonus,
) -> ConfidencePlan:
    """Bounds of the optimal Q from the last step backwards, their policies, and a stopping rule.

    upper_h = clip(r_h + E[V_{h+1}] + b_h, 0, H), and lower_h likewise with its own V and -b_h. E is
    over the empirical next state; untried actions have the bounds H and 0. V is `soft_values`, or
    the maximum at beta = 0. With w = upper - lower and pi the soft greedy policy of upper,

    G_h = min{H, min(max_a w^2 / (2 beta), sum_a pi w) + sum_a pi (E[G_{h+1}] + b_h(G_{h+1}))},

    where b_h(G) has the spread of G and no width: it is of the order 1 / n, as G itself is.

    Args:
      state: counts.
      rewards: [H, S, A] known rewards in [0, 1].
      ref_logps: [H, S, A] log ref, normalised (otherwise V could leave [0, H]).
      beta: KL weight >= 0; 0 is the hard maximum over the actions in the support of ref. May be
        traced.
      bonus: coefficients of b.
    Returns:
      ConfidencePlan. Stop when gaps[0] of the initial state is <= epsilon.
    Reference: Tiapkin et al. 2023, arXiv:2310.17303, UCBVI-Ent+; at beta = 0 Azar et al. 2017,
      arXiv:1703.05449.
    Departs: G takes the smaller of the quadratic and the plain width, so it is finite at beta = 0
      too. b bounds the error of the model on one fixed function; G depends on the same data, and a
      proof for it needs a `visits` coefficient S times larger.
    """
    check_range("[0, inf)", beta=beta)
    visits = jnp.sum(state.counts, axis=-1)
    transitions = state.counts / jnp.maximum(visits, 1.0)[..., None]
    last = jnp.zeros_like(rewards[0, :, 0])

    def step(later, now):
        return _back_up(later, now, beta=beta, bonus=bonus, horizon=rewards.shape[0])

    now = (transitions, rewards, visits, ref_logps)
    _, found = jax.lax.scan(step, (last,) * 4, now, reverse=True)
    return found._replace(gaps=jnp.concatenate([found.gaps, last[None]]))


def _back_up(later, now, *, beta: Scalar, bonus: Bonus, horizon: int):
    """One step back: upper V, lower V, model V and G [S] of this step, and its row of the plan."""
    over = later[0]
    transitions, rewards, visits, ref = now
    means = [expected_values(transitions, values) for values in later]
    tried, n = visits > 0, jnp.maximum(visits, 1.0)

    def error(values, mean):
        spread = jnp.sqrt(jnp.maximum(expected_values(transitions, values**2) - mean**2, 0.0))
        return bonus.variance * spread / jnp.sqrt(n) + bonus.visits / n

    margin = error(over, means[0]) + bonus.width / horizon * (means[0] - means[1])
    upper = jnp.where(tried, jnp.clip(rewards + means[0] + margin, 0, horizon), horizon)
    lower = jnp.where(tried, jnp.clip(rewards + means[1] - margin, 0, horizon), 0)
    (over, logps), (under, _) = (_greedy(q, ref, beta) for q in (upper, lower))
    model, model_logps = _greedy(rewards + means[2], ref, beta)
    lost = means[3] + error(later[3], means[3])
    carried = policy_values(jnp.where(tried, lost, horizon), logps)
    gaps = jnp.minimum(horizon, _loss(upper - lower, logps, beta) + carried)
    return (over, under, model, gaps), ConfidencePlan(upper, lower, logps, model_logps, gaps)


def _greedy(action_values: Array, ref_logps: Array, beta: Scalar) -> tuple[Array, Array]:
    """Value [S] and policy [S, A] of the soft maximum; of the hard one at beta = 0."""
    # beta may be traced: both branches are computed, so the soft one divides by 1 where beta is 0.
    soft = jnp.asarray(beta) > 0
    safe = jnp.where(soft, beta, 1.0)
    allowed = jnp.where(ref_logps > -jnp.inf, action_values, -jnp.inf)
    values = jnp.where(
        soft, soft_values(action_values, ref_logps, beta=safe), jnp.max(allowed, axis=-1)
    )
    logps = jnp.where(
        soft, soft_policy(action_values, ref_logps, beta=safe), greedy_policy(allowed)
    )
    return values, logps


def _loss(widths: Array, logps: Array, beta: Scalar) -> Array:
    """Upper bound [S] of the loss of one step of the policy against the optimal Q."""
    soft = jnp.asarray(beta) > 0
    squared = jnp.max(widths, axis=-1) ** 2 / (2 * jnp.where(soft, beta, 1.0))
    return jnp.minimum(jnp.where(soft, squared, jnp.inf), policy_values(widths, logps))


def exploring_policy(
    logps: Float[Array, "H S A"], widths: Float[Array, "H S A"], key: Key[Array, ""]
) -> Float[Array, "H S A"]:
    """The policy of one episode: the plan, with the least certain action at one random step.

    A step is drawn uniformly from the H steps and "none"; at that step the policy takes
    argmax_a widths_h.

    Args:
      logps: [H, S, A] log-probs of the plan.
      widths: [H, S, A] upper minus lower bound.
      key: one per episode.
    Reference: Tiapkin et al. 2023, arXiv:2310.17303, the mixture policies of UCBVI-Ent+ and, with
      least squares, of LSVI-UCB-Ent.
    """
    horizon, _, num_actions = logps.shape
    widest = jnp.argmax(widths, axis=-1)
    sure = jnp.where(widest[..., None] == jnp.arange(num_actions), 0.0, -jnp.inf)
    drawn = jax.random.randint(key, (), -1, horizon)
    return jnp.where(jnp.arange(horizon)[:, None, None] == drawn, sure, logps)


def update_counts(
    state: CountState, states: Int[Array, "*B G"], actions: Int[Array, "*B H"]
) -> CountState:
    """Adds whole episodes to the counts: states [*B, H + 1], actions [*B, H]."""
    steps = jnp.arange(state.counts.shape[0])
    where = (jnp.broadcast_to(steps, actions.shape), states[..., :-1], actions, states[..., 1:])
    return CountState(state.counts.at[where].add(1.0))
