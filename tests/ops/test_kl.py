"""KL divergences: golden numbers, and each estimator against enumeration."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.losses.policy_gradient import reinforce_loss
from rlhf_jax.ops.kl import (
    adapted_beta,
    exact_kl,
    forward_kl_surrogate,
    k1,
    k2,
    k3,
    reverse_kl_surrogate,
    score_function_kl_surrogate,
)

LOGITS = jnp.array([0.4, -1.0, 0.9, 0.1])
REF_LOGITS = jnp.array([-0.3, 0.2, 0.0, 0.5])


def expectation(estimator, logits):
    """Mean of the estimator over every action, each with its probability (which gets no slope)."""
    logps = jax.nn.log_softmax(logits)
    probs = jax.lax.stop_gradient(jnp.exp(logps))
    return jnp.sum(probs * estimator(logps, jax.nn.log_softmax(REF_LOGITS)))


def test_exact_kl_golden_number():
    logits, ref_logits = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
    # 0.5 log(0.5 / 0.25) + 0.5 log(0.5 / 0.75) = 0.5 * 0.6931472 - 0.5 * 0.4054651
    np.testing.assert_allclose(exact_kl(logits, ref_logits), 0.1438410, rtol=1e-5)
    # the other direction: 0.25 log 0.5 + 0.75 log 1.5 = -0.1732868 + 0.3040988
    np.testing.assert_allclose(exact_kl(ref_logits, logits), 0.1308120, rtol=1e-5)


def test_exact_kl_where_mass_is_missing():
    inf = jnp.inf
    point, fair = jnp.array([0.0, -inf]), jnp.zeros(2)
    np.testing.assert_allclose(exact_kl(point, fair), np.log(2.0), rtol=1e-6)
    assert exact_kl(fair, point) == inf
    assert exact_kl(point, point) == 0.0


def test_estimators_golden_numbers():
    logps, ref_logps = jnp.log(jnp.array([0.5, 0.25])), jnp.log(jnp.array([0.25, 0.5]))
    # log 2 = 0.6931472; halved square 0.2402265; 0.5 - 1 + log 2 and 2 - 1 - log 2
    np.testing.assert_allclose(k1(logps, ref_logps), [0.6931472, -0.6931472], rtol=1e-6)
    np.testing.assert_allclose(k2(logps, ref_logps), [0.2402265, 0.2402265], rtol=1e-6)
    np.testing.assert_allclose(k3(logps, ref_logps), [0.1931472, 0.3068528], rtol=1e-6)


@pytest.mark.parametrize("estimator", [k1, k3])
def test_k1_and_k3_are_unbiased(estimator):
    exact = exact_kl(LOGITS, REF_LOGITS)
    np.testing.assert_allclose(expectation(estimator, LOGITS), exact, rtol=1e-5)


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_k2_of_a_shifted_gaussian_is_above_the_divergence(shift):
    """l = m e + m^2 / 2 for e ~ N(0, 1): E l^2 / 2 = m^2 / 2 + m^4 / 8, the divergence m^2 / 2."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / weights.sum()
    logps, ref_logps = jnp.asarray(-(nodes**2) / 2), jnp.asarray(-((nodes + shift) ** 2) / 2)
    for estimator, expected in (
        (k1, shift**2 / 2),
        (k2, shift**2 / 2 + shift**4 / 8),
        (k3, shift**2 / 2),
    ):
        found = np.sum(weights * np.asarray(estimator(logps, ref_logps)))
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_k2_is_biased_and_close_only_near_the_reference():
    exact = exact_kl(LOGITS, REF_LOGITS)
    assert abs(expectation(k2, LOGITS) - exact) > 0.01 * exact
    near = REF_LOGITS + 0.01 * LOGITS
    np.testing.assert_allclose(expectation(k2, near), exact_kl(near, REF_LOGITS), rtol=0.02)


def forward_kl(logits):
    return exact_kl(REF_LOGITS, logits)


def reverse_kl(logits):
    return exact_kl(logits, REF_LOGITS)


@pytest.mark.parametrize(
    ("estimator", "target"),
    [(k1, lambda logits: 0.0 * jnp.sum(logits)), (k2, reverse_kl), (k3, forward_kl)],
    ids=["k1 -> 0", "k2 -> reverse", "k3 -> forward"],
)
def test_expected_gradients_as_losses(estimator, target):
    grad = jax.grad(lambda logits: expectation(estimator, logits))(LOGITS)
    np.testing.assert_allclose(grad, jax.grad(target)(LOGITS), atol=1e-6)


def test_k1_as_a_reward_has_the_gradient_of_the_reverse_kl():
    logps = jax.nn.log_softmax(LOGITS)
    penalty = k1(logps, jax.nn.log_softmax(REF_LOGITS))
    grad = jax.grad(lambda x: jnp.sum(jnp.exp(logps) * penalty * jax.nn.log_softmax(x)))(LOGITS)
    np.testing.assert_allclose(grad, jax.grad(reverse_kl)(LOGITS), atol=1e-6)


def test_k3_is_never_negative_and_exact_at_zero():
    logps = jnp.linspace(-5, 0, 101)
    assert bool(jnp.all(k3(logps, jnp.full(101, -2.5)) >= 0))
    np.testing.assert_array_equal(k3(logps, logps), 0.0)


@pytest.mark.parametrize("estimator", [k1, k2, k3])
def test_estimators_are_finite_at_extremes(estimator):
    logps, ref_logps = jnp.array([-1e4, 0.0]), jnp.array([0.0, -1e4])
    grad = jax.grad(lambda x: jnp.sum(estimator(x, ref_logps)))(logps)
    assert bool(jnp.all(jnp.isfinite(estimator(logps, ref_logps))))
    assert bool(jnp.all(jnp.isfinite(grad)))


@pytest.mark.parametrize("divergence", [exact_kl, k1, k2, k3])
def test_shapes_must_agree(divergence):
    with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
        divergence(jnp.zeros((2, 3)), jnp.zeros((1, 3)))


SURROGATES = [reverse_kl_surrogate, score_function_kl_surrogate, forward_kl_surrogate]
every_surrogate = pytest.mark.parametrize("surrogate", SURROGATES)


@pytest.mark.parametrize(
    ("surrogate", "target"),
    [
        (reverse_kl_surrogate, reverse_kl),
        (score_function_kl_surrogate, reverse_kl),
        (forward_kl_surrogate, forward_kl),
    ],
)
def test_expected_gradients_of_surrogates(surrogate, target):
    grad = jax.grad(lambda logits: expectation(surrogate, logits))(LOGITS)
    np.testing.assert_allclose(grad, jax.grad(target)(LOGITS), atol=1e-6)


@pytest.mark.parametrize(
    ("surrogate", "target"),
    [(reverse_kl_surrogate, reverse_kl), (forward_kl_surrogate, forward_kl)],
)
def test_expected_values_of_surrogates(surrogate, target):
    np.testing.assert_allclose(expectation(surrogate, LOGITS), target(LOGITS), rtol=1e-5)


def slopes(estimator, logps, ref_logps):
    """d estimator / d log pi at each sample."""
    return jax.grad(lambda x: jnp.sum(estimator(x, ref_logps)))(logps)


def test_surrogates_golden_numbers():
    logps, ref_logps = jnp.log(jnp.array([0.5, 0.25])), jnp.log(jnp.array([0.25, 0.5]))
    # gaps log 2 and -log 2; values are those of k3: 0.5 - 1 + log 2, 2 - 1 - log 2
    value = reverse_kl_surrogate(logps, ref_logps)
    np.testing.assert_allclose(value, [0.1931472, 0.3068528], rtol=1e-6)
    slope = slopes(reverse_kl_surrogate, logps, ref_logps)
    np.testing.assert_allclose(slope, [0.6931472, -0.6931472], rtol=1e-6)
    # log 2 * log 0.5 and -log 2 * log 0.25
    value = score_function_kl_surrogate(logps, ref_logps)
    np.testing.assert_allclose(value, [-0.4804530, 0.9609060], rtol=1e-6)
    # w = 1/2 and 2: -0.5 log 2 + 0.5 and 2 log 2 - 1; slopes 1 - w
    value = forward_kl_surrogate(logps, ref_logps)
    np.testing.assert_allclose(value, [0.1534264, 0.3862944], rtol=1e-6)
    np.testing.assert_allclose(slopes(forward_kl_surrogate, logps, ref_logps), [0.5, -1.0])


@pytest.mark.long
def test_surrogates_share_the_gradients_and_values_they_are_made_of():
    logps, ref_logps = jax.random.uniform(jax.random.key(0), (2, 50), minval=-4.0, maxval=0.0)
    np.testing.assert_array_equal(reverse_kl_surrogate(logps, ref_logps), k3(logps, ref_logps))
    squared = slopes(k2, logps, ref_logps)
    for surrogate in (reverse_kl_surrogate, score_function_kl_surrogate):
        np.testing.assert_allclose(slopes(surrogate, logps, ref_logps), squared, rtol=1e-6)
    np.testing.assert_allclose(
        slopes(forward_kl_surrogate, logps, ref_logps), slopes(k3, logps, ref_logps), rtol=1e-5
    )
    penalty = reinforce_loss(logps, -k1(logps, ref_logps))
    np.testing.assert_array_equal(score_function_kl_surrogate(logps, ref_logps), penalty)


@every_surrogate
def test_surrogates_give_the_reference_no_gradient(surrogate):
    logps, ref_logps = jnp.array([-1.0, -2.0]), jnp.array([-0.5, -3.0])
    grad = jax.grad(lambda x: jnp.sum(surrogate(logps, x)))(ref_logps)
    np.testing.assert_array_equal(grad, 0.0)


@every_surrogate
def test_surrogates_at_the_reference_and_at_extremes(surrogate):
    same = jnp.array([-0.3, -7.0])
    np.testing.assert_array_equal(slopes(surrogate, same, same), 0.0)
    far, ref = jnp.array([-1e4, 0.0]), jnp.array([0.0, -1e4])
    value, slope = surrogate(far, ref), slopes(surrogate, far, ref)
    assert bool(jnp.all(jnp.isfinite(value)))
    assert bool(jnp.all(jnp.isfinite(slope)))
    assert slope[0] < 0 < slope[1]  # descent brings pi back to the reference
    deep = surrogate(far[:, None], ref[:, None])
    np.testing.assert_array_equal(deep[:, 0], value)
    np.testing.assert_allclose(jax.jit(surrogate)(far, ref), value, rtol=1e-6)


@every_surrogate
def test_shapes_of_surrogates_must_agree(surrogate):
    with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
        surrogate(jnp.zeros((2, 3)), jnp.zeros((1, 3)))


def test_exact_kl_keeps_float64_and_lifts_bfloat16():
    logits = jnp.array([0.5, 1.0, -2.0])
    assert exact_kl(logits.astype(jnp.bfloat16), logits).dtype == jnp.float32
    with jax.enable_x64(True):
        p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
        kl = exact_kl(jnp.log(p), jnp.log(q))
        np.testing.assert_allclose(kl, np.sum(p * np.log(p / q)), rtol=1e-14)


@pytest.mark.parametrize(
    ("kl", "want"),
    [
        (5.5, 0.101),  # error 0.1, times the gain 0.1
        (60.0, 0.102),  # error 11, cut to 0.2
        (0.0, 0.098),  # error -1, cut to -0.2
        (5.0, 0.1),
    ],
)
def test_beta_follows_the_kl_that_is_wanted(kl, want):
    assert float(adapted_beta(0.1, kl, target=5.0)) == pytest.approx(want, rel=1e-6)
