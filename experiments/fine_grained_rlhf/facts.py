"""Answers that state facts, under heads for relevance, factuality and completeness.

A state is the set of the six facts that were stated. An action stops, states a core or a marginal
fact, says something empty, or states what is false. Core facts are always relevant, marginal ones
with probability 0.35, what is false with probability 0.3, what is empty or was said before never.
"""

from functools import partial

import jax
import jax.numpy as jnp

from experiments.fine_grained_rlhf.config import Config, Facts
from experiments.fine_grained_rlhf.training import train_tables
from rlhf_jax.ops import SegmentRewards, last_step, paid_at_the_end, token_rewards
from rlhf_jax.types import Trajectory

FACTS, MOST = 6, 12  # facts, segments of an answer
STOP, EMPTY, FALSE = 0, FACTS + 1, FACTS + 2
ACTIONS = FACTS + 3
RELEVANT = jnp.array([0.0, 1.0, 1.0, 1.0, 0.35, 0.35, 0.35, 0.0, 0.3])
MEASURES = ("relevance", "factuality", "coverage", "length", "return")


def settings(size: Facts) -> dict[str, tuple[float, float, float, bool]]:
    """Name -> weights of relevance, factuality, completeness, and whether segments are paid."""
    w1, w2, w3 = size.relevance, size.factuality, size.completeness
    return {
        "full": (w1, w2, w3, True),
        "without relevance": (0.0, w2, w3, True),
        "without factuality": (w1, 0.0, w3, True),
        "without completeness": (w1, w2, 0.0, True),
        "whole answer": (w1, w2, w3, False),
        **{f"w1 = {w:g}": (w, w2, w3, True) for w in size.sweep},
    }


def train_facts(config: Config) -> dict:
    """name of a setting -> [seeds, updates, measures]. Seeds are shared by all settings."""
    size = config.facts
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1), config.num_seeds)
    names, rows = zip(*settings(size).items(), strict=True)
    weights, dense = jnp.array([row[:3] for row in rows]), jnp.array([row[3] for row in rows])
    train = jax.vmap(partial(train_answers, size), (None, None, 0))
    found = jax.jit(jax.vmap(train, (0, 0, None)))(weights, dense, keys)
    return dict(zip(names, found, strict=True))


def train_answers(size: Facts, weights: jax.Array, dense: jax.Array, key: jax.Array) -> jax.Array:
    """One run: the measures of each batch, [updates, 5]."""

    def draw(key, logits):
        trajectory, relevant, coverage = draw_answers(key, logits, batch=size.batch)
        rewards = token_rewards(
            heads(trajectory, relevant, coverage),
            dict(zip(("relevance", "factuality", "completeness"), weights, strict=True)),
            length=MOST,
        )
        paid = jnp.where(dense, rewards, paid_at_the_end(rewards, trajectory.mask))
        said = trajectory.mask & (trajectory.actions != STOP)
        count = jnp.maximum(said.sum(), 1)
        logged = (
            (said & relevant).sum() / count,
            (said & (trajectory.actions != FALSE)).sum() / count,
            coverage.mean(),
            said.sum(-1).mean(),
            rewards.sum(-1).mean(),
        )
        return trajectory, paid, jnp.stack(logged)

    return train_tables(
        key,
        draw,
        states=2**FACTS,
        actions=ACTIONS,
        beta=size.beta,
        rate=size.rate,
        updates=size.updates,
    )


def draw_answers(
    key: jax.Array, logits: jax.Array, *, batch: int
) -> tuple[Trajectory, jax.Array, jax.Array]:
    """Answers of at most 12 segments; [B, 12] which are relevant, [B] share of facts stated.

    Args:
      logits: [64, 9] of the policy.
    """

    def step(carry, key):
        stated, going = carry
        keys = jax.random.split(key)
        action = jax.random.categorical(keys[0], logits[stated])
        chance = jax.random.uniform(keys[1], (batch,)) < RELEVANT[action]
        is_fact = (action >= 1) & (action <= FACTS)
        bit = jnp.where(is_fact, 1 << jnp.maximum(action - 1, 0), 0)
        seen = (stated, action, chance & ((stated & bit) == 0), going)
        stated = jnp.where(going, stated | bit, stated)
        return (stated, going & (action != STOP)), seen

    start = (jnp.zeros(batch, jnp.int32), jnp.ones(batch, bool))
    (stated, _), seen = jax.lax.scan(step, start, jax.random.split(key, MOST))
    states, actions, relevant, mask = (jnp.moveaxis(x, 0, 1) for x in seen)
    coverage = jnp.mean((stated[:, None] >> jnp.arange(FACTS)) & 1, axis=-1)
    return Trajectory(states, actions, mask), relevant, coverage


def heads(
    trajectory: Trajectory, relevant: jax.Array, coverage: jax.Array
) -> dict[str, SegmentRewards]:
    """Two heads score every segment, the third the whole answer at its last step."""
    mask = trajectory.mask
    places = jnp.broadcast_to(jnp.arange(MOST), mask.shape)
    said = mask & (trajectory.actions != STOP)
    signs = jnp.where(relevant, 1.0, -1.0)
    facts = jnp.where(trajectory.actions == FALSE, -0.5, 0.5)
    last = jnp.argmax(last_step(mask), axis=-1)[..., None]
    whole = ((coverage - 0.5) / 0.2)[..., None]
    return {
        "relevance": SegmentRewards(places, signs, said),
        "factuality": SegmentRewards(places, facts, said),
        "completeness": SegmentRewards(last, whole, jnp.ones(last.shape, bool)),
    }
