"""Laws of comparisons beyond Bradley-Terry, and the one order in which stages are composed.

Labels are the index of the winner, 0 or 1, and `EQUAL` where the teacher calls the items equal.
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
    """log P(y) of any teacher of pairs, in nats; -inf for what the teacher never says.

    Args:
      labels: [*B] index of the winner; another has log-likelihood NaN.
      prefs: [*B] P(item 1 beats item 0) in [0, 1].
    Raises:
      AssertionError: shapes differ (at trace time).
    """
    known = decided(labels)
    chex.assert_equal_shape([labels, prefs])
    return jnp.where(known, jnp.where(labels == 1, jnp.log(prefs), jnp.log1p(-prefs)), jnp.nan)


def thurstone_prefs(values: Float[Array, "*B 2"], *, scale: Scalar) -> Float[Array, "*B"]:
    """P(item 1 beats item 0) where each value is perceived with Gaussian noise.

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
    """log P(y) of `thurstone_prefs`, in nats, with all its digits in both tails: [*B]. NaN for a
    label that is neither 0 nor 1."""
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
    """beta (g_1 - g_0), 0 at a tie even for beta = inf."""
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
      threshold: d >= 0 in nats, how readily items are called equal; 0 is Bradley-Terry, in which
        "equal" has probability 0 and log -inf. May be traced.
    Returns:
      [*B, 3] nats: item 0 wins, item 1 wins, equal. A label indexes it, EQUAL being the last.
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
    """log P of the three outcomes of a judge who is asked in both orders and must agree.

    Shown (0, 1) item 1 wins with sigmoid(m + c), shown (1, 0) with sigmoid(m - c), independently;
    m = beta (g_1 - g_0). A verdict that both orders give is kept, else the items count as equal.

    Args:
      values: [*B, 2] hidden values.
      beta: rationality >= 0, in 1 / value; inf allowed. May be traced.
      bias: c in nats, liking for the place shown second; its sign does not matter. May be traced.
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
    """Label of any judge that was asked in both orders: the winner if both agree, else EQUAL.

    Args:
      first_places: [*B] place of the winner, 0 or 1, shown in the order (item 0, item 1).
      second_places: [*B] place of the winner in the order (item 1, item 0).
    Returns:
      [*B] int32. A judge who always likes one place calls everything equal.
    Raises:
      AssertionError: shapes differ (at trace time).
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
    """log P(label) with label 0, 1 or EQUAL, in nats: [*B]. NaN for another label."""
    chex.assert_equal_shape([labels, logps[..., 0]])
    known = decided(labels) | (labels == EQUAL)
    return jnp.where(known, entries(logps, labels=labels % 3), jnp.nan)


def common_length(mask: ArrayLike) -> int:
    """Counted steps of every segment, once they are seen to be the same number.

    On the host, before a run. Thresholds in units of return, and a constant added to every reward,
    mean the same for all comparisons only then.

    Args:
      mask: [*B, T] True where the step counts.
    Raises:
      ValueError: no segment, or segments of different lengths; names the first odd one.
    """
    lengths = np.asarray(mask).sum(-1)
    if lengths.size == 0:
        raise ValueError(f"there must be a segment to have a length; got {np.shape(mask)}")
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
    """The d of `compare`'s skip and equal: eps |mean episode return| segment steps / episode steps.

    Args:
      mean_return: of recent episodes, true rewards.
      eps: share >= 0 of a segment's fair part of it; 0.1 in B-Pref.
      segment_steps: of every segment, from `common_length`.
      episode_steps: of an episode.
    Reference: Lee et al. 2021, arXiv:2111.03026 (B-Pref).
    Departs: the magnitude of the mean, since a negative one would silently switch both stages off;
      eps enters once (the authors' code multiplies by it again after the first session).
    """
    check_range("[0, inf)", eps=eps)
    check_range("[1, inf)", segment_steps=segment_steps, episode_steps=episode_steps)
    return eps * jnp.abs(jnp.asarray(mean_return)) * (segment_steps / episode_steps)


class Comparisons(NamedTuple):
    """Labelled pairs, each field [*B]. A learner reads prefs and weights; the rest is for judging.

    `feedback.pairs.to_pairs` makes a `PreferenceBatch` of them, for any loss. The loss of a reward
    model is the mean over valid pairs: `weighted_mean(soft_bradley_terry_loss(item 1's scores,
    item 0's scores, prefs), weights)`.
    """

    labels: Int[Array, "*B"]  # index of the winner, EQUAL where the teacher calls them equal
    prefs: Float[Array, "*B"]  # training target of P(item 1 beats item 0): 0, 1, or 1/2 if equal
    valid: Bool[Array, "*B"]  # False where the pair was skipped, had no finite values, or no answer
    equal: Bool[Array, "*B"]
    weights: Float[Array, "*B"]  # 1 where valid, else 0
    oracle_labels: Int[Array, "*B"]  # who is truly better, item 0 on a tie: hide it from learners


# Each stage has its own stream, so that a stage more never changes what another one draws.
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
    """The whole teacher, in order: G -> skip -> draw -> mistake -> adversary -> equal -> missing.

    Args:
      key: one key for the whole batch; stages draw from streams of their own.
      values: [*B, 2] G, what the teacher judges by; see `feedback.values`. A pair with a value or
        return that is not finite is not valid: its weight is 0.
      returns: [*B, 2] R, raw returns of the true reward; None: they are the values.
      draw: `(key, values) -> labels`, e.g. `partial(bt_labels, beta=1.0)`.
      mistake: share of labels that are turned around; EQUAL stays.
      adversary: `(key, labels, values) -> labels`, after the mistakes.
      skip_below: d; a pair is skipped unless max(R_0, R_1) > d.
      equal_below: d >= 0; items with |R_0 - R_1| < d are called equal, whatever was drawn.
      missing: share of answers that never arrive.
    Returns:
      `Comparisons`.
    Raises:
      AssertionError: shapes differ (at trace time).
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
