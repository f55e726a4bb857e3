"""A string written token by token, paid at its end: policy gradients beside bootstrapped values.

The state is the position alone. Every method draws the same number of strings.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.rl_perspective.config import Tokens
from rlhf_jax.losses.policy_gradient import ppo_clip_loss, reinforce_loss
from rlhf_jax.ops.masking import whiten

TIES = 1e-6  # noise that breaks them


def rewards(key: jax.Array, config: Tokens, target, strings) -> jax.Array:
    """Share of right tokens plus noise, [B] of strings [B, T]."""
    noise = config.noise * jax.random.normal(key, strings.shape[:1])
    return jnp.mean(strings == target, axis=-1) + noise


def draw(key: jax.Array, probs: jax.Array, count: int) -> jax.Array:
    """Strings [count, T] of independent tokens, probs [T, V]; one uniform number for each token."""
    keys = jax.random.split(key, len(probs))
    one = partial(jax.random.choice, a=probs.shape[-1], shape=(count,))
    return jax.vmap(lambda key, p: one(key, p=p), out_axes=1)(keys, probs)


def policy_gradient(key, config: Tokens, target, vocabulary: int, *, clip: bool) -> jax.Array:
    """REINFORCE, or PPO's clip for several epochs, with standardised rewards as advantages.

    Returns:
      [iterations] share of positions whose likeliest token is right.
    """

    def logps_of(logits, strings):
        return jax.nn.log_softmax(logits)[jnp.arange(config.length), strings]

    def loss(logits, strings, old_logps, advantages):
        logps = logps_of(logits, strings)
        losses = (
            ppo_clip_loss(logps, old_logps, advantages, clip_eps=config.clip_eps)
            if clip
            else reinforce_loss(logps, advantages)
        )
        return jnp.mean(jnp.sum(losses, axis=-1))

    def iterate(logits, key):
        draw_key, reward_key = jax.random.split(key)
        strings = draw(draw_key, jax.nn.softmax(logits), config.samples)
        old_logps = logps_of(logits, strings)
        scores = rewards(reward_key, config, target, strings)
        whitened = whiten(scores, jnp.ones_like(scores, bool))
        advantages = jnp.broadcast_to(whitened[:, None], strings.shape)

        def step(logits, _):
            grads = jax.grad(loss)(logits, strings, old_logps, advantages)
            return logits - config.rate * grads, None

        logits, _ = jax.lax.scan(step, logits, None, length=config.epochs if clip else 1)
        return logits, right_share(logits, target)

    start = jnp.zeros((config.length, vocabulary))
    return jax.lax.scan(iterate, start, jax.random.split(key, config.iterations))[1]


def wander(key: jax.Array, best: jax.Array, vocabulary: int, explore) -> jax.Array:
    """The best tokens [...], each replaced by any token with probability `explore`."""
    explore_key, any_key = jax.random.split(key)
    wanders = jax.random.uniform(explore_key, best.shape) < explore
    return jnp.where(wanders, jax.random.randint(any_key, best.shape, 0, vocabulary), best)


def learn(values: jax.Array, rows, string, reward, *, rate) -> jax.Array:
    """Q-learning from one string: rows [T] of the table [S, V] are the states it went through.

    Q(s_t, y_t) <- Q(s_t, y_t) + rate (max Q(s_{t+1}, .) - Q(s_t, y_t)), the last one to the reward.
    """
    following = jnp.append(jnp.max(values[rows[1:]], axis=-1), reward)
    old = values[rows, string]
    return values.at[rows, string].set(old + rate * (following - old))


def q_learning(key, config: Tokens, target, vocabulary: int) -> jax.Array:
    """Q-learning with the position as its state, epsilon-greedy.

    Strings are drawn in rounds, as by the others, and learnt from one after the other.

    Returns:
      [iterations] share of positions whose best token is right.
    """
    places = jnp.arange(config.length)

    def iterate(values, key):
        tie_key, wander_key, reward_key = jax.random.split(key, 3)
        best = jnp.argmax(values + TIES * jax.random.uniform(tie_key, values.shape), axis=-1)
        best = jnp.broadcast_to(best, (config.samples, config.length))
        strings = wander(wander_key, best, vocabulary, config.explore)
        scores = rewards(reward_key, config, target, strings)

        def step(values, one):
            return learn(values, places, *one, rate=config.q_rate), None

        values, _ = jax.lax.scan(step, values, (strings, scores))
        return values, right_share(values, target)

    start = jnp.zeros((config.length, vocabulary))
    return jax.lax.scan(iterate, start, jax.random.split(key, config.iterations))[1]


def right_share(scores: jax.Array, target: jax.Array) -> jax.Array:
    """Share of positions where the largest score [T, V] is that of the target."""
    return jnp.mean(jnp.argmax(scores, axis=-1) == target)


METHODS: dict[str, Callable] = {
    "REINFORCE": partial(policy_gradient, clip=False),
    "PPO-clip": partial(policy_gradient, clip=True),
    "Q-learning": q_learning,
}


def right_tokens(
    config: Tokens, key: jax.Array, seeds: int, vocabularies: Sequence[int], method: Callable
) -> np.ndarray:
    """Share of right greedy tokens of one method, [vocabularies, seeds, iterations].

    Every method meets the same targets.
    """

    def one(vocabulary: int, key: jax.Array) -> jax.Array:
        target_key, run_key = jax.random.split(key)
        target = jax.random.randint(target_key, (config.length,), 0, vocabulary)
        return method(run_key, config, target, vocabulary)

    keys = jax.random.split(key, seeds)
    return np.stack([np.asarray(jax.jit(jax.vmap(partial(one, v)))(keys)) for v in vocabularies])
