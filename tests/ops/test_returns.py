"""Advantages and per-step rewards."""

from itertools import product

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.ops.returns import (
    answer_discounts,
    answer_rewards,
    discounted_sum,
    gae,
    lambda_returns,
    last_step,
    vtrace,
)

# lengths 4, 2, 1, 0
MASK = jnp.arange(4) < jnp.array([[4], [2], [1], [0]])


def numpy_gae(rewards, values, discounts, last_values, gae_lambda):
    """The recursion of the docstring, one row and one step at a time."""
    advantages = np.zeros_like(rewards)
    for b in range(rewards.shape[0]):
        following, advantage = last_values[b], 0.0
        for t in reversed(range(rewards.shape[1])):
            delta = rewards[b, t] + discounts[b, t] * following - values[b, t]
            advantage = delta + discounts[b, t] * gae_lambda * advantage
            advantages[b, t], following = advantage, values[b, t]
    return advantages


def draw():
    rng = np.random.default_rng(0)
    rewards, values = rng.standard_normal((2, 4, 6)).astype(np.float32)
    discounts = np.where(rng.random((4, 6)) < 0.2, 0.0, 0.9).astype(np.float32)
    return tuple(jnp.asarray(x) for x in (rewards, values, discounts, values[:, 0] + 1))


def test_gae_golden_numbers():
    rewards, values = jnp.array([1.0, 0.0, 2.0]), jnp.array([0.5, 1.0, 1.5])
    discounts = jnp.array([0.5, 0.5, 0.5])
    advantages = gae(rewards, values, discounts, jnp.float32(4.0), gae_lambda=0.5)
    # deltas: 1 + 0.5 * 1 - 0.5 = 1, 0 + 0.5 * 1.5 - 1 = -0.25, 2 + 0.5 * 4 - 1.5 = 2.5
    # backwards, d lambda = 0.25: 2.5, -0.25 + 0.625 = 0.375, 1 + 0.09375
    np.testing.assert_allclose(advantages, [1.09375, 0.375, 2.5])


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_gae_equals_a_loop(gae_lambda):
    batch = draw()
    expected = numpy_gae(*(np.asarray(x) for x in batch), gae_lambda)
    np.testing.assert_allclose(gae(*batch, gae_lambda=gae_lambda), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_gae_shapes_and_transformations():
    batch = draw()
    batched = gae(*batch, gae_lambda=0.9)
    mapped = jax.vmap(lambda *x: gae(*x, gae_lambda=0.9))(*batch)
    np.testing.assert_allclose(mapped, batched, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(gae)(*batch, gae_lambda=0.9), batched, atol=1e-6)
    deep = gae(*(x.reshape(2, 2, *x.shape[1:]) for x in batch), gae_lambda=0.9)
    np.testing.assert_allclose(deep.reshape(4, 6), batched, rtol=1e-6)


def test_gae_lambda_zero_is_the_one_step_error():
    rewards, values, discounts, last_values = draw()
    following = jnp.concatenate([values[:, 1:], last_values[:, None]], axis=1)
    expected = rewards + discounts * following - values
    np.testing.assert_allclose(gae(*draw(), gae_lambda=0.0), expected, rtol=1e-6)


def test_gae_lambda_one_is_reward_to_go_minus_value():
    rewards, values, discounts, _ = draw()
    discounts = discounts.at[:, -1].set(0.0)
    returns, following = np.zeros((4, 6)), np.zeros(4)
    for t in reversed(range(6)):
        following = returns[:, t] = rewards[:, t] + discounts[:, t] * following
    # The bootstrap value cannot matter: the last discount is 0.
    advantages = gae(rewards, values, discounts, jnp.full(4, 7.0), gae_lambda=1.0)
    np.testing.assert_allclose(advantages, returns - values, atol=1e-5)
    undiscounted = gae(rewards, jnp.zeros((4, 6)), jnp.ones((4, 6)), jnp.zeros(4), gae_lambda=1.0)
    to_go = np.cumsum(np.asarray(rewards)[:, ::-1], axis=1)[:, ::-1]
    np.testing.assert_allclose(undiscounted, to_go, atol=1e-5)


def test_gae_of_one_step_is_a_bandit():
    rewards, values = jnp.array([[2.0], [-1.0]]), jnp.array([[0.5], [0.25]])
    advantages = gae(rewards, values, jnp.zeros((2, 1)), jnp.zeros(2), gae_lambda=0.95)
    np.testing.assert_allclose(advantages, [[1.5], [-1.25]])


def test_an_ended_episode_hides_what_comes_after():
    rewards, values, discounts, last_values = draw()
    discounts = discounts.at[:, 2].set(0.0)
    before = gae(rewards, values, discounts, last_values, gae_lambda=0.9)
    rewards, values = rewards.at[:, 3:].add(50.0), values.at[:, 3:].add(-9.0)
    after = gae(rewards, values, discounts, last_values, gae_lambda=0.9)
    np.testing.assert_array_equal(after[:, :3], before[:, :3])


def test_last_step():
    expected = [[0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(last_step(MASK), expected)
    left_padded = jnp.array([0, 1, 1], bool)
    np.testing.assert_array_equal(last_step(left_padded), [0, 0, 1])


def test_answer_discounts():
    expected = [[0.9, 0.9, 0.9, 0], [0.9, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(answer_discounts(MASK, gamma=0.9), expected, rtol=1e-6)
    np.testing.assert_allclose(answer_discounts(jnp.array([0, 1, 1], bool)), [0.0, 1.0, 0.0])


def test_answer_rewards_golden_numbers():
    token_kl = jnp.array([[0.1, 0.2, 0.3, 0.4]] * 4)
    token_kl = jnp.where(MASK, token_kl, jnp.nan)
    scores = jnp.array([1.0, 2.0, 3.0, jnp.nan])
    # -0.5 kl on counted steps, plus the score at the last of them; an empty answer is paid nothing
    expected = [[-0.05, -0.1, -0.15, 0.8], [-0.05, 1.9, 0, 0], [2.95, 0, 0, 0], [0, 0, 0, 0]]
    rewards = answer_rewards(scores, token_kl, MASK, beta=0.5)
    np.testing.assert_allclose(rewards, expected, rtol=1e-5)


def test_answer_rewards_sum_to_the_penalised_score():
    token_kl = jax.random.normal(jax.random.key(0), (4, 4))
    scores = jnp.array([1.0, -2.0, 3.0, 0.0])
    rewards = jax.jit(answer_rewards)(scores, token_kl, MASK, beta=0.3)
    expected = scores - 0.3 * np.where(MASK, token_kl, 0.0).sum(-1)
    np.testing.assert_allclose(rewards.sum(-1), expected, rtol=1e-5)


def test_shapes_must_agree():
    errors = (AssertionError, jaxtyping.TypeCheckError)
    square = jnp.zeros((2, 3))
    with pytest.raises(errors):
        gae(square, square, square[:1], jnp.zeros(2), gae_lambda=1.0)
    with pytest.raises(errors):
        gae(square, square, square, jnp.zeros(1), gae_lambda=1.0)
    with pytest.raises(errors):
        answer_rewards(jnp.zeros(1), square, jnp.ones((2, 3), bool), beta=0.1)


def test_lambda_returns_golden_numbers():
    rewards, values = jnp.array([1.0, 0.0, 2.0]), jnp.array([0.5, 1.0, 1.5])
    discounts = jnp.array([0.5, 0.5, 0.5])
    returns = lambda_returns(rewards, values, discounts, jnp.float32(4.0), gae_lambda=0.5)
    # backwards: 2 + 0.5 * 4 = 4; 0 + 0.5 (0.75 + 2) = 1.375; 1 + 0.5 (0.5 + 0.6875) = 1.59375
    np.testing.assert_allclose(returns, [1.59375, 1.375, 4.0])


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_lambda_returns_are_gae_plus_values(gae_lambda):
    batch = draw()
    returns = lambda_returns(*batch, gae_lambda=gae_lambda)
    expected = gae(*batch, gae_lambda=gae_lambda) + batch[1]
    np.testing.assert_allclose(returns, expected, rtol=1e-5, atol=1e-6)


def test_lambda_returns_mix_the_n_step_returns():
    """(1 - lambda) sum_n lambda^(n-1) G^(n), the last one taking all the weight that is left."""
    rewards, values, _, last_values = (np.asarray(x, np.float64) for x in draw())
    gamma, lam, steps = 0.9, 0.6, rewards.shape[1]
    bootstraps = np.concatenate([values, last_values[:, None]], axis=1)
    expected = np.zeros_like(rewards)
    for t in range(steps):
        for n in range(1, steps - t + 1):
            weight = lam ** (n - 1) * (1.0 if t + n == steps else 1.0 - lam)
            n_step = sum(gamma**i * rewards[:, t + i] for i in range(n))
            expected[:, t] += weight * (n_step + gamma**n * bootstraps[:, t + n])
    discounts = jnp.full((4, 6), gamma)
    rewards, values, _, last_values = draw()
    returns = lambda_returns(rewards, values, discounts, last_values, gae_lambda=lam)
    np.testing.assert_allclose(returns, expected, rtol=1e-5, atol=1e-6)


def numpy_vtrace(log_ratios, rewards, values, discounts, last_values, *, clips):
    """Eq. 1 of the paper as the double sum it is written as, for one row; lambda is 1."""
    rho_clip, c_clip, pg_clip = clips
    rho, steps = np.exp(log_ratios), len(rewards)
    following = np.append(values[1:], last_values)
    deltas = np.minimum(rho_clip, rho) * (rewards + discounts * following - values)
    targets = np.array(values)
    for s in range(steps):
        for t in range(s, steps):
            decay = np.prod(discounts[s:t] * np.minimum(c_clip, rho[s:t]))
            targets[s] += decay * deltas[t]
    ahead = np.append(targets[1:], last_values)
    return targets, np.minimum(pg_clip, rho) * (rewards + discounts * ahead - values)


def draw_off_policy():
    log_ratios = np.random.default_rng(1).normal(0.0, 0.7, (4, 6)).astype(np.float32)
    return jnp.asarray(log_ratios), *draw()


@pytest.mark.parametrize("clips", [(1.0, 1.0, 1.0), (2.0, 0.5, 1.5), (jnp.inf,) * 3])
def test_vtrace_equals_the_sum_of_the_paper(clips):
    batch = draw_off_policy()
    rho_clip, c_clip, pg_rho_clip = clips
    found = vtrace(*batch, rho_clip=rho_clip, c_clip=c_clip, pg_rho_clip=pg_rho_clip)
    for b in range(4):
        row = (np.asarray(x[b], np.float64) for x in batch)
        targets, advantages = numpy_vtrace(*row, clips=clips)
        np.testing.assert_allclose(found.targets[b], targets, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.advantages[b], advantages, rtol=1e-4, atol=1e-5)


def test_vtrace_golden_numbers():
    log_ratios = jnp.log(jnp.array([0.5, 2.0]))
    rewards, values = jnp.array([1.0, 2.0]), jnp.array([0.5, 1.0])
    discounts = jnp.array([0.5, 0.5])
    found = vtrace(log_ratios, rewards, values, discounts, jnp.float32(4.0), rho_clip=1.5)
    # deltas: 0.5 (1 + 0.5 - 0.5) = 0.5 and 1.5 (2 + 2 - 1) = 4.5; c = 0.5, then 1
    # v_1 = 1 + 4.5 = 5.5; v_0 = 0.5 + 0.5 + 0.5 * 0.5 * 4.5 = 2.125
    np.testing.assert_allclose(found.targets, [2.125, 5.5], rtol=1e-6)
    # ratios 0.5 and min(1, 2): 0.5 (1 + 0.5 * 5.5 - 0.5) and 2 + 0.5 * 4 - 1
    np.testing.assert_allclose(found.advantages, [1.625, 3.0], rtol=1e-6)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_vtrace_on_policy_is_lambda_returns_and_gae(gae_lambda):
    batch = draw()
    found = vtrace(jnp.zeros((4, 6)), *batch, gae_lambda=gae_lambda, rho_clip=1.0, c_clip=1.0)
    returns = lambda_returns(*batch, gae_lambda=gae_lambda)
    np.testing.assert_allclose(found.targets, returns, rtol=1e-5, atol=1e-6)
    advantages = gae(*batch, gae_lambda=gae_lambda)
    np.testing.assert_allclose(found.advantages, advantages, rtol=1e-5, atol=2e-6)


# A chain of three steps with two actions in each, the state being the step: [T, 2].
PI = np.array([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8]])
MU = np.array([[0.5, 0.5], [0.8, 0.2], [0.3, 0.7]])
CHAIN_REWARDS = np.array([[1.0, -0.5], [0.2, 2.0], [-1.0, 0.4]])


def chain_values(policy):
    """V [T] of the chain at gamma = 0.9, backwards."""
    values, following = np.zeros(3), 0.0
    for t in (2, 1, 0):
        following = values[t] = policy[t] @ (CHAIN_REWARDS[t] + 0.9 * following)
    return values


def expected_vtrace_targets(values, clip):
    """Mean of the targets under mu, over all eight trajectories: [T]."""
    paths = np.array(list(product(range(2), repeat=3)))
    steps = np.arange(3)
    probs = np.prod(MU[steps, paths], axis=1)
    log_ratios = np.log(PI / MU)[steps, paths]
    discounts = np.where(steps < 2, 0.9, 0.0) * np.ones((8, 1))
    values = np.broadcast_to(values, (8, 3))
    arrays = (log_ratios, CHAIN_REWARDS[steps, paths], values, discounts, np.zeros(8))
    found = vtrace(*(jnp.asarray(x, jnp.float32) for x in arrays), rho_clip=clip, c_clip=clip)
    return probs @ np.asarray(found.targets, np.float64)


@pytest.mark.parametrize("clip", [0.5, 1.0])
def test_the_fixed_point_of_vtrace_is_the_value_of_the_clipped_policy(clip):
    clipped = np.minimum(clip * MU, PI)
    fixed_point = chain_values(clipped / clipped.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(expected_vtrace_targets(fixed_point, clip), fixed_point, atol=1e-5)
    true_values = chain_values(PI)
    assert np.abs(fixed_point - true_values).max() > 0.01
    assert np.abs(expected_vtrace_targets(true_values, clip) - true_values).max() > 0.01


def test_vtrace_without_clips_is_unbiased_whatever_the_values():
    for values in (chain_values(PI), np.array([3.0, -1.0, 2.0])):
        found = expected_vtrace_targets(values, np.inf)
        np.testing.assert_allclose(found, chain_values(PI), atol=1e-5)


@pytest.mark.long
def test_vtrace_is_data_and_finite_at_extreme_ratios():
    log_ratios, *batch = draw_off_policy()
    grad = jax.grad(lambda x, v: sum(map(jnp.sum, vtrace(x, batch[0], v, *batch[2:]))), (0, 1))
    for one in grad(log_ratios, batch[1]):
        np.testing.assert_array_equal(one, 0.0)
    far = jnp.where(jnp.arange(6) % 2 == 0, 1e4, -1e4) * jnp.ones((4, 1))
    found = vtrace(far, *batch)
    assert bool(jnp.all(jnp.isfinite(found.targets)) & jnp.all(jnp.isfinite(found.advantages)))


@pytest.mark.long
@pytest.mark.parametrize("function", [gae, lambda_returns, vtrace])
def test_steps_that_do_not_count_are_as_if_cut_out(function):
    """Holes in the middle, in front, at the end, everywhere; NaN in them."""
    mask = np.array([[1, 1, 0, 0, 1, 1], [0, 1, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1], [0] * 6], bool)
    *steps, last_values = draw_off_policy() if function is vtrace else draw()
    holed = [jnp.where(mask, x, jnp.nan) for x in steps]
    found = function(*holed, last_values, gae_lambda=0.7, mask=jnp.asarray(mask))
    for b in range(3):
        row = (x[b, mask[b]] for x in steps)
        want = function(*row, last_values[b], gae_lambda=0.7)
        for got, one in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(got[b, mask[b]], one, rtol=1e-6)
    for got in jax.tree.leaves(found):
        np.testing.assert_array_equal(got[~mask], 0.0)


@pytest.mark.parametrize("function", [gae, lambda_returns])
def test_no_gradient_comes_from_steps_that_do_not_count(function):
    rewards, values, discounts, last_values = draw()
    mask = jnp.array([1, 1, 0, 0, 1, 0], bool) & (rewards < jnp.inf)

    def total(x):
        return function(rewards, x, discounts, last_values, gae_lambda=0.7, mask=mask).sum()

    slope = jax.grad(total)(jnp.where(mask, values, jnp.nan))
    np.testing.assert_array_equal(slope[:, [2, 3, 5]], 0.0)
    assert bool(jnp.all(jnp.isfinite(slope)))


@pytest.mark.long
@pytest.mark.parametrize("name", ["lambda_returns", "vtrace"])
def test_returns_shapes_and_transformations(name):
    function, batch = {
        "lambda_returns": (lambda_returns, draw()),
        "vtrace": (vtrace, draw_off_policy()),
    }[name]
    batched = function(*batch, gae_lambda=0.9)
    deep = function(*(x.reshape(2, 2, *x.shape[1:]) for x in batch), gae_lambda=0.9)
    mapped = jax.vmap(lambda *x: function(*x, gae_lambda=0.9))(*batch)
    jitted = jax.jit(function)(*batch, gae_lambda=0.9)
    for whole, *others in zip(*map(jax.tree.leaves, (batched, deep, mapped, jitted)), strict=True):
        for other in others:
            np.testing.assert_allclose(other.reshape(4, 6), whole, rtol=1e-5, atol=1e-6)
    ended = [x.at[:, 2].set(0.0) if i == len(batch) - 2 else x for i, x in enumerate(batch)]
    before = jax.tree.leaves(function(*ended, gae_lambda=0.9))
    ended[-4] = ended[-4].at[:, 3:].add(50.0)  # rewards after the end
    ended[-1] = ended[-1] - 9.0
    for x, y in zip(jax.tree.leaves(function(*ended, gae_lambda=0.9)), before, strict=True):
        np.testing.assert_array_equal(x[:, :3], y[:, :3])


def test_shapes_of_returns_must_agree():
    errors = (AssertionError, jaxtyping.TypeCheckError)
    square, row = jnp.zeros((2, 3)), jnp.zeros(2)
    for wrong in ((square, square[:1], square, row), (square, square, square, row[:1])):
        with pytest.raises(errors):
            lambda_returns(*wrong, gae_lambda=1.0)
        with pytest.raises(errors):
            vtrace(square, *wrong)
    with pytest.raises(errors):
        vtrace(square[:1], square, square, square, row)


def test_an_answer_goes_on_after_a_hole():
    mask = jnp.array([[1, 1, 0, 0, 1, 1], [0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]], bool)
    want = [[0.5, 0.5, 0, 0, 0.5, 0], [0, 0.5, 0, 0, 0, 0], [0] * 6]
    np.testing.assert_allclose(answer_discounts(mask, gamma=0.5), want)
    rewards = answer_rewards(jnp.array([2.0, 3.0, 4.0]), jnp.ones((3, 6)), mask, beta=0.25)
    # -0.25 at each counted step, the score at the last one: 2 - 0.25, 3 - 0.25, 4 - 0.25
    paid = [[-0.25, -0.25, 0, 0, -0.25, 1.75], [0, -0.25, 0, 2.75, 0, 0], [0, 0, 3.75, 0, 0, 0]]
    np.testing.assert_allclose(rewards, paid)


def test_discounted_sum_golden_numbers():
    x = jnp.array([[1.0, 2.0, 4.0], [jnp.nan, 2.0, 4.0], [jnp.nan, jnp.nan, jnp.nan]])
    mask = jnp.array([[True, True, True], [False, True, True], [False, False, False]])
    # 1 + 2 / 2 + 4 / 4; 2 + 4 / 2, counted from the first True; nothing
    np.testing.assert_allclose(discounted_sum(x, mask, gamma=0.5), [3.0, 4.0, 0.0])
    np.testing.assert_allclose(discounted_sum(x, mask, gamma=0.0), [1.0, 2.0, 0.0])
    slope = jax.grad(lambda gamma: jnp.sum(discounted_sum(x, mask, gamma=gamma)))(jnp.zeros(()))
    np.testing.assert_allclose(slope, 6.0)  # the second counted entry of each row: 2 + 4
