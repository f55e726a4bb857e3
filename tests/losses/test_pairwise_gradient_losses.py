"""Pairwise policy gradients by hand, by enumeration, and beside leave-one-out, in float64."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.losses.pairwise_gradient import (
    binary_pairwise_rewards,
    p3o_v1_loss,
    p3o_v2_loss,
    pairwise_gradient_loss,
    pairwise_rewards,
)
from rlhf_jax.losses.policy_gradient import ppo_clip_loss, reinforce_loss
from rlhf_jax.ops.groups import leave_one_out_advantages, pair_measures
from rlhf_jax.ops.returns import answer_discounts, answer_rewards, gae

INF = jnp.inf
ARMS = 6
V1, V2 = partial(p3o_v1_loss, clip_eps=0.2), partial(p3o_v2_loss, clip_eps=0.2)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def value_and_grad(loss, x, *data):
    """Losses, and the gradient of their sum to the first argument."""
    return loss(x, *data), jax.grad(lambda x: jnp.sum(loss(x, *data)))(x)


def bandit(seed=0, arms=ARMS):
    """(logits, old_logits, rewards) of one prompt."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal((3, arms)))


def groups_of(seed=0, rows=5, size=4, scale=0.5):
    """(logps, old_logps, scores) [rows, size]."""
    return scale * jnp.asarray(np.random.default_rng(seed).standard_normal((3, rows, size)))


def on_bandit(loss, seen, scores):
    """The loss of three arms' logits, at the answers seen, sampled by the uniform policy."""
    old = jnp.full(3, -jnp.log(3.0))
    return lambda logits: loss(jax.nn.log_softmax(logits)[seen], old[seen], scores)


@pytest.mark.parametrize(
    ("loss", "scores", "value", "slope"),
    [
        # rho = (1.01275361, 1.23698006), g = e_y - pi, pi = (0.33758454, 0.25008915, 0.41232669).
        # V1, d = 0.75: a = 0.75 * 1.237, 0.5 (a 1.01275 g_1) and -0.75 * 1.01275 on rho_2, which is
        # above 1.2 with a negative weight and so not clipped: the values cancel, and
        # 0.5 * 0.75 * rho_1 rho_2 (g_1 - g_2) = 0.46978351 (1, 0, -1) is left.
        (V1, [1.0, 0.25], 0.0, [0.46978351, 0.0, -0.46978351]),
        # V2: log g = 0.2 - 0.4 = -0.2 lies above log 0.8: 0.46978351 * -0.2.
        (V2, [1.0, 0.25], -0.09395670, [0.46978351, 0.0, -0.46978351]),
        # Swapped: y2's weight is positive and its ratio stops at 1.2:
        # 0.5 * 0.75 * 1.01275 * (1.2 - 1.23698), and only y1's term pulls.
        (V1, [0.25, 1.0], -0.01404438, [-0.31119186, 0.11748758, 0.19370428]),
        (V2, [0.25, 1.0], 0.09395670, [-0.46978351, 0.0, 0.46978351]),
    ],
)
def test_p3o_golden_numbers(loss, scores, value, slope):
    """Losses are the surrogates negated."""
    surrogate = on_bandit(loss, jnp.array([0, 2]), jnp.array(scores))
    loss, grad = jax.value_and_grad(surrogate)(jnp.array([0.2, -0.1, 0.4]))
    np.testing.assert_allclose(-loss, value, rtol=0, atol=1e-8)
    np.testing.assert_allclose(-grad, slope, rtol=0, atol=1e-8)


def test_weight_clip_golden_numbers():
    """rho_1 rho_2 = 1.25275603 becomes 1.1: -0.5 * 0.75 * 1.1 * -0.2, slope 0.4125."""
    loss = partial(p3o_v2_loss, clip_eps=0.2, weight_clip_eps=0.1)
    surrogate = on_bandit(loss, jnp.array([0, 2]), jnp.array([1.0, 0.25]))
    loss, grad = jax.value_and_grad(surrogate)(jnp.array([0.2, -0.1, 0.4]))
    np.testing.assert_allclose(loss, 0.0825, rtol=1e-12)
    np.testing.assert_allclose(grad, [-0.4125, 0.0, 0.4125], rtol=0, atol=1e-12)


def test_pairwise_gradient_golden_numbers():
    # Pairs (1, 2), (1, 3), (2, 3): gaps 1, 3, 2 times -1 - (-2), -1 - (-4), -2 - (-4):
    # -(1 * 1 + 3 * 3 + 2 * 2) / 3 / 2. Slopes -(1 + 3) / 6, -(-1 + 2) / 6, (3 + 2) / 6.
    loss, grad = value_and_grad(
        pairwise_gradient_loss, jnp.array([-1.0, -2.0, -4.0]), jnp.array([3.0, 2.0, 0.0])
    )
    np.testing.assert_allclose(loss, -14 / 6, rtol=1e-12)
    np.testing.assert_allclose(grad, [-4 / 6, -1 / 6, 5 / 6], rtol=1e-12)


def expected_gradient(loss, sampler, logits, rewards):
    """Minus the gradient of the mean loss over every ordered pair from the sampler."""
    pairs = np.array(list(product(range(len(logits)), repeat=2)))
    old = jax.nn.log_softmax(sampler)
    probs = jnp.prod(jnp.exp(old)[pairs], axis=-1)

    def mean(logits):
        return jnp.sum(probs * loss(jax.nn.log_softmax(logits)[pairs], old[pairs], rewards[pairs]))

    return -jax.grad(mean)(logits)


def exact_gradient(logits, rewards):
    return jax.grad(lambda x: jnp.sum(jax.nn.softmax(x) * rewards))(logits)


@pytest.mark.long
@pytest.mark.parametrize(
    "loss", [lambda x, _, r: pairwise_gradient_loss(x, r), V1, V2], ids=["ppg", "v1", "v2"]
)
def test_on_policy_the_expected_gradient_is_exact(loss):
    logits, _, rewards = bandit()
    grad = expected_gradient(loss, logits, logits, rewards)
    np.testing.assert_allclose(grad, exact_gradient(logits, rewards), rtol=0, atol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("loss", [p3o_v1_loss, p3o_v2_loss])
def test_off_policy_the_unclipped_expected_gradient_is_exact(loss):
    logits, old_logits, rewards = bandit(1)
    exact = exact_gradient(logits, rewards)
    grad = expected_gradient(partial(loss, clip_eps=INF), old_logits, logits, rewards)
    np.testing.assert_allclose(grad, exact, rtol=0, atol=1e-12)
    clipped = expected_gradient(partial(loss, clip_eps=0.2), old_logits, logits, rewards)
    assert not np.allclose(clipped, exact, atol=1e-2)


@pytest.mark.long
@pytest.mark.parametrize("loss", [V1, V2])
def test_at_ratio_one_they_are_the_pairwise_gradient(loss):
    logps, _, scores = groups_of()
    _, grad = value_and_grad(loss, logps, logps, scores)
    _, plain = value_and_grad(pairwise_gradient_loss, logps, scores)
    np.testing.assert_allclose(grad, plain, rtol=1e-12, atol=1e-15)


@pytest.mark.long
def test_without_clips_v1_and_v2_have_one_gradient_and_v1_no_value():
    groups = groups_of(1)
    losses, grad = value_and_grad(partial(p3o_v1_loss, clip_eps=INF), *groups)
    _, joint = value_and_grad(partial(p3o_v2_loss, clip_eps=INF), *groups)
    np.testing.assert_allclose(grad, joint, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(losses, 0.0, atol=1e-14)


@pytest.mark.long
@pytest.mark.parametrize("size", [2, 3, 5])
def test_mean_over_pairs_is_leave_one_out_sample_by_sample(size):
    logps, _, scores = groups_of(2, size=size)
    losses, grad = value_and_grad(pairwise_gradient_loss, logps, scores)

    def leave_one_out(logps, scores):
        return jnp.mean(reinforce_loss(logps, leave_one_out_advantages(scores)), axis=-1)

    others, others_grad = value_and_grad(leave_one_out, logps, scores)
    np.testing.assert_allclose(losses, others, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(grad, others_grad, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("loss", [V1, V2, partial(p3o_v2_loss, clip_eps=0.2, weight_clip_eps=0.3)])
def test_groups_are_means_over_their_pairs(loss):
    groups = groups_of(3, size=3)
    pairs = [loss(*(x[:, [i, j]] for x in groups)) for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(loss(*groups), sum(pairs) / 3, rtol=1e-12, atol=1e-15)


@pytest.mark.long
@pytest.mark.parametrize("loss", [V1, V2, lambda x, _, r: pairwise_gradient_loss(x, r)])
@pytest.mark.parametrize("bad", [jnp.nan, -INF])
def test_an_answer_without_a_finite_score_is_in_no_pair(loss, bad):
    logps, old_logps, scores = groups_of(3, rows=2)
    spoiled = scores.at[0, 1].set(bad)
    kept = jnp.array([0, 2, 3])
    value, slope = value_and_grad(loss, logps, old_logps, spoiled)
    expected = value_and_grad(loss, *(x[0, kept] for x in (logps, old_logps, scores)))
    np.testing.assert_allclose(value, [expected[0], loss(logps, old_logps, scores)[1]], rtol=1e-12)
    np.testing.assert_allclose(slope[0, kept], expected[1], rtol=1e-12)
    assert slope[0, 1] == 0.0


@pytest.mark.parametrize("loss", [V1, V2, lambda x, _, r: pairwise_gradient_loss(x, r)])
def test_log_probs_of_an_answer_without_a_score_never_matter(loss):
    logps, old_logps, scores = groups_of(3, rows=2)
    scores = scores.at[0, 1].set(jnp.nan)
    found = value_and_grad(loss, logps, old_logps, scores)
    spoiled = (x.at[0, 1].set(jnp.nan) for x in (logps, old_logps))
    for x, y in zip(value_and_grad(loss, *spoiled, scores), found, strict=True):
        np.testing.assert_array_equal(x, y)
    nothing = jnp.full_like(scores, jnp.nan)
    for x in value_and_grad(loss, nothing, nothing, nothing):
        np.testing.assert_array_equal(x, 0.0)


def test_pair_measures_golden_numbers():
    """rho = (1.5, 1.25, 1), g = (1.2, 1.5, 1.25) for the pairs 12, 13, 23; the last answer has no
    score in the second row, which leaves the pair 12."""
    logps = jnp.log(jnp.array([[1.5, 1.25, 1.0]] * 2))
    scores = jnp.array([[3.0, 1.0, 2.0], [3.0, 1.0, jnp.nan]])
    found = pair_measures(logps, jnp.zeros((2, 3)), scores, clip_eps=0.22)
    agreement = (2 * np.log(1.2) + np.log(1.5) - np.log(1.25)) / 3
    wanted = {
        "ratios/mean": [1.25, 1.375],
        # Answers 1 and 2 are outside 1.22, as are the pairs 13 and 23.
        "ratios/separate_clip": [2 / 3, 1.0],
        "ratios/joint_clip": [2 / 3, 0.0],
        "pairs/agreement": [agreement, 2 * np.log(1.2)],
    }
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)


def all_losses(groups):
    logps, old_logps, scores = groups
    return (
        value_and_grad(pairwise_gradient_loss, logps, scores),
        value_and_grad(V1, logps, old_logps, scores),
        value_and_grad(V2, logps, old_logps, scores),
    )


@pytest.mark.long
@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 2**31 - 1), st.floats(-1e3, 1e3))
def test_a_shift_of_the_scores_changes_nothing(seed, shift):
    logps, old_logps, scores = groups_of(seed)
    shifts = shift * jnp.arange(1.0, 6.0)[:, None]  # another one for each prompt
    plain = jax.tree.leaves(all_losses((logps, old_logps, scores)))
    shifted = jax.tree.leaves(all_losses((logps, old_logps, scores + shifts)))
    for x, y in zip(plain, shifted, strict=True):
        np.testing.assert_allclose(y, x, rtol=0, atol=1e-10)


def test_a_shift_that_rounds_nothing_changes_no_bit():
    logps, old_logps, scores = groups_of(4)
    scores = jnp.round(scores * 64) / 64
    plain = jax.tree.leaves(all_losses((logps, old_logps, scores)))
    shifted = jax.tree.leaves(all_losses((logps, old_logps, scores + 5.0)))
    for x, y in zip(plain, shifted, strict=True):
        np.testing.assert_array_equal(y, x)


@pytest.mark.long
@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 2**31 - 1), st.permutations(range(4)))
def test_the_order_of_the_answers_does_not_matter(seed, order):
    """Nor for V2 while nothing is clipped; its bounds are not symmetric: see the next test."""
    logps, old_logps, scores = groups_of(seed)
    order = jnp.array(order)
    for loss, groups in (
        (pairwise_gradient_loss, (logps, scores)),
        (V1, (logps, old_logps, scores)),
        (partial(p3o_v2_loss, clip_eps=INF), (logps, old_logps, scores)),
    ):
        losses, grad = value_and_grad(loss, *groups)
        other, other_grad = value_and_grad(loss, *(x[:, order] for x in groups))
        np.testing.assert_allclose(other, losses, rtol=0, atol=1e-12)
        np.testing.assert_allclose(other_grad, grad[:, order], rtol=0, atol=1e-12)


def test_the_order_of_a_clipped_pair_matters_to_v2():
    """log g = 0.2 is above log 1.2 = 0.182, but -0.2 is not below log 0.8 = -0.223."""
    logps, old_logps, scores = jnp.array([0.2, 0.0]), jnp.zeros(2), jnp.array([1.0, 0.0])
    _, grad = value_and_grad(V2, logps, old_logps, scores)
    _, turned = value_and_grad(V2, logps[::-1], old_logps, scores[::-1])
    np.testing.assert_array_equal(grad, 0.0)
    np.testing.assert_allclose(turned, 0.5 * np.exp(0.2) * np.array([1.0, -1.0]), rtol=1e-12)


def test_answers_that_drift_together_are_clipped_by_v1_alone():
    logps, old_logps, scores = jnp.array([0.5, 0.45]), jnp.zeros(2), jnp.array([1.0, 0.0])
    _, separate = value_and_grad(V1, logps, old_logps, scores)
    _, joint = value_and_grad(V2, logps, old_logps, scores)
    assert float(separate[0]) == 0.0
    np.testing.assert_allclose(joint, 0.5 * np.exp(0.95) * np.array([-1.0, 1.0]), rtol=1e-12)


def test_equal_scores_pull_nowhere():
    logps, old_logps, _ = groups_of(5)
    for losses, grad in all_losses((logps, old_logps, jnp.full_like(logps, 0.7))):
        np.testing.assert_array_equal(losses, 0.0)
        np.testing.assert_array_equal(grad, 0.0)


@pytest.mark.parametrize("loss", [V1, V2, lambda x, _, r: pairwise_gradient_loss(x, r)])
def test_one_answer_is_an_error(loss):
    with pytest.raises(ValueError, match="at least 2 answers"):
        loss(*jnp.zeros((3, 2, 1)))


@pytest.mark.long
@pytest.mark.parametrize("clip_eps", [1e-6, 0.2, 1.0, 1e3, INF])
def test_answers_that_run_away_stay_finite_in_float32(clip_eps):
    """Every combination of -1e4, 0 and 1e4 for two answers, apart from each other."""
    corners = np.array(list(product([-1e4, 0.0, 1e4], repeat=6)), np.float32)
    groups = tuple(jnp.asarray(corners[:, i : i + 2]) for i in (0, 2, 4))
    for loss in (
        partial(p3o_v1_loss, clip_eps=clip_eps),
        partial(p3o_v2_loss, clip_eps=clip_eps),
        partial(p3o_v2_loss, clip_eps=clip_eps, weight_clip_eps=clip_eps),
    ):
        losses, grad = value_and_grad(loss, *groups)
        assert losses.dtype == jnp.float32
        assert bool(jnp.all(jnp.isfinite(losses)))
        assert bool(jnp.all(jnp.isfinite(grad)))


def test_pairwise_reward_golden_numbers():
    # Both orders of a judge: (1.3 - -0.2) / 2 = 0.75, sigmoid 0.6791787.
    rewards = pairwise_rewards(jnp.array([0.75, -0.75, 0.0, 1e4, -1e4]))
    np.testing.assert_allclose(rewards, [0.1791787, -0.1791787, 0.0, 0.5, -0.5], atol=1e-8)
    assert float(rewards[0]) == -float(rewards[1])


def test_a_verdict_alone_is_the_limit_of_large_margins():
    margins = jnp.array([1e-3, -2.0, 0.0])
    np.testing.assert_array_equal(binary_pairwise_rewards(margins), [0.5, -0.5, 0.0])
    np.testing.assert_array_equal(pairwise_rewards(1e6 * margins), [0.5, -0.5, 0.0])
    grad = jax.grad(lambda x: jnp.sum(binary_pairwise_rewards(x)))(margins)
    np.testing.assert_array_equal(grad, 0.0)


def test_a_constant_for_each_prompt_leaves_the_margins_to_the_last_bit():
    """r -> r + delta(x) in binary fractions: s = r(y) - r(a) is the same number."""
    rewards, anchor, delta = jnp.array([0.25, -1.5, 3.0]), jnp.float32(0.75), jnp.float32(512.0)
    margins = (rewards + delta) - (anchor + delta)
    np.testing.assert_array_equal(margins, rewards - anchor)
    np.testing.assert_array_equal(pairwise_rewards(margins), pairwise_rewards(rewards - anchor))


def test_pairwise_rewards_are_data_and_a_quarter_of_small_margins():
    margins = jnp.array([-1e-4, 1e-4, 3.0])
    grad = jax.grad(lambda x: jnp.sum(pairwise_rewards(x)))(margins)
    np.testing.assert_array_equal(grad, 0.0)
    np.testing.assert_allclose(pairwise_rewards(margins)[:2], margins[:2] / 4, rtol=1e-8)


def test_rewards_of_each_other_are_self_play():
    """R_1 = -R_2 against each other: the gap of the scores is 2 P(y1 > y2) - 1."""
    logps = jnp.array([-1.0, -3.0])
    win = pairwise_rewards(jnp.array([0.8]))
    _, grad = value_and_grad(pairwise_gradient_loss, logps, jnp.concatenate([win, -win]))
    slope = 0.5 * (2.0 / (1.0 + np.exp(-0.8)) - 1.0)
    np.testing.assert_allclose(grad, [-slope, slope], rtol=1e-12)


def test_margins_over_one_opponent_are_scores_up_to_a_shift():
    """The unbounded reward s = r(y) - r(a): leave-one-out advantages do not see r(a)."""
    _, _, scores = groups_of(6)
    opponent = jnp.arange(5.0)[:, None]
    np.testing.assert_allclose(
        leave_one_out_advantages(scores - opponent),
        leave_one_out_advantages(scores),
        rtol=0,
        atol=1e-14,
    )


@pytest.mark.long
def test_pairwise_ppo_moves_towards_the_best_response():
    """Terminal reward P - 1/2 minus the KL per token, GAE at lambda = 1, clipped PPO: the mean
    gradient over all answers is that of E R - beta KL, and it is 0 at pi_ref exp(P / beta) / Z."""
    logits, ref_logits, margins = bandit(7, arms=4)
    beta, mask = 0.3, jnp.ones((4, 1), bool)
    rewards, ref = pairwise_rewards(margins), jax.nn.log_softmax(ref_logits)

    def expected(logits):
        old = jax.nn.log_softmax(logits)
        steps = answer_rewards(rewards, (old - ref)[:, None], mask, beta=beta)
        values = jnp.full((4, 1), 0.1)
        advantages = gae(steps, values, answer_discounts(mask), jnp.zeros(4), gae_lambda=1.0)

        def mean(x):
            losses = ppo_clip_loss(
                jax.nn.log_softmax(x)[:, None], old[:, None], advantages, clip_eps=0.2
            )
            return jnp.sum(jnp.exp(old) * losses[:, 0])

        return -jax.grad(mean)(logits)

    def objective(logits):
        logps = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(logps) * (rewards - beta * (logps - ref)))

    np.testing.assert_allclose(expected(logits), jax.grad(objective)(logits), rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        expected(ref + jax.nn.sigmoid(margins) / beta), 0.0, rtol=0, atol=1e-12
    )
