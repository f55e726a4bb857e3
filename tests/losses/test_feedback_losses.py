"""Ratings, accepted answers, marked steps and verdicts by hand, in their limits, by enumeration."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.feedback.teachers import rating_loglik
from rlhf_jax.losses.feedback import (
    binary_loss,
    cost_model_loss,
    multi_rating_loss,
    order_bias,
    ordinal_loss,
    process_loss,
    rating_loss,
    soft_process_loss,
    verdict_loss,
    verdict_margins,
    verdict_prefs,
    verdict_token_loss,
)
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.groups import group_normalised_advantages, pairwise_advantages

quick = settings(derandomize=True, deadline=None, max_examples=25)
score = st.floats(-8, 8, width=32)
YES, NO = jnp.array(True), jnp.array(False)
ZERO = jnp.zeros(())


@pytest.mark.long
def test_a_rating_off_the_scale_has_no_loss():
    """Two thresholds, three ratings: -1 is not 0 and 3 is not 2."""
    ratings, scores = jnp.array([-1, 0, 2, 3]), jnp.zeros(4)
    losses = ordinal_loss(scores, ratings, jnp.array([-1.0, 1.0]))
    np.testing.assert_array_equal(np.isnan(losses), [True, False, False, True])


def test_binary_and_rating_by_hand():
    scores = jnp.array([1.0, 1.0, -2.0])
    # log(1 + e^-1), log(1 + e), log(1 + e^-2)
    expected = [0.3132617, 1.3132617, 0.1269280]
    np.testing.assert_allclose(
        binary_loss(scores, jnp.array([True, False, False])), expected, rtol=1e-6
    )
    np.testing.assert_allclose(rating_loss(scores, jnp.array([3.0, 1.0, 0.0])), [4.0, 0.0, 4.0])


def test_several_ratings_by_hand_and_one_of_them():
    """(1 - 3)^2 + (0 - 1)^2 = 5; of the second answer the second rating is missing."""
    scores, ratings = jnp.array([[1.0, 0.0], [2.0, 7.0]]), jnp.array([[3.0, 1.0], [1.0, jnp.nan]])
    mask = jnp.array([[True, True], [True, False]])
    np.testing.assert_array_equal(multi_rating_loss(scores, ratings, mask), [5.0, 1.0])
    alone = multi_rating_loss(scores[:, :1], ratings[:, :1], mask[:, :1])
    np.testing.assert_array_equal(alone, rating_loss(scores[:, 0], ratings[:, 0]))


def test_binary_is_bradley_terry_against_zero():
    scores = jnp.array([1.5, -0.7])
    zero = jnp.zeros(2)
    accepted = binary_loss(scores, jnp.ones(2, bool))
    refused = binary_loss(scores, jnp.zeros(2, bool))
    np.testing.assert_allclose(accepted, bradley_terry_loss(scores, zero))
    np.testing.assert_allclose(refused, bradley_terry_loss(zero, scores))


def test_an_unbalanced_set_shifts_the_score_by_its_log_odds():
    """With accepted answers drawn 3 times as often, an even answer is best scored log 3."""

    def population(s):
        return 0.5 * 3.0 * binary_loss(s, YES) + 0.5 * binary_loss(s, NO)

    np.testing.assert_allclose(jax.grad(population)(jnp.log(jnp.float32(3.0))), 0.0, atol=1e-7)


def test_ratings_are_met_at_their_mean():
    ratings, probs = jnp.array([1.0, 4.0, 5.0]), jnp.array([0.5, 0.25, 0.25])

    def population(s):
        return jnp.sum(probs * rating_loss(jnp.broadcast_to(s, 3), ratings))

    # 0.5 + 1 + 1.25
    np.testing.assert_allclose(jax.grad(population)(jnp.float32(2.75)), 0.0, atol=1e-6)


def test_ordinal_by_hand():
    thresholds, ratings = jnp.array([-1.0, 1.0]), jnp.array([0, 1, 2])
    # s = 0.5: sigmoid(-1.5) = 0.1824255, sigmoid(0.5) - sigmoid(-1.5) = 0.4400338, rest 0.3775407
    losses = ordinal_loss(jnp.full(3, 0.5), ratings, thresholds)
    np.testing.assert_allclose(jnp.exp(-losses), [0.18242552, 0.44003381, 0.37754067], rtol=1e-6)


@given(score, st.lists(st.floats(0.0625, 3.0, width=32), min_size=3, max_size=3))
@quick
def test_ordinal_probabilities_sum_to_one_and_are_the_teachers(value, widths):
    thresholds = jnp.cumsum(jnp.array(widths)) - 2.0
    ratings = jnp.arange(4)
    losses = ordinal_loss(jnp.full(4, value), ratings, thresholds)
    np.testing.assert_allclose(jnp.sum(jnp.exp(-losses)), 1.0, atol=1e-5)
    teacher = rating_loglik(ratings, jnp.full(4, value), thresholds, beta=1.0)
    np.testing.assert_allclose(losses, -teacher, rtol=1e-4, atol=1e-5)


@pytest.mark.long
@given(score)
@quick
def test_two_classes_are_binary_feedback(value):
    scores = jnp.full(2, value)
    ordinal = ordinal_loss(scores, jnp.array([0, 1]), jnp.array([0.3]))
    binary = binary_loss(scores - 0.3, jnp.array([False, True]))
    np.testing.assert_allclose(ordinal, binary, rtol=1e-6, atol=1e-7)


@pytest.mark.long
def test_ratings_by_their_own_law_are_least_at_the_true_score_and_thresholds():
    thresholds, truth = jnp.array([-1.0, 0.2, 1.4]), jnp.float32(0.4)
    ratings = jnp.arange(4)
    probs = jnp.exp(-ordinal_loss(jnp.broadcast_to(truth, 4), ratings, thresholds))

    def population(s, thresholds):
        return jnp.sum(probs * ordinal_loss(jnp.broadcast_to(s, 4), ratings, thresholds))

    slopes = jax.grad(population, argnums=(0, 1))(truth, thresholds)
    np.testing.assert_allclose(slopes[0], 0.0, atol=1e-6)
    np.testing.assert_allclose(slopes[1], 0.0, atol=1e-6)
    # and the thresholds do have a slope elsewhere: they can be trained
    assert bool(jnp.all(jax.grad(population, argnums=1)(truth, thresholds + 0.5) != 0.0))


@pytest.mark.long
def test_ordinal_far_out_and_out_of_order():
    thresholds = jnp.array([-1.0, 1.0])
    losses = ordinal_loss(jnp.array([1e4, -1e4]), jnp.array([1, 1]), thresholds)
    np.testing.assert_allclose(losses, [1e4, 1e4], rtol=1e-3)

    def crossed(s, c):
        return ordinal_loss(s, jnp.int32(1), c)

    loss, grads = jax.value_and_grad(crossed, argnums=(0, 1))(ZERO, thresholds[::-1])
    # 2 log(1 + e^-1)... with c_0 = 1 and c_1 = -1: 2 log(1 + e), and 87.34 for the impossible
    np.testing.assert_allclose(loss, 2 * 1.3132617 + 87.34, rtol=1e-3)
    assert all(bool(jnp.all(jnp.isfinite(grad))) for grad in grads)


def test_these_scores_have_a_zero():
    """Unlike in a comparison, a constant added to every score changes the likelihood."""
    scores, ratings = jnp.array([0.3, -0.8]), jnp.array([0, 2])
    thresholds = jnp.array([-1.0, 1.0])
    labels = ratings > 0
    moved = scores + 1.0
    assert float(jnp.max(jnp.abs(binary_loss(moved, labels) - binary_loss(scores, labels)))) > 0.1
    ordinal = ordinal_loss(moved, ratings, thresholds) - ordinal_loss(scores, ratings, thresholds)
    assert float(jnp.max(jnp.abs(ordinal))) > 0.1
    together = ordinal_loss(moved, ratings, thresholds + 1.0)
    np.testing.assert_allclose(together, ordinal_loss(scores, ratings, thresholds), rtol=1e-5)


def test_cost_model_by_hand():
    worse, better = jnp.array([2.0, 2.0]), jnp.array([-1.0, -1.0])
    unsafe = jnp.array([True, True]), jnp.array([False, True])
    # log(1 + e^-3) + log(1 + e^-2) + log(1 + e^-1), and log(1 + e) for the last
    expected = [0.0485874 + 0.1269280 + 0.3132617, 0.0485874 + 0.1269280 + 1.3132617]
    np.testing.assert_allclose(cost_model_loss(worse, better, *unsafe), expected, rtol=1e-6)


def test_cost_model_is_a_comparison_and_two_signs():
    rng = np.random.default_rng(0)
    worse, better = (jnp.asarray(rng.standard_normal(6), jnp.float32) for _ in range(2))
    unsafe = [jnp.asarray(rng.random(6) < 0.5) for _ in range(2)]
    apart = (
        bradley_terry_loss(worse, better)
        + binary_loss(worse, unsafe[0])
        + binary_loss(better, unsafe[1])
    )
    np.testing.assert_allclose(cost_model_loss(worse, better, *unsafe), apart, rtol=1e-6)
    slopes = jax.grad(cost_model_loss, argnums=(0, 1))(ZERO, ZERO, YES, NO)
    assert slopes[0] < 0 < slopes[1]  # a descent raises the cost of the harmful answer


def test_process_rewards_are_binary_feedback_of_each_step():
    scores = jnp.array([[0.5, -1.0, jnp.nan], [2.0, 0.0, 1.0]])
    labels = jnp.array([[True, False, True], [False, True, True]])
    mask = jnp.array([[True, True, False], [False, True, True]])
    losses = process_loss(scores, labels, mask)
    # log(1 + e^-0.5), log(1 + e^-1); log 2, log(1 + e^-1)
    expected = [[0.4740770, 0.3132617, 0.0], [0.0, 0.6931472, 0.3132617]]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    successes = labels.astype(jnp.float32)
    np.testing.assert_allclose(soft_process_loss(scores, successes, mask), losses, rtol=1e-6)


@pytest.mark.parametrize("prob", [0.5, 0.125, 0.9])
def test_soft_process_rewards_are_met_at_the_log_odds_of_success(prob):
    scores = jnp.full((1, 2), jnp.log(jnp.float32(prob / (1 - prob))))
    successes, mask = jnp.full((1, 2), prob), jnp.ones((1, 2), bool)
    slopes = jax.grad(lambda s: jnp.sum(soft_process_loss(s, successes, mask)))(scores)
    np.testing.assert_allclose(slopes, 0.0, atol=1e-6)


def logits_of(forward, backward):
    """Verdict logits with these margins in the two orders: [*B, 2, 2]."""
    margins = jnp.stack([forward, backward], axis=-1)
    return jnp.stack([margins + 0.7, jnp.full_like(margins, 0.7)], axis=-1)


def test_verdict_margins_by_hand():
    logits = logits_of(jnp.float32(1.3), jnp.float32(-0.2))
    margin = verdict_margins(logits)
    np.testing.assert_allclose(margin, 0.75, rtol=1e-6)  # (1.3 + 0.2) / 2
    np.testing.assert_allclose(jax.nn.sigmoid(margin), 0.6791787, rtol=1e-6)
    # [log(1 + e^-1.3) + log(1 + e^-0.2)] / 2
    np.testing.assert_allclose(verdict_loss(logits), 0.4195737, rtol=1e-6)


def test_two_order_probabilities_by_hand():
    logits = logits_of(jnp.float32(1.3), jnp.float32(-0.2))
    # (0.7858350 + 0.5498340) / 2, the sigmoids of 1.3 and of 0.2
    np.testing.assert_allclose(verdict_prefs(logits), 0.6678345, rtol=1e-6)
    np.testing.assert_allclose(verdict_prefs(logits[::-1]), 1 - 0.6678345, rtol=1e-6)
    # Antisymmetric margins: the sigmoid of them. A judge of one place alone: 1/2.
    alike = logits_of(jnp.float32(0.9), jnp.float32(-0.9))
    np.testing.assert_allclose(verdict_prefs(alike), jax.nn.sigmoid(0.9), rtol=1e-6)
    np.testing.assert_allclose(verdict_prefs(logits_of(jnp.float32(3.0), jnp.float32(3.0))), 0.5)
    slope = jax.grad(verdict_prefs)(logits)
    np.testing.assert_array_equal(slope, 0.0)


def test_what_the_order_adds_by_hand():
    logits = logits_of(jnp.float32(1.3), jnp.float32(-0.2))
    np.testing.assert_allclose(order_bias(logits), 0.55, rtol=1e-6)  # (1.3 - 0.2) / 2
    np.testing.assert_allclose(order_bias(logits[::-1]), 0.55, rtol=1e-6)  # the same, exchanged
    assert float(order_bias(logits_of(jnp.float32(0.7), jnp.float32(-0.7)))) == 0.0


def test_averaging_probabilities_leaves_part_of_the_bias():
    # s = 0.75 and b = 0.55: sigmoid(1.3) = 0.7858350, sigmoid(-0.2) = 0.4501660
    probs = jax.nn.sigmoid(jnp.array([1.3, -0.2]))
    np.testing.assert_allclose(0.5 * (probs[0] + 1 - probs[1]), 0.6678345, rtol=1e-6)
    unbiased = jax.nn.sigmoid(verdict_margins(logits_of(jnp.float32(0.75), jnp.float32(-0.75))))
    np.testing.assert_allclose(unbiased, 0.6791787, rtol=1e-6)


def test_other_tokens_cost_what_they_are_given():
    # p(A) = 0.5, p(B) = 0.25 in one order, 0.125 and 0.75 in the other, a quarter or an eighth left
    probs = jnp.array([[0.5, 0.25], [0.125, 0.75]])
    # -(log 0.5 + log 0.75) / 2
    np.testing.assert_allclose(verdict_token_loss(jnp.log(probs)), 0.4904147, rtol=1e-6)
    # and -(log 0.75 + log 0.875) / 2 of it for words that are no verdict
    rest = verdict_token_loss(jnp.log(probs)) - verdict_loss(jnp.log(probs))
    np.testing.assert_allclose(rest, -0.5 * np.log(0.75 * 0.875), rtol=1e-5)


@given(score, score, score)
@quick
def test_exchanging_the_answers_negates_the_margin_exactly(forward, backward, bias):
    logits = logits_of(jnp.float32(forward), jnp.float32(backward))
    np.testing.assert_array_equal(verdict_margins(logits[::-1]), -verdict_margins(logits))
    biased = logits.at[:, 0].add(bias)  # a liking for the first place
    np.testing.assert_allclose(verdict_margins(biased), verdict_margins(logits), atol=1e-5)


def test_both_orders_count_twice_one_order_where_the_judge_is_antisymmetric():
    """The loss halves their sum: it is one order's cross-entropy, that of Bradley-Terry."""
    rewards = jnp.array([0.8, -0.5])
    gap = rewards[0] - rewards[1]
    one_order = bradley_terry_loss(gap, ZERO)  # judge says A of (w, l)
    np.testing.assert_allclose(verdict_loss(logits_of(gap, -gap)), one_order, rtol=1e-6)
    np.testing.assert_allclose(
        verdict_loss(logits_of(gap, -gap)), bradley_terry_loss(*rewards), rtol=1e-6
    )
    # an order-blind judge (g alike in both orders) knows nothing: its loss is at least log 2
    assert verdict_loss(logits_of(gap, gap)) > np.log(2.0)


@pytest.mark.long
def test_verdicts_make_advantages():
    """Of a judge that knows rewards they are GRPO's; rock, paper, scissors gives 0 to all."""
    rewards = jnp.array([0.3, -1.0, 2.0])
    gaps = rewards[:, None] - rewards[None, :]
    margins = verdict_margins(logits_of(gaps, gaps.T))
    found, expected = pairwise_advantages(margins), group_normalised_advantages(rewards)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    cycle = jnp.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    margins = verdict_margins(logits_of(cycle, cycle.T))
    np.testing.assert_array_equal(pairwise_advantages(margins), 0.0)


def test_verdicts_need_two_orders_and_two_tokens():
    for shape in ((3, 2, 3), (3, 1, 2)):
        with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
            verdict_margins(jnp.zeros(shape))
