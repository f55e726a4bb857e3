"""Comparisons as pairs: every order weighted by its probability, ties, what was never answered."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import preference, reward_model
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.feedback.comparisons import EQUAL, Comparisons, compare
from rlhf_jax.feedback.pairs import labels_to_pairs, to_pairs
from rlhf_jax.feedback.teachers import bt_labels
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.losses.reward import soft_bradley_terry_loss
from rlhf_jax.policies.tabular import tabular_policy, tabular_reward
from rlhf_jax.types import Trajectory

# Four pairs of one step, item i of pair b in state 2 b + i: item 1 wins, a tie, item 0 wins, and a
# pair that was not answered.
TRAJECTORY = Trajectory(
    jnp.arange(8).reshape(4, 2, 1), jnp.zeros((4, 2, 1), int), jnp.ones((4, 2, 1), bool)
)
LABELS = jnp.array([1, EQUAL, 0, 1])
VALID = jnp.array([True, True, True, False])


def answered(prefs) -> Comparisons:
    equal = LABELS == EQUAL
    return Comparisons(LABELS, jnp.asarray(prefs), VALID, equal, VALID.astype(float), LABELS * 0)


def test_a_pair_stands_in_both_orders_with_the_weights_of_its_label():
    pairs = to_pairs(TRAJECTORY, answered([0.75, 0.5, 0.0, 1.0]))
    assert pairs.chosen.inputs[..., 0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert pairs.rejected.inputs[..., 0].tolist() == [[1, 0], [3, 2], [5, 4], [7, 6]]
    assert np.asarray(pairs.weights).tolist() == [[0.25, 0.75], [0.5, 0.5], [1.0, 0.0], [0.0, 0.0]]
    dropped = to_pairs(TRAJECTORY, answered([0.75, 0.5, 0.0, 1.0]), drop_ties=True)
    assert np.asarray(dropped.weights).tolist() == [
        [0.25, 0.75],
        [0.0, 0.0],
        [1.0, 0.0],
        [0.0, 0.0],
    ]


def test_hard_labels_stand_once_with_the_winner_first():
    pairs = labels_to_pairs(TRAJECTORY, LABELS)
    assert pairs.chosen.inputs[:, 0].tolist() == [1, 2, 4, 7]
    assert pairs.rejected.inputs[:, 0].tolist() == [0, 3, 5, 6]
    assert np.asarray(pairs.weights).tolist() == [1.0, 0.0, 1.0, 1.0]


def scores(pairs):
    """Loss and accuracy of the rewards 0.3 s^2."""
    params = 0.3 * jnp.arange(8.0)[:, None] ** 2
    loss, metrics = reward_model.make_objective(tabular_reward(8, 1))(params, pairs)
    return float(loss.value()), float(metrics["scores/accuracy"].value())


@pytest.mark.long
def test_a_reward_model_is_fitted_by_the_soft_labels():
    prefs = jnp.array([0.75, 0.5, 0.0, 1.0])
    values = 0.3 * jnp.arange(8.0).reshape(4, 2) ** 2
    soft = soft_bradley_terry_loss(values[:, 1], values[:, 0], prefs)[:3].mean()
    loss, accuracy = scores(to_pairs(TRAJECTORY, answered(prefs)))
    np.testing.assert_allclose(loss, soft, rtol=1e-6)
    # Item 1 always has the larger score: right for 3/4 + 1/2 + 0 of three pairs.
    np.testing.assert_allclose(accuracy, 1.25 / 3)


@pytest.mark.long
def test_a_tie_moves_nothing_between_equal_scores_and_dropped_pairs_are_those_of_hard_labels():
    hard = answered([1.0, 0.5, 0.0, 1.0])._replace(weights=jnp.ones(4))
    once, twice = labels_to_pairs(TRAJECTORY, LABELS), to_pairs(TRAJECTORY, hard, drop_ties=True)
    np.testing.assert_allclose(scores(once), scores(twice), rtol=1e-6)
    tie = to_pairs(*jax.tree.map(lambda x: x[1:2], (TRAJECTORY, hard)))
    slope = jax.grad(lambda p: reward_model.make_objective(tabular_reward(8, 1))(p, tie)[0].value())
    np.testing.assert_array_equal(slope(jnp.zeros((8, 1))), 0)


@pytest.mark.long
def test_a_policy_learns_from_minibatches_of_soft_labels():
    """A bandit of one state whose items are the actions: beta log-ratios meet logit(3/4)."""
    arms = Trajectory(
        jnp.zeros((4, 2, 1), int),
        jnp.broadcast_to(jnp.arange(2)[:, None], (4, 2, 1)),
        jnp.ones((4, 2, 1), bool),
    )
    teacher = Comparisons(*(jnp.ones(4),) * 6)._replace(prefs=jnp.full(4, 0.75))
    policy, optimizer = tabular_policy(1, 2), optax.sgd(4.0)
    start = policy.init(jax.random.key(0))
    pairs = preference.attach_reference(policy, start, to_pairs(arms, teacher))
    update = jax.jit(preference.make_update(policy, optimizer, partial(dpo_loss, beta=0.5)))
    state = init_state(start, optimizer)
    for rows in [slice(2), slice(2, 4)] * 20:
        state, _ = update(state, jax.tree.map(lambda x, rows=rows: x[rows], pairs))
    logps = jax.nn.log_softmax(state.params[0])
    np.testing.assert_allclose(0.5 * (logps[1] - logps[0]), np.log(3), rtol=1e-4)


def test_a_free_leading_axis_of_teachers_is_that_of_a_loop():
    both = jax.tree.map(lambda x: jnp.stack([x, x]), TRAJECTORY)
    labels = jnp.stack([LABELS, LABELS[::-1]])
    batched = labels_to_pairs(both, labels)
    looped = [labels_to_pairs(TRAJECTORY, each) for each in labels]
    jax.tree.map(lambda x, *ys: np.testing.assert_array_equal(x, ys), batched, *looped)


@pytest.mark.long
def test_the_simplest_teacher_judges_by_the_returns_it_is_given():
    values = jax.random.normal(jax.random.key(0), (50, 2))
    teach = partial(compare, jax.random.key(1), draw=partial(bt_labels, beta=1.0))
    plain, whole = teach(values), teach(values, values)
    jax.tree.map(np.testing.assert_array_equal, plain, whole)


@pytest.mark.parametrize("convert", [to_pairs, lambda t, c: labels_to_pairs(t, c.labels)])
def test_trajectories_that_are_not_pairs_are_refused_by_name(convert):
    single = jax.tree.map(lambda x: x[:, 0], TRAJECTORY)
    with pytest.raises(AssertionError, match=r"inputs.*\(4, 1\) != \(4, 2\)"):
        convert(single, answered(jnp.ones(4)))
