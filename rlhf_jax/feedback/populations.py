"""Teachers who differ: users, intransitive or drifting tastes, and false labels.

For groups with known shares see `teachers.population_prefs`. `matrix_prefs` turns any game of
`envs.games` into a teacher.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.checks import check_ids, check_mask, check_range, rows
from rlhf_jax.feedback.teachers import bt_loglik
from rlhf_jax.types import Scalar


class Users(NamedTuple):
    """weights [U, d], the reward of each user; classes [U] int32, the class of each user."""

    weights: Float[Array, "U d"]
    classes: Int[Array, " U"]


def draw_users(
    key: Key[Array, ""],
    class_weights: Float[Array, "Z d"],
    shares: Float[Array, " Z"],
    *,
    count: int,
    spread: Scalar,
) -> Users:
    """Users of a mixture: theta_u ~ N(mu_{z_u}, spread^2 I), z_u ~ Cat(shares).

    Args:
      key: one key for all users.
      class_weights: [Z, d] mu.
      shares: [Z] >= 0, sum 1.
      count: U, number of users.
      spread: standard deviation >= 0 within a class; 0 makes users of a class equal. May be traced.
    """
    check_range("[0, inf)", spread=spread)
    class_key, noise_key = jax.random.split(key)
    classes = jax.random.categorical(class_key, jnp.log(shares), shape=(count,))
    noise = jax.random.normal(noise_key, (count, class_weights.shape[-1]))
    return Users(class_weights[classes] + spread * noise, classes.astype(jnp.int32))


def user_values(
    features: Float[Array, "*B K d"], weights: Float[Array, "U d"], users: Int[Array, "*B"]
) -> Float[Array, "*B K"]:
    """Values of items for the user who is asked: theta_u . phi.

    Args:
      features: [*B, K, d] phi of each item.
      weights: [U, d] theta; one row per user, group, or time.
      users: [*B] index of the user, 0..U-1; any other gives NaN.
    """
    chex.assert_equal_shape([features[..., 0, 0], users])
    return jnp.sum(features * rows(weights, users=users)[..., None, :], axis=-1)


def mixture_loglik(
    labels: Int[Array, "*B N"],
    class_values: Float[Array, "*B N 2 Z"],
    shares: Float[Array, " Z"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """log P(all labels of one user) in nats, when the class of the user is hidden.

    log sum_z share_z prod_n P_z(y_n). With N = 1 this is `teachers.population_prefs`; several
    labels from one user carry more information than labels from different users.

    Args:
      labels: [*B, N] index of the winner in each of the user's N pairs.
      class_values: [*B, N, 2, Z] value of each item for each class. Drawn users may be the classes,
        with equal shares: the likelihood is then a Monte Carlo estimate.
      shares: [Z] >= 0, sum 1.
      beta: finite rationality >= 0.
    """
    check_ids(labels=labels)
    chex.assert_equal_shape([labels, class_values[..., 0, 0]])
    by_class = jnp.moveaxis(class_values, -1, 0)
    everyone = jnp.broadcast_to(labels, (shares.shape[0], *labels.shape))
    logliks = jnp.sum(bt_loglik(everyone, by_class, beta=beta), axis=-1)
    return jax.nn.logsumexp(jnp.moveaxis(logliks, 0, -1) + jnp.log(shares), axis=-1)


def matrix_prefs(prefs: Float[Array, "n n"], items: Int[Array, "*B 2"]) -> Float[Array, "*B"]:
    """P(item 1 beats item 0) from a matrix P(row beats column), transitive or not: [*B].

    Args:
      prefs: [n, n], P + P^T = 1; checked by `envs.games.check_prefs`.
      items: [*B, 2] the two items of each pair; NaN for an item outside the matrix.
    """
    chex.assert_axis_dimension(items, -1, 2)
    return rows(prefs, second_items=items[..., 1], first_items=items[..., 0])


def skew_prefs(vectors: Float[Array, "*B 2 d"], *, beta: Scalar) -> Float[Array, "*B"]:
    """P(item 1 beats item 0) of a bilinear, intransitive taste.

    P = sigmoid(beta v_1^T J v_0),   J = [[0, I], [-I, 0]], so that P(i, j) + P(j, i) = 1.

    Args:
      vectors: [*B, 2, d] v, d even.
      beta: >= 0. May be traced.
    Reference: Chen and Joachims 2016, "Modeling intransitivity in matchup and comparison data".
    """
    check_range("[0, inf)", beta=beta)
    size = vectors.shape[-1]
    if size % 2:
        raise ValueError(f"vectors must have an even number of entries, got {size}")
    first, second = vectors[..., 0, :], vectors[..., 1, :]
    half = size // 2
    forward = jnp.sum(second[..., :half] * first[..., half:], axis=-1)
    backward = jnp.sum(second[..., half:] * first[..., :half], axis=-1)
    return jax.nn.sigmoid(beta * (forward - backward))


def rotated_weights(
    weights: Float[Array, " d"], times: Float[Array, "*B"], *, omega: Scalar
) -> Float[Array, "*B d"]:
    """A drifting taste: theta_t, with the first two entries rotated by the angle omega t.

    Args:
      weights: [d] theta_0, d >= 2.
      times: [*B] time of each query.
      omega: radians per unit of time. May be traced.
    """
    check_range("(-inf, inf)", omega=omega)
    angles = omega * times
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    turned = [cos * weights[0] - sin * weights[1], sin * weights[0] + cos * weights[1]]
    rest = jnp.broadcast_to(weights[2:], (*times.shape, weights.shape[0] - 2))
    return jnp.concatenate([jnp.stack(turned, axis=-1), rest], axis=-1)


def switched_weights(
    before: Float[Array, " d"],
    after: Float[Array, " d"],
    times: Float[Array, "*B"],
    *,
    switch: Scalar,
) -> Float[Array, "*B d"]:
    """A taste that changes once: `before` for t < switch, `after` from then on."""
    chex.assert_equal_shape([before, after])
    return jnp.where((times < switch)[..., None], before, after)


def total_flip_rate(mistake: Scalar, attack: Scalar) -> Scalar:
    """Share of labels flipped by mistakes and then by an independent attack: e + a - 2 e a.

    `teachers.flip_labels` with this rate has the distribution of both stages together.
    """
    check_range("[0, 1]", mistake=mistake, attack=attack)
    return mistake + attack - 2.0 * mistake * attack


def targeted_flips(
    labels: Int[Array, " B"], scores: Float[Array, " B"], *, share: float | int
) -> Int[Array, " B"]:
    """An attack that flips the floor(share * B) labels with the highest scores.

    Args:
      labels: [B] index of the winner; labels below 0 (equal) are not flipped.
      scores: [B] e.g. |G_1 - G_0|, or the loss of the reward model.
      share: share of the pairs, in [0, 1].
    """
    check_ids(labels=labels)
    check_range("[0, 1]", share=share)
    chex.assert_equal_shape([labels, scores])
    ranks = jnp.argsort(jnp.argsort(-scores, stable=True))
    count = int(share * labels.shape[0] + 1e-9)  # 0.29 * 100 is a little below 29
    turned = (ranks < count) & (labels >= 0)
    return jnp.where(turned, 1 - labels, labels).astype(jnp.int32)


def stuffed_labels(
    key: Key[Array, ""],
    labels: Int[Array, "*B"],
    majority_labels: Int[Array, "*B"],
    from_minority: Bool[Array, "*B"],
    *,
    rate: Scalar,
) -> Int[Array, "*B"]:
    """Majority stuffing: labels of a minority are replaced by labels of the majority.

    Args:
      key: one key for the whole batch.
      labels: [*B] true labels.
      majority_labels: [*B] labels of the majority for the same pairs.
      from_minority: [*B] True where the label comes from the minority.
      rate: share of the minority's labels that are replaced. May be traced.
    """
    check_ids(labels=labels, majority_labels=majority_labels)
    check_mask(from_minority=from_minority)
    check_range("[0, 1]", rate=rate)
    chex.assert_equal_shape([labels, majority_labels, from_minority])
    replaced = from_minority & (jax.random.uniform(key, labels.shape) < rate)
    return jnp.where(replaced, majority_labels, labels).astype(jnp.int32)


def always_wins(prefs: Float[Array, "n n"], favourite: int | Int[Array, ""]) -> Float[Array, "n n"]:
    """The most extreme misreport: the same preferences, but the favourite beats everything."""
    others = jnp.arange(prefs.shape[-1]) != favourite
    wins = prefs.at[favourite].set(jnp.where(others, 1.0, 0.5))
    return wins.at[:, favourite].set(jnp.where(others, 0.0, 0.5))


def strategic_report(
    candidates: Float[Array, "C *S"], utility: Callable[[Array], Array]
) -> tuple[Float[Array, "*S"], Int[Array, ""]]:
    """The most profitable report for a group that knows how reports are used.

    argmax_c u(policy learned from report c), where u is the true utility of the group.

    Args:
      candidates: [C, *S] reports, the truth first, e.g. true preferences and `always_wins`.
      utility: report [*S] -> scalar, the true utility of the group after this report, with the
        reports of the others fixed. It is vmapped.
    Returns:
      The report [*S], and its index: 0 if no lie is better than the truth.
    """
    best = jnp.argmax(jax.vmap(utility)(candidates)).astype(jnp.int32)
    return candidates[best], best
