"""Rounds on a table of one state whose draws are enumerated, so that means over them are exact.

A policy with probabilities of whole quarters draws each answer that often. Whoever is drawn from
last is the opponent of a judge that answers with exact win rates; a judge of labels has a row for
every label, as often as it is likely. All games' entries are quarters.
"""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlhf_jax.algos.selfplay import Arena
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import Prompts, Rollout, Trajectory

PREFS = np.array([[0.5, 0.75, 0.0], [0.25, 0.5, 1.0], [1.0, 0.0, 0.5]])
GAME = jnp.asarray(PREFS, jnp.float32)
COUNTS = np.array([2, 1, 1])
LOGPS = jnp.log(COUNTS / 4)  # of the policy that is enumerated
REF, OTHER, THIRD = jnp.log(jnp.array([[0.6, 0.3, 0.1], [0.15, 0.6, 0.25], [0.3, 0.1, 0.6]]))
SIZE, QUARTERS = 3, 4
POLICY = tabular_policy(1, SIZE)
KEY = jax.random.key(0)

ANSWERS = np.repeat(np.arange(SIZE), COUNTS)  # as often as LOGPS draws them
UNIFORM_PAIRS = np.array(list(product(range(SIZE), repeat=2)))
# Pairs of LOGPS, each with every quarter of a label.
LABELLED_PAIRS = np.array(list(product(ANSWERS, ANSWERS, range(QUARTERS))))
GROUPS = np.array(list(product(ANSWERS, repeat=3)))


def table(*rows):
    """Params of a policy from log-probs."""
    return jnp.stack(rows)


def logps_of(state):
    return jax.nn.log_softmax(state.train.params[0])


def prompts(count):
    return Prompts(np.zeros(count, int), np.arange(count))


def rollout(params, actions):
    """These actions [B, K] as answers of a table."""
    actions = jnp.asarray(actions)[..., None]
    trajectory = Trajectory(jnp.zeros_like(actions), actions, jnp.ones(actions.shape, bool))
    logps = POLICY.logps(params, trajectory.inputs, trajectory.actions)
    return Rollout(trajectory, logps, logps, jnp.ones(actions.shape[:2], bool))


def listed(actions):
    """A draw that gives these answers [B, K], the first of them where fewer are asked for."""

    def draw(params, prompts, key, samples, first=0):
        return rollout(params, np.asarray(actions)[:, first : first + samples])

    return draw


class Opponent:
    """Whoever `draw` was last asked to be; `judge` gives exact win rates against that policy.

    The answers drawn do not matter. `mix` makes log-probs of the params, `seen` has them all.
    """

    def __init__(self, mix=lambda params: params[0]):
        self.mix, self.seen = mix, []

    def draw(self, params, prompts, key, samples, first=0):
        self.seen.append(np.asarray(jax.nn.softmax(self.mix(params)), np.float64))
        own = params if hasattr(params, "shape") else params[0]
        return rollout(own, np.zeros((len(prompts.indices), samples), int))

    def judge(self, indices, first, second):
        return (PREFS @ self.seen[-1])[actions_of(first)]


def actions_of(trajectory):
    return np.asarray(trajectory.actions)[:, 0]


def label_judge(indices, first, second):
    """The labels of `LABELLED_PAIRS`, whose rows the indices are."""
    one, other, quarter = LABELLED_PAIRS[indices].T
    np.testing.assert_array_equal(actions_of(first), one)
    np.testing.assert_array_equal(actions_of(second), other)
    return (quarter < QUARTERS * PREFS[one, other]).astype(float)


def matrix_judge(indices, first, second):
    return PREFS[actions_of(first), actions_of(second)]


def arena(draw, judge, rate=1.0, optimizer=None):
    """The game on the table, by plain descent at this rate."""
    optimizer = optax.sgd(rate) if optimizer is None else optimizer
    return Arena(POLICY, optimizer, draw, judge, table(REF))
