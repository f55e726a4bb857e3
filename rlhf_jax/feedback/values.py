"""The internal value G of each item, by which a teacher judges, before any label is drawn.

Human biases are changes of G; `teachers`, `comparisons` and `choices` then draw labels from G.
Items are on leading axes: [*B, 2] for pairs. Entries under a False mask have no effect, even if
NaN.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.ops.masking import masked_sum
from rlhf_jax.ops.returns import discounted_sum
from rlhf_jax.types import Scalar


def myopic_values(
    rewards: Float[Array, "*B T"], mask: Bool[Array, "*B T"], *, gamma: Scalar = 1.0
) -> Float[Array, "*B"]:
    """Value of a segment for a teacher who forgets: the last steps have the largest weights.

    G = sum_t gamma^{n - 1 - t} r_t,   n counted steps; the return at gamma = 1.

    Args:
      rewards: [*B, T] r_t.
      mask: [*B, T] True where the step counts.
      gamma: in [0, 1]; 0 sees only the last step. May be traced.
    Returns:
      [*B], 0 for an empty segment.
    Reference: Lee et al. 2021, arXiv:2111.03026 (B-Pref).
    """
    return discounted_sum(jnp.flip(rewards, -1), jnp.flip(mask, -1), gamma=gamma)


def regret_values(
    values: Float[Array, "*B T"], action_values: Float[Array, "*B T"], mask: Bool[Array, "*B T"]
) -> Float[Array, "*B"]:
    """Value of a segment for a teacher who judges decisions, not luck: minus its regret.

    G = -sum_t [ V*(s_t) - Q*(s_t, a_t) ].

    Args:
      values, action_values: [*B, T] optimal values of the true reward: V* of the states, Q* of the
        actions taken. Values of a regularised problem give a soft advantage.
      mask: [*B, T] True where the step counts.
    Returns:
      [*B], <= 0 for optimal values, 0 if every action was optimal.
    Reference: Knox et al. 2022, arXiv:2206.02231.
    """
    chex.assert_equal_shape([values, action_values, mask])
    return masked_sum(action_values - values, mask, axis=-1)


def progress_values(
    rewards: Float[Array, "*B T"],
    start_values: Float[Array, "*B"],
    end_values: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
) -> Float[Array, "*B"]:
    """`regret_values` for deterministic transitions: the return plus the gain in state value.

    G = sum_t r_t + V*(s_n) - V*(s_0),   n counted steps.

    Args:
      rewards: [*B, T] r_t.
      start_values, end_values: [*B] V* before the first and after the last counted step; 0 after
        the end of the episode.
      mask: [*B, T] True where the step counts; without gaps, because the values telescope.
    Returns:
      [*B], 0 for an empty segment.
    Reference: Knox et al. 2022, arXiv:2206.02231.
    """
    chex.assert_equal_shape([start_values, end_values, rewards[..., 0]])
    gained = masked_sum(rewards, mask, axis=-1) + end_values - start_values
    return jnp.where(jnp.any(mask, axis=-1), gained, 0.0)


def believed_values(
    beliefs: Float[Array, "*B N"], outcomes: Float[Array, "*B N"]
) -> Float[Array, "*B"]:
    """Expected value under the teacher's belief about outcomes (foresight).

    G = sum_n b_n u_n, for immediate feedback, or for partly hidden behaviour, where b is the belief
    over trajectories given the observation and u are their returns.

    Args:
      beliefs: [*B, N] b >= 0, sum 1, after the teacher has seen the item.
      outcomes: [*B, N] u, utility of each outcome.
    Reference: Liang et al. 2025, arXiv:2501.08617; Lang et al. 2024, arXiv:2402.17747 (hidden).
    """
    chex.assert_equal_shape([beliefs, outcomes])
    return jnp.sum(jnp.where(beliefs > 0, beliefs * outcomes, 0.0), axis=-1)


def hindsight_values(
    key: Key[Array, ""], probs: Float[Array, "*B N"], outcomes: Float[Array, "*B N"]
) -> Float[Array, "*B"]:
    """Value for a teacher who sees the outcome (hindsight): G = u_n of one outcome n ~ probs.

    Args:
      key: one key for the whole batch.
      probs: [*B, N] >= 0, sum 1: distribution of outcomes after the item, true or of a model.
      outcomes: [*B, N] u.
    Returns:
      [*B]; its mean is `believed_values` with true beliefs.
    Reference: Liang et al. 2025, arXiv:2501.08617.
    """
    chex.assert_equal_shape([probs, outcomes])
    drawn = jax.random.categorical(key, jnp.log(probs))
    return jnp.take_along_axis(outcomes, drawn[..., None], axis=-1)[..., 0]


def simulated_facts(
    key: Key[Array, ""], facts: Bool[Array, "*B"], *, accuracy: Scalar
) -> Bool[Array, "*B"]:
    """What a world model says of the facts on which outcomes depend: each is right with P = q.

    Its errors depend on the facts alone and never on what was said of them, so simulated hindsight
    errs by at most (max u - min u) TV(model, truth) for every answer, however persuasive. Draw
    the facts anew for every answer: in one imagined world the errors of a prompt's answers are
    shared, and its comparisons are wrong more often.

    Args:
      key: one key for the whole batch.
      facts: [*B] the truth.
      accuracy: q in [0, 1]; 1 is the truth, 1/2 is independent of it. May be traced.
    Reference: Liang et al. 2025, arXiv:2501.08617 (outcomes simulated by a model).
    """
    check_range("[0, 1]", accuracy=accuracy)
    check_mask(facts=facts)
    right = jax.random.uniform(key, facts.shape) < accuracy
    return jnp.where(right, facts, ~facts)


def partly_seen_values(
    utilities: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    belief_values: Float[Array, "*B"],
    *,
    gamma: Scalar,
) -> Float[Array, "*B"]:
    """Hindsight over the n counted steps, foresight after them.

    G = sum_{t < n} gamma^t u_t + gamma^n b.   n = 0 is foresight alone. The error against the true
    value is at most gamma^n (max u - min u) / (1 - gamma).

    Args:
      utilities: [*B, T] u_t.
      mask: [*B, T] True for the first n steps, which the teacher sees.
      belief_values: [*B] b, expected value of the rest, in [min u, max u] / (1 - gamma).
      gamma: in [0, 1). May be traced.
    Reference: Liang et al. 2025, arXiv:2501.08617.
    """
    check_range("[0, 1)", gamma=gamma)
    chex.assert_equal_shape([utilities[..., 0], belief_values])
    shown = jnp.sum(mask, axis=-1).astype(utilities.dtype)
    return discounted_sum(utilities, mask, gamma=gamma) + gamma**shown * belief_values


def biased_values(
    values: Float[Array, "*B"], features: Float[Array, "*B"], *, weight: Scalar
) -> Float[Array, "*B"]:
    """Value for a teacher with a bias for an irrelevant feature: G + weight * h.

    h may be a length, agreement with the judge, the position of the item (0 or 1), or the value
    that an answer claims for itself. A Bradley-Terry draw then has
    P = sigmoid(beta (G_1 - G_0) + c (h_1 - h_0)) with c = beta * weight.

    Args:
      values: [*B] G.
      features: [*B] h. For positions, randomise the order of the items first.
      weight: in units of G per unit of h. May be traced.
    """
    check_range("(-inf, inf)", weight=weight)
    chex.assert_equal_shape([values, features])
    return values + weight * features


def observed_values(
    features: Float[Array, "*B d"],
    weights: Float[Array, " d"],
    seen: Bool[Array, " d"],
    expected: Float[Array, " d"] | None = None,
) -> Float[Array, "*B"]:
    """Value for a teacher who sees some features and guesses the others.

    G = theta . (m phi + (1 - m) phi_bar).

    Args:
      features: [*B, d] phi; hidden features have no effect, even if NaN.
      weights: [d] theta, the true reward.
      seen: [d] m, True where the feature is seen.
      expected: [d] phi_bar, the guesses for hidden features; None for 0, which in a comparison
        equals any guess that is the same for both items.
    Returns:
      [*B]. Bradley-Terry on all features then recovers beta m theta, with 0 for hidden features.
    Reference: Lang et al. 2024, arXiv:2402.17747, for partial observation.
    """
    check_mask(seen=seen)
    expected = jnp.zeros_like(weights) if expected is None else expected
    chex.assert_equal_shape([weights, seen, expected, features[(0,) * (features.ndim - 1)]])
    return jnp.sum(weights * jnp.where(seen, features, expected), axis=-1)


def similarity_values(
    anchors: Float[Array, "*B d"], items: Float[Array, "*B K d"]
) -> Float[Array, "*B K"]:
    """Values for a similarity query, "which of these is more like this one": G = -|z_a - z_k|^2.

    With two items, Bradley-Terry gives P = sigmoid(|z_a - z_0|^2 - |z_a - z_1|^2) for item 1.

    Args:
      anchors: [*B, d] embedding z_a.
      items: [*B, K, d] embeddings z_k.
    Reference: Bobu et al. 2023, arXiv:2301.00810 (similarity-based representations).
    """
    chex.assert_equal_shape([anchors, items[..., 0, :]])
    return -jnp.sum((anchors[..., None, :] - items) ** 2, axis=-1)


def fulfilment_probs(
    fulfils: Bool[Array, "*B K N"], probs: Float[Array, "*B N"]
) -> Float[Array, "*B K N"]:
    """Meaning of an utterance: the base distribution of trajectories, given that they fulfil it.

    psi(k)_n = p_n 1[n fulfils k] / sum_{n' fulfils k} p_n'.

    Args:
      fulfils: [*B, K, N] True where trajectory n fulfils utterance k.
      probs: [*B, N] p >= 0, base distribution of trajectories.
    Returns:
      [*B, K, N], rows that sum to 1, for `choices.expected_options`; NaN for an utterance that no
      trajectory fulfils (mask it in the choice).
    Reference: language as a reward-rational choice, Jeon et al. 2020, arXiv:2002.04833.
    """
    check_mask(fulfils=fulfils)
    chex.assert_equal_shape([fulfils[..., 0, :], probs])
    kept = jnp.where(fulfils, probs[..., None, :], 0.0)
    return kept / jnp.sum(kept, axis=-1, keepdims=True)
