"""Dr. DPO, group weights and batch-level beta by hand and in their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.preference import batch_beta, dr_dpo, group_weights

LOSSES = jnp.array([0.0, 1.0, 3.0])


def test_dr_dpo_by_hand():
    # -log((1 + e^-1 + e^-3) / 3) = -log(1.4176665 / 3)
    np.testing.assert_allclose(dr_dpo(LOSSES, temperature=1.0), 0.7496001, rtol=1e-6)
    # weights 1 and 3: -log((1 + 3 e^-1) / 4)
    weighted = dr_dpo(LOSSES[:2], jnp.array([1.0, 3.0]), temperature=1.0)
    np.testing.assert_allclose(weighted, 0.6426260, rtol=1e-6)


@pytest.mark.parametrize("temperature", [1e6, 1e4])
def test_dr_dpo_of_a_large_temperature_is_the_mean(temperature):
    """Whose digits survive: mean - variance / (2 b'), 4 / 3 and 14 / 9."""
    expected = 4 / 3 - 14 / 9 / (2 * temperature)
    np.testing.assert_allclose(dr_dpo(LOSSES, temperature=temperature), expected, rtol=1e-6)


def test_dr_dpo_of_a_small_temperature_is_the_least_loss():
    # the share of it remains: b' log 3
    np.testing.assert_allclose(dr_dpo(LOSSES + 2.0, temperature=0.01), 2.0109861, rtol=1e-6)
    np.testing.assert_allclose(dr_dpo(LOSSES + 2.0, temperature=1e-6), 2.0, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1e-3, 0.7, 1e3])
def test_dr_dpo_weighs_a_pair_by_how_well_it_is_believed(temperature):
    """Slope exp(-l_i / b') / sum_j exp(-l_j / b'): the pair of largest loss pulls least."""
    slopes = jax.grad(lambda x: dr_dpo(x, temperature=temperature))(LOSSES)
    np.testing.assert_allclose(slopes, jax.nn.softmax(-LOSSES / temperature), atol=1e-6)


def test_dr_dpo_is_monotone_in_the_temperature():
    values = jax.vmap(lambda t: dr_dpo(LOSSES, temperature=t))(jnp.array([0.01, 0.1, 1.0, 10.0]))
    assert bool(jnp.all(jnp.diff(values) > 0))


def test_dr_dpo_never_sees_what_has_no_weight():
    losses = jnp.array([0.0, 1.0, 3.0, jnp.nan, -1e4])
    weights = jnp.array([1.0, 1.0, 1.0, 0.0, 0.0])
    value, slopes = jax.value_and_grad(lambda x: dr_dpo(x, weights, temperature=1.0))(losses)
    np.testing.assert_allclose(value, 0.7496001, rtol=1e-6)
    np.testing.assert_allclose(slopes[:3], jax.nn.softmax(-LOSSES), rtol=1e-5)
    np.testing.assert_array_equal(slopes[3:], 0.0)
    nothing, slopes = jax.value_and_grad(lambda x: dr_dpo(x, 0.0 * weights, temperature=1.0))(
        losses
    )
    np.testing.assert_array_equal(nothing, 0.0)
    np.testing.assert_array_equal(slopes, 0.0)


@pytest.mark.parametrize("temperature", [1e-6, 1.0, 1e6])
def test_dr_dpo_far_out(temperature):
    losses = jnp.array([-1e4, 0.0, 1e4])
    value, slopes = jax.value_and_grad(lambda x: dr_dpo(x, temperature=temperature))(losses)
    assert jnp.isfinite(value)
    assert bool(jnp.all(jnp.isfinite(slopes)))
    np.testing.assert_allclose(jnp.sum(slopes), 1.0, rtol=1e-5)


def test_group_weights_by_hand():
    # exp(log 2 * (1, 0)) = 2 : 1
    weights = group_weights(jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0]), eta=np.log(2.0).item())
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3], rtol=1e-6)


def test_group_weights_stand_still_without_a_step_or_a_difference():
    weights = jnp.array([0.2, 0.5, 0.3])
    np.testing.assert_allclose(group_weights(weights, LOSSES, eta=0.0), weights, rtol=1e-6)
    np.testing.assert_allclose(
        group_weights(weights, jnp.full(3, 0.7), eta=2.0), weights, rtol=1e-6
    )


def test_group_weights_go_to_the_worst_group_and_zero_stays_zero():
    weights = jnp.array([0.5, 0.5, 0.0])
    for _ in range(50):
        weights = group_weights(weights, jnp.array([0.3, 0.8, 2.0]), eta=0.5)
    np.testing.assert_allclose(weights, [0.0, 1.0, 0.0], atol=1e-4)
    extreme = group_weights(jnp.array([0.5, 0.5]), jnp.array([1e4, -1e4]), eta=1.0)
    np.testing.assert_array_equal(extreme, [1.0, 0.0])


def test_group_weights_play_the_game_to_its_value():
    """min_x max(x, 1 - x): both players by gradient, on average x = 1/2 and weights (1/2, 1/2)."""

    def step(state, _):
        x, weights = state
        weights = group_weights(weights, jnp.stack([x, 1.0 - x]), eta=0.05)
        x = x - 0.02 * (weights[0] - weights[1])
        return (x, weights), jnp.stack([x, weights[0]])

    start = (jnp.float32(0.8), jnp.array([0.5, 0.5]))
    _, played = jax.lax.scan(step, start, None, length=4000)
    assert float(jnp.max(played[:, 1])) > 0.6  # it does move
    np.testing.assert_allclose(jnp.mean(played, axis=0), 0.5, atol=0.01)


def test_batch_beta_by_hand():
    margins = jnp.array([1.0, 3.0])
    # 0.1 (1 + 0.5 (2 - 1)), 0.1 (1 + 0.5 (2 - 3))
    assert batch_beta(margins, beta=0.1, alpha=0.5, target=1.0) == pytest.approx(0.15)
    assert batch_beta(margins, beta=0.1, alpha=0.5, target=3.0) == pytest.approx(0.05)
    assert batch_beta(margins, beta=0.1, alpha=0.0, target=3.0) == pytest.approx(0.1)
    assert batch_beta(margins, beta=0.1, alpha=5.0, target=9.0) == pytest.approx(1e-3)
    weighted = batch_beta(
        jnp.array([1.0, 3.0, jnp.nan]),
        jnp.array([3.0, 1.0, 0.0]),
        beta=0.1,
        alpha=0.5,
        target=1.0,
    )
    assert weighted == pytest.approx(0.125)  # mean 1.5


def test_the_policy_gets_no_gradient_through_weights_or_beta():
    margins = jnp.array([1.0, 3.0])
    slopes = jax.grad(lambda m: batch_beta(m, beta=0.1, alpha=0.5, target=1.0))(margins)
    np.testing.assert_array_equal(slopes, 0.0)
    slopes = jax.grad(lambda x: group_weights(jnp.array([0.5, 0.5]), x, eta=0.5)[0])(margins)
    np.testing.assert_array_equal(slopes, 0.0)
