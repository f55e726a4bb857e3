"""Partial returns and regrets on small decision processes that are solved exactly."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.reward import (
    bradley_terry_loss,
    deterministic_regrets,
    partial_return_loss,
    partial_returns,
    regret_preference_loss,
    segment_regrets,
)

GAMMA = 0.9
# A chain of five states; action 0 goes left, action 1 right; the last state ends the episode.
NEXT = np.array([[0, 1], [0, 2], [1, 3], [2, 4]])
REWARDS = np.array([[-0.3, 0.2], [-1.0, -0.5], [0.7, -0.1], [-0.2, 1.5]])


def optimal_values(rewards, following, gamma):
    """V [S + 1] (0 at the end) and Q [S, A] by value iteration."""
    values = np.zeros(len(rewards) + 1)
    for _ in range(500):
        action_values = rewards + gamma * values[following]
        values[:-1] = action_values.max(axis=1)
    return values, action_values


def all_segments(length):
    """Every segment of at most `length` steps: states, actions, mask, first and last state."""
    rows = []
    for start, actions in product(range(4), product(range(2), repeat=length)):
        states, state = [], start
        for action in actions:
            states.append(state)
            state = NEXT[state, action] if state < 4 else 4
        mask = np.array(states) < 4
        rows.append((np.where(mask, states, 0), actions, mask, start, state))
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.fixture(scope="module")
def chain():
    values, action_values = optimal_values(REWARDS, NEXT, GAMMA)
    states, actions, mask, start, end = all_segments(3)
    as_f32 = (
        REWARDS[states, actions],
        values[states],
        action_values[states, actions],
        values[start],
        values[end],
    )
    return [jnp.asarray(x, jnp.float32) for x in as_f32], jnp.asarray(mask)


def test_partial_returns_by_hand():
    rewards = jnp.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [jnp.nan, 2.0, 4.0]])
    mask = jnp.array([[True, True, True], [True, True, False], [False, True, True]])
    # 1 + 1 + 1; 1 + 1; 2 + 2: time starts at the first counted step
    np.testing.assert_allclose(partial_returns(rewards, mask, gamma=0.5), [3.0, 2.0, 4.0])
    np.testing.assert_allclose(partial_returns(rewards, mask), [7.0, 3.0, 6.0])
    np.testing.assert_allclose(partial_returns(rewards, mask, gamma=0.0), [1.0, 1.0, 2.0])


def test_the_discount_can_be_trained_even_from_zero():
    rewards, mask = jnp.array([1.0, 2.0, 4.0]), jnp.array([True, True, False])
    slope = jax.grad(lambda gamma: partial_returns(rewards, mask, gamma=gamma))
    np.testing.assert_allclose([slope(0.0), slope(0.5)], [2.0, 2.0])
    end = jax.grad(
        lambda gamma: deterministic_regrets(
            rewards, jnp.float32(0.0), jnp.float32(3.0), mask, gamma=gamma
        )
    )
    # -(2 + 2 gamma 3)
    np.testing.assert_allclose([end(0.0), end(0.5)], [-2.0, -5.0])


@pytest.mark.long
def test_segments_of_any_two_lengths():
    """What lies under either mask never matters; two empty segments are no comparison."""
    nan = jnp.nan
    chosen = jnp.array([[1.0, 0.5], [1.0, nan], [nan, nan], [nan, nan]])
    rejected = jnp.array([[0.5, nan], [nan, nan], [2.0, nan], [nan, nan]])

    def total(*rewards):
        return jnp.sum(partial_return_loss(*rewards, ~jnp.isnan(chosen), ~jnp.isnan(rejected)))

    losses = partial_return_loss(chosen, rejected, ~jnp.isnan(chosen), ~jnp.isnan(rejected))
    # gaps 1, 1, -2 and no pair
    np.testing.assert_allclose(losses, [0.3132617, 0.3132617, 2.1269280, 0.0], rtol=1e-6)
    grads = jax.grad(total, argnums=(0, 1))(chosen, rejected)
    # -sigmoid(-gap): sigmoid(-1) = 0.2689414, sigmoid(2) = 0.8807971
    wrong = np.array([0.2689414, 0.2689414, 0.8807971, 0.0])[:, None]
    np.testing.assert_allclose(grads[0], -wrong * ~np.isnan(chosen), rtol=1e-6)
    np.testing.assert_allclose(grads[1], wrong * ~np.isnan(rejected), rtol=1e-6)


def test_regret_by_hand():
    # V(start) 3, rewards 1 and 2, V(end) 4, gamma 0.5: 3 - (1 + 1 + 0.25 * 4)
    mask = jnp.ones(2, bool)
    args = jnp.array([1.0, 2.0]), jnp.float32(3.0), jnp.float32(4.0), mask
    np.testing.assert_allclose(deterministic_regrets(*args, gamma=0.5), 0.0)
    np.testing.assert_allclose(deterministic_regrets(*args), 3.0 - 7.0)
    # (5 - 3) + 0.5 (1 - 0)
    regret = segment_regrets(jnp.array([5.0, 1.0]), jnp.array([3.0, 0.0]), mask, gamma=0.5)
    np.testing.assert_allclose(regret, 2.5)
    loss = regret_preference_loss(jnp.float32(1.0), jnp.float32(2.0))
    np.testing.assert_allclose(loss, 0.3132617, rtol=1e-6)  # the lower regret was preferred


def test_on_a_deterministic_chain_the_two_forms_agree(chain):
    (rewards, values, action_values, start, end), mask = chain
    telescoped = deterministic_regrets(rewards, start, end, mask, gamma=GAMMA)
    by_steps = segment_regrets(values, action_values, mask, gamma=GAMMA)
    assert len(np.unique(np.sum(mask, axis=1))) > 1  # some segments end early
    np.testing.assert_allclose(telescoped, by_steps, atol=1e-5)


def test_regret_is_zero_exactly_for_optimal_actions(chain):
    (_, values, action_values, *_), mask = chain
    regrets = segment_regrets(values, action_values, mask, gamma=GAMMA)
    optimal = np.all((values - action_values < 1e-6) | ~np.asarray(mask), axis=1)
    assert 0 < optimal.sum() < len(optimal)
    np.testing.assert_allclose(regrets[optimal], 0.0, atol=1e-5)
    assert bool(jnp.all(regrets[~optimal] > 1e-2))


def test_partial_return_is_regret_without_the_two_values(chain):
    """-regret = return + gamma^n V(end) - V(start)."""
    (rewards, _, _, start, end), mask = chain
    regrets = deterministic_regrets(rewards, start, end, mask, gamma=GAMMA)
    lasting = GAMMA ** jnp.sum(mask, axis=1) * end
    expected = partial_returns(rewards, mask, gamma=GAMMA) + lasting - start
    np.testing.assert_allclose(-regrets, expected, atol=1e-5)
    zero = jnp.zeros_like(start)
    alone = deterministic_regrets(rewards, zero, zero, mask, gamma=GAMMA)
    np.testing.assert_allclose(-alone, partial_returns(rewards, mask, gamma=GAMMA), rtol=1e-6)


def test_luck_counts_in_the_deterministic_form_only():
    """One optimal step that ends at once, with reward 1 or -1 by a fair coin: V = Q = 0."""
    mask, zero = jnp.ones((2, 1), bool), jnp.zeros(2)
    luck = jnp.array([[1.0], [-1.0]])
    np.testing.assert_array_equal(deterministic_regrets(luck, zero, zero, mask), [-1.0, 1.0])
    np.testing.assert_array_equal(segment_regrets(luck * 0, luck * 0, mask), [0.0, 0.0])


@pytest.mark.long
def test_an_empty_segment_has_no_regret():
    mask, one = jnp.zeros((1, 2), bool), jnp.ones(1)
    rewards = jnp.full((1, 2), jnp.nan)
    regrets, grads = jax.value_and_grad(
        lambda *x: deterministic_regrets(*x, mask).sum(), argnums=(0, 1, 2)
    )(rewards, one, 3.0 * one)
    np.testing.assert_array_equal(regrets, 0.0)
    for grad in grads:
        np.testing.assert_array_equal(grad, 0.0)


def test_returns_cannot_see_a_constant_that_changes_what_is_optimal_and_regrets_can():
    """One state: stay (reward -0.1) or leave for good (0). With 1 more per step, staying is best.

    Comparisons of segments with two counted steps each, by partial return, are the same under both
    rewards; their regrets order the two segments in opposite ways.
    """
    following = np.array([[0, 1]])
    actions = np.array([[0, 0], [0, 1]])  # stay, stay against stay, leave
    mask = jnp.ones((2, 2), bool)
    prefs, preferred, optimal = [], [], []
    for constant in (0.0, 1.0):
        rewards = np.array([[-0.1, 0.0]]) + constant
        values, action_values = optimal_values(rewards, following, GAMMA)
        taken = jnp.asarray(rewards[0][actions], jnp.float32)
        first, second = taken
        prefs.append(partial_return_loss(first, second, mask[0], mask[1]))
        regrets = segment_regrets(
            jnp.full((2, 2), values[0], jnp.float32),
            jnp.asarray(action_values[0][actions], jnp.float32),
            mask,
        )
        preferred.append(int(jnp.argmin(regrets)))
        optimal.append(int(np.argmax(action_values[0])))
    np.testing.assert_allclose(prefs[0], prefs[1], rtol=1e-6)
    assert optimal == [1, 0]
    assert preferred == [1, 0]


def test_regrets_are_compared_like_minus_scores(chain):
    (_, values, action_values, *_), mask = chain
    regrets = segment_regrets(values, action_values, mask, gamma=GAMMA)
    loss = regret_preference_loss(regrets[:10], regrets[10:20])
    np.testing.assert_allclose(loss, bradley_terry_loss(-regrets[:10], -regrets[10:20]))
    assert bool(jnp.all((loss < np.log(2.0)) == (regrets[:10] < regrets[10:20])))
