"""Fairness: labels that favour the authors of one group, whom an answer shows without saying it.

An answer has three quality features and three marks of its author's group, noisy and of no worth.
People choose by quality and by group; fair labels, by quality alone, only measure.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from experiments.causal_survey.config import Config, Fairness
from experiments.causal_survey.linear import marginal_risk
from rlhf_jax.algos import reward_model
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.robust_reward import AdversarialParams, make_adversarial_update, make_update
from rlhf_jax.ops.environments import balanced_weights
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.types import PreferenceBatch, RewardFn, Trajectory

QUALITY = (1.0, 0.7, 0.5)
MARKS = 3
WIDTH = len(QUALITY) + MARKS
SLOPE, CLEAR = 2.0, 0.8  # of labels in quality; of a mark in the group
ERM, ADVERSARY, MARGINAL, BALANCED = "ERM", "adversary", "correlation, both orders", "balanced"
METHODS = (ERM, ADVERSARY, MARGINAL, BALANCED)
NUMBERS = ("accuracy", "A better", "B better", "score gap")


class Answers(NamedTuple):
    """x: [N, 2, 6] features of the chosen and of the other answer. group: [N, 2] True for A."""

    x: Float[Array, "N 2 6"]
    group: Bool[Array, "N 2"]


def draw_answers(key: Array, count: int, *, bias: float) -> Answers:
    """Pairs with labels of this bias, in log-odds for A against B; 0 is fair."""
    keys = jax.random.split(key, 4)
    group = jax.random.bernoulli(keys[0], 0.5, (count, 2))
    sign = jnp.where(group, 1.0, -1.0)
    quality = jax.random.normal(keys[1], (count, 2, len(QUALITY)))
    noise = jax.random.normal(keys[2], (count, 2, MARKS))
    marks = CLEAR * sign[..., None] + jnp.sqrt(1.0 - CLEAR**2) * noise
    worth = quality @ jnp.asarray(QUALITY)
    gap = SLOPE * (worth[:, 0] - worth[:, 1]) + 0.5 * bias * (sign[:, 0] - sign[:, 1])
    first = jax.random.uniform(keys[3], (count,)) < jax.nn.sigmoid(gap)
    x = jnp.concatenate([quality, marks], axis=-1)
    return Answers(
        jnp.where(first[:, None, None], x, x[:, ::-1]),
        jnp.where(first[:, None], group, group[:, ::-1]),
    )


def hidden(params: dict[str, Array], answers: Trajectory) -> Float[Array, "*B h"]:
    """What the discriminator reads."""
    return jnp.tanh(answers.inputs[..., 0, :] @ params["in"] + params["bias"])


def network(sizes: Fairness) -> RewardFn:
    """A linear score of a layer of hidden units."""

    def init(key: Array) -> dict[str, Array]:
        first, second = jax.random.split(key)
        weights = jax.random.normal(first, (WIDTH, sizes.hidden)) / jnp.sqrt(WIDTH)
        out = jax.random.normal(second, (sizes.hidden,)) / jnp.sqrt(sizes.hidden)
        return {"in": weights, "bias": jnp.zeros(sizes.hidden), "out": out}

    def scores(params: dict[str, Array], answers: Trajectory) -> Float[Array, "*B"]:
        return hidden(params, answers) @ params["out"]

    return RewardFn(init, scores)


def study(config: Config) -> dict[str, np.ndarray]:
    """numbers: [S, METHODS, NUMBERS] on fair labels; the score gap in standard deviations."""
    keys = jax.random.split(jax.random.key(config.seed + 1), config.num_seeds)
    one = jax.jit(jax.vmap(partial(study_seed, config.fair)))
    return {"numbers": np.asarray(one(keys))}


def study_seed(sizes: Fairness, key: Array) -> Float[Array, "M 4"]:
    """One world by every method, from one initialisation."""
    train_key, test_key, key = jax.random.split(key, 3)
    train = draw_answers(train_key, sizes.pairs, bias=sizes.bias)
    test = draw_answers(test_key, sizes.tests, bias=0.0)
    reward, adam = network(sizes), optax.adam(sizes.rate)
    first = reward.init(key)
    erm = reward_model.make_update(reward, adam)
    adversary = make_adversarial_update(reward, hidden, adam, scale=sizes.adversary)
    marginal = make_update(reward, adam, risk=partial(marginal_risk, penalty=sizes.correlation))
    both = AdversarialParams(first, (jnp.zeros((sizes.hidden, 2)), jnp.zeros(2)))
    batch = batch_of(train)
    groups = train.group.astype(jnp.int32)
    told = batch_of(train, chosen_groups=groups[:, 0], rejected_groups=groups[:, 1])
    gaps = batch_of(train, features=(groups[:, 0] - groups[:, 1]).astype(jnp.float32))
    steps = sizes.steps
    found = (
        run(erm, first, batch, adam, steps),
        run(adversary, both, told, adam, steps).reward,
        run(marginal, first, gaps, adam, steps),
        run(erm, first, batch_of(train, weights=fair_weights(train)), adam, steps),
    )
    return jnp.stack([numbers_of(reward, params, test) for params in found])


def run(update: Any, params: Any, batch: PreferenceBatch, adam: Any, steps: int) -> Any:
    """Params after so many steps on one batch."""

    def step(state, _):
        return update(state, batch)[0], None

    return jax.lax.scan(step, init_state(params, adam), None, length=steps)[0].params


def batch_of(answers: Answers, weights: Array | None = None, **columns: Array) -> PreferenceBatch:
    """Pairs of vectors."""
    chosen, rejected = (vector_trajectory(answers.x[:, side]) for side in (0, 1))
    return PreferenceBatch(chosen, rejected, weights=weights, columns=columns or None)


def fair_weights(answers: Answers) -> Float[Array, "N"]:
    """Weights under which A and B are chosen as often where they meet; 1 for other pairs."""
    first, second = answers.group.T
    meet = first != second
    weights = balanced_weights(first.astype(jnp.int32), meet, count=2)
    return jnp.where(meet, weights, 1.0)


def numbers_of(reward: RewardFn, params: Any, test: Answers) -> Float[Array, "4"]:
    """NUMBERS: of all pairs; where A is better than B, and the reverse; E[r | A] - E[r | B]."""
    batch = batch_of(test)
    scores = jnp.stack([reward.scores(params, x) for x in (batch.chosen, batch.rejected)], axis=1)
    right = (scores[:, 0] > scores[:, 1]).astype(jnp.float32)
    first, second = test.group.T
    share = [jnp.sum(right * mask) / jnp.sum(mask) for mask in (first & ~second, second & ~first)]
    means = [jnp.sum(scores * g) / jnp.sum(g) for g in (test.group, ~test.group)]
    return jnp.stack([right.mean(), *share, (means[0] - means[1]) / scores.std()])
