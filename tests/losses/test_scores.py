"""Scores, log-probs and weights that go into a pairwise loss."""

from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from bandit_population import assert_optimal, draw_bandit
from scipy.optimize import brentq

from rlhf_jax.envs.bandit import preference_matrix
from rlhf_jax.losses.preference import (
    alpha_score,
    chi_squared_score,
    discounted_logps,
    dpo_loss,
    f_dpo_loss,
    forward_kl_score,
    js_score,
    ld_logps,
    sampled_logps,
    weighted_logps,
    wpo_weights,
)
from rlhf_jax.ops.logprobs import MAX_LOG_RATIO, log_collision, sequence_logps, token_logps


@pytest.fixture
def double():
    """float64 while a test runs."""
    with jax.enable_x64(True):
        yield


in_double = pytest.mark.usefixtures("double")
TOKENS = jnp.array([[-1.0, -2.0, -4.0], [-0.5, -8.0, -8.0]])
MASK = jnp.array([[True, True, True], [True, False, False]])


def test_score_golden_numbers():
    log_ratios = jnp.log(jnp.array([2.0, 0.5]))
    np.testing.assert_allclose(forward_kl_score(log_ratios), [-0.5, -2.0], rtol=1e-6)
    # log(2 / 3), log(1 / 3)
    np.testing.assert_allclose(js_score(log_ratios), [-0.4054651, -1.0986123], rtol=1e-6)
    # (2^2 - 1) / 2, (2^-2 - 1) / 2; 2 (1 - 2^-0.5), 2 (1 - 2^0.5)
    np.testing.assert_allclose(alpha_score(log_ratios, alpha=3.0), [1.5, -0.375], rtol=1e-6)
    half = alpha_score(log_ratios, alpha=0.5)
    np.testing.assert_allclose(half, [0.5857864, -0.8284271], rtol=1e-6)
    # 2 + log 2, 1/2 - log 2
    np.testing.assert_allclose(chi_squared_score(log_ratios), [2.6931472, -0.1931472], rtol=1e-6)


def js_generator(x):
    return x * np.log(x) - (x + 1) * np.log((x + 1) / 2)


def alpha_generator(x, alpha):
    """Of the paper's divergence with its order a = 1 - alpha."""
    a = 1 - alpha
    return (x ** (1 - a) - (1 - a) * x - a) / (a * (a - 1))


DIVERGENCES = {
    "forward KL": (forward_kl_score, lambda x: -np.log(x)),
    "JS": (js_score, js_generator),
    "alpha 0.5": (partial(alpha_score, alpha=0.5), partial(alpha_generator, alpha=0.5)),
    # f'(0) is -2 and not -inf, so beta is large enough below for an optimum with full support.
    "alpha 1.5": (partial(alpha_score, alpha=1.5), partial(alpha_generator, alpha=1.5)),
    "reverse KL": (partial(alpha_score, alpha=1.0), lambda x: x * np.log(x)),
    "chi-squared": (chi_squared_score, lambda x: 0.5 * (x - 1) ** 2 + x * np.log(x)),
}
every_divergence = pytest.mark.parametrize(
    ("score", "generator"), DIVERGENCES.values(), ids=DIVERGENCES.keys()
)


@in_double
@every_divergence
def test_scores_are_derivatives_of_their_generators(score, generator):
    """f'(x) by central differences, up to one constant for all x = exp u."""
    x = np.linspace(0.2, 4.0, 20)
    slopes = (generator(x + 1e-6) - generator(x - 1e-6)) / 2e-6
    gap = np.asarray(score(jnp.log(x))) - slopes
    np.testing.assert_allclose(gap, gap[0], atol=1e-8)
    np.testing.assert_allclose(generator(1.0), 0.0, atol=1e-12)  # a divergence vanishes at pi_ref


def divergence_optimum(score, rewards, ref_probs, beta):
    """argmax of E_pi r - beta D_f(pi || pi_ref), by bisection on the multiplier.

    Stationary where beta S(u(y)) = r(y) - lambda for each y; lambda is what makes pi sum to one.
    """

    solve = partial(brentq, xtol=1e-14, rtol=1e-14)

    def level(u, reward, multiplier):
        return beta * float(score(jnp.asarray(u))) - (reward - multiplier)

    def log_ratios(multiplier):
        return np.array([solve(level, -30.0, 30.0, args=(r, multiplier)) for r in rewards])

    def excess(multiplier):
        return np.sum(ref_probs * np.exp(log_ratios(multiplier))) - 1

    def reachable(u):
        """The multiplier at which the best answer has log-ratio u."""
        return float(np.max(rewards)) - beta * float(score(jnp.asarray(u)))

    # The best answer's log-ratio lies between 0 and -log of its reference probability.
    low, high = reachable(-np.log(ref_probs[np.argmax(rewards)])), reachable(-1e-9)
    return log_ratios(solve(excess, low, high))


@pytest.mark.long
@in_double
@every_divergence
def test_f_dpo_meets_the_first_order_condition_of_its_divergence(score, generator):
    """All pairs, Bradley-Terry labels: the optimum of E r - beta D_f is where f-DPO is still."""
    beta = 1.5
    rewards, ref_logits, behaviour = draw_bandit()
    ref_probs = np.asarray(jax.nn.softmax(ref_logits))
    log_ratios = divergence_optimum(jax.jit(score), np.asarray(rewards), ref_probs, beta)
    probs = ref_probs * np.exp(log_ratios)
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-10)

    def objective(probs):
        return probs @ rewards - beta * ref_probs @ generator(probs / ref_probs)

    rng = np.random.default_rng(0)
    for _ in range(20):
        other = probs * np.exp(0.3 * rng.standard_normal(4))
        assert objective(other / other.sum()) < objective(probs)
    drawn = behaviour[:, None] * behaviour[None, :] * preference_matrix(rewards)
    loss = partial(f_dpo_loss, beta=beta, score=score)
    assert_optimal(loss, drawn, jnp.log(probs), ref_logits)


def test_alpha_near_one_keeps_its_digits():
    """float32 at alpha = 1.0001: u + (alpha - 1) u^2 / 2; the other form is off in the third."""
    u = jnp.array([-2.0, -0.3, 0.5, 3.0])
    expected = np.expm1(np.float64(1e-4) * np.asarray(u, np.float64)) / 1e-4
    np.testing.assert_allclose(alpha_score(u, alpha=1.0001), expected, rtol=1e-5)
    other = jnp.exp(1e-4 * u) / jnp.float32(1e-4) - 1e4
    assert float(jnp.max(jnp.abs(other - expected))) > 1e-4


@pytest.mark.parametrize("score", [js_score, chi_squared_score])
def test_scores_become_the_log_ratio_as_it_falls(score):
    u = jnp.array([-20.0, -100.0, -1e4])
    np.testing.assert_allclose(score(u), u, atol=1e-6)


def test_alpha_at_its_named_values():
    u = jnp.linspace(-3.0, 3.0, 7)
    np.testing.assert_allclose(alpha_score(u, alpha=1.0), u)
    np.testing.assert_allclose(alpha_score(u, alpha=0.0), forward_kl_score(u) + 1.0, atol=1e-5)
    slope = jax.vmap(jax.grad(partial(alpha_score, alpha=1.0)))(u)
    np.testing.assert_array_equal(slope, 1.0)
    traced = jax.jit(lambda u, alpha: alpha_score(u, alpha=alpha))(u, jnp.float32(1.0))
    np.testing.assert_allclose(traced, u)


@pytest.mark.parametrize(
    "score",
    [
        forward_kl_score,
        js_score,
        chi_squared_score,
        *(partial(alpha_score, alpha=a) for a in (-3.0, 0.0, 0.999, 1.0, 1.001, 4.0)),
    ],
)
def test_scores_are_finite_and_increasing_far_out(score):
    u = jnp.array([-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4])
    values, slopes = jax.vmap(jax.value_and_grad(score))(u)
    assert bool(jnp.all(jnp.isfinite(values) & jnp.isfinite(slopes)))
    assert bool(jnp.all(slopes >= 0))
    assert bool(jnp.all(jnp.diff(values) >= 0))
    zero = jnp.zeros(7)
    for beta in (1e-6, 1e3):
        loss = partial(f_dpo_loss, beta=beta, score=score)
        for swap in (False, True):
            four = (zero, u, zero, zero) if swap else (u, zero, zero, zero)
            grad = jax.grad(lambda *x, f=loss: jnp.sum(f(*x)), argnums=(0, 1))(*four)
            assert bool(jnp.all(jnp.isfinite(loss(*four))))
            assert all(bool(jnp.all(jnp.isfinite(g))) for g in grad)


def test_exponents_stop_at_forty():
    far = jnp.array([-1e4, -50.0])
    np.testing.assert_allclose(forward_kl_score(far), -np.exp(MAX_LOG_RATIO), rtol=1e-5)
    slope = jax.vmap(jax.grad(forward_kl_score))(far)
    np.testing.assert_array_equal(slope, 0.0)


def test_ld_logps_golden_numbers():
    # -1 - 2 - 4 / 2; the second answer is no longer than the shared length
    logps = ld_logps(TOKENS, MASK, jnp.array([2, 1]), alpha=0.5)
    np.testing.assert_allclose(logps, [-5.0, -0.5])
    # counted steps only: -2 in full, -4 / 2 beyond the first
    late = jnp.array([[False, True, True]])
    np.testing.assert_allclose(ld_logps(TOKENS[:1], late, jnp.array([1]), alpha=0.5), [-4.0])
    np.testing.assert_allclose(ld_logps(TOKENS[:1], late, jnp.array([0]), alpha=0.5), [-3.0])


@pytest.mark.long
def test_ld_dpo_is_dpo_at_alpha_one_and_on_equal_lengths():
    tokens = -jnp.exp(jax.random.normal(jax.random.key(0), (4, 5, 6)))
    lengths = jax.random.randint(jax.random.key(1), (2, 5), 1, 7)
    shared = jnp.min(lengths, axis=0)

    def sequences(lengths, reduce):
        masks = jnp.arange(6) < lengths[..., None]
        return [reduce(x, masks[i % 2]) for i, x in enumerate(tokens)]

    plain = dpo_loss(*sequences(lengths, sequence_logps), beta=0.3)
    ld = partial(ld_logps, shared_lengths=shared)
    one = dpo_loss(*sequences(lengths, partial(ld, alpha=1.0)), beta=0.3)
    np.testing.assert_allclose(one, plain, rtol=1e-5)
    half = dpo_loss(*sequences(lengths, partial(ld, alpha=0.5)), beta=0.3)
    differ = np.asarray(lengths[0] != lengths[1])
    assert differ.any()
    np.testing.assert_array_equal(np.abs(half - plain) > 1e-5, differ)
    equal = jnp.stack([shared, shared])
    same = dpo_loss(*sequences(equal, partial(ld, alpha=0.5)), beta=0.3)
    expected = dpo_loss(*sequences(equal, sequence_logps), beta=0.3)
    np.testing.assert_allclose(same, expected, rtol=1e-6)
    # alpha = 0: the tail is worth nothing, as if both answers stopped at the shared length
    cut = dpo_loss(*sequences(lengths, partial(ld, alpha=0.0)), beta=0.3)
    np.testing.assert_allclose(cut, expected, rtol=1e-6)


def test_discounted_logps_golden_numbers():
    # -1 - 2 / 2 - 4 / 4 and -0.5
    np.testing.assert_allclose(discounted_logps(TOKENS, MASK, gamma=0.5), [-3.0, -0.5])
    # t counts from the first counted step: -2 - 4 / 2
    late = jnp.array([[False, True, True]])
    np.testing.assert_allclose(discounted_logps(TOKENS[:1], late, gamma=0.5), [-4.0])
    whole = discounted_logps(TOKENS, MASK, gamma=1.0)
    np.testing.assert_allclose(whole, sequence_logps(TOKENS, MASK))


def test_weighted_logps_golden_numbers():
    weights = jnp.array([[1.0, 0.5, -1.0], [2.0, jnp.nan, 3.0]])
    # -1 - 1 + 4 and -1
    np.testing.assert_allclose(weighted_logps(TOKENS, MASK, weights), [2.0, -1.0])
    ones = weighted_logps(TOKENS, MASK, jnp.ones((2, 3)))
    np.testing.assert_allclose(ones, sequence_logps(TOKENS, MASK))
    decay = jnp.broadcast_to(0.5 ** jnp.arange(3.0), (2, 3))
    decayed = weighted_logps(TOKENS, MASK, decay)
    np.testing.assert_allclose(decayed, discounted_logps(TOKENS, MASK, gamma=0.5))


def draws(count):
    """Down-sampled log-probs of the first row for 600 keys, `count` steps each."""
    keys = jax.random.split(jax.random.key(0), 600)
    tokens = jnp.array([[-1.0, -2.0, -4.0, jnp.nan, -8.0]])
    mask = jnp.array([[True, True, True, False, True]])
    return jax.vmap(lambda key: sampled_logps(key, tokens, mask, jnp.array([count]))[0])(keys)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_sampled_logps_draw_every_subset_alike(count):
    """Powers of two: each sum names its subset; shares within 5 standard errors of uniform."""
    sums = [-sum(subset) for subset in combinations([1.0, 2.0, 4.0, 8.0], count)]
    values, times = np.unique(np.asarray(draws(count)), return_counts=True)
    np.testing.assert_array_equal(values, np.sort(sums))
    share = 1 / len(sums)
    error = np.sqrt(share * (1 - share) / 600)
    np.testing.assert_allclose(times / 600, share, atol=5 * error)
    # mean over keys: n / |y| times the sum
    spread = np.std(sums) / np.sqrt(600)
    np.testing.assert_allclose(np.mean(draws(count)), -15.0 * count / 4, atol=5 * spread)


def test_sampled_logps_keep_everything_or_nothing():
    for count, total in ((0, 0.0), (4, -15.0), (9, -15.0)):
        np.testing.assert_array_equal(draws(count), total)


def test_sampled_logps_of_an_empty_answer_are_zero():
    tokens, mask = jnp.full((2, 3), jnp.nan), jnp.zeros((2, 3), bool)
    key, counts = jax.random.key(0), jnp.array([0, 2])
    np.testing.assert_array_equal(sampled_logps(key, tokens, mask, counts), 0.0)
    grad = jax.grad(lambda x: jnp.sum(sampled_logps(key, x, mask, counts)))(tokens)
    np.testing.assert_array_equal(grad, 0.0)


def test_sampled_logps_lose_the_same_steps_under_policy_and_reference():
    key, counts = jax.random.key(3), jnp.array([2, 1])
    log_ratios = TOKENS - 3.0 * TOKENS
    gap = sampled_logps(key, TOKENS, MASK, counts) - sampled_logps(key, 3.0 * TOKENS, MASK, counts)
    np.testing.assert_allclose(gap, sampled_logps(key, log_ratios, MASK, counts))
    grad = jax.grad(lambda x: jnp.sum(sampled_logps(key, x, MASK, counts)))(TOKENS)
    np.testing.assert_array_equal(jnp.sum(grad, -1), counts)
    assert bool(jnp.all(jnp.where(MASK, True, grad == 0)))
    jitted = jax.jit(sampled_logps)(key, TOKENS, MASK, counts)
    np.testing.assert_array_equal(jitted, sampled_logps(key, TOKENS, MASK, counts))


LOGITS = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.8, 0.1, 0.1]]))


def test_wpo_weights_golden_numbers():
    logits = jnp.broadcast_to(LOGITS, (2, 3, 3))
    logps = token_logps(logits, jnp.array([[0, 1, 2], [0, 1, 0]]))
    mask = jnp.array([[True, True, False], [True, False, False]])
    weights = wpo_weights(logps, log_collision(logits), mask)
    # 0.5 / 0.375 = 4/3 and 0.25 / 0.375 = 2/3: the square root of 8/9, and 4/3
    np.testing.assert_allclose(weights, [np.sqrt(8 / 9), 4 / 3], rtol=1e-6)


@pytest.mark.long
def test_wpo_weights_of_certain_uniform_and_empty_answers_are_one():
    certain, uniform = jnp.array([0.0, -jnp.inf, -jnp.inf]), jnp.zeros(3)
    logits = jnp.stack([jnp.stack([certain] * 2), jnp.stack([uniform] * 2)])
    logps = token_logps(logits, jnp.zeros((2, 2), jnp.int32))
    ones = jnp.ones((2, 2), bool)
    np.testing.assert_allclose(wpo_weights(logps, log_collision(logits), ones), 1.0, rtol=1e-6)
    spoiled = jnp.full((2, 2), jnp.nan)
    np.testing.assert_array_equal(wpo_weights(spoiled, spoiled, ~ones), 1.0)


@pytest.mark.long
def test_wpo_weight_of_a_token_has_mean_one_on_policy():
    """sum_a pi(a) pi(a) / sum_v pi(v)^2 = 1, and less on what the policy rarely says."""
    probs = jax.nn.softmax(jax.random.normal(jax.random.key(0), (5, 4)))
    actions = jnp.arange(4)
    mask = jnp.ones((5, 4, 1), bool)
    logits = jnp.broadcast_to(jnp.log(probs)[:, None, None, :], (5, 4, 1, 4))
    logps = token_logps(logits, jnp.broadcast_to(actions[:, None], (5, 4, 1)))
    weights = wpo_weights(logps, log_collision(logits), mask)
    np.testing.assert_allclose(jnp.sum(probs * weights, -1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(jnp.argmin(weights, -1), jnp.argmin(probs, -1))


def test_wpo_weights_have_no_gradient_and_stay_finite():
    def total(logps, collisions):
        return jnp.sum(wpo_weights(logps, collisions, MASK))

    grads = jax.grad(total, argnums=(0, 1))(TOKENS, 2.0 * TOKENS)
    for grad in grads:
        np.testing.assert_array_equal(grad, 0.0)
    for far in (-1e4, 1e4):
        assert bool(jnp.isfinite(total(jnp.full((2, 3), far), jnp.zeros((2, 3)))))


def test_shapes_must_agree():
    errors = (AssertionError, jaxtyping.TypeCheckError)
    key, count = jax.random.key(0), jnp.array([1])
    for call in (
        lambda: ld_logps(TOKENS, MASK, count, alpha=0.5),
        lambda: sampled_logps(key, TOKENS, MASK, count),
        lambda: discounted_logps(TOKENS, MASK[:1], gamma=0.5),
        lambda: wpo_weights(TOKENS, TOKENS[:1], MASK),
    ):
        with pytest.raises(errors):
            call()
