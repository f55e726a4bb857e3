"""Models of comparisons beyond Bradley-Terry, and `compare`, which composes their stages.

Labels are the index of the winner, 0 or 1, or `EQUAL` if the teacher calls the items equal.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.checks import check_ids, check_range, decided, entries
from rlhf_jax.feedback.teachers import EQUAL as EQUAL
from rlhf_jax.feedback.teachers import flip_labels
from rlhf_jax.types import Scalar


def pref_loglik(labels: Int[Array, "*B"], prefs: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """log P(y) of any teacher of pairs, in nats; -inf for a label of probability 0.

    Args:
      labels: [*B] index of the winner; other labels give NaN.
      prefs: [*B] P(item 1 beats item 0) in [0, 1].
    """
    known = decided(labels)
    chex.assert_equal_shape([labels, prefs])
    return jnp.where(known, jnp.where(labels == 1, jnp.log(prefs), jnp.log1p(-prefs)), jnp.nan)


def thurstone_prefs(values: Float[Array, "*B 2"], *, scale: Scalar) -> Float[Array, "*B"]:
    """P(item 1 beats item 0) for a teacher who perceives each value with Gaussian noise.

    P = Phi((g_1 - g_0) / (sqrt(2) s)).

    Args:
      values: [*B, 2] hidden values.
      scale: s > 0, standard deviation of the noise of one item, in units of value. May be traced.
    Returns:
      [*B] float32 in [0, 1].
    Reference: Thurstone 1927, "A law of comparative judgment", Case V.
    """
    check_range("(0, inf)", scale=scale)
    return jnp.exp(_thurstone_logps(values, scale=scale))


def thurstone_loglik(
    labels: Int[Array, "*B"], values: Float[Array, "*B 2"], *, scale: Scalar
) -> Float[Array, "*B"]:
    """log P(y) of `thurstone_prefs`, in nats: [*B], accurate in both tails. NaN for a label that is
    neither 0 nor 1."""
    known = decided(labels)
    check_range("(0, inf)", scale=scale)
    chex.assert_equal_shape([labels, values[..., 0]])
    flipped = jnp.where(labels[..., None] == 1, values, jnp.flip(values, -1))
    return jnp.where(known, _thurstone_logps(flipped, scale=scale), jnp.nan)


def _thurstone_logps(values: Float[Array, "*B 2"], *, scale: Scalar) -> Float[Array, "*B"]:
    """log P(item 1 beats item 0)."""
    chex.assert_axis_dimension(values, -1, 2)
    gaps = values[..., 1] - values[..., 0]
    return jax.scipy.stats.norm.logcdf(gaps / (jnp.sqrt(2.0) * scale))


def _margins(values: Float[Array, "*B 2"], beta: Scalar) -> Float[Array, "*B"]:
    """beta (g_1 - g_0); 0 in a tie even for beta = inf, where inf * 0 would be NaN."""
    chex.assert_axis_dimension(values, -1, 2)
    gaps = values[..., 1] - values[..., 0]
    return jnp.where(gaps == 0, 0.0, beta * jnp.where(gaps == 0, 1.0, gaps))


def weak_logps(
    values: Float[Array, "*B 2"], *, beta: Scalar, threshold: Scalar
) -> Float[Array, "*B 3"]:
    """log P of the three outcomes of a teacher who may call two items equal (Rao-Kupper).

    P(1 wins) = sigmoid(m - d), P(0 wins) = sigmoid(-m - d), P(equal) = (e^{2d} - 1) P(1) P(0),
    m = beta (g_1 - g_0). `losses.reward.rao_kupper_loss` with theta = e^d is its likelihood.

    Args:
      values: [*B, 2] hidden values.
      beta: rationality >= 0, in 1 / value; inf allowed. May be traced.
      threshold: d >= 0 in nats; a larger one gives more "equal". 0 is Bradley-Terry: "equal" has
        probability 0. May be traced.
    Returns:
      [*B, 3] nats: item 0 wins, item 1 wins, equal. A label is an index into it; EQUAL is the last.
    Reference: Rao and Kupper 1967, "Ties in paired-comparison experiments".
    """
    check_range("[0, inf]", beta=beta)
    check_range("[0, inf)", threshold=threshold)
    margins = _margins(values, beta)
    first = jax.nn.log_sigmoid(-margins - threshold)
    second = jax.nn.log_sigmoid(margins - threshold)
    equal = jnp.log(jnp.expm1(2.0 * threshold)) + first + second
    return jnp.stack([first, second, equal], axis=-1)


def two_order_logps(
    values: Float[Array, "*B 2"], *, beta: Scalar, bias: Scalar
) -> Float[Array, "*B 3"]:
    """log P of the three outcomes of a judge who compares each pair in both orders.

    With m = beta (g_1 - g_0), item 1 wins with probability sigmoid(m + c) in the order (0, 1) and
    sigmoid(m - c) in the order (1, 0), independently. If the verdicts differ, the items are equal.

    Args:
      values: [*B, 2] hidden values.
      beta: rationality >= 0, in 1 / value; inf allowed. May be traced.
      bias: c in nats, preference for the second position; its sign has no effect. May be traced.
    Returns:
      [*B, 3] nats: item 0 wins, item 1 wins, equal.
    """
    check_range("[0, inf]", beta=beta)
    check_range("(-inf, inf)", bias=bias)
    margins = _margins(values, beta)
    plus, minus = margins + bias, margins - bias
    first = jax.nn.log_sigmoid(-plus) + jax.nn.log_sigmoid(-minus)
    second = jax.nn.log_sigmoid(plus) + jax.nn.log_sigmoid(minus)
    equal = jnp.logaddexp(
        jax.nn.log_sigmoid(plus) + jax.nn.log_sigmoid(-minus),
        jax.nn.log_sigmoid(-plus) + jax.nn.log_sigmoid(minus),
    )
    return jnp.stack([first, second, equal], axis=-1)


def consistent_labels(
    first_places: Int[Array, "*B"], second_places: Int[Array, "*B"]
) -> Int[Array, "*B"]:
    """Label of a judge asked in both orders: the winner if the verdicts agree, else EQUAL.

    Args:
      first_places: [*B] position of the winner, 0 or 1, in the order (item 0, item 1).
      second_places: [*B] position of the winner in the order (item 1, item 0).
    Returns:
      [*B] int32. If the judge always prefers one position, all labels are EQUAL.
    """
    check_ids(first_places=first_places, second_places=second_places)
    chex.assert_equal_shape([first_places, second_places])
    return jnp.where(first_places == 1 - second_places, first_places, EQUAL).astype(jnp.int32)


def outcome_labels(key: Key[Array, ""], logps: Float[Array, "*B 3"]) -> Int[Array, "*B"]:
    """Labels 0, 1 or EQUAL, drawn from the three outcomes of `weak_logps` or `two_order_logps`."""
    chex.assert_axis_dimension(logps, -1, 3)
    drawn = jax.random.categorical(key, logps)
    return jnp.where(drawn == 2, EQUAL, drawn).astype(jnp.int32)


def outcome_loglik(labels: Int[Array, "*B"], logps: Float[Array, "*B 3"]) -> Float[Array, "*B"]:
    """log P(label) of a label 0, 1 or EQUAL, in nats: [*B]. NaN for other labels."""
    chex.assert_equal_shape([labels, logps[..., 0]])
    known = decided(labels) | (labels == EQUAL)
    return jnp.where(known, entries(logps, labels=labels % 3), jnp.nan)


def common_length(mask: ArrayLike) -> int:
    """The number of counted steps of the segments, which must all have the same.

    Call it on the host, before a run. Only with a common length does a threshold in units of
    return, or a constant added to every reward, mean the same for all comparisons.

    Args:
      mask: [*B, T] True where the step counts.
    Raises:
      ValueError: no segment, or segments of different lengths; the message names the first one.
    """
    lengths = np.asarray(mask).sum(-1)
    if lengths.size == 0:
        raise ValueError(f"there must be at least one segment; got a mask of {np.shape(mask)}")
    odd = np.argwhere(lengths != lengths.flat[0])
    if odd.size:
        place = tuple(int(index) for index in odd[0])
        raise ValueError(
            f"segments must have one length: segment {place} counts {lengths[place]} steps, "
            f"the first one {lengths.flat[0]}"
        )
    return int(lengths.flat[0])


def return_threshold(
    mean_return: Scalar, *, eps: Scalar, segment_steps: int, episode_steps: int
) -> Float[Array, ""]:
    """Threshold for `skip_below` and `equal_below` in `compare`, as a share of the mean return.

    eps |mean episode return| * segment steps / episode steps.

    Args:
      mean_return: mean true return of recent episodes.
      eps: share >= 0; 0.1 in B-Pref.
      segment_steps: steps of each segment, from `common_length`.
      episode_steps: steps of an episode.
    Reference: Lee et al. 2021, arXiv:2111.03026 (B-Pref).
    Departs: the magnitude of the mean, because a negative mean would silently switch both stages
      off; eps enters once (the authors' code multiplies by it again after the first session).
    """
    check_range("[0, inf)", eps=eps)
    check_range("[1, inf)", segment_steps=segment_steps, episode_steps=episode_steps)
    return eps * jnp.abs(jnp.asarray(mean_return)) * (segment_steps / episode_steps)


class Comparisons(NamedTuple):
    """Labelled pairs, each field [*B]. A learner reads prefs and weights; the rest is diagnostic.

    `feedback.pairs.to_pairs` makes a `PreferenceBatch` of them, for any loss. The loss of a reward
    model is the mean over valid pairs: `weighted_mean(soft_bradley_terry_loss(item 1's scores,
    item 0's scores, prefs), weights)`.
    """

    labels: Int[Array, "*B"]  # index of the winner, or EQUAL
    prefs: Float[Array, "*B"]  # training target of P(item 1 beats item 0): 0, 1, or 1/2 if equal
    valid: Bool[Array, "*B"]  # False if the pair was skipped, unanswered, or has no finite values
    equal: Bool[Array, "*B"]
    weights: Float[Array, "*B"]  # 1 where valid, else 0
    oracle_labels: Int[Array, "*B"]  # the truly better item, 0 in a tie: hide it from learners


# Each stage has its own key, so adding a stage does not change the draws of the others.
DRAW, MISTAKE, ADVERSARY, MISSING = range(4)


def compare(
    key: Key[Array, ""],
    values: Float[Array, "*B 2"],
    returns: Float[Array, "*B 2"] | None = None,
    *,
    draw: Callable[..., Int[Array, "*B"]],
    mistake: Scalar = 0.0,
    adversary: Callable[..., Int[Array, "*B"]] | None = None,
    skip_below: Scalar = -jnp.inf,
    equal_below: Scalar = 0.0,
    missing: Scalar = 0.0,
) -> Comparisons:
    """A complete teacher: values -> skip -> draw -> mistake -> adversary -> equal -> missing.

    Args:
      key: one key for the whole batch.
      values: [*B, 2] G, the values by which the teacher judges; see `feedback.values`. A pair with
        a value or return that is not finite has weight 0.
      returns: [*B, 2] R, returns of the true reward; None: the values.
      draw: `(key, values) -> labels`, e.g. `partial(bt_labels, beta=1.0)`.
      mistake: share of labels that are flipped; EQUAL stays.
      adversary: `(key, labels, values) -> labels`, after the mistakes.
      skip_below: d; a pair is skipped unless max(R_0, R_1) > d.
      equal_below: d >= 0; items with |R_0 - R_1| < d are called equal, whatever the label.
      missing: share of answers that are missing.
    Reference: Lee et al. 2021, arXiv:2111.03026 (B-Pref), for skip, draw, mistake and equal.
    """
    check_range("[0, 1]", mistake=mistake, missing=missing)
    check_range("[-inf, inf)", skip_below=skip_below)
    check_range("[0, inf)", equal_below=equal_below)
    returns = values if returns is None else returns
    chex.assert_equal_shape([values, returns])
    labels = draw(jax.random.fold_in(key, DRAW), values)
    labels = flip_labels(jax.random.fold_in(key, MISTAKE), labels, rate=mistake)
    if adversary is not None:
        labels = adversary(jax.random.fold_in(key, ADVERSARY), labels, values)
    gaps = returns[..., 1] - returns[..., 0]
    equal = (labels == EQUAL) | (jnp.abs(gaps) < equal_below)
    arrived = jax.random.uniform(jax.random.fold_in(key, MISSING), equal.shape) >= missing
    finite = (jnp.isfinite(values) & jnp.isfinite(returns)).all(axis=-1)
    valid = (jnp.max(returns, axis=-1) > skip_below) & finite & arrived
    labels = jnp.where(equal, EQUAL, labels).astype(jnp.int32)
    return Comparisons(
        labels=labels,
        prefs=jnp.where(equal, 0.5, labels.astype(jnp.float32)),
        valid=valid,
        equal=equal,
        weights=valid.astype(jnp.float32),
        oracle_labels=(gaps > 0).astype(jnp.int32),
    )
