"""ROPO, mixtures, Dr. DPO, group weights, batch-level beta: by hand and in their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.preference import (
    batch_beta,
    dpo_loss,
    dr_dpo,
    group_weights,
    mixture_loss,
    ropo_loss,
)

LOSSES = jnp.array([0.0, 1.0, 3.0])


def ropo_of(margins, alpha):
    zero = jnp.zeros_like(margins)
    return ropo_loss(margins, zero, zero, zero, beta=1.0, alpha=alpha)


def test_ropo_by_hand():
    # 3/4 (0.3132617 + 3 * 0.2689414) and 3/4 (0.9740770 + 3 * 0.6224593)
    losses = ropo_of(jnp.array([1.0, -0.5]), 3.0)
    np.testing.assert_allclose(losses, [0.8400645, 2.1310912], rtol=1e-6)
    # D = (-1 + 2) - (-3 + 2) = 2
    pair = (jnp.float32(x) for x in (-1.0, -3.0, -2.0, -2.0))
    np.testing.assert_allclose(ropo_loss(*pair, beta=0.5, alpha=3.0), losses[0], rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("alpha", [1.0, 3.0, 14.0])
def test_ropo_pulls_with_one_at_most_and_less_at_what_it_cannot_believe(alpha):
    """Slopes in the margin: -1 at sigmoid(z) = (alpha - 1) / (2 alpha), the factor far below."""
    share = (alpha - 1.0) / (2.0 * alpha)
    slope = jax.vmap(jax.grad(lambda z: ropo_of(z, alpha)))
    steepest = jnp.log(share) - jnp.log1p(-share)
    others = jnp.linspace(-30.0, 30.0, 101)
    np.testing.assert_allclose(slope(jnp.maximum(steepest, -30.0)[None]), -1.0, rtol=1e-5)
    assert bool(jnp.all((slope(others) >= -1.0 - 1e-6) & (slope(others) <= 0.0)))
    np.testing.assert_allclose(slope(others[:1]), -4 * alpha / (1 + alpha) ** 2, rtol=1e-5)


def test_ropo_of_a_clear_pair_is_a_multiple_of_dpo():
    """4 alpha / (1 + alpha) times, in value and slope, up to exp(-z)."""
    with jax.enable_x64(True):
        zero, margin = jnp.zeros(()), jnp.asarray(15.0)
        got = jax.value_and_grad(lambda z: ropo_of(z, 3.0))(margin)
        want = jax.value_and_grad(lambda z: dpo_loss(z, zero, zero, zero, beta=1.0))(margin)
    np.testing.assert_allclose(got, 3.0 * np.asarray(want), rtol=1e-6)


def test_ropo_of_both_labels_differs_from_dpo_by_a_constant():
    """sigmoid(z) + sigmoid(-z) = 1: the part that bounds the pull is blind to balanced flips."""
    margins = jnp.array([-4.0, -1.0, 0.0, 2.0])
    zero = jnp.zeros(4)
    dpo = dpo_loss(margins, zero, zero, zero, beta=1.0)
    both = ropo_of(margins, 3.0) + ropo_of(-margins, 3.0)
    flipped = dpo_loss(zero, margins, zero, zero, beta=1.0)
    np.testing.assert_allclose(both, 0.75 * (dpo + flipped + 3.0), rtol=1e-6)


def test_mixture_by_hand():
    """-log(1/4 + 3/4 e^-1) = -log 0.5259096; the slopes are the shares 0.25 and 0.2759096 of it."""
    weights = jnp.array([0.25, 0.75])
    loss, slopes = jax.value_and_grad(mixture_loss)(jnp.array([0.0, 1.0]), weights)
    np.testing.assert_allclose(loss, 0.6426260, rtol=1e-6)
    np.testing.assert_allclose(slopes, [0.4753669, 0.5246331], rtol=1e-6)


@pytest.mark.long
def test_mixture_in_its_limits():
    weights = jnp.array([0.2, 0.5, 0.3])
    robustified = dr_dpo(LOSSES, weights, temperature=1.0)
    np.testing.assert_allclose(mixture_loss(LOSSES, weights), robustified, rtol=1e-6)
    np.testing.assert_allclose(mixture_loss(jnp.full(3, 0.7), weights), 0.7, rtol=1e-6)
    np.testing.assert_allclose(mixture_loss(LOSSES[2:], jnp.ones(1)), 3.0, rtol=1e-6)
    alone = jnp.array([jnp.nan, 1.0, jnp.nan])
    loss, slopes = jax.value_and_grad(mixture_loss)(alone, jnp.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose([loss, *slopes], [1.0, 0.0, 1.0, 0.0], rtol=1e-6)


@pytest.mark.long
def test_mixture_over_labels_is_least_at_the_mixture_that_made_them():
    """Two groups in known shares prefer the first answer with chances p and 1 - p of two people."""
    with jax.enable_x64(True):
        margins, shares = jnp.array([1.5, -0.4]), jnp.array([0.3, 0.7])

        def losses(margins, first_wins):
            """[G] losses of a person who judged the pair twice, first_wins times for the first."""
            zero = jnp.zeros(2)
            won = dpo_loss(margins, zero, zero, zero, beta=1.0)
            lost = dpo_loss(zero, margins, zero, zero, beta=1.0)
            return first_wins * won + (2 - first_wins) * lost

        def population(guess):
            wins = (0, 1, 1, 2)  # of the four pairs of verdicts
            laws = jnp.exp(-jnp.stack([mixture_loss(losses(margins, w), shares) for w in wins]))
            guesses = jnp.stack([mixture_loss(losses(guess, w), shares) for w in wins])
            np.testing.assert_allclose(jnp.sum(laws), 1.0, rtol=1e-12)
            return jnp.sum(laws * guesses)

        slope = jax.grad(population)
        np.testing.assert_allclose(slope(margins), 0.0, atol=1e-12)
        assert float(jnp.max(jnp.abs(slope(margins + 0.5)))) > 1e-2


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
    for temperature in (1e-6, 1e-38):  # XLA takes the last for 0
        np.testing.assert_allclose(dr_dpo(LOSSES + 2.0, temperature=temperature), 2.0, rtol=1e-5)


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


@pytest.mark.long
def test_the_policy_gets_no_gradient_through_weights_or_beta():
    margins = jnp.array([1.0, 3.0])
    slopes = jax.grad(lambda m: batch_beta(m, beta=0.1, alpha=0.5, target=1.0))(margins)
    np.testing.assert_array_equal(slopes, 0.0)
    slopes = jax.grad(lambda x: group_weights(jnp.array([0.5, 0.5]), x, eta=0.5)[0])(margins)
    np.testing.assert_array_equal(slopes, 0.0)
