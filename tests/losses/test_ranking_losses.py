"""Ranked lists by hand, in their limits, under permutation and by enumeration."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.losses.policy_gradient import reinforce_loss
from rlhf_jax.losses.preference import (
    dpo_loss,
    lipo_loss,
    lire_loss,
    pl_dpo_loss,
    pro_loss,
    rrhf_loss,
    sft_loss,
    simpo_loss,
)
from rlhf_jax.losses.reward import bradley_terry_loss, plackett_luce_loss

quick = settings(derandomize=True, deadline=None, max_examples=25)
ALL = jnp.ones(3, bool)
four = st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=4).map(jnp.array)
order_of_four = st.permutations(range(4)).map(jnp.array)


def reals(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_pl_dpo_by_hand():
    # s = 0.5 (2, 0, -2) = (1, 0, -1): log(e + 1 + 1 / e) - 1 + log(1 + 1 / e)
    logps, ref_logps = jnp.array([-1.0, -3.0, -7.0]), jnp.array([-3.0, -3.0, -5.0])
    loss = pl_dpo_loss(logps, ref_logps, ALL, beta=0.5)
    np.testing.assert_allclose(loss, 0.4076060 + 0.3132617, rtol=1e-6)


def test_pro_by_hand():
    # r = (1, 0.5, 0.2), a = (-1, -2, -0.5). First: W = 0.8 (own), 0.5, 0.8 -> W a = -0.8, -1, -0.4;
    # log(e^-0.8 + e^-1 + e^-0.4) + 0.8 = 1.1971160. Then W = 0.3, 0.3 -> -0.6, -0.15; 0.9432489.
    scores, mean_logps = jnp.array([1.0, 0.5, 0.2]), jnp.array([-1.0, -2.0, -0.5])
    np.testing.assert_allclose(pro_loss(mean_logps, scores, ALL), 2.1403649, rtol=1e-6)


def test_pro_gradient_is_the_weighted_softmax():
    """Step k: dL/da_i += W_k^i (p_i - 1[i = k]), p the softmax of W a over i >= k."""
    scores = np.array([1.0, 0.5, 0.2])
    a = np.array([-1.0, -2.0, -0.5])
    expected = np.zeros(3)
    for k in range(2):
        weights = scores[k] - scores[k:]
        weights[0] = weights.max()
        probs = np.exp(weights * a[k:])
        probs /= probs.sum()
        expected[k:] += weights * (probs - (np.arange(3 - k) == 0))
    grad = jax.grad(pro_loss)(jnp.array(a, jnp.float32), jnp.array(scores, jnp.float32), ALL)
    np.testing.assert_allclose(grad, expected, rtol=1e-5)


def test_rrhf_by_hand():
    # a_3 over a_1 by 0.5 and over a_2 by 1.5; NLL of the best 1
    mean_logps, scores = jnp.array([-1.0, -2.0, -0.5]), jnp.array([1.0, 0.5, 0.2])
    np.testing.assert_allclose(rrhf_loss(mean_logps, scores, ALL), 3.0, rtol=1e-6)
    # equal scores are not compared: only a_3 over a_1 and a_2 stays
    tied = jnp.array([1.0, 1.0, 0.2])
    np.testing.assert_allclose(rrhf_loss(mean_logps, tied, ALL), 3.0, rtol=1e-6)
    tied = jnp.array([1.0, 0.2, 0.2])
    np.testing.assert_allclose(rrhf_loss(mean_logps, tied, ALL), 1.5, rtol=1e-6)


def test_rrhf_in_the_right_order_only_imitates_the_best():
    mean_logps, scores = jnp.array([-0.5, -1.0, -3.0]), jnp.array([0.9, 0.6, 0.1])
    loss, grad = jax.value_and_grad(rrhf_loss)(mean_logps, scores, ALL)
    np.testing.assert_allclose(loss, sft_loss(mean_logps[0]))
    np.testing.assert_allclose(grad, [-1.0, 0.0, 0.0])


def test_lipo_by_hand():
    # s = 0.5 (1, 4, 0) = (0.5, 2, 0): ranks 2, 1, 3, 1 / D = 0.6309298, 1, 0.5; G = 3, 1, 0.
    # Weights 2 * 0.3690702, 3 * 0.1309298, 1 * 0.5 on log(1 + e^1.5) = 1.7014133,
    # log(1 + e^-0.5) = 0.4740770, log(1 + e^-2) = 0.1269280
    log_ratios, scores = jnp.array([1.0, 4.0, 0.0]), jnp.array([2.0, 1.0, 0.0])
    loss = lipo_loss(log_ratios, jnp.zeros(3), scores, ALL, beta=0.5)
    np.testing.assert_allclose(loss, 1.5055584, rtol=1e-6)


@pytest.mark.long
def test_lists_of_two_are_pairs():
    logps, ref_logps, mask = reals(0, 5, 2), reals(1, 5, 2), jnp.ones((5, 2), bool)
    pair = (logps[:, 0], logps[:, 1], ref_logps[:, 0], ref_logps[:, 1])
    dpo = dpo_loss(*pair, beta=0.3)
    np.testing.assert_allclose(pl_dpo_loss(logps, ref_logps, mask, beta=0.3), dpo, rtol=1e-6)
    scores = jnp.array([[0.9, 0.4]] * 5)
    weight = (2**0.9 - 2**0.4) * (1 - 1 / np.log2(3))
    np.testing.assert_allclose(
        lipo_loss(logps, ref_logps, scores, mask, beta=0.3), weight * dpo, rtol=1e-5
    )
    pro = pro_loss(logps, scores, mask)
    np.testing.assert_allclose(
        pro, bradley_terry_loss(0.5 * logps[:, 0], 0.5 * logps[:, 1]), rtol=1e-5
    )
    np.testing.assert_allclose(
        pro, simpo_loss(logps[:, 0], logps[:, 1], beta=0.5, gamma=0.0), rtol=1e-5
    )


def test_two_candidates_in_the_wrong_order_still_follow_the_scores():
    mean_logps, scores = jnp.array([-2.0, -1.0]), jnp.array([0.3, 0.8])
    backwards = pro_loss(mean_logps, scores, jnp.ones(2, bool))
    forwards = pro_loss(mean_logps[::-1], scores[::-1], jnp.ones(2, bool))
    np.testing.assert_allclose(backwards, forwards, rtol=1e-6)


def test_three_candidates_in_the_wrong_order_do_not():
    mean_logps, scores = jnp.array([-2.0, -1.0, -0.5]), jnp.array([0.3, 0.8, 0.1])
    order = jnp.array([1, 0, 2])
    sorted_loss = pro_loss(mean_logps[order], scores[order], ALL)
    assert abs(pro_loss(mean_logps, scores, ALL) - sorted_loss) > 0.1


def test_pro_with_a_tie_at_the_top():
    """A candidate with the score of the best has weight 0 and adds e^0 to the denominator."""
    mean_logps, scores = jnp.array([-1.0, -2.0, -3.0]), jnp.array([0.5, 0.5, 0.0])
    # k = 1: W a = -0.5, 0, -1.5; k = 2: W a = -1, -1.5
    expected = np.log(np.exp(-0.5) + 1 + np.exp(-1.5)) + 0.5 + np.log(1 + np.exp(-0.5))
    np.testing.assert_allclose(pro_loss(mean_logps, scores, ALL), expected, rtol=1e-6)


@pytest.mark.long
def test_masked_candidates_leave_a_shorter_list():
    """Wherever the gaps in a row are, the loss is that of the row without them."""
    logps, ref_logps = reals(2, 4), reals(3, 4)
    scores = jnp.array([0.9, 0.7, 0.4, 0.1])
    mask = jnp.array([True, False, True, True])
    short, kept = jnp.ones(3, bool), jnp.array([0, 2, 3])
    logps_gap = jnp.where(mask, logps, jnp.nan)
    ref_gap = jnp.where(mask, ref_logps, jnp.nan)
    scores_gap = jnp.where(mask, scores, jnp.nan)
    for loss, args, full in (
        (lambda *x: pl_dpo_loss(*x, beta=0.5), (logps_gap, ref_gap), (logps, ref_logps)),
        (pro_loss, (logps_gap, scores_gap), (logps, scores)),
        (rrhf_loss, (logps_gap, scores_gap), (logps, scores)),
        (
            lambda *x: lipo_loss(*x, beta=0.5),
            (logps_gap, ref_gap, scores_gap),
            (logps, ref_logps, scores),
        ),
    ):
        np.testing.assert_allclose(
            loss(*args, mask), loss(*(x[kept] for x in full), short), rtol=1e-5
        )


@pytest.mark.long
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_candidate_without_a_finite_score_counts_as_missing(bad):
    logps, mask = reals(2, 4), jnp.array([True, False, True, True])
    scores = jnp.array([0.9, 0.7, 0.4, 0.1])
    for loss in (
        pro_loss,
        rrhf_loss,
        lambda logps, *more: lipo_loss(logps, reals(3, 4), *more, beta=0.5),
        lambda *x: lire_loss(*x, temperature=2.0),
    ):
        expected = jax.value_and_grad(loss)(logps, scores, mask)
        found = jax.value_and_grad(loss)(logps, jnp.where(mask, scores, bad), jnp.ones(4, bool))
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("size", [1, 7])
def test_lists_of_any_length(size):
    """One candidate is no ranking; equal answers of n candidates cost log n! (Plackett-Luce)."""
    alike, mask = jnp.full((2, size), -1.0), jnp.ones((2, size), bool)
    scores = jnp.broadcast_to(-jnp.arange(size, dtype=jnp.float32), (2, size))
    log_factorial = np.sum(np.log(np.arange(1, size + 1)))
    np.testing.assert_allclose(pl_dpo_loss(alike, alike, mask, beta=0.1), log_factorial, rtol=1e-5)
    if size == 1:
        np.testing.assert_array_equal(pro_loss(alike, scores, mask), 0.0)
        np.testing.assert_array_equal(lipo_loss(alike, alike, scores, mask, beta=0.1), 0.0)
        np.testing.assert_array_equal(rrhf_loss(alike, scores, mask), 1.0)
    else:
        assert bool(jnp.all(pro_loss(alike, scores, mask) > 0))


@pytest.mark.long
@given(four, four, four, order_of_four)
@quick
def test_the_order_of_the_row_is_nothing_to_losses_that_read_the_scores(
    logps, ref_logps, scores, order
):
    scores = scores + jnp.arange(4.0) * 1e-3  # no ties: the best of a tie is the first
    logps = logps + jnp.array([0.0, 1e-3, 3e-3, 7e-3])
    mask = jnp.array([True, True, True, False])
    lipo = lipo_loss(logps, ref_logps, scores, mask, beta=0.5)
    moved = (x[order] for x in (logps, ref_logps, scores, mask))
    if len(np.unique(np.asarray(logps - ref_logps)[:3])) == 3:  # else ranks tie
        np.testing.assert_allclose(lipo_loss(*moved, beta=0.5), lipo, rtol=1e-4, atol=1e-5)
    if len(np.unique(np.asarray(scores)[:3])) == 3:
        np.testing.assert_allclose(
            rrhf_loss(logps[order], scores[order], mask[order]),
            rrhf_loss(logps, scores, mask),
            rtol=1e-4,
            atol=1e-5,
        )


@given(four, st.floats(-5, 5, width=32))
@quick
def test_a_constant_of_the_prompt_changes_no_ranking(logps, constant):
    """Only gaps count in PL-DPO and LiPO; PRO weighs a log-prob by itself, so there it does."""
    mask, zero = jnp.ones(4, bool), jnp.zeros(4)
    np.testing.assert_allclose(
        pl_dpo_loss(logps + constant, zero, mask, beta=0.7),
        pl_dpo_loss(logps, zero, mask, beta=0.7),
        rtol=1e-3,
        atol=1e-5,
    )


def test_pro_has_no_such_freedom():
    mean_logps, scores = jnp.array([-1.0, -2.0, -0.5]), jnp.array([1.0, 0.5, 0.2])
    assert abs(pro_loss(mean_logps - 3.0, scores, ALL) - pro_loss(mean_logps, scores, ALL)) > 0.1


@pytest.mark.long
def test_all_rankings_of_the_optimum_have_no_slope():
    """Rankings drawn by Plackett-Luce with utilities r: PL-DPO is least at ref exp(r / beta)."""
    beta, rewards, ref_logps = 0.4, reals(4, 4), reals(5, 4)
    orders = jnp.array(list(permutations(range(4))))
    mask = jnp.ones((24, 4), bool)
    probs = jnp.exp(-plackett_luce_loss(rewards[orders], mask))

    def population(logps):
        losses = pl_dpo_loss(logps[orders], ref_logps[orders], mask, beta=beta)
        return jnp.sum(probs * losses)

    optimum = jax.nn.log_softmax(ref_logps + rewards / beta)
    np.testing.assert_allclose(jax.grad(population)(optimum), 0.0, atol=1e-6)
    assert float(jnp.max(jnp.abs(jax.grad(population)(ref_logps)))) > 0.05


def test_the_ranks_of_lipo_are_the_models_own():
    """Exchanging two answers in the model's order changes which pair weighs most."""
    scores, zero = jnp.array([2.0, 1.0, 0.0]), jnp.zeros(3)
    right = lipo_loss(jnp.array([2.0, 1.0, 0.0]), zero, scores, ALL, beta=1.0)
    # ranks 1, 2, 3: weights 2 * 0.3690702, 3 * 0.5, 1 * 0.1309298; gaps 1, 2, 1
    expected = (0.7381405 + 0.1309298) * 0.3132617 + 1.5 * 0.1269280
    np.testing.assert_allclose(right, expected, rtol=1e-6)


def test_lipo_with_scores_beyond_any_gain_stays_finite():
    loss, grad = jax.value_and_grad(lambda x: lipo_loss(x, x * 0, -x, ALL, beta=1.0))(
        jnp.array([1e4, 0.0, -1e4])
    )
    assert jnp.isfinite(loss)
    assert bool(jnp.all(jnp.isfinite(grad)))


def test_lire_by_hand():
    """q = (1, 3) / 4 at T = 2: -(1 + 9) / 4, slopes -q (r - 5/2) / 2."""
    logps = jnp.array([0.0, 2.0 * np.log(3.0)])
    scores, mask = jnp.array([1.0, 3.0]), jnp.ones(2, bool)
    loss, slopes = jax.value_and_grad(lire_loss)(logps, scores, mask, temperature=2.0)
    np.testing.assert_allclose(loss, -2.5, rtol=1e-6)
    np.testing.assert_allclose(slopes, [0.1875, -0.1875], rtol=1e-6)


@pytest.mark.long
def test_lire_of_all_answers_is_the_expected_score_and_its_policy_gradient():
    logits, scores = jax.random.normal(jax.random.key(5), (2, 5))

    def lire(logits):
        logps = jax.nn.log_softmax(logits)
        return lire_loss(logps, scores, jnp.ones(5, bool), temperature=1.0)

    def reinforce(logits):
        logps = jax.nn.log_softmax(logits)
        return jnp.sum(jax.lax.stop_gradient(jnp.exp(logps)) * reinforce_loss(logps, scores))

    loss, slopes = jax.value_and_grad(lire)(logits)
    np.testing.assert_allclose(loss, -jnp.sum(jax.nn.softmax(logits) * scores), rtol=1e-5)
    np.testing.assert_allclose(slopes, jax.grad(reinforce)(logits), rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_lire_of_a_large_temperature_is_the_mean_score_and_of_a_small_one_the_likeliest():
    logps, scores = jnp.array([-3.0, -1.0, -2.0, 0.0]), jnp.array([1.0, 2.0, 6.0, 9.0])
    mask = jnp.array([True, True, True, False])
    for temperature, expected in ((1e5, -3.0), (1e-3, -2.0), (1e-38, -2.0)):
        loss = lire_loss(logps, scores, mask, temperature=temperature)
        np.testing.assert_allclose(loss, expected, rtol=1e-4)
