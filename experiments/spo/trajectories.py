"""Panel C: a preference between whole trajectories that no sum of rewards over steps explains.

Eight steps, risky or not; the trajectory with a number of risky steps nearer to three is preferred,
with chance sigmoid(3 (score - score')), score = -|count - 3|.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spo.config import Config
from rlhf_jax.algos.bradley_terry import win_matrix_loss
from rlhf_jax.envs.bandit import preference_matrix
from rlhf_jax.losses.policy_gradient import reinforce_loss
from rlhf_jax.ops.games import answer_win_rates
from rlhf_jax.policies.tabular import tabular_policy, tabular_reward
from rlhf_jax.types import Policy, RewardFn, Trajectory

STEPS, WANTED, SHARPNESS = 8, 3, 3.0
POLICY = tabular_policy(STEPS * (STEPS + 1), 2)  # a state is the step and the risky ones so far


class Model(NamedTuple):
    """A reward model and the trajectories that it can tell apart.

    table: scores, sums over steps. seen: actions [K, T] -> what the table is read at, [K, T].
    kinds: [K, T] actions, one trajectory of each kind; actions @ places is the kind.
    kept: share of the pairs so far that is kept at every update.
    """

    table: RewardFn
    seen: Callable
    kinds: np.ndarray
    places: np.ndarray
    kept: float


class World(NamedTuple):
    """Where a policy acts, and how trajectories of it compare.

    draw: (logits, key, batch) -> trajectories [batch]; steps that are not the policy's are not
    counted. judge: actions [B, T] -> [B, B] P(row beats column). chance: logits -> exact
    probability of a trajectory that nobody beats.
    """

    policy: Policy
    draw: Callable
    judge: Callable
    chance: Callable


def step_numbers(actions: np.ndarray) -> jax.Array:
    """[K, T] 0, 1, ..., T - 1 in each row."""
    return jnp.broadcast_to(jnp.arange(actions.shape[-1]), actions.shape)


def train_spo(config: Config, world: World, key: jax.Array) -> jax.Array:
    """[walk_steps] the chance after each update with win rates of the batch as rewards."""

    def step(logits, t):
        trajectory = world.draw(logits, jax.random.fold_in(key, t), config.walk_batch)
        rewards = 2.0 * answer_win_rates(world.judge(trajectory.actions)) - 1.0
        logits = policy_step(config, world.policy, logits, trajectory, rewards)
        return logits, world.chance(logits)

    return jax.lax.scan(step, world.policy.init(key), jnp.arange(config.walk_steps))[1]


def policy_step(config: Config, policy: Policy, logits, trajectory: Trajectory, rewards):
    """REINFORCE, one step of gradient descent."""

    def loss(logits):
        logps = policy.logps(logits, trajectory.inputs, trajectory.actions)
        total = jnp.sum(jnp.where(trajectory.mask, logps, 0.0), axis=-1)
        return jnp.mean(reinforce_loss(total, rewards))

    return logits - config.walk_rate * jax.grad(loss)(logits)


def train_on_model(config: Config, world: World, model: Model, key: jax.Array) -> jax.Array:
    """[walk_steps] the chance with a reward model that goes on fitting all pairs that it has."""
    kinds = jnp.asarray(model.kinds)
    shown = Trajectory(model.seen(model.kinds), kinds, kinds >= 0)
    prefs = world.judge(kinds)

    def step(carry, t):
        logits, params, wins = carry
        trajectory = world.draw(logits, jax.random.fold_in(key, t), config.walk_batch)
        drawn = trajectory.actions @ model.places
        times = jnp.zeros(len(kinds)).at[drawn].add(1.0)
        wins = model.kept * wins + jnp.outer(times, times) * prefs

        def loss(params):
            return win_matrix_loss(model.table.scores(params, shown), wins) / jnp.sum(wins)

        def fit(_, params):
            return params - config.fit_rate * jax.grad(loss)(params)

        params = jax.lax.fori_loop(0, config.fit_steps, fit, params)
        scores = model.table.scores(params, shown)[drawn]
        scores = scores - jnp.mean(scores)
        logits = policy_step(config, world.policy, logits, trajectory, scores)
        return (logits, params, wins), world.chance(logits)

    start = world.policy.init(key), model.table.init(key), jnp.zeros(prefs.shape)
    return jax.lax.scan(step, start, jnp.arange(config.walk_steps))[1]


def train_all(
    config: Config, world: World, models: Mapping[str, Model], key: jax.Array
) -> dict[str, np.ndarray]:
    """Method -> the chance [S, walk_steps]; log-probs are float32."""
    keys = jax.random.split(key, config.num_seeds)
    found = {"SPO": np.asarray(jax.jit(jax.vmap(partial(train_spo, config, world)))(keys))}
    for name, model in models.items():
        run = jax.jit(jax.vmap(partial(train_on_model, config, world, model)))
        found[name] = np.asarray(run(keys))
    return found


COUNTS = np.tri(STEPS + 1, STEPS, -1, int), np.ones(STEPS, int)
CODES = (np.arange(2**STEPS)[:, None] >> np.arange(STEPS)) & 1, 2 ** np.arange(STEPS)
MODELS = {
    "reward model r(a)": Model(tabular_reward(1, 2), jnp.zeros_like, *COUNTS, 1.0),
    "reward model r(t, a)": Model(tabular_reward(STEPS, 2), step_numbers, *CODES, 1.0),
    "r(a) of the newest pairs": Model(tabular_reward(1, 2), jnp.zeros_like, *COUNTS, 0.0),
}


def draw(logits: jax.Array, key: jax.Array, batch: int) -> Trajectory:
    """Trajectories [batch] of the policy."""

    def step(count, t):
        states = t * (STEPS + 1) + count
        action = jax.random.categorical(jax.random.fold_in(key, t), POLICY.logits(logits, states))
        return count + action, (states, action)

    _, (states, actions) = jax.lax.scan(step, jnp.zeros(batch, int), jnp.arange(STEPS))
    return Trajectory(states.T, actions.T, jnp.ones((batch, STEPS), bool))


def judge(actions: jax.Array) -> jax.Array:
    """[B, B] P(row beats column)."""
    scores = -jnp.abs(jnp.sum(actions, axis=-1) - WANTED)
    return preference_matrix(SHARPNESS * scores.astype(float))


def chance(logits: jax.Array) -> jax.Array:
    """Exact P(count = 3) under the policy."""
    risky = jax.nn.softmax(logits)[:, 1].reshape(STEPS, STEPS + 1)

    def step(probs, p):
        moved = probs * p
        return probs - moved + jnp.roll(moved, 1), None

    start = jnp.zeros(STEPS + 1).at[0].set(1.0)
    return jax.lax.scan(step, start, risky)[0][WANTED]


COUNTED = World(POLICY, draw, judge, chance)


def non_markovian(config: Config) -> dict[str, np.ndarray]:
    """Method -> P(count = 3) [S, walk_steps]."""
    return train_all(config, COUNTED, MODELS, jax.random.key(config.seed + 3))
