"""Rewards of segments: by hand, as token rewards, telescoping, scaled."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.ops import (
    SegmentRewards,
    gae,
    level_changes,
    paid_at_the_end,
    place_rewards,
    scaled_rewards,
    sign_rewards,
    token_rewards,
    whiten,
)

NAN = np.nan
# Two answers of five tokens. The first head scores segments, the second the whole answer.
PARTS = SegmentRewards(
    jnp.array([[1, 2, 4], [0, 9, 0]]),
    jnp.array([[1.0, -1.0, 1.0], [-1.0, NAN, NAN]]),
    jnp.array([[True, True, True], [True, False, False]]),
)
WHOLE = SegmentRewards(jnp.array([[4], [2]]), jnp.array([[2.0], [-3.0]]), jnp.ones((2, 1), bool))
HEADS, WEIGHTS = {"parts": PARTS, "whole": WHOLE}, {"parts": 0.5, "whole": 0.25}


def test_rewards_are_paid_at_the_last_token_of_their_segments():
    expected = [[0, 1, -1, 0, 1], [-1, 0, 0, 0, 0]]
    np.testing.assert_array_equal(place_rewards(PARTS, length=5), expected)


def test_heads_are_summed_with_their_weights():
    # 0.5 * 1 + 0.25 * 2 = 1 at the last token of the first; 0.25 * -3 at token 2 of the second.
    expected = [[0, 0.5, -0.5, 0, 1.0], [-0.5, 0, -0.75, 0, 0]]
    np.testing.assert_allclose(token_rewards(HEADS, WEIGHTS, length=5), expected)


def test_the_sum_over_tokens_is_that_over_segments():
    total = token_rewards(HEADS, WEIGHTS, length=5).sum(-1)
    parts = jnp.where(PARTS.mask, PARTS.rewards, 0.0).sum(-1)
    np.testing.assert_allclose(total, 0.5 * parts + 0.25 * WHOLE.rewards.sum(-1))


def test_two_segments_that_end_at_one_token_are_summed():
    cut = SegmentRewards(jnp.array([[2, 2]]), jnp.array([[1.0, 0.5]]), jnp.ones((1, 2), bool))
    np.testing.assert_array_equal(place_rewards(cut, length=3), [[0, 0, 1.5]])


@pytest.mark.parametrize("end", [-1, 3])
def test_a_segment_that_ends_outside_the_answer_is_nan(end):
    outside = SegmentRewards(
        jnp.array([[1, end], [1, 1]]), jnp.ones((2, 2)), jnp.array([[True, True], [True, False]])
    )
    placed = np.asarray(place_rewards(outside, length=3))
    assert np.isnan(placed[0]).sum() == 1
    np.testing.assert_array_equal(placed[1], [0, 1, 0])


def test_leading_axes_jit_weights_that_are_traced_and_the_order_of_segments():
    batched = token_rewards(HEADS, WEIGHTS, length=5)

    def one(heads, weights):
        return token_rewards(heads, weights, length=5)

    np.testing.assert_array_equal(jax.jit(one)(HEADS, WEIGHTS), batched)
    np.testing.assert_array_equal(jax.vmap(one, (0, None))(HEADS, WEIGHTS), batched)
    grid = jax.tree.map(lambda x: jnp.stack([x, x]), HEADS)
    np.testing.assert_array_equal(one(grid, WEIGHTS), jnp.stack([batched, batched]))
    other = HEADS | {"parts": jax.tree.map(lambda x: x[:, ::-1], PARTS)}
    np.testing.assert_array_equal(one(other, WEIGHTS), batched)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_gradient_of_a_reward_is_its_weight(dtype):
    with jax.enable_x64(dtype == jnp.float64):

        def total(rewards):
            heads = {"parts": PARTS._replace(rewards=rewards)}
            placed = token_rewards(heads, {"parts": 0.5}, length=5)
            return jnp.sum(placed * jnp.arange(5.0, dtype=dtype))

        found = jax.grad(total)(jnp.asarray(PARTS.rewards, dtype))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, [[0.5, 1.0, 2.0], [0, 0, 0]])


@pytest.mark.parametrize("weights", [{}, {"parts": 1.0}, WEIGHTS | {"more": 1.0}])
def test_weights_of_other_heads_are_named(weights):
    with pytest.raises(ValueError, match=r"those of the heads, \['parts', 'whole'\]"):
        token_rewards(HEADS, weights, length=5)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="weights must be those of the heads"):
        token_rewards({}, {}, length=5)
    with pytest.raises(ValueError, match="parts must be in"):
        token_rewards(HEADS, WEIGHTS | {"parts": np.inf}, length=5)
    with pytest.raises(TypeError, match="mask must be bool"):
        place_rewards(WHOLE._replace(mask=jnp.ones((2, 1))), length=5)
    with pytest.raises(TypeError, match="ends must be integers"):
        place_rewards(WHOLE._replace(ends=jnp.ones((2, 1))), length=5)
    with pytest.raises(AssertionError):
        place_rewards(WHOLE._replace(rewards=jnp.ones((2, 2))), length=5)


def test_the_holistic_baseline_has_the_same_return_at_the_last_counted_step():
    mask = jnp.array([[True] * 5, [True, True, True, False, False]])
    rewards = jnp.where(mask, token_rewards(HEADS, WEIGHTS, length=5), NAN)
    expected = [[0, 0, 0, 0, 1.0], [0, 0, -1.25, 0, 0]]
    np.testing.assert_allclose(paid_at_the_end(rewards, mask), expected)


def test_changes_of_a_level_by_hand():
    levels = jnp.array([[0.1, 0.1, 0.7], [0.2, NAN, 0.5]])
    mask = jnp.array([[True, True, True], [True, False, True]])
    # 0 - 0.1, 0.1 - 0.1, 0.1 - 0.7; 0 - 0.2, none, 0.2 - 0.5
    np.testing.assert_allclose(
        level_changes(levels, mask), [[-0.1, 0, -0.6], [-0.2, 0, -0.3]], atol=1e-7
    )
    np.testing.assert_allclose(level_changes(levels, mask, start=1.0)[:, 0], [0.9, 0.8])


def test_changes_of_a_level_telescope_to_the_holistic_reward_less_one():
    rng = np.random.default_rng(0)
    levels = jnp.asarray(rng.random((20, 7)), jnp.float32)
    mask = jnp.asarray(np.arange(7) < rng.integers(1, 8, (20, 1)))
    last = jnp.take_along_axis(levels, mask.sum(-1, keepdims=True) - 1, -1)[:, 0]
    np.testing.assert_allclose(level_changes(levels, mask).sum(-1), (1 - last) - 1, atol=1e-6)


def test_dense_and_holistic_returns_agree_at_the_first_token_but_not_their_advantages():
    rewards = jnp.array([[0.5, -0.5, 0.0, 0.0, 1.0]])
    mask = jnp.ones((1, 5), bool)
    values = (jnp.zeros((1, 5)), mask.astype(float).at[:, -1].set(0.0), jnp.zeros(1))
    dense, whole = (
        gae(r, *values, gae_lambda=1.0) for r in (rewards, paid_at_the_end(rewards, mask))
    )
    np.testing.assert_allclose(dense[0, 0], whole[0, 0])
    assert np.abs(dense - whole).max() > 0.4


@pytest.mark.parametrize("moved", [1, 3])
def test_moving_a_reward_by_one_token_changes_no_later_advantage(moved):
    """From token `moved` to the one before: only advantages at or before `moved` change."""
    base = jnp.array([[0.0, 0.3, 0.0, -0.7, 0.2]])
    values = jnp.array([[0.1, -0.2, 0.3, 0.0, 0.5]])
    discounts = jnp.array([[1.0, 1.0, 1.0, 1.0, 0.0]])
    credit = partial(
        gae, values=values, discounts=discounts, last_values=jnp.zeros(1), gae_lambda=0.95
    )
    amount = base[:, moved]
    shifted = base.at[:, moved].add(-amount).at[:, moved - 1].add(amount)
    change = np.abs(np.asarray(credit(shifted) - credit(base)))[0]
    assert (change[: moved + 1] > 1e-3).all()
    np.testing.assert_array_equal(change[moved + 1 :], 0.0)


def test_signs():
    scores = jnp.array([2.0, -0.1, 0.0, NAN])
    np.testing.assert_array_equal(sign_rewards(scores), [1, -1, -1, NAN])


def test_scaled_rewards_keep_their_mean_and_whiten_the_rest():
    rng = np.random.default_rng(1)
    rewards = jnp.asarray(3 * rng.standard_normal((4, 6)) + 2, jnp.float32)
    mask = jnp.asarray(np.arange(6) < np.array([[6], [3], [1], [5]]))
    hidden = jnp.where(mask, rewards, NAN)
    mean = rewards[mask].mean()
    expected = jnp.where(mask, mean + whiten(rewards, mask), 0.0)
    np.testing.assert_allclose(scaled_rewards(hidden, mask), expected, atol=1e-5)


def test_the_authors_scale_divides_by_the_root_of_the_deviation():
    # 0 and 32: mean 16, variance 512 with Bessel's correction, 512^(1/4) = 4.756828.
    rewards, mask = jnp.array([[0.0, 32.0, NAN]]), jnp.array([[True, True, False]])
    found = scaled_rewards(rewards, mask, power=0.25)
    np.testing.assert_allclose(found, [[16 - 16 / 4.756828, 16 + 16 / 4.756828, 0]], rtol=1e-5)
    with pytest.raises(ValueError, match="power must be"):
        scaled_rewards(rewards, mask, power=0.0)
