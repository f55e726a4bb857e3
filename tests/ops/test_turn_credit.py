"""Credit of turns: by hand, against the functions of single turns, whatever the layout."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.ops.groups import group_normalised_advantages
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.ops.returns import answer_discounts, gae, lambda_returns
from rlhf_jax.ops.turns import episode_credit, per_step, turn_credit, turn_gae, turn_starts
from rlhf_jax.policies.tabular import tabular_policy

# Three turns of 2, 1 and 2 steps, an observation of 2 steps after the first, padding at the end;
# two turns of 1 and 3 steps.
TURN_IDS = jnp.array([[0, 0, -1, -1, 1, 2, 2, -1], [0, -1, 1, 1, 1, -1, -1, -1]])
MASK = TURN_IDS >= 0
REWARDS = jnp.array([[1.0, 0.0, 4.0], [0.0, -2.0, 0.0]])
VALUES = jnp.array([[2.0, 9, 9, 9, 4.0, 1.0, 9, 9], [1.0, 9, 3.0, 9, 9, 9, 9, 9]])
NAN = jnp.nan
turn_gae_here = partial(turn_gae, gamma=0.5, gae_lambda=0.5)


def every_credit(rewards, values, turn_ids, mask):
    return (
        episode_credit(rewards, mask),
        turn_credit(rewards, turn_ids, mask, gamma=0.5),
        turn_gae_here(rewards, values, turn_ids, mask),
    )


def test_episode_credit_golden_numbers():
    # totals: 1 + 0 + 4 = 5 and 0 - 2 = -2
    expected = [[5, 5, 0, 0, 5, 5, 5, 0], [-2, 0, -2, -2, -2, 0, 0, 0]]
    np.testing.assert_array_equal(episode_credit(REWARDS, MASK), expected)


def test_episode_credit_normalised_in_a_group():
    found = episode_credit(REWARDS, MASK, group_advantages=group_normalised_advantages)
    # mean 1.5, deviations 3.5 and -3.5, Bessel's std sqrt(24.5) = 4.949747, eps 1e-4
    np.testing.assert_allclose(found[0, 0], 3.5 / 4.949847, rtol=1e-6)
    np.testing.assert_allclose(found[1, 2], -3.5 / 4.949847, rtol=1e-6)
    np.testing.assert_array_equal(jnp.where(MASK, 0.0, found), 0.0)
    # An episode with a NaN reward drops out of its group; alone, the other has no advantage.
    lost = episode_credit(
        REWARDS.at[0, 1].set(NAN), MASK, group_advantages=group_normalised_advantages
    )
    np.testing.assert_array_equal(lost, 0.0)


def test_turn_credit_golden_numbers():
    # backwards with gamma 0.5: 4, 0 + 2 = 2, 1 + 1 = 2; then -2, 0 - 1 = -1
    expected = [[2, 2, 0, 0, 2, 4, 4, 0], [-1, 0, -2, -2, -2, 0, 0, 0]]
    np.testing.assert_array_equal(turn_credit(REWARDS, TURN_IDS, MASK, gamma=0.5), expected)


def test_turn_gae_golden_numbers():
    # first row, V = 2, 4, 1: deltas 1 + 0.5 * 4 - 2 = 1, 0 + 0.5 * 1 - 4 = -3.5, 4 - 1 = 3;
    # backwards with gamma lambda = 0.25: 3, -3.5 + 0.75 = -2.75, 1 - 0.6875 = 0.3125
    # second row, V = 1, 3: 0 + 0.5 * 3 - 1 = 0.5 and -2 - 3 = -5; then 0.5 - 1.25 = -0.75
    expected = [[0.3125, 0.3125, 0, 0, -2.75, 3, 3, 0], [-0.75, 0, -5, -5, -5, 0, 0, 0]]
    np.testing.assert_array_equal(turn_gae_here(REWARDS, VALUES, TURN_IDS, MASK), expected)


def test_turn_starts():
    expected = [[1, 0, 0, 0, 1, 1, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(turn_starts(TURN_IDS, MASK), expected)
    split = jnp.array([1, 0, 1], bool)  # a turn with an uncounted step inside starts once
    np.testing.assert_array_equal(turn_starts(jnp.array([0, 7, 0]), split), [1, 0, 0])


@pytest.mark.long
def test_one_turn_is_the_single_turn_functions():
    mask = jnp.arange(4) < jnp.array([[4], [2]])
    turn_ids, rewards = jnp.zeros((2, 4), jnp.int32), jnp.array([[2.0], [-1.0]])
    values = jax.random.normal(jax.random.key(0), (2, 4))
    broadcast = jnp.where(mask, rewards, 0.0)
    np.testing.assert_array_equal(episode_credit(rewards, mask), broadcast)
    np.testing.assert_array_equal(turn_credit(rewards, turn_ids, mask, gamma=0.3), broadcast)
    bandit = gae(rewards, values[:, :1], jnp.zeros((2, 1)), jnp.zeros(2), gae_lambda=0.9)
    found = turn_gae(rewards, values, turn_ids, mask, gamma=0.3, gae_lambda=0.9)
    np.testing.assert_array_equal(found, jnp.where(mask, bandit, 0.0))


@pytest.mark.long
def test_where_every_step_is_a_turn_it_is_gae_and_lambda_returns():
    mask = jnp.arange(4) < jnp.array([[4], [2]])
    turn_ids = jnp.broadcast_to(jnp.arange(4), (2, 4))
    rewards, values = jax.random.normal(jax.random.key(0), (2, 2, 4))
    rewards = jnp.where(mask, rewards, 0.0)
    discounts = answer_discounts(mask, gamma=0.9)
    steps = (rewards, values, discounts, jnp.zeros(2))
    found = turn_gae(rewards, values, turn_ids, mask, gamma=0.9, gae_lambda=0.7)
    np.testing.assert_allclose(found, gae(*steps, gae_lambda=0.7, mask=mask), rtol=1e-6)
    found = turn_credit(rewards, turn_ids, mask, gamma=0.9)
    np.testing.assert_allclose(found, lambda_returns(*steps, gae_lambda=1.0, mask=mask), rtol=1e-6)


def test_without_values_and_with_lambda_one_turn_gae_is_turn_credit():
    for gamma in (1.0, 0.5):
        found = turn_gae(
            REWARDS, jnp.zeros_like(VALUES), TURN_IDS, MASK, gamma=gamma, gae_lambda=1.0
        )
        want = turn_credit(REWARDS, TURN_IDS, MASK, gamma=gamma)
        np.testing.assert_array_equal(found, want)


@pytest.mark.long
def test_uncounted_steps_never_matter():
    """Other padding, no observations, NaN and any turn under the mask."""
    want = every_credit(REWARDS, VALUES, TURN_IDS, MASK)
    dirty = every_credit(REWARDS, jnp.where(MASK, VALUES, NAN), jnp.where(MASK, TURN_IDS, 1), MASK)
    shifted = every_credit(REWARDS, *(jnp.roll(x, 3, axis=1) for x in (VALUES, TURN_IDS, MASK)))
    for each, one, other in zip(want, dirty, shifted, strict=True):
        np.testing.assert_array_equal(one, each)
        np.testing.assert_array_equal(jnp.roll(other, -3, axis=1), each)
    for row in range(2):
        cut = (x[row, MASK[row]] for x in (VALUES, TURN_IDS, MASK))
        for each, one in zip(want, every_credit(REWARDS[row], *cut), strict=True):
            np.testing.assert_array_equal(one, each[row, MASK[row]])


@pytest.mark.long
def test_further_turns_that_were_not_taken_change_nothing():
    longer = jnp.pad(REWARDS, ((0, 0), (0, 2)))
    want = every_credit(REWARDS, VALUES, TURN_IDS, MASK)
    for one, each in zip(every_credit(longer, VALUES, TURN_IDS, MASK), want, strict=True):
        np.testing.assert_array_equal(one, each)


@pytest.mark.long
def test_leading_axes_are_free_and_jit_changes_nothing():
    batch = (REWARDS, VALUES, TURN_IDS, MASK)
    want = every_credit(*batch)
    deep = every_credit(*(x[:, None] for x in batch))
    mapped = jax.vmap(every_credit)(*batch)
    jitted = jax.jit(every_credit)(*batch)
    for each, *others in zip(want, deep, mapped, jitted, strict=True):
        for other in others:
            np.testing.assert_array_equal(other.reshape(each.shape), each)


@pytest.mark.long
def test_float64_stays_float64():
    with jax.enable_x64(True):
        batch = [jnp.asarray(np.asarray(x, np.float64)) for x in (REWARDS, VALUES)]
        third = batch[0] / 3.0
        found = every_credit(third, batch[1], jnp.asarray(TURN_IDS), jnp.asarray(MASK))
        assert [x.dtype for x in found] == ["float64"] * 3
        # 4 / 3, then half of it, then (1 + 1) / 3; see the golden numbers
        np.testing.assert_allclose(found[1][0, [0, 4, 5]], [2 / 3, 2 / 3, 4 / 3], rtol=1e-15)


@pytest.mark.long
def test_no_gradient_passes_through_uncounted_values():
    def total(values):
        return jnp.sum(turn_gae_here(REWARDS, values, TURN_IDS, MASK))

    slope = jax.grad(total)(jnp.where(turn_starts(TURN_IDS, MASK), VALUES, NAN))
    np.testing.assert_array_equal(slope != 0, turn_starts(TURN_IDS, MASK))
    assert bool(jnp.all(jnp.isfinite(slope)))


@pytest.mark.long
def test_turn_credit_is_the_policy_gradient_of_a_table():
    """Two turns of one action each, every episode weighed by its probability, gamma = 1."""
    policy = tabular_policy(2, 2)
    params = jnp.array([[0.3, -0.2], [0.1, 0.5]])
    actions = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    pay = jnp.array([[1.0, -0.5], [0.25, 2.0]])  # [turn, action]
    turns = jnp.broadcast_to(jnp.arange(2), (4, 2))
    rewards, mask = pay[turns, actions], jnp.ones((4, 2), bool)

    def logps(params):
        return token_logps(policy.logits(params, turns), actions)

    def expected_return(params):
        return jnp.sum(jnp.exp(logps(params).sum(-1)) * rewards.sum(-1))

    def surrogate(params, credit):
        probs = jax.lax.stop_gradient(jnp.exp(logps(params).sum(-1)))
        return jnp.sum(probs[:, None] * credit * logps(params))

    want = jax.grad(expected_return)(params)
    for credit in (episode_credit(rewards, mask), turn_credit(rewards, turns, mask)):
        np.testing.assert_allclose(jax.grad(surrogate)(params, credit), want, atol=1e-6)


def test_a_turn_without_a_reward_is_nan_and_shapes_must_agree():
    np.testing.assert_array_equal(
        per_step(REWARDS, TURN_IDS + 1, MASK)[0], [0, 0, 0, 0, 4, NAN, NAN, 0]
    )
    errors = (AssertionError, jaxtyping.TypeCheckError)
    with pytest.raises(errors):
        turn_credit(REWARDS[:1], TURN_IDS, MASK)
    with pytest.raises(errors):
        turn_gae_here(REWARDS, VALUES[:, :4], TURN_IDS, MASK)
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\]"):
        turn_credit(REWARDS, TURN_IDS, MASK, gamma=1.5)
