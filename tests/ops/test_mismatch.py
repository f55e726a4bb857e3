"""Statistics of the links between accuracy, score and gold: by hand, by enumeration, in limits."""

from itertools import product

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy

from rlhf_jax.exact.bandit import budget_optimum, regularised_optimum
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.mismatch import (
    average_ranks,
    correlations_around_peak,
    label_ceiling,
    order_accuracy,
    policy_covariance,
    rank_correlation,
)

NUMBERS = np.random.default_rng(0).standard_normal((3, 4, 9)).astype(np.float32)


def rounded(x):
    """Many ties."""
    return np.round(x)


def test_ranks_by_hand():
    # 1 is lowest; the two 3s share ranks 1 and 2; 7 is above three.
    np.testing.assert_array_equal(average_ranks(jnp.array([3.0, 1.0, 7.0, 3.0])), [1.5, 0, 3, 1.5])
    mask = jnp.array([True, False, True, True])
    masked = average_ranks(jnp.array([3.0, jnp.nan, 7.0, 3.0]), mask)
    np.testing.assert_array_equal(masked, [0.5, 0, 2, 0.5])


@pytest.mark.parametrize("x64", [False, True])
def test_rank_correlation_by_hand(x64):
    """Ranks (0, 1, 2, 3) and (0, 2, 1, 3): 1 - 6 (0 + 1 + 1 + 0) / (4 * 15) = 0.8."""
    with jax.enable_x64(x64):
        x, y = jnp.array([0.1, 0.2, 5.0, 9.0]), jnp.array([-3.0, 4.0, 2.0, 8.0])
        found = rank_correlation(x, y)
        assert found.dtype == (jnp.float64 if x64 else jnp.float32)
        np.testing.assert_allclose(found, 0.8, rtol=1e-6)


def test_rank_correlation_is_scipys_with_ties_and_any_leading_axes():
    x, y = rounded(NUMBERS[0]), rounded(NUMBERS[1])
    expected = [scipy.stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(
        rank_correlation(jnp.asarray(x), jnp.asarray(y)), expected, atol=1e-6
    )
    np.testing.assert_allclose(
        jax.jit(jax.vmap(rank_correlation))(jnp.asarray(x), jnp.asarray(y)), expected, atol=1e-6
    )


def test_rank_correlation_sees_order_alone_and_only_what_counts():
    x, y = jnp.asarray(NUMBERS[0]), jnp.asarray(NUMBERS[1])
    np.testing.assert_allclose(
        rank_correlation(jnp.exp(x), 2 * y - 1), rank_correlation(x, y), atol=1e-6
    )
    np.testing.assert_allclose(rank_correlation(-x, y), -rank_correlation(x, y), atol=1e-6)
    mask = jnp.arange(9) < 6
    hidden = jnp.where(mask, x, jnp.nan)
    found = rank_correlation(hidden, y, jnp.broadcast_to(mask, x.shape))
    np.testing.assert_allclose(found, rank_correlation(x[:, :6], y[:, :6]), atol=1e-6)


@pytest.mark.parametrize(
    ("x", "y"), [([1.0], [2.0]), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([1.0, np.nan], [0.0, 1.0])]
)
def test_no_rank_correlation_of_one_entry_of_equal_ones_or_of_nan(x, y):
    assert np.isnan(rank_correlation(jnp.array(x), jnp.array(y)))


@pytest.fixture
def checked_by_the_library_alone():
    """Without the type checker of the test run, which users don't have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("checked_by_the_library_alone")
def test_a_mask_of_numbers_and_negative_weights_are_refused():
    for function in (average_ranks, lambda x, mask: rank_correlation(x, x, mask)):
        with pytest.raises(TypeError, match="mask must be bool"):
            function(jnp.ones(3), jnp.ones(3))
    with pytest.raises(ValueError, match=r"weights must be in \[0, inf\), got -1.0"):
        order_accuracy(jnp.ones(2), jnp.ones(2), jnp.array([1.0, -1.0]))


def test_correlations_around_a_peak():
    """A score that only rises: 1 up to the peak of gold, -1 from there on; over all, 0 at best."""
    scores, gold = jnp.arange(7.0), jnp.array([0.0, 2.0, 4.0, 6.0, 5.0, 3.0, 1.0])
    before, after = correlations_around_peak(scores, gold)
    assert (before, after) == (1.0, -1.0)
    assert abs(rank_correlation(scores, gold)) < 0.5
    rising, none = correlations_around_peak(scores, scores)
    assert rising == 1.0
    assert np.isnan(none)
    both = correlations_around_peak(jnp.stack([scores, scores]), jnp.stack([gold, scores]))
    np.testing.assert_array_equal(both, [[1.0, 1.0], [-1.0, np.nan]])


def brute_accuracy(scores, gold, weights):
    right = total = 0.0
    for i, j in product(range(len(gold)), repeat=2):
        if gold[i] > gold[j]:
            total += weights[i] * weights[j]
            right += weights[i] * weights[j] * (0.5 + 0.5 * np.sign(scores[i] - scores[j]))
    return right / total


@pytest.mark.parametrize("x64", [False, True])
def test_order_accuracy_by_hand(x64):
    """Pairs (gold 2 > 1), (2 > 0), (1 > 0): the score has the first wrong, ties in the second."""
    with jax.enable_x64(x64):
        scores, gold = jnp.array([1.0, 1.0, 3.0]), jnp.array([0.0, 2.0, 1.0])
        np.testing.assert_allclose(order_accuracy(scores, gold), (0 + 0.5 + 1) / 3, rtol=1e-6)
        # Weights 1, 2, 1: the pairs weigh 2, 2, 1.
        found = order_accuracy(scores, gold, jnp.array([1.0, 2.0, 1.0]))
        np.testing.assert_allclose(found, (0 * 2 + 0.5 * 2 + 1 * 1) / 5, rtol=1e-6)


def test_order_accuracy_equals_enumeration():
    scores, gold, weights = rounded(NUMBERS[0]), rounded(NUMBERS[1]), np.abs(NUMBERS[2])
    found = order_accuracy(*map(jnp.asarray, (scores, gold, weights)))
    expected = [brute_accuracy(*each) for each in zip(scores, gold, weights, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_order_accuracy_in_its_limits():
    gold = jnp.asarray(NUMBERS[0])
    np.testing.assert_allclose(order_accuracy(3.0 * gold - 1.0, gold), 1.0, rtol=1e-6)
    np.testing.assert_allclose(order_accuracy(-gold, gold), 0.0, atol=1e-6)
    np.testing.assert_allclose(order_accuracy(0.0 * gold, gold), 0.5, rtol=1e-6)
    assert np.isnan(order_accuracy(gold, 0.0 * gold)).all()
    # Of weight 0, whatever is there does not matter.
    weights = jnp.ones(9).at[4].set(0.0)
    spoilt = jnp.asarray(NUMBERS[1]).at[:, 4].set(jnp.nan)
    found = order_accuracy(spoilt, gold, jnp.broadcast_to(weights, gold.shape))
    kept = np.delete(np.arange(9), 4)
    there = order_accuracy(jnp.asarray(NUMBERS[1][:, kept]), gold[:, kept])
    np.testing.assert_allclose(found, there, rtol=1e-5)
    assert np.isnan(order_accuracy(spoilt, gold)).all()
    # A policy with one answer has no two to order.
    assert np.isnan(order_accuracy(gold[0], gold[0], jnp.zeros(9).at[2].set(1.0)))


def test_weights_are_what_draws_tend_to():
    scores, gold = (jnp.asarray(each[0]) for each in NUMBERS[:2])
    logits = jnp.asarray(NUMBERS[2, 0])
    drawn = jax.random.categorical(jax.random.key(0), logits, shape=(1500,))
    exact = order_accuracy(scores, gold, jax.nn.softmax(logits))
    # A standard error of about 0.02; pairs of one answer with itself count in neither.
    np.testing.assert_allclose(order_accuracy(scores[drawn], gold[drawn]), exact, atol=0.06)


def test_the_ceiling_of_labels():
    # sigmoid(2 * 0.5) = 0.7310586, for either sign; equal answers are a coin.
    found = label_ceiling(jnp.array([0.5, -0.5, 0.0]), temperature=2.0)
    np.testing.assert_allclose(found, [0.7310586, 0.7310586, 0.5], rtol=1e-6)
    np.testing.assert_allclose(label_ceiling(jnp.array(1.0), temperature=1e6), 1.0)
    with pytest.raises(ValueError, match=r"temperature must be in \(0, inf\)"):
        label_ceiling(jnp.ones(2), temperature=0.0)


def test_gold_itself_reaches_the_ceiling_and_nothing_passes_it():
    """Over labels drawn for 20,000 pairs; noise of the mean 0.003."""
    keys = jax.random.split(jax.random.key(0), 3)
    gaps = jax.random.normal(keys[0], (20_000,))
    first = jax.random.bernoulli(keys[1], jax.nn.sigmoid(2.0 * gaps))
    ceiling = float(label_ceiling(gaps, temperature=2.0).mean())
    np.testing.assert_allclose(((gaps > 0) == first).mean(), ceiling, atol=0.01)
    worse = gaps + jax.random.normal(keys[2], gaps.shape)
    assert ((worse > 0) == first).mean() < ceiling - 0.03


def test_the_loss_of_a_pair_that_a_note_on_the_paper_has_with_the_wrong_sign():
    """log(1 + exp(r_l - r_w)) at r_w - r_l = 2 is 0.126928; the slip has 2.126928."""
    found = bradley_terry_loss(jnp.array(2.0), jnp.array(0.0))
    np.testing.assert_allclose(found, 0.126928, rtol=1e-5)


def test_covariance_is_the_slope_of_gold_in_the_inverse_of_beta():
    with jax.enable_x64(True):
        rewards, gold, ref = (jnp.asarray(each, jnp.float64) for each in NUMBERS)

        def mean_gold(power, row):
            logps = regularised_optimum(rewards[row], ref[row], beta=1.0 / power)
            return jnp.exp(logps) @ gold[row]

        for row, power in product(range(4), (0.3, 1.0, 4.0)):
            logps = regularised_optimum(rewards[row], ref[row], beta=1.0 / power)
            slope = jax.grad(mean_gold)(power, row)
            np.testing.assert_allclose(
                policy_covariance(logps, gold[row], rewards[row]), slope, rtol=1e-9, atol=1e-12
            )
        # Of the score itself it is a variance: the score never falls.
        assert (policy_covariance(ref, rewards, rewards) > 0).all()


def test_gold_peaks_where_its_covariance_with_the_score_vanishes():
    """Gold is a concave function of the score: it rises, peaks and falls."""
    with jax.enable_x64(True):
        scores = jnp.linspace(-2.0, 2.0, 41)
        gold, ref = scores - scores**2, jnp.zeros(41)
        powers = jnp.linspace(0.05, 4.0, 2000)
        logps = jax.vmap(lambda p: regularised_optimum(scores, ref, beta=1.0 / p))(powers)
        means = jnp.exp(logps) @ gold
        both = (jnp.broadcast_to(each, logps.shape) for each in (gold, scores))
        slopes = policy_covariance(logps, *both)
        peak = int(means.argmax())
        assert 0 < peak < len(powers) - 1
        assert slopes[peak - 2] > 0 > slopes[peak + 2]


@pytest.mark.parametrize("x64", [False, True])
def test_the_optimum_at_a_budget_has_that_divergence(x64):
    with jax.enable_x64(x64):
        dtype = jnp.float64 if x64 else jnp.float32
        rewards, ref = (jnp.asarray(each, dtype) for each in NUMBERS[:2])
        budgets = jnp.array([0.0, 0.01, 0.2, 0.5], rewards.dtype)
        logps = budget_optimum(rewards, ref, kl=budgets)
        assert logps.dtype == dtype
        np.testing.assert_allclose(exact_kl(logps, ref), budgets, atol=2e-5)
        np.testing.assert_allclose(jnp.exp(logps).sum(-1), 1.0, rtol=1e-5)
        # The best of its divergence: log pi - log pi_ref is rewards over beta, up to a constant.
        gap = logps - jax.nn.log_softmax(ref)
        ratio = (gap[3] - gap[3].mean()) / (rewards[3] - rewards[3].mean())
        np.testing.assert_allclose(ratio, ratio[0], rtol=2e-3)
        same = jnp.stack(
            [budget_optimum(r, f, kl=k) for r, f, k in zip(rewards, ref, budgets, strict=True)]
        )
        np.testing.assert_allclose(same, logps, atol=1e-5)


def test_a_budget_that_cannot_be_spent_goes_to_the_best_action():
    rewards, ref = jnp.array([0.0, 2.0, 1.0]), jnp.log(jnp.array([0.5, 0.25, 0.25]))
    # log 4 nats is the most: -log pi_ref of the best action.
    found = budget_optimum(rewards, ref, kl=1e3)
    np.testing.assert_allclose(jnp.exp(found), [0.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(exact_kl(found, ref), np.log(4.0), rtol=1e-5)
    flat = budget_optimum(jnp.ones(3), ref, kl=0.3)
    np.testing.assert_allclose(jnp.exp(flat), [0.5, 0.25, 0.25], rtol=1e-5)
    with pytest.raises(ValueError, match=r"kl must be in \[0, inf\)"):
        budget_optimum(rewards, ref, kl=-0.1)


def test_budgets_of_the_same_policy_do_not_depend_on_the_scale_of_its_reward():
    rewards, ref = jnp.asarray(NUMBERS[0]), jnp.asarray(NUMBERS[1])
    for scale in (1e-3, 1e4):
        np.testing.assert_allclose(
            jnp.exp(budget_optimum(scale * rewards + 7.0 * scale, ref, kl=0.5)),
            jnp.exp(budget_optimum(rewards, ref, kl=0.5)),
            atol=1e-3,
        )


def test_no_gradient_is_nan():
    x, y = jnp.array([1.0, 1.0, 2.0]), jnp.array([0.0, 1.0, 1.0])
    for function in (rank_correlation, order_accuracy):
        assert np.isfinite(jax.grad(lambda x, f=function: f(x, y))(x)).all()
