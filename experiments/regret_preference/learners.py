"""Pairs of segments, who labels them, and the two learners of a linear reward."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.algos.gradient import gradient_step, init_state
from rlhf_jax.envs.gridworlds import MOVES, GridWorld, step_features, under_weights
from rlhf_jax.envs.tabular_mdp import discounted_env
from rlhf_jax.exact import discounted_mdp
from rlhf_jax.feedback.teachers import bt_labels
from rlhf_jax.losses.reward import deterministic_regrets, partial_returns, soft_bradley_terry_loss
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.episodes import policy_act, sample_episode

MODELS = ("regret", "partial return")  # of who labels, and of who learns
LABELS = ("noiseless", "logistic")
TIE = 1e-6
SCREENING = 30  # steps from each start


class Segments(NamedTuple):
    """features: [*B, T, d] paid at each step; starts, ends: [*B] first and last state; mask: [*B,
    T] False once the episode is over."""

    features: Float[Array, "*B T d"]
    starts: Int[Array, "*B"]
    ends: Int[Array, "*B"]
    mask: Bool[Array, "*B T"]


def sample_segments(key: Key[Array, ""], world: GridWorld, *, pairs: int, length: int) -> Segments:
    """Pairs [pairs, 2] of segments: a uniform start that is no end, uniform actions."""
    size = world.mdp.initial.shape[-1]
    act = policy_act(tabular_policy(size, len(MOVES)), jnp.zeros((size, len(MOVES))))
    draw = partial(sample_episode, discounted_env(world.mdp), act, steps=length)
    keys = jax.random.split(key, (pairs, 2))
    episodes = jax.vmap(jax.vmap(draw))(keys)
    states, mask = episodes.states, episodes.trajectory.mask
    features = step_features(world, states[..., :-1], states[..., 1:])
    return Segments(features, states[..., 0], states[..., -1], mask)


def utilities(
    weights: Float[Array, " d"], world: GridWorld, segments: Segments, *, model: str
) -> Float[Array, "*B"]:
    """What a model of preferences sees in each segment under these weights: minus its regret, or
    its partial return. Differentiable; V* by the envelope theorem."""
    rewards = segments.features @ weights
    if model == "partial return":
        return partial_returns(rewards, segments.mask)
    values = discounted_mdp.differentiable_optimal(under_weights(world, weights)).values
    starts, ends = values[segments.starts], values[segments.ends]
    return -deterministic_regrets(rewards, starts, ends, segments.mask, gamma=world.mdp.gamma)


def draw_prefs(key: Key[Array, ""], values: Float[Array, "B 2"], *, noisy: Array | bool) -> Array:
    """[B] preference for the first segment: a drawn label where noisy, else the better one, 1/2 at
    a tie."""
    drawn = bt_labels(key, values[:, ::-1], beta=1.0).astype(values.dtype)
    gaps = values[:, 0] - values[:, 1]
    sure = 0.5 + 0.5 * jnp.sign(jnp.where(jnp.abs(gaps) < TIE, 0.0, gaps))
    return jnp.where(noisy, drawn, sure)


def fit_weights(
    world: GridWorld,
    segments: Segments,
    prefs: Array,
    counted: Array,
    *,
    model: str,
    starts: int,
    steps: int,
    rate: float,
) -> tuple[Array, Array]:
    """Weights [d] from preferences [N], by Adam on the cross-entropy of the counted pairs.

    Args:
      starts: of the regret model, 0 and standard normal weights: the one with the least training
        loss after a few steps is followed to the end. The loss of partial returns is convex, and
        one start at 0 finds its minimum.
    Returns:
      the weights of least training loss for the regret model, the last ones for partial return; and
      that loss in nats.
    """

    def objective(weights):
        seen = utilities(weights, world, segments, model=model)
        losses = soft_bradley_terry_loss(seen[:, 0], seen[:, 1], prefs)
        return weighted_mean(losses, counted), {}

    optimizer = optax.adam(lambda step: rate / (1 + step / 100), b1=0.9, b2=0.99)

    def step(carry, _):
        state, best, least = carry
        new, metrics = gradient_step(state, objective, optimizer)
        loss = metrics["loss"].value()
        better = (loss < least) | (model == "partial return")
        return (new, jnp.where(better, state.params, best), jnp.where(better, loss, least)), None

    def fit(start, steps):
        carry = (init_state(start, optimizer), start, jnp.full((), jnp.inf))
        return jax.lax.scan(step, carry, length=steps + 1)[0][1:]

    start = jnp.zeros(world.weights.shape[-1])
    if model == "regret":
        others = jax.random.normal(jax.random.key(0), (starts - 1, *start.shape), start.dtype)
        tried = jnp.concatenate([start[None], others])
        weights, losses = jax.vmap(partial(fit, steps=SCREENING))(tried)
        start = weights[jnp.argmin(losses)]
    return fit(start, steps)


def planned_return(world: GridWorld, weights: Float[Array, " d"]) -> Float[Array, ""]:
    """True return of the best policy for `weights`, uniform over its best actions."""
    planned = discounted_mdp.optimal(under_weights(world, weights))
    return discounted_mdp.policy_return(world.mdp, planned.logps)


def uniform_return(world: GridWorld) -> Float[Array, ""]:
    """True return of uniform actions."""
    return discounted_mdp.policy_return(
        world.mdp, jnp.full(world.mdp.rewards.shape, -jnp.log(len(MOVES)))
    )


def planned_solution(world: GridWorld, weights: Float[Array, " d"]) -> tuple[Array, Array]:
    """Values [S] and policy [S, A] of the best plan for `weights`, under these same weights."""
    found = discounted_mdp.optimal(under_weights(world, weights))
    return found.values, jnp.exp(found.logps)
