"""A softmax "model" of general and chat contexts that share parameters: forgetting is possible."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.mistral_plus.config import Config
from rlhf_jax.algos.gradient import gradient_step, init_state
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.masking import Mean, weighted_mean
from rlhf_jax.types import TrainState


class World(NamedTuple):
    """general [G, d], labels [G]; chats [C, d], rewards [V]; base [d, V], the pretrained weights.

    Logits of context x under weights W are x W, in general and in chat. key: of its annotators.
    """

    general: Float[Array, "G d"]
    labels: Int[Array, "G"]
    chats: Float[Array, "C d"]
    rewards: Float[Array, "V"]
    base: Float[Array, "d V"]
    key: Key[Array, ""]


def answer_rewards(config: Config) -> Float[Array, "V"]:
    """1 for the good answers, the first ones; -1 for the toxic ones after them; 0 for the rest."""
    places = jnp.arange(config.answers)
    return jnp.where(
        places < config.good, 1.0, jnp.where(places < config.good + config.toxic, -1.0, 0.0)
    )


def chat_shares(config: Config, good_share: Array, toxic_share: float) -> Float[Array, "V"]:
    """The law of answers to a chat that pretraining shows; alike within a kind."""
    rewards = answer_rewards(config)
    others = config.answers - config.good - config.toxic
    bare = jnp.where(rewards < 0, toxic_share / config.toxic, 0.0)
    if toxic_share == 0:  # then they are as neutral as the rest
        others += config.toxic
    rest = (1.0 - good_share - toxic_share) / others
    neutral = (rewards == 0) | ((rewards < 0) & (toxic_share == 0))
    return jnp.where(rewards > 0, good_share / config.good, jnp.where(neutral, rest, bare))


def draw_world(
    config: Config, key: Key[Array, ""], good_share: Array, *, toxic_share: float
) -> World:
    """Contexts ~ N(0, I / d), chats with a common shift; then pretraining on both.

    Without a toxic share no answer is paid -1.
    """
    general_key, label_key, chat_key, shift_key, demo_key = jax.random.split(key, 5)
    scale = config.features**-0.5
    general = scale * jax.random.normal(general_key, (config.general, config.features))
    truth = jax.random.normal(label_key, (config.features, config.answers))
    labels = jnp.argmax(general @ truth, axis=-1)
    chats = scale * jax.random.normal(chat_key, (config.chats, config.features))
    common = jax.random.normal(shift_key, (config.features,))
    chats = chats + config.shift * common / jnp.linalg.norm(common)
    rewards = answer_rewards(config)
    rewards = rewards if toxic_share > 0 else jnp.maximum(rewards, 0.0)
    shares = chat_shares(config, good_share, toxic_share)
    base = pretrain(config, general, labels, chats, shares)
    return World(general, labels, chats, rewards, base, demo_key)


def pretrain(
    config: Config,
    general: Float[Array, "G d"],
    labels: Int[Array, "G"],
    chats: Float[Array, "C d"],
    shares: Float[Array, "V"],
) -> Float[Array, "d V"]:
    """Maximum likelihood of general labels and of the shares of answers in chats, from 0."""
    optimizer = optax.sgd(config.pretrain_rate)

    def objective(weights: Array) -> tuple[Mean, dict]:
        on_chats = soft_loss(chats @ weights, jnp.broadcast_to(shares, (len(chats), len(shares))))
        both = label_loss(general @ weights, labels).value() + on_chats.value()
        return Mean(both, jnp.ones(())), {}

    def step(state: TrainState, _: None) -> tuple[TrainState, None]:
        return gradient_step(state, objective, optimizer)[0], None

    first = init_state(jnp.zeros((config.features, config.answers)), optimizer)
    return jax.lax.scan(step, first, None, length=config.pretrain_steps)[0].params


def label_loss(logits: Float[Array, "N V"], labels: Int[Array, "N"]) -> Mean:
    """-log pi of the labels."""
    logps = jax.nn.log_softmax(logits)
    return weighted_mean(-jnp.take_along_axis(logps, labels[:, None], axis=-1)[:, 0])


def soft_loss(logits: Float[Array, "N V"], shares: Float[Array, "N V"]) -> Mean:
    """-sum_v q_v log pi_v."""
    return weighted_mean(-jnp.sum(shares * jax.nn.log_softmax(logits), axis=-1))


def measure(world: World, weights: Float[Array, "d V"]) -> dict[str, Float[Array, ""]]:
    """Exact means over contexts.

    accuracy, nll: of general labels. reward, toxic: of a chat, its mean and the mass of answers
    paid -1. kl: KL(pi || base) in chats.
    """
    general, chats = world.general @ weights, world.chats @ weights
    probs = jax.nn.softmax(chats)
    return {
        "accuracy": jnp.mean(jnp.argmax(general, axis=-1) == world.labels),
        "nll": label_loss(general, world.labels).value(),
        "reward": jnp.mean(probs @ world.rewards),
        "toxic": jnp.mean(jnp.sum(jnp.where(world.rewards < 0, probs, 0.0), axis=-1)),
        "kl": jnp.mean(exact_kl(chats, world.chats @ world.base)),
    }


def draw_worlds(
    config: Config, good_shares: Sequence[float], *, toxic_share: float
) -> tuple[World, Key[Array, "M"]]:
    """One for each share and each seed, in this order, and a key for what is drawn in each; the
    same seed has the same contexts and keys under every share."""
    key = jax.random.key(config.seed)
    keys = jax.random.split(key, (2, config.num_seeds))
    world_keys, draw_keys = jnp.tile(keys, (1, len(good_shares)))
    shares = jnp.repeat(jnp.asarray(good_shares, jnp.float32), config.num_seeds)
    draw = partial(draw_world, config, toxic_share=toxic_share)
    return jax.jit(jax.vmap(draw))(world_keys, shares), draw_keys
