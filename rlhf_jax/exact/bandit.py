"""Optima of regularised bandits, in closed form."""

import math

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.logprobs import tempered
from rlhf_jax.types import Scalar

LOG_BETAS, HALVINGS = 16.0, 32  # of `budget_optimum`: beta / spread of rewards from e^-16 to e^16


def regularised_optimum(
    rewards: Float[Array, "*B A"], ref_logits: Float[Array, "*B A"], *, beta: Scalar
) -> Float[Array, "*B A"]:
    """log of the policy that maximises E_pi[r] - beta KL(pi || pi_ref).

    pi*(a) = pi_ref(a) exp(r(a) / beta) / Z.

    Args:
      rewards: [*B, A].
      ref_logits: [*B, A] of pi_ref, unnormalised.
      beta: KL weight > 0. May be traced.
    Returns:
      [*B, A] log-probs in nats.
    Reference: Rafailov et al. 2023, arXiv:2305.18290, Eq. 4.
    """
    check_range("(0, inf)", beta=beta)
    chex.assert_equal_shape([rewards, ref_logits])
    ref_logps = jax.nn.log_softmax(ref_logits, axis=-1)
    return jax.nn.log_softmax(ref_logps + tempered(rewards, temperature=beta), axis=-1)


def ipo_rewards(
    prefs: Float[Array, "*B A A"], behaviour_probs: Float[Array, "*B A"]
) -> Float[Array, "*B A"]:
    """The reward that IPO maximises: u(a) = P(a beats mu) = sum_b mu(b) P(a beats b).

    IPO's population optimum, for pairs drawn from mu and labelled by P, is
    `regularised_optimum(u, ref_logits, beta=tau)`.

    Args:
      prefs: [*B, A, A], row beats column, P + P^T = 1.
      behaviour_probs: [*B, A] mu, sums to 1.
    Returns:
      [*B, A] in [0, 1].
    Reference: Azar et al. 2023, arXiv:2310.12036, Eqs. 6 and 12.
    """
    return jnp.einsum("...ab,...b->...a", prefs, behaviour_probs)


def ranked_law(
    probs: Float[Array, "*B A"], rewards: Float[Array, "*B A"], rank_weights: Float[Array, "K"]
) -> Float[Array, "*B A"]:
    """Law of an answer that is drawn by its rank among K samples (policy filtration).

    mu(y) = sum_k w_k P(the k-th best of K samples is y),   k = 1 the best, and
    P(k-th best <= v) = sum_{j < k} C(K, j) (1 - F(v))^j F(v)^(K - j),   F(v) = P(r <= v).

    Args:
      probs: [*B, A] pi, sums to 1. rewards: [*B, A]; equal rewards share the mass of their level
        in proportion to pi.
      rank_weights: [K] w, sums to 1.
    Returns:
      [*B, A]: pi itself for uniform weights, the best-of-K law for (1, 0, ..., 0).
    Reference: Zhang et al. 2024, arXiv:2409.06957; derived.
    """
    chex.assert_equal_shape([probs, rewards])
    size = rank_weights.shape[-1]
    chances = jnp.array([math.comb(size, j) for j in range(size)], probs.dtype)
    exceeding = jnp.arange(size)

    def weighted(below: Array) -> Array:
        """sum_k w_k P(k-th best within a set of chance `below` under the top)."""
        below = below[..., None]
        terms = chances * (1.0 - below) ** exceeding * below ** (size - exceeding)
        return jnp.sum(rank_weights * jnp.cumsum(terms, axis=-1), axis=-1)

    lower = jnp.sum(probs[..., None, :] * (rewards[..., None, :] < rewards[..., :, None]), axis=-1)
    level = jnp.sum(probs[..., None, :] * (rewards[..., None, :] == rewards[..., :, None]), axis=-1)
    mass = weighted(jnp.minimum(lower + level, 1.0)) - weighted(lower)
    return mass * probs / jnp.where(level > 0, level, 1.0)


def total_variation(
    logps: Float[Array, "*B A"], other_logps: Float[Array, "*B A"]
) -> Float[Array, "*B"]:
    """TV(p, q) = (1/2) sum_a |p(a) - q(a)|, in [0, 1], from log-probs [*B, A]."""
    chex.assert_equal_shape([logps, other_logps])
    return 0.5 * jnp.sum(jnp.abs(jnp.exp(logps) - jnp.exp(other_logps)), axis=-1)


def budget_optimum(
    rewards: Float[Array, "*B A"],
    ref_logits: Float[Array, "*B A"],
    *,
    kl: Scalar | Float[Array, "*B"],
) -> Float[Array, "*B A"]:
    """log of the policy that maximises E_pi[r] subject to KL(pi || pi_ref) <= kl.

    It is `regularised_optimum` at the beta whose divergence is kl, found by bisection of log beta:
    the divergence falls with beta. Policies of different rewards are compared at one divergence.
    Gradients are those at a fixed beta, not those of the optimum.

    Args:
      rewards: [*B, A], finite.
      ref_logits: [*B, A] of pi_ref, unnormalised.
      kl: nats >= 0, one number or [*B]. May be traced.
    Returns:
      [*B, A] log-probs in nats. Where even beta -> 0 stays below kl, which is -log pi_ref of the
      best action, the policy is on the actions with the highest reward; where all rewards are equal
      it is the reference.
    """
    check_entries("[0, inf)", kl=kl)
    chex.assert_equal_shape([rewards, ref_logits])
    find = jnp.vectorize(_budget_row, signature="(a),(a),()->(a)")
    return find(rewards, ref_logits, jnp.asarray(kl, rewards.dtype))


def _budget_row(
    rewards: Float[Array, " A"], ref_logits: Float[Array, " A"], kl: Float[Array, ""]
) -> Float[Array, " A"]:
    """One row: beta between these multiples of the spread of its rewards."""
    spread = jnp.max(rewards) - jnp.min(rewards)
    spread = jnp.where(spread > 0, spread, 1.0)

    def policy(log_beta: Float[Array, ""]) -> Float[Array, " A"]:
        return regularised_optimum(rewards, ref_logits, beta=spread * jnp.exp(log_beta))

    def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        far = exact_kl(policy(middle), ref_logits) > kl
        return jnp.where(far, middle, low), jnp.where(far, high, middle)

    ends = jnp.full((), -LOG_BETAS, rewards.dtype), jnp.full((), LOG_BETAS, rewards.dtype)
    return policy(jax.lax.fori_loop(0, HALVINGS, halve, ends)[1])
