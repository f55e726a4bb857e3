"""Log-probabilities of actions and of sequences."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.test_util import check_grads

from rlhf_jax.checks import entries
from rlhf_jax.ops.logprobs import (
    MAX_LOG_RATIO,
    entropy,
    log_collision,
    mean_logps,
    ratios,
    sequence_logps,
    token_logps,
)


def test_token_logps_golden_numbers():
    logits = jnp.log(jnp.array([[[0.75, 0.25], [0.1, 0.9]]])) + 5.0
    logps = token_logps(logits, jnp.array([[1, 1]]))
    # log 0.25 and log 0.9; a constant added to the logits changes nothing
    np.testing.assert_allclose(logps, [[-1.3862944, -0.1053605]], rtol=1e-5)


def test_the_log_prob_of_an_action_that_does_not_exist_is_nan():
    """Not that of the last one. It moves no logit: under a mask it may be anything."""
    logits, actions = jnp.zeros((3, 2)), jnp.array([-1, 2, 1])
    logps = token_logps(logits, actions)
    np.testing.assert_allclose(logps, [np.nan, np.nan, -0.6931472], rtol=1e-6)
    chosen = jax.grad(lambda x: jnp.sum(entries(x, actions=actions)))(logits)
    np.testing.assert_array_equal(chosen, [[0, 0], [0, 0], [0, 1]])


@pytest.mark.long
def test_token_logps_equal_log_softmax_over_any_leading_axes():
    logits = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    actions = jax.random.randint(jax.random.key(1), (2, 3, 4), 0, 5)
    expected = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    expected = np.take_along_axis(expected, np.asarray(actions)[..., None], -1)[..., 0]
    batched = token_logps(logits, actions)
    np.testing.assert_allclose(batched, expected, rtol=1e-5)
    mapped = jax.vmap(jax.vmap(token_logps))(logits, actions)
    np.testing.assert_allclose(mapped, batched, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(token_logps)(logits, actions), batched, rtol=1e-6)


def test_token_logps_keep_their_digits_under_a_large_offset():
    logits = jnp.array([[10_000.0, 9_999.0]])
    # -log(1 + e^-1); float32 next to 10,000 has steps of 0.001
    np.testing.assert_allclose(token_logps(logits, jnp.array([0])), [-0.3132617], rtol=1e-6)


def test_token_logps_are_float32_from_bfloat16():
    logps = token_logps(jnp.zeros((1, 3), jnp.bfloat16), jnp.array([2]))
    assert logps.dtype == jnp.float32
    np.testing.assert_allclose(logps, [-np.log(3.0)], rtol=1e-6)


@pytest.mark.long
def test_token_logps_gradient():
    """One-hot minus softmax, also with a forbidden action and with logits of 1e4."""
    logits = jnp.array([[0.2, -1.0, 0.5]])
    actions = jnp.array([1])
    # Finite differences come in as NumPy.
    check_grads(
        lambda x: token_logps(jnp.asarray(x), actions), (logits,), order=1, modes=["rev"], eps=1e-2
    )
    hard = jnp.array([[0.0, -jnp.inf, 0.0], [1e4, -1e4, 0.0]])
    grads = jax.grad(lambda x: jnp.sum(token_logps(x, jnp.array([0, 1]))))(hard)
    np.testing.assert_allclose(grads, [[0.5, 0.0, -0.5], [-1.0, 1.0, 0.0]], atol=1e-6)


def test_sequence_logps_golden_numbers():
    tokens = jnp.array([[-1.0, -2.0, -4.0], [-0.5, -8.0, -8.0], [-9.0, -9.0, -9.0]])
    mask = jnp.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]], bool)
    np.testing.assert_allclose(sequence_logps(tokens, mask), [-7.0, -0.5, 0.0])
    np.testing.assert_allclose(mean_logps(tokens, mask), [-7.0 / 3.0, -0.5, 0.0], rtol=1e-6)


@pytest.mark.parametrize("reduce", [sequence_logps, mean_logps])
def test_nothing_under_the_mask_matters(reduce):
    tokens = jnp.array([[-1.0, jnp.nan, -2.0, jnp.inf], [jnp.nan] * 4])
    mask = jnp.array([[1, 0, 1, 0], [0, 0, 0, 0]], bool)
    total, grad = jax.value_and_grad(lambda x: jnp.sum(reduce(x, mask)))(tokens)
    share = 1.0 if reduce is sequence_logps else 0.5
    assert total == -3.0 * share
    np.testing.assert_array_equal(grad, share * mask)


def test_ratios():
    np.testing.assert_allclose(ratios(jnp.log(jnp.array([0.3])), jnp.log(jnp.array([0.2]))), 1.5)
    far = jnp.array([1e4, -1e4])
    np.testing.assert_allclose(ratios(far, jnp.zeros(2)), [np.exp(MAX_LOG_RATIO), 0.0], rtol=1e-5)
    grad = jax.grad(lambda x: jnp.sum(ratios(x, jnp.zeros(2))))(far)
    np.testing.assert_array_equal(grad, 0.0)


def test_entropy_golden_numbers():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]))
    # 0.5 log 2 + 0.5 log 4 = 1.5 log 2; a certain action has none
    np.testing.assert_allclose(entropy(logits), [1.5 * np.log(2.0), 0.0], rtol=1e-6)
    np.testing.assert_allclose(entropy(jnp.zeros(7)), np.log(7.0), rtol=1e-6)


def test_entropy_gradient_survives_forbidden_actions():
    grad = jax.grad(entropy)(jnp.array([0.3, -jnp.inf, -0.2]))
    # dH/dz_a = -pi(a) (log pi(a) + H); over two actions with gap g: pi (1 - pi) g, negative up
    prob = 1 / (1 + np.exp(-0.5))
    slope = prob * (1 - prob) * 0.5
    np.testing.assert_allclose(grad, [-slope, 0.0, slope], rtol=1e-5)


def test_log_collision_golden_numbers():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])) + 3.0
    # log(0.25 + 0.0625 + 0.0625); a certain action always agrees with itself
    np.testing.assert_allclose(log_collision(logits), [np.log(0.375), 0.0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(log_collision(jnp.zeros(7)), -np.log(7.0), rtol=1e-6)
    np.testing.assert_allclose(log_collision(jnp.array([1e4, 1e4])), -np.log(2.0), rtol=1e-6)
    assert log_collision(jnp.zeros(3, jnp.bfloat16)).dtype == jnp.float32


def test_log_collision_gradient_survives_forbidden_actions():
    grad = jax.grad(log_collision)(jnp.log(jnp.array([0.75, 0.0, 0.25])))
    # 2 (pi(a)^2 / sum pi^2 - pi(a)): 2 (0.9 - 0.75) and 2 (0.1 - 0.25)
    np.testing.assert_allclose(grad, [0.3, 0.0, -0.3], rtol=1e-5)


@pytest.mark.parametrize("reduce", [sequence_logps, mean_logps])
def test_shapes_must_agree(reduce):
    errors = (AssertionError, jaxtyping.TypeCheckError)
    with pytest.raises(errors):
        reduce(jnp.zeros((2, 3)), jnp.ones((1, 3), bool))
    with pytest.raises(errors):
        token_logps(jnp.zeros((2, 3, 4)), jnp.zeros((2, 2), jnp.int32))
