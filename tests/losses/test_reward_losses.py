"""Reward models of comparisons, ties and rankings by hand, in their limits, by enumeration."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.feedback.teachers import bt_loglik, pl_loglik
from rlhf_jax.losses.preference import dpo_loss, soft_cpl_loss
from rlhf_jax.losses.reward import (
    bradley_terry_loss,
    centring_penalty,
    davidson_loss,
    margin_bradley_terry_loss,
    plackett_luce_loss,
    rao_kupper_loss,
    signed_bradley_terry_loss,
    smoothed_bradley_terry_loss,
    soft_bradley_terry_loss,
    soft_margin_bradley_terry_loss,
)
from rlhf_jax.ops.groups import group_normalised_advantages
from rlhf_jax.ops.returns import answer_rewards

f32 = np.float32
quick = settings(derandomize=True, deadline=None, max_examples=25)
score = st.floats(-8, 8, width=32)
triple = st.lists(score, min_size=3, max_size=3).map(lambda xs: jnp.array(xs, f32))
OUTCOMES = jnp.array([1, 0, -1])
ZERO = jnp.zeros(())


def test_golden_numbers():
    chosen = jnp.array([1.0, 3.0, -1.0])
    rejected = jnp.array([0.0, 3.0, 1.0])
    # log(1 + e^-1) = log 1.3678794, log 2, log(1 + e^2) = log 8.3890561
    expected = [0.3132617, 0.6931472, 2.1269280]
    np.testing.assert_allclose(bradley_terry_loss(chosen, rejected), expected, rtol=1e-6)


def test_a_signed_tie_costs_log_2_and_has_no_gradient():
    first, second = jnp.array([1.0, 1.0, 1.0, 1.0]), jnp.array([0.0, 0.0, 0.0, 0.0])
    outcomes = jnp.array([1, -1, 0, 2])
    # log(1 + e^-1), log(1 + e), log 2, and an outcome that is none
    expected = [0.3132617, 1.3132617, 0.6931472, np.nan]
    np.testing.assert_allclose(signed_bradley_terry_loss(first, second, outcomes), expected, 1e-6)

    def total(first, loss, labels):
        return jnp.sum(loss(first, second[:3], labels))

    signed = jax.grad(total)(first[:3], signed_bradley_terry_loss, outcomes[:3])
    soft = jax.grad(total)(first[:3], soft_bradley_terry_loss, jnp.array([1.0, 0.0, 0.5]))
    # sigmoid(1) = 0.7310586; the soft tie pulls by sigmoid(1) - 1/2.
    np.testing.assert_allclose(signed, [-0.2689414, 0.7310586, 0.0], atol=1e-6)
    np.testing.assert_allclose(soft, [-0.2689414, 0.7310586, 0.2310586], atol=1e-6)


def test_golden_gradient():
    grads = jax.grad(bradley_terry_loss, argnums=(0, 1))(jnp.float32(1.0), jnp.float32(0.0))
    # minus the probability of being wrong: -1 / (1 + e) = -0.2689414
    np.testing.assert_allclose(grads, [-0.2689414, 0.2689414], rtol=1e-6)


def test_only_differences_count():
    chosen, rejected = jnp.array([0.5, -2.0]), jnp.array([1.5, -3.0])
    np.testing.assert_allclose(
        bradley_terry_loss(chosen + 7.0, rejected + 7.0), bradley_terry_loss(chosen, rejected)
    )


def test_far_apart_it_is_linear_or_zero():
    far = bradley_terry_loss(jnp.array([1e4, 0.0]), jnp.array([0.0, 1e4]))
    np.testing.assert_array_equal(far, [0.0, 1e4])


def test_mean_over_labels_is_least_at_the_true_difference():
    """E_{y ~ P} L is the cross-entropy of P, whose slope vanishes where sigmoid(gap) = P."""
    prob, gap = 0.8, jnp.log(f32(4.0))  # sigmoid(log 4) = 4 / 5

    def population(gap):
        return prob * bradley_terry_loss(gap, ZERO) + (1 - prob) * bradley_terry_loss(ZERO, gap)

    loss, slope = jax.value_and_grad(population)(gap)
    # entropy of (0.8, 0.2): -0.8 log 0.8 - 0.2 log 0.2 = 0.1785148 + 0.3218876
    np.testing.assert_allclose(loss, 0.5004024, rtol=1e-6)
    np.testing.assert_allclose(slope, 0.0, atol=1e-7)


def test_it_is_the_teachers_likelihood():
    values = jnp.array([[0.3, -1.2], [2.0, 2.5]])
    loss = bradley_terry_loss(values[:, 1], values[:, 0])
    np.testing.assert_allclose(loss, -bt_loglik(jnp.array([1, 1]), values, beta=1.0), rtol=1e-6)


@pytest.mark.long
def test_all_comparisons_of_three_answers_are_fitted_by_their_true_scores_alone():
    """The population loss has slope 0 at the true scores and curves up, but for the constant."""
    truth = jnp.array([0.7, -0.4, 1.1])
    prefs = jax.nn.sigmoid(truth[:, None] - truth[None, :])

    def population(scores):
        first, second = (jnp.broadcast_to(s, (3, 3)) for s in (scores[:, None], scores[None, :]))
        return jnp.sum(prefs * bradley_terry_loss(first, second) * (1 - jnp.eye(3)))

    np.testing.assert_allclose(jax.grad(population)(truth), 0.0, atol=1e-6)
    curvature = np.linalg.eigvalsh(jax.hessian(population)(truth))
    np.testing.assert_allclose(curvature[0], 0.0, atol=1e-6)  # the direction (1, 1, 1)
    assert curvature[1] > 0.3


def test_margin_smoothing_and_soft_labels_by_hand():
    one, half = jnp.float32(1.0), jnp.float32(0.5)
    # z - m = 1 - 0.5: log(1 + e^-0.5)
    np.testing.assert_allclose(margin_bradley_terry_loss(one, ZERO, half), 0.4740770, rtol=1e-6)
    # 0.9 * 0.3132617 + 0.1 * 1.3132617
    smoothed = smoothed_bradley_terry_loss(one, ZERO, label_smoothing=0.1)
    np.testing.assert_allclose(smoothed, 0.4132617, rtol=1e-6)
    # z = -1, p = 0.3: 0.3 * 1.3132617 + 0.7 * 0.3132617
    soft = soft_bradley_terry_loss(ZERO, one, jnp.float32(0.3))
    np.testing.assert_allclose(soft, 0.6132617, rtol=1e-6)


def test_soft_labels_and_margins_far_apart():
    """z = s_w - s_l - m of +-1e4: (1 - q) |z| above, q |z| below, with slopes sigmoid(z) - q."""
    prefs, zeros = jnp.array([0.0, 0.25, 1.0]), jnp.zeros(3)
    for sign, losses in ((1.0, 1e4 * (1 - prefs)), (-1.0, 1e4 * prefs)):
        far = jnp.full(3, sign * 1e4)
        slopes = float(sign > 0) - prefs
        for scores, loss in (
            (far, lambda s: soft_bradley_terry_loss(s, zeros, prefs)),
            (far, lambda s: soft_margin_bradley_terry_loss(s, zeros, prefs, zeros)),
            (zeros, lambda s, far=far: soft_margin_bradley_terry_loss(s, zeros, prefs, -far)),
        ):
            np.testing.assert_allclose(loss(scores), losses, rtol=1e-6)
            found = jax.grad(lambda s, loss=loss: loss(s).sum())(scores)
            np.testing.assert_allclose(found, slopes, atol=1e-7)


@pytest.mark.long
def test_each_variant_has_bradley_terry_as_its_limit():
    chosen, rejected = jnp.array([0.5, -2.0]), jnp.array([1.5, -3.0])
    plain = bradley_terry_loss(chosen, rejected)
    margin = margin_bradley_terry_loss(chosen, rejected, jnp.zeros(2))
    smoothed = smoothed_bradley_terry_loss(chosen, rejected, label_smoothing=0.0)
    for loss in (
        margin,
        smoothed,
        soft_bradley_terry_loss(chosen, rejected, jnp.ones(2)),
        soft_bradley_terry_loss(rejected, chosen, jnp.zeros(2)),
        rao_kupper_loss(chosen, rejected, jnp.array([1, 1]), theta=1.0),
        rao_kupper_loss(rejected, chosen, jnp.array([-1, -1]), theta=1.0),
        davidson_loss(chosen, rejected, jnp.array([1, 1]), nu=0.0),
        davidson_loss(rejected, chosen, jnp.array([-1, -1]), nu=0.0),
        plackett_luce_loss(jnp.stack([chosen, rejected], axis=-1), jnp.ones((2, 2), bool)),
    ):
        np.testing.assert_allclose(loss, plain, rtol=1e-6)
    np.testing.assert_allclose(
        smoothed_bradley_terry_loss(chosen, rejected, label_smoothing=0.2),
        soft_bradley_terry_loss(chosen, rejected, jnp.full(2, 0.8)),
        rtol=1e-6,
    )


@pytest.mark.parametrize("prob", [0.5, 0.2, 0.9])
def test_soft_labels_are_met_at_their_log_odds_with_slope_sigmoid_minus_p(prob):
    slope = jax.grad(soft_bradley_terry_loss)
    gap = jnp.log(f32(prob / (1 - prob)))
    np.testing.assert_allclose(slope(gap, ZERO, jnp.float32(prob)), 0.0, atol=1e-7)
    # at z = 2: sigmoid(2) = 0.8807971
    np.testing.assert_allclose(
        slope(jnp.float32(2.0), ZERO, jnp.float32(prob)), 0.8807971 - prob, rtol=1e-6
    )


def test_centring_moves_the_constant_and_not_the_gap():
    """p = 0.8: the least total has s_1 = -s_2 = log(4) / 2."""

    def total(scores):
        return soft_bradley_terry_loss(*scores, jnp.float32(0.8)) + 0.3 * centring_penalty(*scores)

    half = 0.5 * jnp.log(f32(4.0))
    np.testing.assert_allclose(jax.grad(total)(jnp.stack([half, -half])), 0.0, atol=1e-7)
    shifted = jax.grad(total)(jnp.stack([half + 1.0, -half + 1.0]))
    # 0.3 * 2 * (s_1 + s_2) = 0.3 * 4 on both
    np.testing.assert_allclose(shifted, [1.2, 1.2], rtol=1e-6)


def test_a_label_that_is_no_share_and_no_outcome_has_no_loss():
    scores, zeros = jnp.ones(4), jnp.zeros(4)
    soft = soft_bradley_terry_loss(scores, zeros, jnp.array([-1.0, 2.0, jnp.nan, 1.0]))
    assert jnp.isnan(soft).tolist() == [True, True, True, False]
    cpl = soft_cpl_loss(scores, zeros, jnp.array([-1.0, 2.0, jnp.nan, 1.0]))
    assert jnp.isnan(cpl).tolist() == [True, True, True, False]
    outcomes = jnp.array([2, -2, 0, -1])
    for losses in (
        rao_kupper_loss(scores, zeros, outcomes, theta=2.0),
        davidson_loss(scores, zeros, outcomes, nu=1.0),
    ):
        assert jnp.isnan(losses).tolist() == [True, True, False, False]


def test_ties_by_hand():
    first, second = jnp.full(3, jnp.log(2.0)), jnp.zeros(3)
    # theta = 2: 2 / (2 + 2), the rest, 1 / (1 + 4): 0.5, 0.3, 0.2
    np.testing.assert_allclose(
        jnp.exp(-rao_kupper_loss(first, second, OUTCOMES, theta=2.0)), [0.5, 0.3, 0.2], rtol=1e-6
    )
    # scores (log 4, 0), nu = 1: 4 : sqrt(4) : 1 of 7
    np.testing.assert_allclose(
        jnp.exp(-davidson_loss(2.0 * first, second, OUTCOMES, nu=1.0)),
        [4 / 7, 2 / 7, 1 / 7],
        rtol=1e-6,
    )


@given(score, score, st.floats(1.0, 5.0, width=32), st.floats(0.0, 5.0, width=32))
@quick
def test_the_three_outcomes_sum_to_one_and_are_symmetric(first, second, theta, nu):
    first, second = jnp.full(3, first, f32), jnp.full(3, second, f32)
    for loss in (
        lambda *x: rao_kupper_loss(*x, theta=theta),
        lambda *x: davidson_loss(*x, nu=nu),
    ):
        losses = loss(first, second, OUTCOMES)
        np.testing.assert_allclose(jnp.sum(jnp.exp(-losses)), 1.0, atol=1e-5)
        np.testing.assert_allclose(loss(second, first, -OUTCOMES), losses, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            loss(first + 2.0, second + 2.0, OUTCOMES), losses, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("loss", "none"),
    [
        (lambda *x: rao_kupper_loss(*x[:3], theta=x[3]), 1.0),
        (lambda *x: davidson_loss(*x[:3], nu=x[3]), 0.0),
    ],
)
def test_the_tie_parameter_can_be_trained_from_its_limit(loss, none):
    """Where ties are impossible a tie costs 87 nats, a win teaches with a finite slope."""
    args = (jnp.float32(0.4), jnp.float32(-0.2))
    slope = jax.grad(loss, argnums=3)
    assert 0 < slope(*args, jnp.int32(1), jnp.float32(none)) < 1  # a win says: fewer ties
    tie = loss(*args, jnp.int32(0), jnp.float32(none))
    np.testing.assert_allclose(tie, 87.34, atol=2.0)
    assert jnp.isfinite(slope(*args, jnp.int32(0), jnp.float32(none)))


def test_a_readiness_for_ties_whose_square_overflows_makes_ties_certain():
    zero = jnp.zeros(())
    loss, slope = jax.value_and_grad(
        lambda theta: rao_kupper_loss(zero, zero, jnp.asarray(0), theta=theta)
    )(jnp.float32(1e25))
    np.testing.assert_allclose([loss, slope], 0.0, atol=1e-4)


def test_scores_from_log_ratios_make_dpo_with_ties():
    """Without ties it is DPO; a tie pulls the two log-ratios together, a win apart."""
    pair = [jnp.float32(x) for x in (-1.0, -3.0, -2.0, -2.5)]

    def with_ties(chosen, rejected, ref_chosen, ref_rejected, outcome, **ties):
        scores = 0.5 * (chosen - ref_chosen), 0.5 * (rejected - ref_rejected)
        loss = rao_kupper_loss if "theta" in ties else davidson_loss
        return loss(*scores, jnp.int32(outcome), **ties)

    for none, some in (({"theta": 1.0}, {"theta": 2.0}), ({"nu": 0.0}, {"nu": 1.0})):
        np.testing.assert_allclose(
            with_ties(*pair, 1, **none), dpo_loss(*pair, beta=0.5), rtol=1e-6
        )
        tie = jax.grad(lambda *x, some=some: with_ties(*x, 0, **some), argnums=(0, 1))(*pair)
        win = jax.grad(lambda *x, some=some: with_ties(*x, 1, **some), argnums=(0, 1))(*pair)
        assert tie[1] < 0 < tie[0]  # the first is ahead: a descent brings it back
        assert win[0] < 0 < win[1]


def test_davidson_between_equals():
    # nu / (2 + nu) = 0.5 / 2.5
    tie = davidson_loss(ZERO, ZERO, jnp.int32(0), nu=0.5)
    np.testing.assert_allclose(jnp.exp(-tie), 0.2, rtol=1e-6)


def test_plackett_luce_by_hand():
    scores = jnp.log(jnp.array([[4.0, 2.0, 1.0], [4.0, 2.0, 1.0], [4.0, 2.0, 1.0]]))
    mask = jnp.array([[True, True, True], [True, True, False], [False, True, True]])
    # 4 / 7 * 2 / 3; 4 / 6; 2 / 3
    expected = -np.log([8 / 21, 2 / 3, 2 / 3])
    np.testing.assert_allclose(plackett_luce_loss(scores, mask), expected, rtol=1e-6)


@pytest.mark.long
def test_plackett_luce_of_one_or_no_candidate_is_nothing():
    scores = jnp.array([[1e4, 2.0], [jnp.nan, jnp.nan]])
    mask = jnp.array([[True, False], [False, False]])
    loss, grad = jax.value_and_grad(lambda x: jnp.sum(plackett_luce_loss(x, mask)))(scores)
    np.testing.assert_array_equal(loss, 0.0)
    np.testing.assert_array_equal(grad, 0.0)
    np.testing.assert_array_equal(plackett_luce_loss(jnp.ones((3, 1)), jnp.ones((3, 1), bool)), 0)


def test_plackett_luce_is_a_law_of_rankings_and_the_teachers_own():
    scores = jnp.array([0.3, -1.0, 2.0, 0.5])
    orders = jnp.array(list(permutations(range(4))))
    losses = plackett_luce_loss(scores[orders], jnp.ones((24, 4), bool))
    np.testing.assert_allclose(jnp.sum(jnp.exp(-losses)), 1.0, rtol=1e-5)
    teacher = pl_loglik(orders, jnp.broadcast_to(scores, (24, 4)), beta=1.0)
    np.testing.assert_allclose(losses, -teacher, rtol=1e-5)


@pytest.mark.long
def test_plackett_luce_over_all_rankings_is_least_at_the_true_scores():
    truth = jnp.array([0.3, -1.0, 2.0, 0.5])
    orders = jnp.array(list(permutations(range(4))))
    mask = jnp.ones((24, 4), bool)
    probs = jnp.exp(-plackett_luce_loss(truth[orders], mask))

    def population(scores):
        return jnp.sum(probs * plackett_luce_loss(scores[orders], mask))

    np.testing.assert_allclose(jax.grad(population)(truth), 0.0, atol=1e-6)
    assert np.linalg.eigvalsh(jax.hessian(population)(truth))[1] > 0.1


def test_plackett_luce_far_apart():
    scores = jnp.array([[1e4, 0.0, -1e4], [-1e4, 0.0, 1e4]])
    loss = plackett_luce_loss(scores, jnp.ones((2, 3), bool))
    np.testing.assert_allclose(loss, [0.0, 3e4])  # (1e4 + 1e4) + (1e4 - 0)


@given(triple, score)
@quick
def test_a_constant_of_the_prompt_changes_no_comparison(scores, constant):
    moved, mask = scores + constant, jnp.ones(3, bool)
    for loss in (
        lambda s: plackett_luce_loss(s, mask),
        lambda s: bradley_terry_loss(s[0], s[1]),
    ):
        np.testing.assert_allclose(loss(moved), loss(scores), rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_what_a_constant_of_the_prompt_does_to_a_policy():
    """Group advantages and best-of-n don't see it; the raw rewards of PPO do."""
    scores = jnp.array([[0.3, -1.0, 2.0]])
    moved, mask = scores + 5.0, jnp.ones((1, 3, 2), bool)
    np.testing.assert_allclose(
        group_normalised_advantages(moved), group_normalised_advantages(scores), rtol=1e-5
    )
    assert jnp.argmax(moved) == jnp.argmax(scores)
    rewards = [answer_rewards(s, jnp.zeros((1, 3, 2)), mask, beta=0.1) for s in (scores, moved)]
    np.testing.assert_allclose((rewards[1] - rewards[0]).sum(-1), 5.0, rtol=1e-6)


@given(triple, triple)
@quick
def test_swapping_answers_turns_the_margin_around(first, second):
    """-log P(1 over 2) and -log P(2 over 1) differ by the gap, and their probabilities sum to 1."""
    there, back = bradley_terry_loss(first, second), bradley_terry_loss(second, first)
    np.testing.assert_allclose(back - there, first - second, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jnp.exp(-there) + jnp.exp(-back), 1.0, rtol=1e-5)
