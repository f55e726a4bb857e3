"""Least-squares value iteration in linear MDPs: optimistic, pessimistic, regularised, randomised.

All are one backward pass, w_h = A_h^-1 sum_i phi_h^i V_{h+1}(s_{h+1}^i). They differ in how they
adjust <phi, w_h> and in the backup. With finitely many states the sum over the data is the matrix
sum_i phi_h^i e(s_{h+1}^i)^T times V_{h+1}, so the cost of planning does not grow with the data.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.checks import check_range
from rlhf_jax.ops.bellman import greedy_policy, soft_policy, soft_values
from rlhf_jax.ops.elliptical import elliptical_norms, initial_inverse, rank_one_inverse
from rlhf_jax.ops.linear_systems import cholesky, invert
from rlhf_jax.types import Scalar

Adjust = Callable[[Array, Array, Array], Array]  # (<phi, w_h>, norms, steps after) -> [S, A]
Backup = Callable[[Array, Array], tuple[Array, Array]]  # (Q_h, ref_h) -> (V_h, log pi_h)


class LSVIState(NamedTuple):
    """Statistics of the transitions.

    inverse: [H, d, d] A_h^-1, A_h = ridge I + sum_i phi_h^i phi_h^i^T.
    moments: [H, d, S] sum_i phi_h^i e(s_{h+1}^i)^T.
    """

    inverse: Array
    moments: Array


class Plan(NamedTuple):
    """values: [H + 1, S], the last row 0; action_values: [H, S, A]; logps: [H, S, A] of the policy;
    weights: [H, d] of the next value on the features."""

    values: Array
    action_values: Array
    logps: Array
    weights: Array


def init_lsvi(
    *, horizon: int, num_features: int, num_states: int, ridge: Scalar = 1.0
) -> LSVIState:
    """No data: A_h = ridge I, ridge > 0."""
    inverse = initial_inverse(num_features, ridge=ridge)
    return LSVIState(
        jnp.broadcast_to(inverse, (horizon, num_features, num_features)),
        jnp.zeros((horizon, num_features, num_states)),
    )


def update_lsvi(
    state: LSVIState, features: Float[Array, "B H d"], next_states: Int[Array, "B H"]
) -> LSVIState:
    """State with B more episodes, by the Sherman-Morrison formula in O(B H d^2).

    Args:
      features: [B, H, d] phi(s_h, a_h).
      next_states: [B, H] s_{h+1}; the state after the last step is not used.
    """
    after = jax.nn.one_hot(next_states, state.moments.shape[-1], dtype=state.moments.dtype)
    moments = state.moments + jnp.einsum("bhd,bhk->hdk", features, after)

    def add(inverse, vectors):
        return rank_one_inverse(inverse, vectors), None

    return LSVIState(jax.lax.scan(add, state.inverse, features)[0], moments)


def from_counts(
    features: Float[Array, "S A d"], counts: Float[Array, "H S A S"], *, ridge: Scalar
) -> LSVIState:
    """State from a whole data set at once, or from exact dynamics (counts = n P, small ridge).

    Args:
      features: [S, A, d] phi.
      counts: [H, S, A, S] how often s' followed (s, a) at step h; fractions are allowed.
      ridge: > 0.
    """
    seen = jnp.einsum("ijd,hij,ije->hde", features, jnp.sum(counts, axis=-1), features)
    design = seen + ridge * jnp.eye(features.shape[-1])
    return LSVIState(invert(design), jnp.einsum("ijd,hijk->hdk", features, counts))


def bonus_plan(
    state: LSVIState,
    features: Float[Array, "S A d"],
    rewards: Float[Array, "H S A"],
    *,
    bonus: Scalar = 0.0,
) -> Plan:
    """LSVI with elliptical bonuses.

    Q_h = r_h + clip( <phi, w_h> + bonus ||phi||_{A_h^-1}, 0, H - h ),   V_h = max_a Q_h.

    Args:
      features: [S, A, d] phi.
      rewards: [H, S, A] in [0, 1]; values are clipped to [0, H - h], their range for such rewards.
      bonus: > 0 is optimistic: if large enough, Q_h bounds Q* from above with high probability. < 0
        is pessimistic: Q_h bounds Q of the policy from below. 0 is plain LSVI. May be traced.
    Returns:
      Plan; ties share the probability evenly.
    Reference: Jin et al. 2019, arXiv:1907.05388, Algorithm 1 (optimistic); Jin et al. 2020,
      arXiv:2012.15085, Algorithm 2 (pessimistic).
    Departs: the bonus is added to the next value before the clip, not to the clipped Q.
    """
    return _backward(state, features, rewards, adjust=_with_bonus(bonus, 0.0), backup=_hard)


def soft_plan(
    state: LSVIState,
    features: Float[Array, "S A d"],
    rewards: Float[Array, "H S A"],
    ref_logps: Float[Array, "H S A"],
    *,
    beta: Scalar,
    bonus: Scalar = 0.0,
) -> Plan:
    """LSVI for the return minus beta KL to a reference, with elliptical bonuses.

    V_h = beta log sum_a ref_h exp(Q_h / beta),   pi_h = ref_h exp((Q_h - V_h) / beta).

    Args:
      ref_logps: [H, S, A] log ref. Zeros give the maximum-entropy plan (entropy weight beta), with
        values larger by up to beta log A per step; the clip allows for that.
      beta: > 0. May be traced.
      state, features, rewards, bonus: as in `bonus_plan`; Q_h is also defined there.
    Returns:
      Plan; tends to `bonus_plan` as beta goes to 0.
    Reference: Tiapkin et al. 2023, arXiv:2310.17303, for the regularised form.
    """

    def backup(action_values, ref):
        values = soft_values(action_values, ref, beta=beta)
        return values, soft_policy(action_values, ref, beta=beta)

    most = jnp.max(jax.nn.logsumexp(ref_logps, axis=-1))
    adjust = _with_bonus(bonus, beta * jnp.maximum(most, 0.0))
    return _backward(state, features, rewards, adjust=adjust, backup=backup, ref_logps=ref_logps)


def randomised_plan(
    key: Key[Array, ""],
    state: LSVIState,
    features: Float[Array, "S A d"],
    rewards: Float[Array, "H S A"],
    *,
    sigma: Scalar,
    low: Scalar,
    high: Scalar,
) -> Plan:
    """Randomised LSVI: one Gaussian draw of the weights per step, instead of a bonus.

    w~_h ~ N(w_h, sigma^2 A_h^-1),   Q_h = r_h + rho <phi, w~_h> + (1 - rho) (H - h),
    rho = clip( (high - u) / (high - low), 0, 1 ),   u = ||phi||_{A_h^-1}.

    Well-explored actions (u <= low) follow the draw; unexplored ones (u >= high) get the largest
    possible value. This keeps the values bounded.

    Args:
      key: one draw for all states and actions of a step.
      rewards: [H, S, A], not clipped; they may be a draw themselves.
      sigma: >= 0. At 0 ties go to the first action; a tiny sigma breaks them at random. May be
        traced.
      low, high: thresholds of u, low < high. Before any data u <= ||phi||_2 / sqrt(ridge), so
        larger thresholds never truncate. With one-hot features and ridge 1, u is 1 where (h, s, a)
        is new and at most 0.71 elsewhere, so thresholds in between separate new from seen.
      state, features: as in `bonus_plan`.
    Returns:
      Plan of one draw; its values are not bounds.
    Reference: Wu and Sun 2023, arXiv:2310.14554, Algorithm 1; truncation as in Zanette et al. 2019,
      arXiv:1911.00567.
    Departs: rho is linear in u between the thresholds.
    """
    check_range("[0, inf)", sigma=sigma)
    normal = jax.random.normal(key, state.moments.shape[:-1], rewards.dtype)
    noise = sigma * jnp.einsum("hde,he->hd", cholesky(state.inverse), normal)

    def adjust(linear, norms, after):
        rho = jnp.clip((high - norms) / (high - low), 0.0, 1.0)
        return rho * linear + (1.0 - rho) * after

    return _backward(state, features, rewards, adjust=adjust, backup=_first, noise=noise)


def _with_bonus(bonus: Scalar, extra: Scalar) -> Adjust:
    """Next values plus a bonus, clipped to [0, remaining steps * (1 + extra)]."""

    def adjust(linear, norms, after):
        return jnp.clip(linear + bonus * norms, 0.0, after * (1.0 + extra))

    return adjust


def _hard(action_values: Array, _: Array) -> tuple[Array, Array]:
    """Value and policy of the best action; ties share the probability evenly."""
    return jnp.max(action_values, axis=-1), greedy_policy(action_values)


def _first(action_values: Array, _: Array) -> tuple[Array, Array]:
    """Value and deterministic policy of the best action; ties go to the first."""
    best = jnp.argmax(action_values, axis=-1)
    ones = jax.nn.one_hot(best, action_values.shape[-1], dtype=bool)
    return jnp.max(action_values, axis=-1), jnp.where(ones, jnp.zeros_like(action_values), -jnp.inf)


def _backward(
    state: LSVIState,
    features: Array,
    rewards: Array,
    *,
    adjust: Adjust,
    backup: Backup,
    ref_logps: Array | None = None,
    noise: Array | None = None,
) -> Plan:
    """One scan from the last step to the first."""
    norms = jax.vmap(lambda inverse: elliptical_norms(features, inverse))(state.inverse)
    after = jnp.arange(len(rewards) - 1, -1, -1).astype(rewards.dtype)
    ref_logps = jnp.zeros_like(rewards) if ref_logps is None else ref_logps
    noise = jnp.zeros(state.moments.shape[:-1], rewards.dtype) if noise is None else noise

    def step(values, now):
        inverse, moments, reward, norms, after, ref, noise = now
        weights = inverse @ (moments @ values) + noise
        action_values = reward + adjust(features @ weights, norms, after)
        values, logps = backup(action_values, ref)
        return values, (values, action_values, logps, weights)

    last = jnp.zeros(features.shape[0], rewards.dtype)
    steps = (*state, rewards, norms, after, ref_logps, noise)
    _, (values, action_values, logps, weights) = jax.lax.scan(step, last, steps, reverse=True)
    return Plan(jnp.concatenate([values, last[None]]), action_values, logps, weights)
