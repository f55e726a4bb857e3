"""Linear softmax policies under a pessimistic constraint, by exact and by sampled gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from experiments.hc_rlhf.config import Config
from experiments.hc_rlhf.world import Prompts
from rlhf_jax.losses.policy_gradient import reinforce_loss
from rlhf_jax.ops.constraints import (
    CostMoments,
    cost_moments,
    lagrangian_beta,
    lagrangian_scores,
    log_gradient_multipliers,
    pessimistic_violations,
    shaped_costs,
)
from rlhf_jax.ops.groups import leave_one_out_advantages
from rlhf_jax.ops.kl import exact_kl


class State(NamedTuple):
    """Of a training: the policy [e, A], its optimizer, the multiplier [1], and past costs [M]."""

    weights: Array
    moments: optax.OptState
    multipliers: Float[Array, "1"]
    buffer: Float[Array, " M"]


def start(config: Config, prompts: Prompts) -> State:
    """The uniform policy, which is also the reference, and a multiplier of 1."""
    shape = (prompts.features.shape[-1], prompts.rewards.shape[-1])
    weights, past = jnp.zeros(shape), jnp.full(config.buffer, jnp.nan)
    return State(weights, optax.adam(config.rate).init(weights), jnp.ones(1), past)


def dual_move(
    config: Config, state: State, moments: CostMoments, tau: float, inflation: Array
) -> Float[Array, "1"]:
    """The multiplier after one step, by log gradient over 1 + lambda."""
    return log_gradient_multipliers(
        state.multipliers,
        pessimistic_violations(moments, jnp.full(1, tau), inflation=inflation),
        rate=config.multiplier_rate,
        smallest=jnp.exp(-config.range),
        largest=jnp.exp(config.range),
        normalised=True,
    )


def exact_training(
    config: Config, prompts: Prompts, inflation: Float[Array, ""], *, tau: float
) -> Float[Array, "e A"]:
    """The last policy, every gradient an expectation over answers to all prompts."""
    optimizer = optax.adam(config.rate)

    def loss(weights: Array, scores: Array, beta: Array) -> Array:
        logits = prompts.features @ weights
        gain = jnp.sum(jax.nn.softmax(logits) * scores, axis=-1)
        return -jnp.mean(gain - beta * exact_kl(logits, jnp.zeros_like(logits)))

    def step(state: State, _: None) -> tuple[State, None]:
        moments = table_moments(state.weights, prompts)
        shaped = shaped_costs(prompts.costs[None], moments, inflation=inflation)
        scores = lagrangian_scores(prompts.rewards, shaped, state.multipliers)
        beta = lagrangian_beta(config.beta, state.multipliers)
        grads = jax.grad(loss)(state.weights, scores, beta)
        updates, adam = optimizer.update(grads, state.moments)
        multipliers = dual_move(config, state, moments, tau, inflation)
        weights: Any = optax.apply_updates(state.weights, updates)
        return State(weights, adam, multipliers, state.buffer), None

    return jax.lax.scan(step, start(config, prompts), length=config.steps)[0].weights


def table_moments(weights: Float[Array, "e A"], prompts: Prompts) -> CostMoments:
    """Mean and standard deviation of the cost over prompts and answers."""
    probs = jax.nn.softmax(prompts.features @ weights) / len(prompts.features)
    mean = jnp.sum(probs * prompts.costs)
    variance = jnp.sum(probs * (prompts.costs - mean) ** 2)
    return CostMoments(mean[None], jnp.sqrt(variance)[None], jnp.full(1, len(probs)))


def sampled_training(
    config: Config,
    key: Key[Array, ""],
    prompts: Prompts,
    inflation: Float[Array, ""],
    *,
    tau: float,
) -> Float[Array, "e A"]:
    """The mean policy of the second half, from RLOO on sampled answers and a buffer of costs."""
    optimizer = optax.adam(config.rate)

    def step(state: State, key: Array) -> tuple[State, Array]:
        row_key, answer_key = jax.random.split(key)
        rows = jax.random.randint(row_key, (config.batch,), 0, len(prompts.features))
        seen = Prompts(*(x[rows] for x in prompts))
        logits = seen.features @ state.weights
        shape = (config.samples, config.batch)
        actions = jax.random.categorical(answer_key, logits, shape=shape).T
        rewards, costs = (jnp.take_along_axis(x, actions, 1) for x in seen[1:])
        buffer = jnp.concatenate([state.buffer[costs.size :], costs.ravel()])
        moments = cost_moments(buffer[None])
        shaped = shaped_costs(costs[None], moments, inflation=inflation)

        def logps(weights: Array) -> Array:
            return jnp.take_along_axis(jax.nn.log_softmax(seen.features @ weights), actions, 1)

        gap = logps(state.weights) + jnp.log(logits.shape[-1])  # the reference is uniform
        scores = lagrangian_scores(rewards - config.beta * gap, shaped, state.multipliers)
        advantages = leave_one_out_advantages(scores)
        grads = jax.grad(lambda w: reinforce_loss(logps(w), advantages).mean())(state.weights)
        updates, adam = optimizer.update(grads, state.moments)
        multipliers = dual_move(config, state, moments, tau, inflation)
        weights: Any = optax.apply_updates(state.weights, updates)
        return State(weights, adam, multipliers, buffer), weights

    keys = jax.random.split(key, config.sampled_steps)
    _, path = jax.lax.scan(step, start(config, prompts), keys)
    return path[config.sampled_steps // 2 :].mean(0)
