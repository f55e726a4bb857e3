"""Feedback that is not a comparison: reactions, signals while the agent acts, attention, safety.

Each kind is a draw with its log-likelihood; what a learner regresses on is a function of its own
rewards by the same law.
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
    """labels [*B] bool, True for a reaction of this kind; seen [*B] bool, False where nothing is
    known, which is not a refusal: labels are False there and mean nothing."""

    labels: Bool[Array, "*B"]
    seen: Bool[Array, "*B"]


def reaction_intercepts(
    key: Key[Array, ""], *, count: int, mean: Scalar = -3.0, scale: Scalar = 1.0
) -> Float[Array, " U"]:
    """How readily each user reacts at all: a_u ~ N(mean, scale^2), [U]; -3 makes them sparse."""
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
      intercepts: [*B] a of the user who is shown the item; `losses.feedback.binary_loss` of
        s + a fits them with the scores.
      beta: in nats per value, finite. May be traced.
      inverted, random: shares q and q' of reactions by adversaries who say the opposite, or
        anything. May be traced.
    Returns:
      [*B] in [0, 1].
    Raises:
      AssertionError: shapes differ (at trace time).
    """
    check_range("(-inf, inf)", beta=beta)
    check_range("[0, 1]", inverted=inverted, random=random)
    chex.assert_equal_shape([values, intercepts])
    honest = jax.nn.sigmoid(intercepts + beta * values)
    return (1.0 - inverted - random) * honest + inverted * (1.0 - honest) + 0.5 * random


def reactions(
    key: Key[Array, ""], probs: Float[Array, "*B"], *, observed: Scalar = 1.0
) -> Reactions:
    """Reactions with the chances of `reaction_probs`, each of them known with chance `observed`."""
    label_key, seen_key = jax.random.split(key)
    seen = jax.random.uniform(seen_key, probs.shape) < observed
    return Reactions(seen & (jax.random.uniform(label_key, probs.shape) < probs), seen)


def reaction_loglik(data: Reactions, probs: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """log P of the reactions that are known, in nats; 0 where nothing is known: [*B]."""
    chex.assert_equal_shape([data.labels, probs])
    said = jnp.where(data.labels, jnp.log(probs), jnp.log1p(-probs))
    return jnp.where(data.seen, said, 0.0)


def credited_rewards(
    rewards: Float[Array, "*B T"], mask: Bool[Array, "*B T"], credit: Float[Array, " K"]
) -> Float[Array, "*B T"]:
    """What a signal given at step t is about: the last K steps, h_t = sum_k credit_k r_{t-k}.

    Args:
      rewards: [*B, T] true ones for the teacher, learned ones for the learner's regression
        (`losses.feedback.rating_loss` of this against the signals).
      mask: [*B, T] True where the step counts. Another one adds nothing, but its time passes: k
        counts every step.
      credit: [K] weights, k = 0 for the step under way; K <= T. A reaction takes time: the mass of
        its delay over each step.
    Returns:
      [*B, T], 0 under the mask.
    Raises:
      AssertionError: shapes differ (at trace time).
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
    """Scalar signals, mean plus Gaussian noise: TAMER's with `credited_rewards` for means.

    Args:
      means: [*B, T]. Advantages of the policy that acts make them policy-dependent feedback.
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
    """log density of the counted signals of each segment under `gaussian_signals`, nats; scale > 0.

    Least squares of signals on means, up to a constant: [*B].
    """
    check_mask(mask=mask)
    check_range("(0, inf)", scale=scale)
    chex.assert_equal_shape([signals, means, mask])
    signals, means = jnp.where(mask, signals, 0.0), jnp.where(mask, means, 0.0)
    return masked_sum(jax.scipy.stats.norm.logpdf(signals, means, scale), mask, axis=-1)


def coach_signals(
    key: Key[Array, ""], advantages: Float[Array, "*B T"], *, beta: Scalar
) -> Float[Array, "*B T"]:
    """Policy-dependent feedback, +1 or -1: better or worse than what the policy does by now.

    P(h = 1) = sigmoid(beta A^pi(s, a)). The learner follows h grad log pi(a | s): h is the
    advantage of `losses.policy_gradient.reinforce_loss`.

    Args:
      advantages: [*B, T] of the policy that acts, under the true reward: the same action is praised
        early and blamed late.
      beta: rationality >= 0; inf gives the sign, -1 at 0. May be traced.
    Returns:
      [*B, T] float32, NaN where the advantage is.
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
    """Where a teacher looks: log P(t) = beta |w_t| - logsumexp over the counted steps or features.

    Minus its mean under a learner's attention is the auxiliary loss CE(gaze, attention).

    Args:
      importance: [*B, T] w, e.g. the effect of each step or feature on the return.
      mask: [*B, T] True where there is something to look at, once at least in a row.
      beta: >= 0, finite; 0 looks anywhere. May be traced.
    Returns:
      [*B, T] nats, -inf under the mask.
    Raises:
      AssertionError: shapes differ (at trace time).
    """
    check_mask(mask=mask)
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([importance, mask])
    scaled = beta * jnp.abs(jnp.where(mask, importance, 0.0))
    return jax.nn.log_softmax(jnp.where(mask, scaled, -jnp.inf), axis=-1)


def gazes(key: Key[Array, ""], logps: Float[Array, "*B T"], *, count: int) -> Int[Array, "*B N"]:
    """`count` independent looks, [*B, N] int32; their shares are saliency weights."""
    drawn = jax.random.categorical(key, logps[..., None, :], shape=(*logps.shape[:-1], count))
    return drawn.astype(jnp.int32)


def gaze_loglik(looks: Int[Array, "*B N"], logps: Float[Array, "*B T"]) -> Float[Array, "*B"]:
    """log P(looks) in nats, also under a learner's log attention: [*B]. NaN for a look outside."""
    check_ids(looks=looks)
    return jnp.sum(jnp.take_along_axis(logps, looks, axis=-1, **NAN_OUTSIDE), axis=-1)


def salient_returns(
    rewards: Float[Array, "*B T"], weights: Float[Array, "*B T"], mask: Bool[Array, "*B T"]
) -> Float[Array, "*B"]:
    """Return of a segment whose steps matter unequally: [*B] sum_t w_t r_t, the return at w = 1."""
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
    """Does the feature fall at each step? True with sigmoid(beta (phi_t - phi_{t+1})).

    A feature trace, along which a teacher makes a feature fall all the way, is a row of True.

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
    """log P of `trace_labels`, in nats; of a whole trace sum_t log sigmoid(beta drop_t): [*B].

    labels has N = T - 1 entries in a row; those where a state is missing do not count.
    """
    check_mask(labels=labels)
    check_range("[0, inf)", beta=beta)
    drops, real = trace_drops(features, mask)
    chex.assert_equal_shape([labels, drops])
    return masked_sum(_bernoulli_loglik(labels, beta * drops), real, axis=-1)


class SafetyLabels(NamedTuple):
    """better [*B], the more useful item; worse [*B], the more harmful one; unsafe [*B, 2] bool."""

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
    """Two judgements apart, one of use and one of harm, and whether each item is unsafe.

    better ~ sigmoid(beta (G_1 - G_0)), worse ~ sigmoid(beta (C_1 - C_0)), unsafe ~ sigmoid(beta C).
    `losses.feedback.cost_model_loss` reads worse and unsafe.

    Args:
      key: one key for the whole batch; the three judgements have streams of their own.
      values: [*B, 2] G.
      costs: [*B, 2] C, above 0 means unsafe.
      beta: rationality >= 0 of all three; inf allowed. May be traced.
    Raises:
      AssertionError: shapes differ (at trace time).
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
    """The state of the world as feedback: log P(s) after a rational agent has acted in it.

    d_0 = initial, d_{t+1}(s') = sum_{s, a} d_t(s) pi(a | s) P(s' | s, a);   log d_steps.

    Args:
      initial: [S] law of the state before the agent came.
      transitions: [S, A, S].
      logps: [S, A] the agent's policy for the candidate reward, e.g. its soft optimal one.
      steps: how long it has acted, >= 0.
    Returns:
      [S] nats, -inf where the agent can't have brought the world. Differentiable in logps.
    Reference: Shah et al. 2019, arXiv:1902.04198.
    """
    moves = jnp.einsum("sa,sat->st", jnp.exp(logps), transitions)
    law, _ = jax.lax.scan(lambda law, _: (law @ moves, None), initial, length=steps)
    return jnp.log(law)
