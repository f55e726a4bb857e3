"""Prompts with one right token at each position, and pairs that differ in how many are right."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from experiments.seq2seq_rm.config import Config
from rlhf_jax.types import PreferenceBatch, Trajectory


def right_tokens(key: Key[Array, ""], config: Config) -> Int[Array, "S"]:
    """The right token of each state x L + t, uniform."""
    return jax.random.randint(key, (config.prompts * config.length,), 0, config.vocabulary)


def prompt_states(key: Key[Array, ""], config: Config, count: int) -> Int[Array, "N L"]:
    """States of `count` uniform prompts."""
    prompts = jax.random.randint(key, (count,), 0, config.prompts)
    return prompts[:, None] * config.length + jnp.arange(config.length)


def draw_answers(
    key: Key[Array, ""],
    right: Int[Array, "S"],
    states: Int[Array, "N L"],
    *,
    chance: float,
    size: int,
) -> Trajectory:
    """Answers with each token right by `chance`, else one of the other tokens, uniform."""
    hit_key, other_key = jax.random.split(key)
    hits = jax.random.bernoulli(hit_key, chance, states.shape)
    shift = jax.random.randint(other_key, states.shape, 1, size)
    tokens = (right[states] + jnp.where(hits, 0, shift)) % size
    return Trajectory(states, tokens, jnp.ones(states.shape, bool))


def draw_pairs(
    key: Key[Array, ""], right: Int[Array, "S"], config: Config, count: int
) -> PreferenceBatch:
    """Chosen and rejected answers to the same uniform prompts."""
    prompt_key, good_key, bad_key = jax.random.split(key, 3)
    states = prompt_states(prompt_key, config, count)
    size = config.vocabulary
    return PreferenceBatch(
        draw_answers(good_key, right, states, chance=config.chosen, size=size),
        draw_answers(bad_key, right, states, chance=config.rejected, size=size),
    )


def correct_share(logits: Float[Array, "S V"], right: Int[Array, "S"]) -> Float[Array, ""]:
    """Expected share of right tokens of a policy."""
    return jnp.mean(jnp.take_along_axis(jax.nn.softmax(logits), right[:, None], axis=-1))
