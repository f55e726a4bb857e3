"""KL divergences: golden numbers, and each estimator against enumeration."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.ops.kl import exact_kl, k1, k2, k3

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
