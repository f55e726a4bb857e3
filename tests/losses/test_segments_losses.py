"""Contrastive preference learning by hand, as DPO, and at the exact optimum."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.losses.preference import (
    cpl_kl_loss,
    cpl_loss,
    dpo_loss,
    ranked_cpl_loss,
    segment_advantages,
    soft_cpl_loss,
)
from rlhf_jax.losses.reward import regret_preference_loss, soft_bradley_terry_loss
from rlhf_jax.ops.logprobs import sequence_logps

quick = settings(derandomize=True, deadline=None, max_examples=25)
real = st.floats(-5, 5, width=32)


def reals(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_advantages_by_hand():
    token_logps = jnp.array([[-1.0, -2.0, -4.0], [jnp.nan, -2.0, -4.0]])
    mask = jnp.array([[True, True, True], [False, True, True]])
    # 0.1 (-1 - 1 - 1); 0.1 (-2 - 2)
    expected = [-0.3, -0.4]
    np.testing.assert_allclose(
        segment_advantages(token_logps, mask, alpha=0.1, gamma=0.5), expected, rtol=1e-6
    )
    np.testing.assert_allclose(
        segment_advantages(token_logps, mask, alpha=0.1),
        0.1 * sequence_logps(token_logps, mask),
        rtol=1e-6,
    )


def test_losses_by_hand():
    first, second = jnp.float32(1.0), jnp.float32(-2.0)
    # U_w - 0.5 U_l = 2: log(1 + e^-2)
    np.testing.assert_allclose(cpl_loss(first, second, bias=0.5), 0.1269280, rtol=1e-6)
    # 0.3 * 0.1269280 + 0.7 log(1 + e^2.5) = 0.0380784 + 0.7 * 2.5788897
    np.testing.assert_allclose(
        soft_cpl_loss(first, second, jnp.float32(0.3), bias=0.5), 1.8433012, rtol=1e-6
    )


def test_gradient_by_hand():
    """-sigmoid(bias U_l - U_w) on the chosen side, times -bias on the rejected one."""
    grads = jax.grad(cpl_loss, argnums=(0, 1))(jnp.float32(1.0), jnp.float32(-2.0), bias=0.5)
    # sigmoid(-2) = 0.1192029
    np.testing.assert_allclose(grads, [-0.1192029, 0.5 * 0.1192029], rtol=1e-6)


@pytest.mark.long
def test_one_step_with_log_ratios_is_dpo():
    """k = 1: the segment is the answer, its only step the whole of it. Value and gradient."""
    pair = [reals(seed, 6) for seed in range(4)]
    alpha, mask = 0.1, jnp.ones((6, 1), bool)

    def cpl(chosen, rejected, ref_chosen, ref_rejected):
        advantages = [
            segment_advantages((logps - ref)[:, None], mask, alpha=alpha, gamma=0.9)
            for logps, ref in ((chosen, ref_chosen), (rejected, ref_rejected))
        ]
        return cpl_loss(*advantages)

    np.testing.assert_allclose(cpl(*pair), dpo_loss(*pair, beta=alpha), rtol=1e-6)
    ours, theirs = (
        jax.grad(lambda *x, loss=loss: loss(*x).sum(), argnums=(0, 1))(*pair)
        for loss in (cpl, lambda *x: dpo_loss(*x, beta=alpha))
    )
    np.testing.assert_allclose(jnp.stack(ours), jnp.stack(theirs), atol=1e-7)


def test_cpl_kl_by_hand():
    # u_w = -1 + 2 = 1, u_l = -3 + 1 = -2: 0.5 (1 - 0.5 (-2)) = 1, log(1 + e^-1)
    pair = [jnp.float32(x) for x in (-1.0, -3.0, -2.0, -1.0)]
    np.testing.assert_allclose(cpl_kl_loss(*pair, beta=0.5, bias=0.5), 0.3132617, rtol=1e-6)
    # -sigmoid(-1) = -0.2689414 to the chosen U, times beta, and times -bias to the rejected one.
    grads = jax.grad(cpl_kl_loss, argnums=(0, 1, 2, 3))(*pair, beta=0.5, bias=0.5)
    np.testing.assert_allclose(grads, [-0.1344707, 0.0672354, 0.0, 0.0], rtol=1e-5)


@pytest.mark.long
def test_cpl_kl_is_dpo_without_bias_and_cpl_of_log_ratios():
    chosen, rejected, ref_chosen, ref_rejected = pair = [reals(seed, 6) for seed in range(4)]
    np.testing.assert_allclose(cpl_kl_loss(*pair, beta=0.3), dpo_loss(*pair, beta=0.3), rtol=1e-6)
    ratios = 0.3 * (chosen - ref_chosen), 0.3 * (rejected - ref_rejected)
    np.testing.assert_allclose(
        cpl_kl_loss(*pair, beta=0.3, bias=0.5), cpl_loss(*ratios, bias=0.5), rtol=1e-6
    )


@pytest.mark.long
def test_whole_trajectories_with_log_ratios_are_dpo_of_their_sums():
    chosen, rejected, ref_chosen, ref_rejected = (reals(seed, 5, 3) for seed in range(4))
    mask = jnp.array([[True, True, True], [True, True, False]])[jnp.array([0, 1, 1, 0, 1])]
    other = mask[::-1]
    cpl = cpl_loss(
        segment_advantages(chosen - ref_chosen, mask, alpha=0.2),
        segment_advantages(rejected - ref_rejected, other, alpha=0.2),
    )
    dpo = dpo_loss(
        sequence_logps(chosen, mask),
        sequence_logps(rejected, other),
        sequence_logps(ref_chosen, mask),
        sequence_logps(ref_rejected, other),
        beta=0.2,
    )
    np.testing.assert_allclose(cpl, dpo, rtol=1e-5)


@pytest.mark.long
def test_a_uniform_reference_drops_out_of_segments_of_equal_weight():
    """With bias 1; with bias 0.5, or unequal lengths, it does not."""
    chosen, rejected = reals(0, 4, 3) - 1.0, reals(1, 4, 3) - 1.0
    uniform, full = -jnp.log(4.0), jnp.ones((4, 3), bool)
    short = full.at[:, 2].set(False)

    def losses(reference, rejected_mask, bias):
        advantages = [
            segment_advantages(x - reference, m, alpha=0.5, gamma=0.9)
            for x, m in ((chosen, full), (rejected, rejected_mask))
        ]
        return cpl_loss(*advantages, bias=bias)

    np.testing.assert_allclose(losses(uniform, full, 1.0), losses(0.0, full, 1.0), rtol=1e-5)
    assert bool(jnp.all(jnp.abs(losses(uniform, full, 0.5) - losses(0.0, full, 0.5)) > 1e-3))
    assert bool(jnp.all(jnp.abs(losses(uniform, short, 1.0) - losses(0.0, short, 1.0)) > 1e-3))


def test_at_the_reference_the_slopes_are_halves():
    grads = jax.grad(cpl_loss, argnums=(0, 1))(jnp.zeros(()), jnp.zeros(()))
    np.testing.assert_allclose(grads, [-0.5, 0.5])


def test_without_bias_it_is_the_regret_model_and_bradley_terry():
    first, second, prefs = reals(0, 6), reals(1, 6), jax.nn.sigmoid(reals(2, 6))
    np.testing.assert_allclose(
        cpl_loss(first, second), regret_preference_loss(-first, -second), rtol=1e-6
    )
    np.testing.assert_allclose(
        soft_cpl_loss(first, second, prefs),
        soft_bradley_terry_loss(first, second, prefs),
        rtol=1e-6,
    )


@given(real, real, st.floats(0.125, 1.0, width=32))
@quick
def test_soft_labels_are_symmetric_and_hard_ones_are_cpl(first, second, bias):
    first, second, prob = (jnp.float32(x) for x in (first, second, 0.3))
    soft = soft_cpl_loss(first, second, prob, bias=bias)
    np.testing.assert_allclose(soft_cpl_loss(second, first, 1.0 - prob, bias=bias), soft, rtol=1e-5)
    hard = soft_cpl_loss(first, second, jnp.float32(1.0), bias=bias)
    np.testing.assert_allclose(hard, cpl_loss(first, second, bias=bias), rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("gap", [1.0, 0.0, -1.0])
def test_two_scored_segments_are_one_comparison(gap):
    """The higher score is preferred; equal ones count as p = 1/2."""
    advantages = reals(3, 5, 2)
    scores = jnp.broadcast_to(jnp.array([gap, 0.0]), (5, 2))
    ranked = ranked_cpl_loss(advantages, scores, jnp.ones((5, 2), bool), bias=0.5)
    prefs = jnp.full(5, 0.5 + 0.5 * gap)
    pairs = soft_cpl_loss(advantages[:, 0], advantages[:, 1], prefs, bias=0.5)
    np.testing.assert_allclose(ranked, pairs, rtol=1e-6)


@pytest.mark.long
def test_scored_segments_are_the_mean_over_their_pairs():
    advantages, scores = reals(4, 4), jnp.array([0.3, 2.0, 0.3, jnp.nan])
    mask = jnp.array([True, True, True, False])
    # pairs (0, 1): second preferred; (0, 2): tie; (1, 2): first preferred
    a, b, c = advantages[:3]
    pairs = [
        soft_cpl_loss(x, y, jnp.float32(p), bias=0.5)
        for x, y, p in ((a, b, 0.0), (a, c, 0.5), (b, c, 1.0))
    ]
    ranked = ranked_cpl_loss(advantages, scores, mask, bias=0.5)
    np.testing.assert_allclose(ranked, sum(pairs) / 3, rtol=1e-6)
    order = jnp.array([3, 1, 0, 2])
    np.testing.assert_allclose(
        ranked_cpl_loss(advantages[order], scores[order], mask[order], bias=0.5), ranked, rtol=1e-6
    )


@pytest.mark.long
def test_one_scored_segment_is_nothing():
    for size in (1, 3):
        mask = jnp.zeros((2, size), bool).at[:, 0].set(True)
        loss = ranked_cpl_loss(jnp.full((2, size), 1e4), jnp.ones((2, size)), mask)
        np.testing.assert_array_equal(loss, 0.0)


def soft_values(rewards, following, gamma, alpha):
    """Soft-optimal advantages A* of a deterministic decision process: [S, A]."""
    values = np.zeros(len(rewards))
    for _ in range(300):
        action_values = rewards + gamma * values[following]
        values = alpha * np.log(np.sum(np.exp(action_values / alpha), axis=1))
    return action_values - values[:, None]


@pytest.mark.long
@pytest.mark.parametrize(("bias", "least"), [(1.0, True), (0.5, False)])
def test_all_comparisons_of_segments_have_no_slope_at_the_soft_optimum(bias, least):
    """Two states, two actions, every pair of two-step segments, preferences by A*.

    With bias 1 the policy exp(A* / alpha) is stationary; bias 0.5 moves the optimum elsewhere.
    """
    alpha, gamma = 0.5, 0.8
    following = np.array([[0, 1], [1, 0]])
    advantages = soft_values(np.array([[0.1, -0.3], [0.8, 0.2]]), following, gamma, alpha)
    optimum = jnp.asarray(advantages / alpha, jnp.float32)
    np.testing.assert_allclose(jnp.sum(jnp.exp(optimum), axis=1), 1.0, rtol=1e-5)
    states, actions = [], []
    for start, a, b in product(range(2), repeat=3):
        states.append([start, following[start, a]])
        actions.append([a, b])
    states, actions = jnp.array(states), jnp.array(actions)
    mask = jnp.ones((8, 2), bool)
    utilities = segment_advantages(optimum[states, actions], mask, alpha=alpha, gamma=gamma)
    pairs = [jnp.broadcast_to(x, (8, 8)) for x in (utilities[:, None], utilities[None, :])]
    prefs = jax.nn.sigmoid(pairs[0] - pairs[1])

    def population(logits):
        logps = jax.nn.log_softmax(logits)
        u = segment_advantages(logps[states, actions], mask, alpha=alpha, gamma=gamma)
        first, second = (jnp.broadcast_to(x, (8, 8)) for x in (u[:, None], u[None, :]))
        return jnp.sum(soft_cpl_loss(first, second, prefs, bias=bias))

    slope = float(jnp.max(jnp.abs(jax.grad(population)(optimum))))
    assert slope < 1e-5 if least else slope > 1e-2


@pytest.mark.long
def test_segments_scored_minus_infinity_tie():
    advantages, mask = jnp.array([0.3, -0.2, 1.0]), jnp.ones(3, bool)
    lost, low = jnp.array([-jnp.inf, -jnp.inf, 0.0]), jnp.array([-1.0, -1.0, 0.0])
    losses = [ranked_cpl_loss(advantages, scores, mask) for scores in (lost, low)]
    assert losses[0] == losses[1]
