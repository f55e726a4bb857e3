"""Panel C: a preference between whole trajectories that no sum of rewards over steps explains.

Eight steps, risky or not; the trajectory with a number of risky steps nearer to three is preferred,
with chance sigmoid(3 (score - score')), score = -|count - 3|.
"""

from collections.abc import Callable
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
from rlhf_jax.types import RewardFn, Trajectory

STEPS, WANTED, SHARPNESS = 8, 3, 3.0
POLICY = tabular_policy(STEPS * (STEPS + 1), 2)  # a state is the step and the risky ones so far


class Model(NamedTuple):
    """A reward model and the trajectories that it can tell apart.

    table: scores, sums over steps. seen: steps [*B, T] -> what the table is read at.
    kinds: [K, T] actions, one trajectory of each kind; actions @ places is the kind.
    kept: share of the pairs so far that is kept at every update.
    """

    table: RewardFn
    seen: Callable
    kinds: np.ndarray
    places: np.ndarray
    kept: float


COUNTS = np.tri(STEPS + 1, STEPS, -1, int), np.ones(STEPS, int)
CODES = (np.arange(2**STEPS)[:, None] >> np.arange(STEPS)) & 1, 2 ** np.arange(STEPS)
MODELS = {
    "reward model r(a)": Model(tabular_reward(1, 2), jnp.zeros_like, *COUNTS, 1.0),
    "reward model r(t, a)": Model(tabular_reward(STEPS, 2), jnp.asarray, *CODES, 1.0),
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


def policy_step(config: Config, logits: jax.Array, trajectory: Trajectory, rewards: jax.Array):
    """REINFORCE, one step of gradient descent."""

    def loss(logits):
        logps = POLICY.logps(logits, trajectory.inputs, trajectory.actions)
        return jnp.mean(reinforce_loss(jnp.sum(logps, axis=-1), rewards))

    return logits - config.walk_rate * jax.grad(loss)(logits)


def train_spo(config: Config, key: jax.Array) -> jax.Array:
    """[walk_steps] P(count = 3) after each update with win rates of the batch as rewards."""

    def step(logits, t):
        trajectory = draw(logits, jax.random.fold_in(key, t), config.walk_batch)
        rewards = 2.0 * answer_win_rates(judge(trajectory.actions)) - 1.0
        logits = policy_step(config, logits, trajectory, rewards)
        return logits, chance(logits)

    return jax.lax.scan(step, POLICY.init(key), jnp.arange(config.walk_steps))[1]


def train_on_model(config: Config, name: str, key: jax.Array) -> jax.Array:
    """[walk_steps] P(count = 3) with a reward model that goes on fitting all pairs that it has."""
    model = MODELS[name]
    kinds = jnp.asarray(model.kinds)
    shown = Trajectory(
        model.seen(jnp.broadcast_to(jnp.arange(STEPS), kinds.shape)), kinds, kinds >= 0
    )
    prefs = judge(kinds)

    def step(carry, t):
        logits, params, wins = carry
        trajectory = draw(logits, jax.random.fold_in(key, t), config.walk_batch)
        drawn = trajectory.actions @ model.places
        times = jnp.zeros(len(kinds)).at[drawn].add(1.0)
        wins = model.kept * wins + jnp.outer(times, times) * prefs

        def loss(params):
            return win_matrix_loss(model.table.scores(params, shown), wins) / jnp.sum(wins)

        def fit(_, params):
            return params - config.fit_rate * jax.grad(loss)(params)

        params = jax.lax.fori_loop(0, config.fit_steps, fit, params)
        scores = model.table.scores(params, shown)[drawn]
        logits = policy_step(config, logits, trajectory, scores - jnp.mean(scores))
        return (logits, params, wins), chance(logits)

    start = POLICY.init(key), model.table.init(key), jnp.zeros(prefs.shape)
    return jax.lax.scan(step, start, jnp.arange(config.walk_steps))[1]


def non_markovian(config: Config) -> dict[str, np.ndarray]:
    """Method -> P(count = 3) [S, walk_steps]; log-probs are float32."""
    keys = jax.random.split(jax.random.key(config.seed + 3), config.num_seeds)
    found = {"SPO": np.asarray(jax.jit(jax.vmap(lambda key: train_spo(config, key)))(keys))}
    for name in MODELS:
        run = jax.jit(jax.vmap(lambda key, name=name: train_on_model(config, name, key)))
        found[name] = np.asarray(run(keys))
    return found
