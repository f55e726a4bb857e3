"""Teachers: pure functions from hidden values to the labels of a learner.

A teacher sees values (a gold score, a return), never a model. Every function takes its own key, so
adding a stage does not change the draws of another. Labels of pairs are y = index of the winner, or
`EQUAL` if there is none. Order of composition: values -> `bt_labels` (or a population) ->
`flip_labels`.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.checks import NAN_OUTSIDE, check_ids, check_range, decided
from rlhf_jax.types import Scalar

EQUAL = -1  # as an index, the last of [item 0 wins, item 1 wins, equal]


def bt_prefs(values: Float[Array, "*B 2"], *, beta: Scalar) -> Float[Array, "*B"]:
    """P(item 1 beats item 0) of a Bradley-Terry teacher.

    P = sigmoid(beta * (g_1 - g_0)); beta = inf picks the larger value, item 0 in a tie. NaN if the
    difference is NaN.

    Args:
      values: [*B, 2] hidden values g of the two items.
      beta: rationality >= 0, in units of 1 / value; inf allowed. May be traced.
    Returns:
      [*B] float32 in [0, 1].
    """
    check_range("[0, inf]", beta=beta)
    chex.assert_axis_dimension(values, -1, 2)
    difference = (values[..., 1] - values[..., 0]).astype(jnp.float32)
    sure = jnp.isinf(beta)
    soft = jax.nn.sigmoid(jnp.where(sure, 0.0, beta) * difference)
    larger = jnp.where(jnp.isnan(difference), jnp.nan, difference > 0)
    return jnp.where(sure, larger, soft)


def bt_labels(
    key: Key[Array, ""], values: Float[Array, "*B 2"], *, beta: Scalar
) -> Int[Array, "*B"]:
    """Labels of a Bradley-Terry teacher: y ~ Bernoulli(bt_prefs(values)).

    Args:
      key: one key for the whole batch.
      values, beta: as in `bt_prefs`.
    Returns:
      [*B] int32, the index of the winner; EQUAL if the probability is NaN.
    """
    return pref_labels(key, bt_prefs(values, beta=beta))


def pref_labels(key: Key[Array, ""], prefs: Float[Array, "*B"]) -> Int[Array, "*B"]:
    """Labels of any teacher of pairs: y ~ Bernoulli(P(item 1 beats item 0)), EQUAL if P is NaN."""
    drawn = (jax.random.uniform(key, prefs.shape) < prefs).astype(jnp.int32)
    return jnp.where(jnp.isnan(prefs), EQUAL, drawn)


def bt_loglik(
    labels: Int[Array, "*B"], values: Float[Array, "*B 2"], *, beta: Scalar
) -> Float[Array, "*B"]:
    """log P(y) of a Bradley-Terry teacher: log sigmoid(beta * (g_y - g_{1-y})), in nats.

    Args:
      labels: [*B] index of the winner; other labels give NaN.
      values: [*B, 2] hidden values.
      beta: finite rationality >= 0.
    Returns:
      [*B] float32, <= 0.
    """
    known = decided(labels)
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([labels, values[..., 0]])
    difference = values[..., 1] - values[..., 0]
    logps = jax.nn.log_sigmoid(beta * jnp.where(labels == 1, difference, -difference))
    return jnp.where(known, logps, jnp.nan)


def flip_labels(key: Key[Array, ""], labels: Int[Array, "*B"], *, rate: Scalar) -> Int[Array, "*B"]:
    """The mistake teacher: each label is flipped with probability `rate`.

    Args:
      key: one key for the whole batch.
      labels: [*B] index of the winner, 0 or 1; other labels are not changed.
      rate: flip probability in [0, 1]. May be traced.
    """
    check_range("[0, 1]", rate=rate)
    flips = decided(labels) & (jax.random.uniform(key, labels.shape) < rate)
    return jnp.where(flips, 1 - labels, labels).astype(jnp.int32)


def population_prefs(
    group_values: Float[Array, "*B 2 G"], shares: Float[Array, " G"], *, beta: Scalar
) -> Float[Array, "*B"]:
    """P(item 1 beats item 0) if the group of the judge is hidden.

    P = sum_g share_g * sigmoid(beta * (u_g(item 1) - u_g(item 0))).

    Args:
      group_values: [*B, 2, G] utility of each item for each group.
      shares: [G] population shares, >= 0, sum 1.
      beta: rationality >= 0 of every judge; inf allowed.
    Returns:
      [*B] float32 in [0, 1].
    """
    prefs = bt_prefs(jnp.moveaxis(group_values, -1, 0), beta=beta)
    return jnp.tensordot(shares, prefs, axes=1)


def population_labels(
    key: Key[Array, ""],
    group_values: Float[Array, "*B 2 G"],
    shares: Float[Array, " G"],
    *,
    beta: Scalar,
) -> tuple[Int[Array, "*B"], Int[Array, "*B"]]:
    """Labels of judges drawn from a population: g ~ Cat(shares), then Bradley-Terry in u_g.

    Args:
      key: one key for the whole batch.
      group_values, shares, beta: as in `population_prefs`.
    Returns:
      labels [*B] int32, the index of the winner; groups [*B] int32, the group of the judge.
    """
    group_key, label_key = jax.random.split(key)
    batch = group_values.shape[:-2]
    groups = jax.random.categorical(group_key, jnp.log(shares), shape=batch)
    values = jnp.take_along_axis(group_values, groups[..., None, None], axis=-1)[..., 0]
    return bt_labels(label_key, values, beta=beta), groups.astype(jnp.int32)


def pl_ranking(
    key: Key[Array, ""], values: Float[Array, "*B K"], *, beta: Scalar
) -> Int[Array, "*B K"]:
    """A Plackett-Luce ranking: repeatedly pick c ~ softmax(beta * g) from the remaining items.

    Drawn exactly as argsort(-(beta * g + Gumbel noise)); beta = inf sorts by value, with ties to
    the lower index.

    Args:
      key: one key for the whole batch.
      values: [*B, K] hidden values.
      beta: rationality >= 0; inf allowed. May be traced.
    Returns:
      [*B, K] int32, item indices with the best first; all -1 if a value is NaN.
    """
    check_range("[0, inf]", beta=beta)
    sure = jnp.isinf(beta)
    noise = jax.random.gumbel(key, values.shape)
    noisy = jnp.where(sure, values, jnp.where(sure, 0.0, beta) * values + noise)
    ranking = jnp.argsort(-noisy, axis=-1, stable=True).astype(jnp.int32)
    return jnp.where(jnp.isnan(values).any(-1, keepdims=True), -1, ranking)


def pl_loglik(
    ranking: Int[Array, "*B K"], values: Float[Array, "*B K"], *, beta: Scalar
) -> Float[Array, "*B"]:
    """log P(ranking) of a Plackett-Luce teacher, in nats.

    log P = sum_k [ beta g_(k) - logsumexp_{j >= k} beta g_(j) ], (k) = item in place k.

    Args:
      ranking: [*B, K] item indices with the best first; an invalid index gives NaN.
      values: [*B, K] hidden values.
      beta: finite rationality >= 0.
    Returns:
      [*B] float32, <= 0.
    """
    check_ids(ranking=ranking)
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([ranking, values])
    ordered = beta * jnp.take_along_axis(values, ranking, axis=-1, **NAN_OUTSIDE)
    remaining = jax.lax.cumlogsumexp(ordered, axis=ordered.ndim - 1, reverse=True)
    return jnp.sum(ordered - remaining, axis=-1)


def rating_probs(
    values: Float[Array, "*B"], thresholds: Float[Array, " M"], *, beta: Scalar
) -> Float[Array, "*B M+1"]:
    """P(rating) of an ordinal teacher with M + 1 levels.

    P(y <= m) = sigmoid(c_m - beta * g), and P(y = m) is the difference of two neighbours.

    Args:
      values: [*B] hidden values.
      thresholds: [M] increasing cut points c, in units of beta * value.
      beta: finite rationality >= 0.
    Returns:
      [*B, M + 1] float32, sum 1.
    """
    check_range("[0, inf)", beta=beta)
    below = jax.nn.sigmoid(thresholds - beta * values[..., None])
    edge = jnp.ones_like(below[..., :1])
    return jnp.diff(jnp.concatenate([0.0 * edge, below, edge], axis=-1), axis=-1)


def ratings(
    key: Key[Array, ""], values: Float[Array, "*B"], thresholds: Float[Array, " M"], *, beta: Scalar
) -> Int[Array, "*B"]:
    """Ratings of an ordinal teacher: the number of thresholds below beta * g + logistic noise.

    Args:
      key: one key for the whole batch.
      values, thresholds, beta: as in `rating_probs`.
    Returns:
      [*B] int32 in 0..M, -1 if the value is NaN.
    """
    check_range("[0, inf)", beta=beta)
    noisy = beta * values + jax.random.logistic(key, values.shape)
    rated = jnp.sum(noisy[..., None] > thresholds, axis=-1).astype(jnp.int32)
    return jnp.where(jnp.isnan(values), -1, rated)


def rating_loglik(
    labels: Int[Array, "*B"],
    values: Float[Array, "*B"],
    thresholds: Float[Array, " M"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """log P(rating) of an ordinal teacher, in nats; see rating_probs.

    log(sigmoid(a) - sigmoid(b)) = log sigmoid(a) + log sigmoid(-b) + log(1 - exp(b - a)), a > b,
    which is accurate in both tails.

    Args:
      labels: [*B] ratings in 0..M; other labels give NaN.
      values: [*B] hidden values.
      thresholds: [M] strictly increasing cut points.
      beta: finite rationality >= 0.
    Returns:
      [*B] float32, <= 0.
    """
    check_ids(labels=labels)
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([labels, values])
    top = thresholds.shape[0]
    upper = thresholds[jnp.minimum(labels, top - 1)] - beta * values
    lower = thresholds[jnp.maximum(labels - 1, 0)] - beta * values
    inner = (labels > 0) & (labels < top)
    rated = (labels >= 0) & (labels <= top)
    gap = jnp.where(inner, upper - lower, 1.0)
    between = jnp.where(inner, jnp.log(-jnp.expm1(-gap)), 0.0)
    log_upper = jnp.where(labels < top, jax.nn.log_sigmoid(upper), 0.0)
    log_lower = jnp.where(labels > 0, jax.nn.log_sigmoid(-lower), 0.0)
    return jnp.where(rated, log_upper + log_lower + between, jnp.nan)
