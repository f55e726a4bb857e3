"""Linear rewards of answers with one vector each, all fitted by the same full-batch Adam."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy
from jaxtyping import Array, Bool, Float, Int

from experiments.rlbff.config import Config
from rlhf_jax.algos import entailment, reward_model
from rlhf_jax.algos.entailment import EntailmentBatch
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.reward_ensemble import separate_trunks
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.types import Params, PreferenceBatch, Update

BINS = 10


def optimizer_of(config: Config) -> optax.GradientTransformation:
    """Adam on the loss with a ridge l2 / 2 |w|^2."""
    return optax.chain(optax.add_decayed_weights(config.l2), optax.adam(config.rate))


def trained(config: Config, update: Update[Any, Any], params: Params, batch: Any) -> Params:
    """Params after `config.steps` updates on one batch."""

    def step(state: Any, _: None) -> tuple[Any, None]:
        return update(state, batch)[0], None

    state = init_state(params, optimizer_of(config))
    return jax.lax.scan(step, state, None, length=config.steps)[0].params


def fit_heads(
    config: Config,
    x: Float[Array, "N d"],
    principles: Int[Array, " N"],
    labels: Bool[Array, " N"],
    weights: Float[Array, " N"] | None = None,
    *,
    heads: int | None = None,
) -> Float[Array, "K d"]:
    """Entailment: one weight vector for each principle, by yes and no."""
    count = config.principles if heads is None else heads
    reward = separate_trunks(linear_reward(x.shape[-1]), members=count)
    update = entailment.make_update(reward, optimizer_of(config), by_head=True)
    batch = EntailmentBatch(vector_trajectory(x), labels, principles, weights)
    return trained(config, update, jnp.zeros((count, x.shape[-1])), batch)


def fit_blind(
    config: Config,
    x: Float[Array, "N d"],
    labels: Bool[Array, " N"],
    weights: Float[Array, " N"] | None = None,
) -> Float[Array, " d"]:
    """The same labels, for a reward that is not told the principle."""
    update = entailment.make_update(linear_reward(x.shape[-1]), optimizer_of(config))
    batch = EntailmentBatch(vector_trajectory(x), labels, None, weights)
    return trained(config, update, jnp.zeros(x.shape[-1]), batch)


def fit_pairs(
    config: Config,
    chosen: Float[Array, "N d"],
    rejected: Float[Array, "N d"],
    weights: Float[Array, " N"] | None = None,
) -> Float[Array, " d"]:
    """Bradley-Terry."""
    update = reward_model.make_update(linear_reward(chosen.shape[-1]), optimizer_of(config))
    sides = vector_trajectory(chosen), vector_trajectory(rejected)
    batch = PreferenceBatch(*sides, weights=weights)
    return trained(config, update, jnp.zeros(chosen.shape[-1]), batch)


def verdict_calibration(
    scores: Float[Array, " N"], labels: Bool[Array, " N"]
) -> tuple[Float[Array, ""], Float[Array, "K 3"]]:
    """ECE = sum_b (n_b / N) |mean label - mean p|, p = sigmoid(r) in ten bins of [0, 1], and of
    each bin mean p, mean label and share.

    `ops.statistics.calibration_error` folds p at 1/2, as pairs need it; a zero that is shifted for
    all answers shows in this form alone.
    """
    probs = jax.nn.sigmoid(scores)
    member = jax.nn.one_hot(jnp.clip(jnp.floor(probs * BINS), 0, BINS - 1).astype(int), BINS)
    count = jnp.maximum(member.sum(0), 1.0)
    means = probs @ member / count, labels.astype(probs.dtype) @ member / count
    share = member.mean(0)
    return jnp.sum(share * jnp.abs(means[1] - means[0])), jnp.stack([*means, share], -1)


def area_under_curve(scores: np.ndarray, labels: np.ndarray) -> float:
    """P(an answer with the label has a higher score than one without), ties one half; on the host.

    NaN if all labels are alike.
    """
    yes = np.asarray(labels, bool)
    if yes.all() or not yes.any():
        return float("nan")
    ranks = scipy.stats.rankdata(scores)
    positive = yes.sum()
    total = ranks[yes].sum() - positive * (positive + 1) / 2
    return float(total / (positive * (len(yes) - positive)))
