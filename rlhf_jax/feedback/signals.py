"""Feedback other than comparisons: reactions, signals during an episode, attention, safety.

Each kind has a function that draws it and its log-likelihood. A learner maximises the same
likelihood with its own rewards in place of the true ones.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.checks import NAN_OUTSIDE, check_ids, check_mask, check_range
from rlhf_jax.feedback.teachers import bt_labels, bt_loglik
from rlhf_jax.ops.masking import masked_sum
from rlhf_jax.types import Scalar


def _bernoulli_loglik(labels: Bool[Array, "*B"], logits: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """log P of a binary label with P(True) = sigmoid(logit)."""
    return jax.nn.log_sigmoid(jnp.where(labels, logits, -logits))


class Reactions(NamedTuple):
    """labels [*B] bool, True for a reaction of this kind; seen [*B] bool, False where it is not
    known whether there was a reaction (labels are then False and have no meaning)."""

    labels: Bool[Array, "*B"]
    seen: Bool[Array, "*B"]


def reaction_intercepts(
    key: Key[Array, ""], *, count: int, mean: Scalar = -3.0, scale: Scalar = 1.0
) -> Float[Array, " U"]:
    """Base rate of each user in logits: a_u ~ N(mean, scale^2), [U]; -3 makes reactions sparse."""
    return mean + scale * jax.random.normal(key, (count,))


def reaction_probs(
    values: Float[Array, "*B"],
    intercepts: Float[Array, "*B"],
    *,
    beta: Scalar,
    inverted: Scalar = 0.0,
    random: Scalar = 0.0,
) -> Float[Array, "*B"]:
    """P(a user reacts to an item), e.g. with a heart.

    P = (1 - q - q') p + q (1 - p) + q' / 2,   p = sigmoid(a_u + beta G).

    Args:
      values: [*B] G.
      intercepts: [*B] a of the user who sees the item; fit them with `losses.feedback.binary_loss`
        of score + a.
      beta: in nats per value, finite. May be traced.
      inverted, random: shares q and q' of adversarial reactions, which are the opposite or random.
        May be traced.
    """
    check_range("(-inf, inf)", beta=beta)
    check_range("[0, 1]", inverted=inverted, random=random)
    chex.assert_equal_shape([values, intercepts])
    honest = jax.nn.sigmoid(intercepts + beta * values)
    return (1.0 - inverted - random) * honest + inverted * (1.0 - honest) + 0.5 * random


def reactions(
    key: Key[Array, ""], probs: Float[Array, "*B"], *, observed: Scalar = 1.0
) -> Reactions:
    """Draws reactions from `reaction_probs`; each is observed with probability `observed`."""
    label_key, seen_key = jax.random.split(key)
    seen = jax.random.uniform(seen_key, probs.shape) < observed
    return Reactions(seen & (jax.random.uniform(label_key, probs.shape) < probs), seen)


def reaction_loglik(data: Reactions, probs: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """log P of observed reactions in nats, 0 for unobserved ones: [*B]."""
    chex.assert_equal_shape([data.labels, probs])
    said = jnp.where(data.labels, jnp.log(probs), jnp.log1p(-probs))
    return jnp.where(data.seen, said, 0.0)


def credited_rewards(
    rewards: Float[Array, "*B T"], mask: Bool[Array, "*B T"], credit: Float[Array, " K"]
) -> Float[Array, "*B T"]:
    """Mean of a delayed signal at step t, from the last K rewards: h_t = sum_k credit_k r_{t-k}.

    Args:
      rewards: [*B, T] true rewards for the teacher, or learned ones for the learner's regression
        (`losses.feedback.rating_loss` against the signals).
      mask: [*B, T] True where the step counts. Other steps add no reward, but k counts them.
      credit: [K] weights, e.g. the distribution of the reaction time; k = 0 is the current step.
        K <= T.
    Returns:
      [*B, T], 0 where the mask is False.
    Reference: Knox and Stone 2009, "Interactively shaping agents via human reinforcement" (TAMER).
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([rewards, mask])
    steps = mask.shape[-1]
    delays = jnp.arange(steps)[:, None] - jnp.arange(steps)
    inside = (delays >= 0) & (delays < credit.shape[0])
    weights = jnp.where(inside, credit[jnp.clip(delays, 0, credit.shape[0] - 1)], 0.0)
    sums = jnp.sum(jnp.where(mask, rewards, 0.0)[..., None, :] * weights, axis=-1)
    return jnp.where(mask, sums, 0.0)


def gaussian_signals(
    key: Key[Array, ""], means: Float[Array, "*B T"], mask: Bool[Array, "*B T"], *, scale: Scalar
) -> Float[Array, "*B T"]:
    """Scalar signals, mean plus Gaussian noise; with means from `credited_rewards` it is TAMER.

    Args:
      means: [*B, T]. Advantages of the acting policy give policy-dependent feedback.
      mask: [*B, T] True where the step counts; signals are 0 elsewhere.
      scale: standard deviation >= 0. May be traced.
    """
    check_mask(mask=mask)
    check_range("[0, inf)", scale=scale)
    chex.assert_equal_shape([means, mask])
    noise = jax.random.normal(key, means.shape)
    return jnp.where(mask, jnp.where(mask, means, 0.0) + scale * noise, 0.0)


def gaussian_loglik(
    signals: Float[Array, "*B T"],
    means: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    scale: Scalar,
) -> Float[Array, "*B"]:
    """Log-density of the counted signals of each segment under `gaussian_signals`, in nats: [*B].

    Least squares of signals on means, up to a constant; scale > 0.
    """
    check_mask(mask=mask)
    check_range("(0, inf)", scale=scale)
    chex.assert_equal_shape([signals, means, mask])
    signals, means = jnp.where(mask, signals, 0.0), jnp.where(mask, means, 0.0)
    return masked_sum(jax.scipy.stats.norm.logpdf(signals, means, scale), mask, axis=-1)


def coach_signals(
    key: Key[Array, ""], advantages: Float[Array, "*B T"], *, beta: Scalar
) -> Float[Array, "*B T"]:
    """Policy-dependent feedback, +1 or -1: better or worse than the current policy.

    P(h = 1) = sigmoid(beta A^pi(s, a)). The learner follows h grad log pi(a | s), so h is the
    advantage in `losses.policy_gradient.reinforce_loss`.

    Args:
      advantages: [*B, T] of the acting policy under the true reward. The same action may be praised
        early in training and criticised later.
      beta: rationality >= 0; inf gives the sign, -1 at 0. May be traced.
    Returns:
      [*B, T] float32, NaN where the advantage is NaN.
    Reference: MacGlashan et al. 2017, arXiv:1701.06049 (COACH).
    """
    pairs = jnp.stack([jnp.zeros_like(advantages), advantages], axis=-1)
    signals = 2.0 * bt_labels(key, pairs, beta=beta).astype(jnp.float32) - 1.0
    return jnp.where(jnp.isnan(advantages), jnp.nan, signals)


def coach_loglik(
    signals: Float[Array, "*B T"], advantages: Float[Array, "*B T"], *, beta: Scalar
) -> Float[Array, "*B T"]:
    """log P(h) of `coach_signals` at each step, in nats; beta finite: [*B, T]."""
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([signals, advantages])
    return _bernoulli_loglik(signals > 0, beta * advantages)


def gaze_logps(
    importance: Float[Array, "*B T"], mask: Bool[Array, "*B T"], *, beta: Scalar
) -> Float[Array, "*B T"]:
    """Where a teacher looks: log P(t) = beta |w_t| - logsumexp over the counted entries.

    Args:
      importance: [*B, T] w, e.g. the effect of each step or feature on the return.
      mask: [*B, T] True where there is something to look at, at least once per row.
      beta: >= 0, finite; 0 is uniform. May be traced.
    Returns:
      [*B, T] nats, -inf where the mask is False.
    """
    check_mask(mask=mask)
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([importance, mask])
    scaled = beta * jnp.abs(jnp.where(mask, importance, 0.0))
    return jax.nn.log_softmax(jnp.where(mask, scaled, -jnp.inf), axis=-1)


def gazes(key: Key[Array, ""], logps: Float[Array, "*B T"], *, count: int) -> Int[Array, "*B N"]:
    """`count` independent looks, [*B, N] int32; their frequencies are saliency weights."""
    drawn = jax.random.categorical(key, logps[..., None, :], shape=(*logps.shape[:-1], count))
    return drawn.astype(jnp.int32)


def gaze_loglik(looks: Int[Array, "*B N"], logps: Float[Array, "*B T"]) -> Float[Array, "*B"]:
    """log P(looks) in nats: [*B]; logps may be a learner's log attention. NaN for an invalid index.

    Minus its mean is the auxiliary loss CE(gaze, attention).
    """
    check_ids(looks=looks)
    return jnp.sum(jnp.take_along_axis(logps, looks, axis=-1, **NAN_OUTSIDE), axis=-1)


def salient_returns(
    rewards: Float[Array, "*B T"], weights: Float[Array, "*B T"], mask: Bool[Array, "*B T"]
) -> Float[Array, "*B"]:
    """Weighted return of a segment: [*B] sum_t w_t r_t, the return at w = 1."""
    chex.assert_equal_shape([rewards, weights, mask])
    return masked_sum(rewards * weights, mask, axis=-1)


def trace_drops(
    features: Float[Array, "*B T"], mask: Bool[Array, "*B T"]
) -> tuple[Float[Array, "*B T-1"], Bool[Array, "*B T-1"]]:
    """phi(s_t) - phi(s_{t+1}) along a feature trace, and where both steps count."""
    check_mask(mask=mask)
    chex.assert_equal_shape([features, mask])
    features = jnp.where(mask, features, 0.0)
    return features[..., :-1] - features[..., 1:], mask[..., :-1] & mask[..., 1:]


def trace_labels(
    key: Key[Array, ""], features: Float[Array, "*B T"], mask: Bool[Array, "*B T"], *, beta: Scalar
) -> Bool[Array, "*B T-1"]:
    """Whether a feature falls at each step: True with P = sigmoid(beta (phi_t - phi_{t+1})).

    A feature trace, along which the teacher makes a feature fall, is a row of True.

    Args:
      features: [*B, T] phi along the states shown.
      mask: [*B, T] True where the state is real.
      beta: rationality >= 0, finite. May be traced.
    Returns:
      [*B, T - 1], False where a state is missing.
    Reference: Bobu et al. 2022, arXiv:2201.07082 (feature traces).
    """
    check_range("[0, inf)", beta=beta)
    drops, real = trace_drops(features, mask)
    return real & (jax.random.uniform(key, drops.shape) < jax.nn.sigmoid(beta * drops))


def trace_loglik(
    labels: Bool[Array, "*B N"],
    features: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """log P of `trace_labels`, in nats: [*B]; for a whole trace sum_t log sigmoid(beta drop_t).

    labels has N = T - 1 entries per row; those with a missing state do not count.
    """
    check_mask(labels=labels)
    check_range("[0, inf)", beta=beta)
    drops, real = trace_drops(features, mask)
    chex.assert_equal_shape([labels, drops])
    return masked_sum(_bernoulli_loglik(labels, beta * drops), real, axis=-1)


class SafetyLabels(NamedTuple):
    """better [*B], the more helpful item; worse [*B], the more harmful one; unsafe [*B, 2] bool."""

    better: Int[Array, "*B"]
    worse: Int[Array, "*B"]
    unsafe: Bool[Array, "*B 2"]


def safety_labels(
    key: Key[Array, ""],
    values: Float[Array, "*B 2"],
    costs: Float[Array, "*B 2"],
    *,
    beta: Scalar,
) -> SafetyLabels:
    """Separate judgements of helpfulness and of harm, and whether each item is unsafe.

    better ~ sigmoid(beta (G_1 - G_0)), worse ~ sigmoid(beta (C_1 - C_0)), unsafe ~ sigmoid(beta C).
    `losses.feedback.cost_model_loss` reads worse and unsafe.

    Args:
      key: one key for the whole batch.
      values: [*B, 2] G.
      costs: [*B, 2] C, above 0 means unsafe.
      beta: rationality >= 0 of all three judgements; inf allowed. May be traced.
    Reference: Dai et al. 2023, arXiv:2310.12773.
    """
    chex.assert_equal_shape([values, costs])
    better_key, worse_key, unsafe_key = jax.random.split(key, 3)
    signs = jnp.stack([jnp.zeros_like(costs), costs], axis=-1)
    return SafetyLabels(
        better=bt_labels(better_key, values, beta=beta),
        worse=bt_labels(worse_key, costs, beta=beta),
        unsafe=bt_labels(unsafe_key, signs, beta=beta) == 1,
    )


def safety_loglik(
    labels: SafetyLabels, values: Float[Array, "*B 2"], costs: Float[Array, "*B 2"], *, beta: Scalar
) -> Float[Array, "*B"]:
    """log P of `safety_labels`, in nats; beta finite: [*B]."""
    check_range("[0, inf)", beta=beta)
    signs = jnp.sum(_bernoulli_loglik(labels.unsafe, beta * costs), axis=-1)
    pairs = bt_loglik(labels.better, values, beta=beta) + bt_loglik(labels.worse, costs, beta=beta)
    return pairs + signs


def past_state_logps(
    initial: Float[Array, " S"],
    transitions: Float[Array, "S A S"],
    logps: Float[Array, "S A"],
    *,
    steps: int,
) -> Float[Array, " S"]:
    """The state of the world as feedback: log P(s) after an agent has acted for some steps.

    d_0 = initial, d_{t+1}(s') = sum_{s, a} d_t(s) pi(a | s) P(s' | s, a);   log d_steps.

    Args:
      initial: [S] distribution of the state before the agent acted.
      transitions: [S, A, S].
      logps: [S, A] policy of the agent for a candidate reward, e.g. the soft optimal one.
      steps: number of steps, >= 0.
    Returns:
      [S] nats, -inf for states that the agent cannot reach. Differentiable in logps.
    Reference: Shah et al. 2019, arXiv:1902.04198.
    """
    moves = jnp.einsum("sa,sat->st", jnp.exp(logps), transitions)
    law, _ = jax.lax.scan(lambda law, _: (law @ moves, None), initial, length=steps)
    return jnp.log(law)
