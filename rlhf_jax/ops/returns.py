"""From rewards to advantages and returns. Nothing here whitens; see `ops.masking.whiten`.

Recursions run over the counted steps as if the others were cut out: t + 1 is the next counted step,
wherever it stands. A reward for the output of a tool or an environment must therefore be paid at a
counted step.

Shared arguments and results, unless a function says otherwise:
  rewards: [*B, T] reward received on leaving state t.
  values: [*B, T] V of the state before action t.
  discounts: [*B, T] d_t: gamma while the episode goes on after step t, 0 once it has ended.
  last_values: [*B] V_T, the bootstrap value after the last step.
  mask: [*B, T] True where the step counts, None for all; values under False never matter, NaN
    included.
  gae_lambda: lambda, in [0, 1].
  gamma: discount, in [0, 1].
Results are 0 under the mask. Shapes are checked at trace time. Keyword numbers may be traced.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.ops.logprobs import ratios
from rlhf_jax.ops.masking import true_before
from rlhf_jax.types import Scalar


def gae(
    rewards: Float[Array, "*B T"],
    values: Float[Array, "*B T"],
    discounts: Float[Array, "*B T"],
    last_values: Float[Array, "*B"],
    *,
    gae_lambda: Scalar,
    mask: Bool[Array, "*B T"] | None = None,
) -> Float[Array, "*B T"]:
    """Generalised advantage estimation, raw.

    delta_t = r_t + d_t V_{t+1} - V_t,   A_t = delta_t + d_t lambda A_{t+1},   A_T = 0.

    lambda = 1 gives return minus value, 0 the one-step error. Returns are `advantages + values`.

    Needs: rewards, values.
    Reduces to: `lambda_returns` minus values.
    Reference: Schulman et al. 2015, arXiv:1506.02438, Eq. 16.
    """
    check_range("[0, 1]", gae_lambda=gae_lambda)
    rewards, values, discounts = _counted(mask, rewards, values, discounts)
    chex.assert_equal_shape([rewards[..., 0], last_values])
    deltas = rewards + discounts * _following(values, last_values, mask) - values
    return _accumulate(deltas, discounts * gae_lambda, jnp.zeros_like(last_values), mask)


def lambda_returns(
    rewards: Float[Array, "*B T"],
    values: Float[Array, "*B T"],
    discounts: Float[Array, "*B T"],
    last_values: Float[Array, "*B"],
    *,
    gae_lambda: Scalar,
    mask: Bool[Array, "*B T"] | None = None,
) -> Float[Array, "*B T"]:
    """Lambda-returns, the targets of TD(lambda): between one step and the whole episode.

    G_t = r_t + d_t ((1 - lambda) V_{t+1} + lambda G_{t+1}),   G_T = V_T.

    lambda = 0 is the one-step target, 1 the discounted return. The first value is not used.

    Needs: rewards, values.
    Reduces to: `gae` plus values.
    Reference: Sutton and Barto 2018, "Reinforcement Learning", Section 12.8.
    """
    check_range("[0, 1]", gae_lambda=gae_lambda)
    rewards, values, discounts = _counted(mask, rewards, values, discounts)
    chex.assert_equal_shape([rewards[..., 0], last_values])
    bootstraps = discounts * (1.0 - gae_lambda) * _following(values, last_values, mask)
    return _accumulate(rewards + bootstraps, discounts * gae_lambda, last_values, mask)


class VTrace(NamedTuple):
    """Results of `vtrace`, both without gradient."""

    targets: Float[Array, "*B T"]  # v_t, regression targets of the value function
    advantages: Float[Array, "*B T"]  # for the policy gradient; the ratio is in them already


def vtrace(
    log_ratios: Float[Array, "*B T"],
    rewards: Float[Array, "*B T"],
    values: Float[Array, "*B T"],
    discounts: Float[Array, "*B T"],
    last_values: Float[Array, "*B"],
    *,
    gae_lambda: Scalar = 1.0,
    mask: Bool[Array, "*B T"] | None = None,
    rho_clip: Scalar = 1.0,
    c_clip: Scalar = 1.0,
    pg_rho_clip: Scalar = 1.0,
) -> VTrace:
    """V-trace: value targets and policy-gradient advantages from another policy's trajectories.

    v_t = V_t + delta_t + d_t c_t (v_{t+1} - V_{t+1}),   v_T = V_T,
    delta_t = min(rho_clip, rho_t) (r_t + d_t V_{t+1} - V_t),   c_t = lambda min(c_clip, rho_t),
    A_t = min(pg_rho_clip, rho_t) (r_t + d_t (lambda v_{t+1} + (1 - lambda) V_{t+1}) - V_t).

    With every clip at infinity v_t is unbiased for the value of pi whatever V is. With finite clips
    its fixed point is the value of the policy proportional to min(rho_clip mu(a), pi(a)), and the
    results are finite: the exponent of rho stops at 40. At the last step A bootstraps from V_T.

    Args:
      log_ratios: [*B, T] log rho_t = log pi - log mu of the actions, sampled by mu; nats.
      rho_clip: the paper's rho-bar > 0, infinity allowed; sets the fixed point.
      c_clip: the paper's c-bar in [0, rho_clip]; sets the speed and the variance.
      pg_rho_clip: cap of the ratio in the advantages, > 0, infinity allowed.
    Needs: rewards, values, behaviour log-probs.
    Reduces to: `lambda_returns` and `gae` at log_ratios = 0 and clips >= 1.
    Reference: Espeholt et al. 2018, arXiv:1802.01561, Eq. 1, Remarks 1 and 2, and Section 4.2.
    Departs: with lambda < 1 the advantage mixes v and V as rlax does; the paper has lambda = 1.
    """
    check_range("[0, 1]", gae_lambda=gae_lambda)
    check_range("(0, inf]", rho_clip=rho_clip, pg_rho_clip=pg_rho_clip)
    check_range("[0, inf]", c_clip=c_clip)
    log_ratios, rewards, values, discounts = _counted(mask, log_ratios, rewards, values, discounts)
    chex.assert_equal_shape([rewards[..., 0], last_values])
    rho = ratios(log_ratios, jnp.zeros_like(log_ratios))
    next_values = _following(values, last_values, mask)
    deltas = jnp.minimum(rho_clip, rho) * (rewards + discounts * next_values - values)
    traces = discounts * gae_lambda * jnp.minimum(c_clip, rho)
    targets = values + _accumulate(deltas, traces, jnp.zeros_like(last_values), mask)
    next_targets = _following(targets, last_values, mask)
    mixed = gae_lambda * next_targets + (1.0 - gae_lambda) * next_values
    advantages = jnp.minimum(pg_rho_clip, rho) * (rewards + discounts * mixed - values)
    # Both are data: a regression on its own values would otherwise move its targets.
    return VTrace(jax.lax.stop_gradient(targets), jax.lax.stop_gradient(advantages))


def _counted(
    mask: Bool[Array, "*B T"] | None, *steps: Float[Array, "*B T"]
) -> tuple[Float[Array, "*B T"], ...]:
    """The arrays with 0 under the mask, after a check of the shapes."""
    if mask is None:
        chex.assert_equal_shape(steps)
        return steps
    chex.assert_equal_shape([mask, *steps])
    check_mask(mask=mask)
    return tuple(jnp.where(mask, x, 0.0) for x in steps)


def _following(
    values: Float[Array, "*B T"], last: Float[Array, "*B"], mask: Bool[Array, "*B T"] | None
) -> Float[Array, "*B T"]:
    """x_{t+1} for each t, and `last` after the last counted step."""
    extended = jnp.concatenate([values, last[..., None]], axis=-1)
    if mask is None:
        return extended[..., 1:]
    # The next counted step is the last one before t in the reversed row.
    following = mask.shape[-1] - 1 - jnp.flip(true_before(jnp.flip(mask, -1)), -1)
    return jnp.take_along_axis(extended, following, axis=-1)


def _accumulate(
    terms: Float[Array, "*B T"],
    decays: Float[Array, "*B T"],
    last: Float[Array, "*B"],
    mask: Bool[Array, "*B T"] | None,
) -> Float[Array, "*B T"]:
    """x_t = terms_t + decays_t x_{t+1}, backwards from x_T = last; 0 under the mask."""

    counted = jnp.ones(terms.shape, bool) if mask is None else mask

    def backwards(x, step):
        term, decay, counts = step
        # A step that does not count passes x on to the step before it.
        x = jnp.where(counts, term + decay * x, x)
        return x, jnp.where(counts, x, 0.0)

    steps = tuple(jnp.moveaxis(x, -1, 0) for x in (terms, decays, counted))
    _, sums = jax.lax.scan(backwards, last, steps, reverse=True)
    return jnp.moveaxis(sums, 0, -1)


def discounted_sum(
    x: Float[Array, "*B T"], mask: Bool[Array, "*B T"], *, gamma: float | Float[Array, ""]
) -> Float[Array, "*B"]:
    """sum_t gamma^t x_t over the counted steps, t = 0 at the first of them; 0 for an empty row.

    t counts the steps under True, so the side of the padding does not matter. The derivative in
    gamma is finite at 0 too.
    """
    check_range("[0, 1]", gamma=gamma)
    check_mask(mask=mask)
    chex.assert_equal_shape([x, mask])
    steps = (jnp.cumsum(mask, axis=-1) - 1).astype(x.dtype)
    # Exponents of 1 at least: the derivative of gamma^0 at gamma = 0 would be NaN.
    weights = jnp.where(steps > 0, gamma ** jnp.maximum(steps, 1.0), 1.0)
    return jnp.sum(weights * jnp.where(mask, x, 0.0), axis=-1)


def last_step(mask: Bool[Array, "*B T"]) -> Bool[Array, "*B T"]:
    """[*B, T] True at the last counted step of each row; all False in an empty row."""
    check_mask(mask=mask)
    # Counted steps from here to the end: 1 at the last one.
    later = jnp.flip(jnp.cumsum(jnp.flip(mask, -1), axis=-1, dtype=jnp.int32), -1)
    return mask & (later == 1)


def answer_rewards(
    scores: Float[Array, "*B"],
    token_kl: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    beta: Scalar,
) -> Float[Array, "*B T"]:
    """Rewards per step of an answer that is scored once, with a KL penalty at each step.

    r_t = -beta kl_t + 1[t is the last counted step] R.

    Args:
      scores: [*B] R, from a reward model or judge.
      token_kl: [*B, T] an estimate of KL(pi || pi_ref) at each step, in nats, e.g. `kl.k1`.
      beta: KL weight, >= 0.
    Reference: Ziegler et al. 2019, arXiv:1909.08593, Eq. 2.
    Departs: the TRL trainer pays R one step after the last token where a padding slot exists; here
      R is always paid with the last counted token, so padding never changes an advantage.
    """
    chex.assert_equal_shape([token_kl[..., 0], scores])
    final = jnp.where(last_step(mask), scores[..., None], 0.0)
    return penalised_rewards(final, token_kl, mask, beta=beta)


def penalised_rewards(
    rewards: Float[Array, "*B T"],
    token_kl: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    beta: Scalar,
) -> Float[Array, "*B T"]:
    """Rewards per step of an answer that is paid at any of them, with a KL penalty at each.

    r_t = R_t - beta kl_t.

    Args:
      rewards: [*B, T] R, e.g. from `ops.segments.token_rewards`.
      token_kl, beta: as in `answer_rewards`, which is this with R at the last counted step alone.
    Reference: Wu et al. 2023, arXiv:2306.01693.
    """
    check_range("[0, inf)", beta=beta)
    check_mask(mask=mask)
    chex.assert_equal_shape([rewards, token_kl, mask])
    return jnp.where(mask, rewards, 0.0) - beta * jnp.where(mask, token_kl, 0.0)


def answer_discounts(mask: Bool[Array, "*B T"], *, gamma: Scalar = 1.0) -> Float[Array, "*B T"]:
    """gamma while another counted step follows, 0 at the last one and under the mask: [*B, T]."""
    check_range("[0, 1]", gamma=gamma)
    check_mask(mask=mask)
    return gamma * (mask & ~last_step(mask)).astype(jnp.float32)
