"""Panel E: "the same in both halves", a preference that no sum of r(t, a) over steps explains.

Six steps, risky or not. The world makes the first three choices, with fair coins, the policy the
last three. The trajectory with the smaller |difference| of the risky steps in the two halves is
preferred, with chance sigmoid(3 (score - score')), score = -|difference|. A sum of r(t, a) has no
term with both halves in it: its best policy ignores the first half, and such policies have
P(difference = 0) <= max_k C(3, k) / 8 = 3/8.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spo.config import Config
from experiments.spo.trajectories import Model, World, step_numbers, train_all
from rlhf_jax.envs.bandit import preference_matrix
from rlhf_jax.policies.tabular import tabular_policy, tabular_reward
from rlhf_jax.types import Trajectory

HALF, SHARPNESS = 3, 3.0
STEPS, PLACES = 2 * HALF, 2 * HALF + 1  # places: differences from -3 to 3
POLICY = tabular_policy(STEPS * PLACES, 2)  # a state is the step and the difference so far
SIGNS = np.repeat([1, -1], HALF)  # of a risky step in the difference
IGNORANT = 3 / 8  # largest P(difference = 0) of a policy that ignores the first half


def states(actions: jax.Array | np.ndarray) -> jax.Array:
    """[K, T] what the policy sees before each action: the step and the difference so far."""
    changes = jnp.asarray(actions) * SIGNS
    before = jnp.cumsum(changes, axis=-1) - changes
    return jnp.arange(STEPS) * PLACES + before + HALF


CODES = (np.arange(2**STEPS)[:, None] >> np.arange(STEPS)) & 1, 2 ** np.arange(STEPS)
MODELS = {
    "reward model r(t, a)": Model(tabular_reward(STEPS, 2), step_numbers, *CODES, 1.0),
    "r(t, a) of the newest pairs": Model(tabular_reward(STEPS, 2), step_numbers, *CODES, 0.0),
    "reward model r(t, difference, a)": Model(
        tabular_reward(STEPS * PLACES, 2), states, *CODES, 1.0
    ),
}


def choices(logits: jax.Array) -> jax.Array:
    """[T, places] P(risky): a fair coin in the first half, then the policy's."""
    chosen = jax.nn.softmax(logits)[:, 1].reshape(STEPS, PLACES)
    return jnp.where(jnp.arange(STEPS)[:, None] < HALF, 0.5, chosen)


def draw(logits: jax.Array, key: jax.Array, batch: int) -> Trajectory:
    """Trajectories [batch]; only the second half counts as the policy's."""
    risky = choices(logits)

    def step(place, t):
        chance = risky[t, place]
        action = jax.random.bernoulli(jax.random.fold_in(key, t), chance).astype(int)
        return place + jnp.asarray(SIGNS)[t] * action, action

    _, actions = jax.lax.scan(step, jnp.full(batch, HALF), jnp.arange(STEPS))
    counted = jnp.broadcast_to(jnp.arange(STEPS) >= HALF, (batch, STEPS))
    return Trajectory(states(actions.T), actions.T, counted)


def judge(actions: jax.Array) -> jax.Array:
    """[B, B] P(row beats column)."""
    scores = -jnp.abs(actions @ SIGNS)
    return preference_matrix(SHARPNESS * scores.astype(float))


def chance(logits: jax.Array) -> jax.Array:
    """Exact P(difference = 0) under the policy."""

    def step(probs, t):
        moved = probs * choices(logits)[t]
        return probs - moved + jnp.roll(moved, jnp.asarray(SIGNS)[t]), None

    start = jnp.zeros(PLACES).at[HALF].set(1.0)
    return jax.lax.scan(step, start, jnp.arange(STEPS))[0][HALF]


WORLD = World(POLICY, draw, judge, chance)


def both_halves(config: Config) -> dict[str, np.ndarray]:
    """Method -> P(difference = 0) [S, walk_steps]."""
    return train_all(config, WORLD, MODELS, jax.random.key(config.seed + 4))
