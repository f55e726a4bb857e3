"""Reactions of users, such as a heart: rare, sometimes malicious, and read from a log.

A model of P(reaction) is `losses.feedback.binary_loss` of a score s, with P = sigmoid(s). Negatives
outnumber positives, so most of them may be dropped (`kept_reactions`) if the score is then shifted
(`prior_shifted`). Users who react against everybody else are found by `user_agreement`.

Shared arguments:
  labels: [N] True where there was a reaction to message i.
  scores: [N] s, log-odds of a reaction to message i, calibrated; any real.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.checks import check_ids, check_mask, check_range
from rlhf_jax.types import Scalar

ACTIVITY_STEPS = 12  # of at most 1 in log-odds


def kept_reactions(
    key: Key[Array, ""], labels: Bool[Array, "*B"], *, keep_rate: Scalar
) -> Bool[Array, "*B"]:
    """Which messages to learn from: all with a reaction, each other with P = kappa.

    Args:
      key: one key for the whole batch.
      keep_rate: kappa in (0, 1]; 1 keeps all. May be traced.
    """
    check_mask(labels=labels)
    check_range("(0, 1]", keep_rate=keep_rate)
    return labels | (jax.random.uniform(key, labels.shape) < keep_rate)


def prior_shifted(scores: Float[Array, "*B"], *, keep_rate: Scalar) -> Float[Array, "*B"]:
    """Log-odds in all messages, of a model that was fitted to `kept_reactions`.

    s + log kappa.   The order of answers stays; P is calibrated again, so means of P compare
    policies.

    Args:
      scores: [*B] of the model as it was fitted.
      keep_rate: kappa in (0, 1]. May be traced.
    Reduces to: the scores at kappa = 1.
    Reference: case-control sampling, King and Zeng 2001, "Logistic regression in rare events data".
    """
    check_range("(0, 1]", keep_rate=keep_rate)
    return scores + jnp.log(keep_rate)


def user_agreement(
    labels: Bool[Array, "N"],
    scores: Float[Array, "N"],
    users: Int[Array, "N"],
    *,
    num_users: int,
    mask: Bool[Array, "N"] | None = None,
) -> Float[Array, " U"]:
    """Whether a user reacts to what others react to, in standard deviations of chance.

    T_u = sum_i (z_i - p_i)(s_i - c_u) / sqrt(sum_i v_i (s_i - c_u)^2),
    p_i = sigmoid(s_i + a_u),   v = p (1 - p),   c_u = sum_i v_i s_i / sum_i v_i,
    over the messages of u; a_u, how much it reacts, is the most likely with the prior N(0, 1).

    The score test of a slope other than 1 in s. About N(0, 1) for a user who reacts as the model
    says, however often; below -2 for one who loves what others do not. If most reactions are
    malicious the model follows them, and honest users are below.

    Args:
      users: [N] numbers in [0, num_users); a message of another number counts for nobody.
      num_users: U.
      mask: [N] True where a message counts; None for all. Scores under False never matter.
    Returns:
      [U]; 0 for a user without messages, or with one score in all of them; NaN where a counted
      score is not finite.
    Reference: derived; arXiv:2505.14946 (RLUF, 2025) names adversarial reactions and no filter.
    """
    mask = jnp.ones_like(labels) if mask is None else mask
    check_mask(labels=labels, mask=mask)
    check_ids(users=users)
    check_range("[1, inf)", num_users=num_users)
    chex.assert_equal_shape([labels, scores, users, mask])
    scores = jnp.where(mask, scores, 0.0)
    places = jnp.where(mask & (users >= 0) & (users < num_users), users, num_users)

    def total(x: Float[Array, "N"]) -> Float[Array, " U"]:
        return jnp.zeros(num_users + 1, x.dtype).at[places].add(x)[:num_users]

    def of(x: Float[Array, " U"]) -> Float[Array, "N"]:
        return jnp.append(x, 0.0)[places]

    def activity_step(_, activity: Float[Array, " U"]) -> Float[Array, " U"]:
        probs = jax.nn.sigmoid(scores + of(activity))
        step = (total(labels - probs) - activity) / (total(probs * (1.0 - probs)) + 1.0)
        # Whole Newton steps leave the region where the model is nearly quadratic, and diverge.
        return activity + jnp.clip(step, -1.0, 1.0)

    activity = jax.lax.fori_loop(0, ACTIVITY_STEPS, activity_step, total(jnp.zeros_like(scores)))
    probs = jax.nn.sigmoid(scores + of(activity))
    spread = probs * (1.0 - probs)
    weight = total(spread)
    offsets = scores - of(total(spread * scores) / jnp.where(weight > 0, weight, 1.0))
    variance = total(spread * offsets**2)
    # Not variance > 0: the rounding of a mean of equal scores is no spread.
    varied = ~(variance <= 1e-10 * total(spread * scores**2))
    found = total((labels - probs) * offsets) / jnp.sqrt(jnp.where(varied, variance, 1.0))
    return jnp.where(varied, found, 0.0)
