"""SFT, DFT, SimPO and their relatives: by hand, in their limits, at their optimum."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.losses import links
from rlhf_jax.losses.preference.pairs import dpo_loss
from rlhf_jax.losses.preference.reference_free import (
    alpha_po_loss,
    cpo_loss,
    dft_loss,
    odds_ratio_loss,
    orpo_loss,
    sft_loss,
    simper_loss,
    simpo_loss,
    slic_loss,
)
from rlhf_jax.ops.logprobs import mean_logps, sequence_logps

HALF, QUARTER = np.log(0.5), np.log(0.25)
# mean log-probs of two pairs: (log 1/2, log 1/4) and (-2, -1)
CHOSEN = jnp.array([HALF, -2.0], jnp.float32)
REJECTED = jnp.array([QUARTER, -1.0], jnp.float32)

logps = st.lists(st.floats(-12.0, -0.0625, width=32), min_size=4, max_size=4)
properties = settings(derandomize=True, deadline=None, max_examples=25)


def slopes(loss, *arrays):
    """Gradient of the summed loss to each array."""
    return jax.grad(lambda *x: jnp.sum(loss(*x)), argnums=tuple(range(len(arrays))))(*arrays)


def test_sft_golden_numbers():
    np.testing.assert_allclose(sft_loss(jnp.array([-1.5, 0.0])), [1.5, 0.0])


def test_dft_golden_numbers():
    # -1/2 log 1/2 = log 2 / 2, -e^-2 (-2) = 0.2706706, and nothing to learn from certainty.
    logps = jnp.array([HALF, -2.0, 0.0], jnp.float32)
    np.testing.assert_allclose(dft_loss(logps), [0.3465736, 0.2706706, 0.0], rtol=1e-6)
    np.testing.assert_allclose(slopes(dft_loss, logps), [[-0.5, -0.1353353, -1.0]], rtol=1e-6)


def test_simpo_golden_numbers():
    # z = 2 (-log 2 + 2 log 2) - 0.5 = 0.8862944 and 2 (-1) - 0.5 = -2.5;
    # log(1 + e^-0.8862944) = log(1 + 0.4121803) = 0.3451348, log(1 + e^2.5) = 2.5788895
    losses = simpo_loss(CHOSEN, REJECTED, beta=2.0, gamma=0.5)
    np.testing.assert_allclose(losses, [0.3451348, 2.5788895], rtol=1e-5)
    # 0.9 of that and 0.1 of itself plus z: log(1 + e^z) = log(1 + e^-z) + z
    smoothed = simpo_loss(CHOSEN, REJECTED, beta=2.0, gamma=0.5, label_smoothing=0.1)
    np.testing.assert_allclose(
        smoothed, [0.3451348 + 0.1 * 0.8862944, 2.5788895 - 0.1 * 2.5], rtol=1e-5
    )


def test_alpha_po_golden_numbers():
    # alpha = 1: 1 - 1/p, so 1 - 2 = -1 and 1 - 4 = -3; z = 0.5 * 2 - 0.1 = 0.9
    # log(1 + e^-0.9) = log 1.4065697 = 0.3411537
    loss = alpha_po_loss(CHOSEN[:1], REJECTED[:1], beta=0.5, gamma=0.1, alpha=1.0)
    np.testing.assert_allclose(loss, [0.3411537], rtol=1e-5)
    # alpha = -1: p - 1, gap 1/4; z = 4 / 4 = 1: log(1 + e^-1) = 0.3132617
    loss = alpha_po_loss(CHOSEN[:1], REJECTED[:1], beta=4.0, gamma=0.0, alpha=-1.0)
    np.testing.assert_allclose(loss, [0.3132617], rtol=1e-5)


def test_cpo_golden_numbers():
    # z = 0.5 * 2 = 1 and -0.5: as for DPO, log(1 + e^-1) = 0.3132617 and log(1 + e^0.5) = 0.9740770
    chosen, rejected = jnp.array([-1.0, -2.0]), jnp.array([-3.0, -1.0])
    losses = cpo_loss(chosen, rejected, beta=0.5)
    np.testing.assert_allclose(losses, [0.3132617, 0.9740770], rtol=1e-6)


def test_orpo_golden_numbers():
    # odds 1 and 1/3: log odds ratio log 3, -log sigmoid(log 3) = -log(3/4) = 0.2876821
    losses = odds_ratio_loss(CHOSEN[:1], REJECTED[:1])
    np.testing.assert_allclose(losses, [0.2876821], rtol=1e-6)
    # log 2 + 0.1 * 0.2876821 = 0.7219154
    losses = orpo_loss(CHOSEN[:1], REJECTED[:1], beta=0.1)
    np.testing.assert_allclose(losses, [0.7219154], rtol=1e-6)


def test_dft_climbs_the_probability_itself():
    """To logits: pi times the gradient of SFT, which is the gradient of -pi."""
    logits = jnp.array([[0.4, -1.0, 0.9], [2.0, -7.0, 0.0]])

    def grad(loss):
        return jax.grad(lambda x: jnp.sum(loss(jax.nn.log_softmax(x)[:, 1])))(logits)

    probs = jax.nn.softmax(logits)[:, 1:2]
    np.testing.assert_allclose(grad(dft_loss), probs * grad(sft_loss), rtol=1e-5)
    np.testing.assert_allclose(grad(dft_loss), grad(lambda x: -jnp.exp(x)), rtol=1e-5, atol=1e-8)


@properties
@given(logps)
def test_dft_never_outweighs_sft(tokens):
    tokens = jnp.array(tokens)
    (ours,), (full,) = slopes(dft_loss, tokens), slopes(sft_loss, tokens)
    np.testing.assert_allclose(ours, np.exp(tokens) * full, rtol=1e-5)
    assert np.all(np.abs(ours) < np.abs(full))


def test_odds_ratio_golden_gradient():
    """d log odds / d a = 1 / (1 - p): 2 and 4/3; d L = -sigmoid(-log 3) = -1/4 of it."""
    grads = slopes(odds_ratio_loss, CHOSEN[:1], REJECTED[:1])
    np.testing.assert_allclose(grads, [[-0.5], [1 / 3]], rtol=1e-5)


def test_simper_golden_numbers():
    # -1/2 + 1/4, -e^-2 + e^-1 = -0.1353353 + 0.3678794
    losses = simper_loss(CHOSEN, REJECTED)
    np.testing.assert_allclose(losses, [-0.25, 0.2325441], rtol=1e-5)


def test_slic_golden_numbers():
    # gaps 2 and -1: max(0, 0.5 - 2) and 0.5 + 1
    chosen, rejected = jnp.array([-1.0, -2.0]), jnp.array([-3.0, -1.0])
    np.testing.assert_allclose(slic_loss(chosen, rejected, delta=0.5), [0.0, 1.5], rtol=1e-6)
    grads = slopes(partial(slic_loss, delta=0.5), chosen, rejected)
    np.testing.assert_array_equal(grads, [[0.0, -1.0], [0.0, 1.0]])


def test_simpo_without_margin_is_the_logistic_link_of_mean_log_probs():
    """Also DPO of mean log-probs with any reference that does not tell the answers apart."""
    losses = simpo_loss(CHOSEN, REJECTED, beta=2.0, gamma=0.0)
    np.testing.assert_allclose(losses, links.logistic(2.0 * (CHOSEN - REJECTED)), rtol=1e-6)
    reference = jnp.array([-3.0, -0.5])
    dpo = dpo_loss(CHOSEN, REJECTED, reference, reference, beta=2.0)
    np.testing.assert_allclose(losses, dpo, rtol=1e-6)


def test_simpo_of_equal_lengths_is_cpo_with_beta_over_the_length():
    tokens = -jnp.exp(jax.random.normal(jax.random.key(0), (2, 3, 4)))
    mask = jnp.ones((3, 4), bool)
    means = [mean_logps(x, mask) for x in tokens]
    sums = [sequence_logps(x, mask) for x in tokens]
    np.testing.assert_allclose(
        simpo_loss(*means, beta=2.0, gamma=0.0), cpo_loss(*sums, beta=0.5), rtol=1e-5
    )


def test_cpo_is_dpo_with_a_uniform_reference():
    uniform = jnp.full_like(CHOSEN, -7.0)
    np.testing.assert_allclose(
        cpo_loss(CHOSEN, REJECTED, beta=0.3),
        dpo_loss(CHOSEN, REJECTED, uniform, uniform, beta=0.3),
        rtol=1e-6,
    )


def test_alpha_po_is_simpo_as_alpha_vanishes():
    """Of first order in alpha, and exact at 0, with its gradient."""
    fixed = {"beta": 2.0, "gamma": 0.5}
    step = partial(jax.value_and_grad, argnums=(0, 1))
    expected = step(lambda *x: jnp.sum(simpo_loss(*x, **fixed)))(CHOSEN, REJECTED)

    def alpha_po(alpha):
        loss = partial(alpha_po_loss, **fixed, alpha=alpha)
        return step(lambda *x: jnp.sum(loss(*x)))(CHOSEN, REJECTED)

    jax.tree.map(np.testing.assert_array_equal, alpha_po(0.0), expected)
    jax.tree.map(np.testing.assert_array_equal, alpha_po(jnp.float32(0.0)), expected)
    deviations = [abs(float(alpha_po(alpha)[0] - expected[0])) for alpha in (0.1, 0.01, 0.001)]
    assert 0 < deviations[2] < 1e-2
    np.testing.assert_allclose(deviations[0] / deviations[1], 10.0, rtol=0.2)
    np.testing.assert_allclose(deviations[1] / deviations[2], 10.0, rtol=0.1)


def test_simper_is_the_slope_of_alpha_po_at_its_foot():
    """alpha = -1 makes the reward p - 1, and L = log 2 - beta gap / 2 + O(beta^2)."""
    with jax.enable_x64(True):
        chosen, rejected = CHOSEN.astype(jnp.float64), REJECTED.astype(jnp.float64)
        losses = alpha_po_loss(chosen, rejected, beta=1e-5, gamma=0.0, alpha=-1.0)
        slopes = (losses - np.log(2.0)) / (1e-5 / 2)
        np.testing.assert_allclose(slopes, simper_loss(chosen, rejected), rtol=1e-5)


def test_odds_ratio_of_rare_answers_is_simpo():
    """odds = p / (1 - p) -> p; where p is not small they differ."""
    rare = simpo_loss(CHOSEN - 20, REJECTED - 20, beta=1.0, gamma=0.0)
    np.testing.assert_allclose(odds_ratio_loss(CHOSEN - 20, REJECTED - 20), rare, rtol=1e-6)
    common = simpo_loss(CHOSEN, REJECTED, beta=1.0, gamma=0.0)
    assert np.all(np.abs(odds_ratio_loss(CHOSEN, REJECTED) - common) > 0.05)


def test_orpo_without_odds_is_sft():
    losses = orpo_loss(CHOSEN, REJECTED, beta=0.0)
    np.testing.assert_array_equal(losses, sft_loss(CHOSEN))


def test_slic_is_the_hinge_link_of_a_scaled_gap():
    for beta in (0.5, 1.0, 4.0):
        hinge = links.hinge(beta * (CHOSEN - REJECTED)) / beta
        np.testing.assert_allclose(
            slic_loss(CHOSEN, REJECTED, delta=1 / beta), hinge, rtol=1e-6, atol=1e-7
        )


def test_sft_is_least_at_the_law_of_the_data():
    law = jnp.array([0.1, 0.2, 0.3, 0.4])
    slope = jax.grad(lambda logits: jnp.sum(law * sft_loss(jax.nn.log_softmax(logits))))
    np.testing.assert_allclose(slope(jnp.log(law) + 3.0), 0.0, atol=1e-7)
    assert np.max(np.abs(slope(jnp.zeros(4)))) > 0.1


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1), (1, 3, 2, 5)])
def test_population_optimum_under_bradley_terry_labels(lengths):
    """Every pair of four answers, labels with P = sigmoid(r_i - r_j): slope 0 where a = r / beta.

    With a = log pi / n and c such that pi sums to one: pi = exp(n (r / beta + c)). CPO is n = 1.
    """
    beta, rewards, sizes = 0.7, jnp.array([0.3, -0.8, 1.1, 0.0]), jnp.array(lengths)
    low, high = -5.0, 0.0  # bisection for c
    for _ in range(60):
        middle = (low + high) / 2
        total = jnp.sum(jnp.exp(sizes * (rewards / beta + middle)))
        low, high = (low, middle) if total > 1 else (middle, high)
    optimum = sizes * (rewards / beta + low)
    prefs = jax.nn.sigmoid(rewards[:, None] - rewards[None, :])

    def population(logits, gamma):
        means = jax.nn.log_softmax(logits) / sizes
        chosen, rejected = jnp.broadcast_arrays(means[:, None], means[None, :])
        losses = simpo_loss(chosen, rejected, beta=beta, gamma=gamma)
        if max(lengths) == 1 and gamma == 0:
            losses = cpo_loss(chosen, rejected, beta=beta)
        return jnp.sum(prefs * losses)

    np.testing.assert_allclose(jax.grad(population)(optimum, 0.0), 0.0, atol=1e-5)
    assert np.max(np.abs(jax.grad(population)(jnp.zeros(4), 0.0))) > 0.1
    # A target margin asks for more than the labels do: the optimum moves.
    assert np.max(np.abs(jax.grad(population)(optimum, 1.0))) > 1e-2


@properties
@given(logps, logps)
def test_swapped_answers(chosen, rejected):
    """A logistic loss without margin loses z by the swap; SimPER changes its sign."""
    chosen, rejected = jnp.array(chosen), jnp.array(rejected)
    gaps = chosen - rejected
    for loss in (partial(simpo_loss, beta=0.5, gamma=0.0), partial(cpo_loss, beta=0.5)):
        difference = loss(chosen, rejected) - loss(rejected, chosen)
        np.testing.assert_allclose(difference, -0.5 * gaps, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(simper_loss(chosen, rejected), -simper_loss(rejected, chosen))
    smoothed = partial(simpo_loss, beta=0.5, gamma=0.0, label_smoothing=0.25)
    difference = smoothed(chosen, rejected) - smoothed(rejected, chosen)
    np.testing.assert_allclose(difference, -0.25 * gaps, rtol=1e-5, atol=1e-6)  # 0.5 (1 - 2 h)


@properties
@given(logps, logps, st.floats(-4.0, -0.25, width=32))
def test_a_common_shift_of_both_log_probs(chosen, rejected, shift):
    """Nothing to SimPO, CPO and SLiC, which see the gap; ORPO, AlphaPO and SimPER see the level."""
    chosen, rejected = jnp.array(chosen), jnp.array(rejected)
    blind = (
        partial(simpo_loss, beta=0.5, gamma=0.3),
        partial(cpo_loss, beta=0.5),
        partial(slic_loss, delta=1.0),
    )
    for loss in blind:
        np.testing.assert_allclose(
            loss(chosen + shift, rejected + shift), loss(chosen, rejected), rtol=1e-4, atol=1e-5
        )
    apart = np.abs(chosen - rejected) > 0.1
    # Far below both levels are as good as 0; far apart the loss is saturated.
    near = np.minimum(chosen, rejected) > -3.0
    for loss in (odds_ratio_loss, partial(alpha_po_loss, beta=0.5, gamma=0.0, alpha=-0.5)):
        moved = loss(chosen + shift, rejected + shift) - loss(chosen, rejected)
        assert np.all(np.abs(moved)[apart & near] > 1e-5)
    factor = np.exp(shift)
    np.testing.assert_allclose(
        simper_loss(chosen + shift, rejected + shift),
        factor * simper_loss(chosen, rejected),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.long
@properties
@given(logps, logps)
def test_signs_of_the_slopes(chosen, rejected):
    """Every preference loss falls in the chosen log-prob and rises in the rejected one."""
    chosen, rejected = jnp.array(chosen), jnp.array(rejected)
    for loss in (
        partial(simpo_loss, beta=0.5, gamma=0.3),
        partial(alpha_po_loss, beta=0.5, gamma=0.3, alpha=0.1),
        partial(cpo_loss, beta=0.5),
        odds_ratio_loss,
        partial(orpo_loss, beta=0.5),
        simper_loss,
    ):
        down, up = slopes(loss, chosen, rejected)
        assert np.all(down < 0)
        assert np.all(up > 0)


@pytest.mark.long
def test_empty_completions():
    """A mean log-prob of 0 has infinite odds: the loss and its gradient stay finite."""
    empty = jnp.zeros(3)
    other = jnp.array([-1.0, 0.0, -1e4])
    for pair in ((empty, other), (other, empty)):
        assert np.all(np.isfinite(orpo_loss(*pair, beta=1.0)))
        assert np.all(np.isfinite(slopes(partial(orpo_loss, beta=1.0), *pair)))
    np.testing.assert_allclose(odds_ratio_loss(empty, empty), np.log(2.0), rtol=1e-6)
    # log odds are 87.33655 at certainty and 0 at p = 1/2
    np.testing.assert_allclose(odds_ratio_loss(jnp.array(HALF), jnp.array(0.0)), 87.33655)


def test_alpha_po_stops_where_its_reward_overflows():
    """exp(-alpha a) at alpha = 0.25, a = -1e4: the exponent stops at 40, the gradient is 0."""
    far = jnp.array([-1e4, -200.0])
    loss = partial(alpha_po_loss, beta=1.0, gamma=0.0, alpha=0.25)
    value, grad = jax.value_and_grad(lambda a: jnp.sum(loss(a, jnp.full(2, -1.0))))(far)
    # (1 - e^40) / 0.25 - (1 - e^0.25) / 0.25 for both
    np.testing.assert_allclose(value, 2 * 4 * (np.exp(40.0) - np.exp(0.25)), rtol=1e-6)
    np.testing.assert_array_equal(grad, 0.0)
    assert float(jax.grad(lambda a: loss(a, jnp.array(-1.0)))(jnp.array(-100.0))) < -1e9
