"""Groups whose values are a function of features, a table, or a mix of both, and their labels."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.algos.label_counts import linear_scores, pool_groups, vote_scores
from rlhf_jax.exact.sample_costs import binary_entropy
from rlhf_jax.feedback.populations import stuffed_labels
from rlhf_jax.feedback.teachers import bt_labels, flip_labels
from rlhf_jax.ops.aggregate import known_values
from rlhf_jax.ops.stakes import stake_errors

SYSTEMS = ("pooled linear", "group linear", "pooled table", "group table")


class Labels(NamedTuple):
    """groups, contexts, labels: [N] each."""

    groups: Int[Array, " N"]
    contexts: Int[Array, " N"]
    labels: Int[Array, " N"]


def context_bits(bits: int) -> Float[Array, "S d"]:
    """The features: every context is d signs."""
    return 1.0 - 2.0 * ((jnp.arange(2**bits)[:, None] >> jnp.arange(bits)) & 1).astype(float)


def draw_values(
    key: Key[Array, ""],
    *,
    bits: int,
    groups: int,
    overlap: float,
    mix: Array | float,
    contexts: Array | int | None = None,
) -> Float[Array, "G S"]:
    """V_g(s) with E_s V^2 = 1: V_0 fresh, the others overlap V_0 + fresh, each normalised.

    Fresh values are sqrt(1 - mix) w . phi(s) + sqrt(mix) u(s), w and u Gaussian, both normalised.

    Args:
      contexts: 2^d at most; where there are fewer, the other values are 0. May be traced.
    """
    features = context_bits(bits)
    count = 2**bits if contexts is None else contexts
    there = jnp.arange(2**bits) < count

    def normalised(values: Array) -> Array:
        values = jnp.where(there, values, 0.0)
        return values / jnp.sqrt(jnp.sum(values**2, axis=-1, keepdims=True) / count)

    linear_key, table_key = jax.random.split(key)
    linear = normalised(jax.random.normal(linear_key, (groups, bits)) @ features.T)
    table = normalised(jax.random.normal(table_key, (groups, 2**bits)))
    fresh = normalised(jnp.sqrt(1.0 - mix) * linear + jnp.sqrt(mix) * table)
    return jnp.concatenate([fresh[:1], normalised(overlap * fresh[:1] + fresh[1:])])


def ask(
    key: Key[Array, ""], shares: Float[Array, " G"], contexts: Array | int, size: int
) -> Labels:
    """Who is asked about what: groups by their shares, contexts uniform. No labels yet."""
    group_key, context_key = jax.random.split(key)
    # Not jax.random.categorical: it draws a number for each group of each label.
    ends = jnp.cumsum(shares)[:-1]
    drawn = jax.random.uniform(group_key, (size,))
    groups = jnp.sum(drawn[:, None] >= ends, axis=-1)
    met = jax.random.randint(context_key, (size,), 0, contexts)
    return Labels(groups, met, jnp.zeros(size, int))


def flipped_labels(
    key: Key[Array, ""], values: Float[Array, "G S"], asked: Labels, rate: Array | float
) -> Labels:
    """The sign of the group's value, flipped at this rate."""
    truth = (values[asked.groups, asked.contexts] > 0).astype(int)
    return asked._replace(labels=flip_labels(key, truth, rate=rate))


def attacked_labels(
    key: Key[Array, ""],
    values: Float[Array, "G S"],
    asked: Labels,
    *,
    kappa: float,
    attack: Array | float,
) -> Labels:
    """Bradley-Terry labels; a share of the minorities' are replaced by the majority's view."""
    own_key, other_key, attack_key = jax.random.split(key, 3)
    own, majority = values[asked.groups, asked.contexts], values[0, asked.contexts]

    def labels(key: Array, margins: Array) -> Array:
        return bt_labels(key, jnp.stack([jnp.zeros_like(margins), margins], -1), beta=kappa)

    given, theirs = labels(own_key, own), labels(other_key, majority)
    stuffed = stuffed_labels(attack_key, given, theirs, asked.groups > 0, rate=attack)
    return asked._replace(labels=stuffed)


def fit_systems(
    counts: Float[Array, "G S 2"], features: Float[Array, "S d"], *, precision: float
) -> dict[str, Float[Array, "G S"]]:
    """Scores of the four systems."""
    pooled, linear = pool_groups(counts), partial(linear_scores, precision=precision)
    one = linear(pooled[:1], features)
    return {
        "pooled linear": jnp.broadcast_to(one, counts.shape[:2]),
        "group linear": linear(counts, features),
        "pooled table": vote_scores(pooled),
        "group table": vote_scores(counts),
    }


def worst_error(scores: Float[Array, "G S"], values: Float[Array, "G S"]) -> Float[Array, ""]:
    """max_g of the share of what is at stake that is decided against group g, who is there."""
    return jnp.nanmax(group_errors(scores, values))


def group_errors(scores: Float[Array, "G S"], values: Float[Array, "G S"]) -> Float[Array, " G"]:
    """`stake_errors` of every group in all contexts."""
    groups = jnp.broadcast_to(jnp.arange(values.shape[0])[:, None], values.shape)
    return known_values(stake_errors(scores, values, groups, num_groups=values.shape[0]))


def own_entropy(overlap: float) -> float:
    """Bits of a minority's sign that the majority's value does not tell: E_z h(Phi(overlap z))."""
    z, weights = np.polynomial.hermite_e.hermegauss(64)
    found = [binary_entropy(p) for p in scipy.stats.norm.cdf(overlap * z)]
    return float(weights @ found / weights.sum())
