"""NCA, BCO, SPPO, APO, DPOP, Cal-DPO and AOT: by hand, in their limits, at their optimum."""

from functools import partial
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rlhf_jax.losses.preference.anchored import (
    aot_loss,
    aot_unpaired_loss,
    apo_down_loss,
    apo_zero_loss,
    bco_pair_loss,
    cal_dpo_loss,
    dpop_loss,
    nca_loss,
    sppo_hard_loss,
)
from rlhf_jax.losses.preference.pairs import cdpo_loss, dpo_loss

# chosen, rejected, ref_chosen, ref_rejected: log-ratios (1, -1) and (-1, 0)
PAIRS = (
    jnp.array([-1.0, -2.0]),
    jnp.array([-3.0, -1.0]),
    jnp.array([-2.0, -1.0]),
    jnp.array([-2.0, -1.0]),
)
# softplus(-1), softplus(1), log 2
LOW, HIGH, LOG2 = 0.3132617, 1.3132617, 0.6931472
ANCHORED = {
    "nca": nca_loss,
    "bco_pair": bco_pair_loss,
    "sppo_hard": sppo_hard_loss,
    "apo_zero": apo_zero_loss,
    "apo_down": apo_down_loss,
    "dpop": partial(dpop_loss, penalty=2.0),
    "cal_dpo": cal_dpo_loss,
}

gaps = st.lists(st.floats(-6.0, 6.0, width=32), min_size=4, max_size=4)
properties = settings(derandomize=True, deadline=None, max_examples=25)


def of(loss, chosen, rejected, **hyper):
    """The loss of two log-ratios: a reference of zeros."""
    chosen, rejected = jnp.broadcast_arrays(jnp.asarray(chosen), jnp.asarray(rejected))
    zero = jnp.zeros_like(chosen)
    return loss(chosen, rejected, zero, zero, **hyper)


def slopes(loss, chosen, rejected, **hyper):
    """Gradient of the summed loss to the two log-ratios."""
    total = jax.grad(lambda *x: jnp.sum(of(loss, *x, **hyper)), argnums=(0, 1))
    return total(jnp.asarray(chosen), jnp.asarray(rejected))


def test_nca_golden_numbers():
    # softplus(-1) + softplus(1) / 2 + softplus(-1) / 2; softplus(1) + softplus(-1) / 2 + log 2 / 2
    expected = [LOW + HIGH / 2 + LOW / 2, HIGH + LOW / 2 + LOG2 / 2]
    np.testing.assert_allclose(nca_loss(*PAIRS, beta=1.0), expected, rtol=1e-6)


def test_bco_pair_golden_numbers():
    # softplus(-1) twice; softplus(1) + log 2
    losses = bco_pair_loss(*PAIRS, beta=1.0)
    np.testing.assert_allclose(losses, [2 * LOW, HIGH + LOG2], rtol=1e-6)
    # shift 0.5: softplus(-0.5) + softplus(-1.5) = 0.4740770 + 0.2014133;
    # softplus(1.5) + softplus(-0.5) = 1.7014133 + 0.4740770
    losses = bco_pair_loss(*PAIRS, beta=1.0, shift=0.5)
    np.testing.assert_allclose(losses, [0.6754903, 2.1754903], rtol=1e-6)


def test_sppo_hard_golden_numbers():
    # target 1 / 0.5 = 2: (1 - 2)^2 + (-1 + 2)^2 and (-1 - 2)^2 + (0 + 2)^2
    np.testing.assert_allclose(sppo_hard_loss(*PAIRS, beta=0.25), [2.0, 13.0], rtol=1e-6)


def test_apo_golden_numbers():
    # sigmoid(-1) = 0.2689414: twice; sigmoid(1) + 1/2
    losses = apo_zero_loss(*PAIRS, beta=1.0)
    np.testing.assert_allclose(losses, [0.5378828, 1.2310586], rtol=1e-6)
    # sigmoid(1) + sigmoid(-2) = 0.7310586 + 0.1192029; sigmoid(-1) + sigmoid(1) = 1
    losses = apo_down_loss(*PAIRS, beta=1.0)
    np.testing.assert_allclose(losses, [0.8502615, 1.0], rtol=1e-6)


def test_dpop_golden_numbers():
    # 0.5 * 2 = 1: u_w > 0, no penalty; 0.5 (-1 - 3 * 1) = -2: softplus(2) = 2.1269280
    losses = dpop_loss(*PAIRS, beta=0.5, penalty=3.0)
    np.testing.assert_allclose(losses, [LOW, 2.1269280], rtol=1e-6)
    # d / d u_w = -beta sigmoid(-z) (1 + 3 1[u_w < 0]): -0.5 * 0.2689414, -0.5 * 0.8807971 * 4
    down, up = jax.grad(
        lambda *x: jnp.sum(dpop_loss(*x, *PAIRS[2:], beta=0.5, penalty=3.0)), argnums=(0, 1)
    )(*PAIRS[:2])
    np.testing.assert_allclose(down, [-0.1344707, -1.7615942], rtol=1e-6)
    np.testing.assert_allclose(up, [0.1344707, 0.4403985], rtol=1e-6)


def test_cal_dpo_golden_numbers():
    # softplus(-2) = 0.1269280 plus 2; softplus(1) plus 13
    losses = cal_dpo_loss(*PAIRS, beta=0.25)
    np.testing.assert_allclose(losses, [2.1269280, 13.0 + HIGH], rtol=1e-6)


def test_aot_golden_numbers():
    chosen, rejected = jnp.array([-1.0, -2.0, -4.0]), jnp.array([-3.0, -1.0, -4.0])
    references = jnp.array([-2.0, -1.0, -1.0]), jnp.array([-2.0, -3.0, -2.0])
    # paired: gaps 2, -1, 0 against 0, 2, 1; sorted -1, 0, 2 less 0, 1, 2: -1, -1, 0
    losses = aot_loss(chosen, rejected, *references, beta=1.0)
    np.testing.assert_allclose(losses, [HIGH, HIGH, LOG2], rtol=1e-6)
    # unpaired: u_w = 1, -1, -3 and u_l = -1, 2, -2; sorted -3, -1, 1 less -2, -1, 2: -1, 0, -1
    losses = aot_unpaired_loss(chosen, rejected, *references, beta=1.0)
    np.testing.assert_allclose(losses, [HIGH, LOG2, HIGH], rtol=1e-6)
    # smoothing adds h z: 0.1 * -1
    losses = aot_unpaired_loss(chosen, rejected, *references, beta=1.0, label_smoothing=0.1)
    np.testing.assert_allclose(losses, [HIGH - 0.1, LOG2, HIGH - 0.1], rtol=1e-6)


def test_aot_golden_gradient():
    """Each entry gets the slope of its rank, -beta sigmoid(-z): the order itself has none."""
    chosen, rejected = jnp.array([1.0, -1.0, -3.0]), jnp.array([-1.0, 2.0, -2.0])
    down, up = slopes(aot_unpaired_loss, chosen, rejected, beta=1.0)
    # ranks of u_w: 2, 1, 0 with z = -1, 0, -1; of u_l: 1, 2, 0
    np.testing.assert_allclose(down, [-0.7310586, -0.5, -0.7310586], rtol=1e-6)
    np.testing.assert_allclose(up, [0.5, 0.7310586, 0.7310586], rtol=1e-6)


def test_nca_chosen_side_is_least_at_log_two():
    """-log s(z) - log s(-z) / 2: slope s(z) 3/2 - 1 = 0 at s(z) = 2/3."""
    at = (np.log(2.0) + np.array([-0.2, 0.0, 0.2])) / 0.4
    slope, _ = slopes(nca_loss, at.astype(np.float32), jnp.zeros(3), beta=0.4)
    assert slope[0] < -1e-3
    assert slope[2] > 1e-3
    np.testing.assert_allclose(slope[1], 0.0, atol=1e-7)


def test_population_optima():
    """Chosen with P = p, rejected otherwise: where the mean loss of that answer is least.

    NCA at beta u = log 2p, BCO at the log-odds, SPPO at (p - 1/2) / beta.
    """
    p, beta = jnp.array([0.2, 0.5, 0.9]), 0.4
    optima = {
        nca_loss: jnp.log(2 * p) / beta,
        bco_pair_loss: (jnp.log(p) - jnp.log1p(-p)) / beta,
        sppo_hard_loss: (p - 0.5) / beta,
    }
    for loss, optimum in optima.items():

        def slope(log_ratios, loss=loss):
            won, _ = slopes(loss, log_ratios, jnp.zeros(3), beta=beta)
            _, lost = slopes(loss, jnp.zeros(3), log_ratios, beta=beta)
            return p * won + (1 - p) * lost

        np.testing.assert_allclose(slope(optimum), 0.0, atol=1e-6)
        assert np.all(slope(optimum + 0.3) > 1e-3)
        assert np.all(slope(optimum - 0.3) < -1e-3)


def test_sppo_hard_is_its_soft_form_in_the_mean():
    """p (u - t)^2 + (1 - p) (u + t)^2 - (u - (p - 1/2) / beta)^2 is the same at every u."""
    p, beta, zero = 0.8, 0.25, jnp.zeros(5)
    log_ratios = jnp.linspace(-3.0, 3.0, 5)
    other = (0.5 / beta) ** 2  # the square of the answer whose log-ratio is 0
    won = of(sppo_hard_loss, log_ratios, zero, beta=beta) - other
    lost = of(sppo_hard_loss, zero, log_ratios, beta=beta) - other
    rest = p * won + (1 - p) * lost - (log_ratios - (p - 0.5) / beta) ** 2
    np.testing.assert_allclose(rest, rest[0], rtol=1e-5)


def test_sppo_hard_and_its_slopes_vanish_at_their_targets():
    at = jnp.array([2.0]), jnp.array([-2.0])
    np.testing.assert_array_equal(of(sppo_hard_loss, *at, beta=0.25), 0.0)
    np.testing.assert_array_equal(slopes(sppo_hard_loss, *at, beta=0.25), 0.0)


def test_cal_dpo_is_dpo_of_log_ratios_plus_sppo():
    parts = dpo_loss(*PAIRS, beta=1.0) + sppo_hard_loss(*PAIRS, beta=0.3)
    np.testing.assert_allclose(cal_dpo_loss(*PAIRS, beta=0.3), parts, rtol=1e-6)


def test_dpop_without_penalty_is_dpo():
    np.testing.assert_allclose(
        dpop_loss(*PAIRS, beta=0.3, penalty=0.0), dpo_loss(*PAIRS, beta=0.3), rtol=1e-6
    )
    # With one it is DPO where the chosen answer has not lost likelihood, and above it elsewhere.
    more = dpop_loss(*PAIRS, beta=0.3, penalty=5.0) - dpo_loss(*PAIRS, beta=0.3)
    assert abs(more[0]) < 1e-6
    assert more[1] > 0.1


@pytest.mark.parametrize("loss", [aot_loss, aot_unpaired_loss])
def test_aot_of_one_pair_is_cdpo(loss):
    for h in (0.0, 0.1):
        alone = loss(*(x[:, None] for x in PAIRS), beta=0.3, label_smoothing=h)
        expected = cdpo_loss(*PAIRS, beta=0.3, label_smoothing=h)
        np.testing.assert_allclose(alone[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(
        loss(*(x[:, None] for x in PAIRS), beta=0.3)[:, 0], dpo_loss(*PAIRS, beta=0.3), rtol=1e-6
    )


@pytest.mark.long
@properties
@given(gaps, gaps, st.permutations(range(4)), st.permutations(range(4)))
def test_aot_does_not_see_the_order_of_its_batch(first, second, order, other_order):
    """Nor, unpaired, who is paired with whom; the gradient goes where its answer went."""
    first, second = jnp.array(first), jnp.array(second)
    order, other_order = jnp.array(order), jnp.array(other_order)
    shuffled = first[order], second[other_order]
    expected = of(aot_unpaired_loss, first, second, beta=0.5)
    np.testing.assert_array_equal(of(aot_unpaired_loss, *shuffled, beta=0.5), expected)
    # Paired: the pairs of the policy and those of the reference, each in any order.
    zero = jnp.zeros(4)
    expected = aot_loss(first, zero, second, zero, beta=0.5)
    losses = aot_loss(shuffled[0], zero, shuffled[1], zero, beta=0.5)
    np.testing.assert_array_equal(losses, expected)
    if len(set(first.tolist())) == 4:  # at ties the order of the tied decides who gets which slope
        down, _ = slopes(aot_unpaired_loss, first, second, beta=0.5)
        shuffled_down, _ = slopes(aot_unpaired_loss, *shuffled, beta=0.5)
        np.testing.assert_array_equal(shuffled_down, down[order])


@pytest.mark.long
@properties
@given(gaps, gaps)
def test_aot_takes_the_cheapest_of_all_couplings(first, second):
    """Enumerated: no matching of four good with four bad answers has a smaller sum of losses."""
    first, second = jnp.array(first), jnp.array(second)
    matchings = jnp.array(list(permutations(range(4))))
    sums = jnp.sum(of(dpo_loss, first[None], second[matchings], beta=0.5), axis=-1)
    assert sums.shape == (24,)
    total = jnp.sum(of(aot_unpaired_loss, first, second, beta=0.5))
    np.testing.assert_allclose(total, jnp.min(sums), rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("loss", [aot_loss, aot_unpaired_loss])
def test_aot_with_a_mask_is_aot_of_what_is_left(loss):
    """A masked pair must not take a quantile: zeros in its place would."""
    rng = np.random.default_rng(3)
    arrays = [jnp.asarray(rng.normal(size=6), jnp.float32) for _ in range(4)]
    mask = jnp.array([True, False, True, True, False, True])

    def total(*arrays, mask=None):
        return jnp.sum(loss(*arrays, mask, beta=0.7))

    left = [x[mask] for x in arrays]
    masked, alone = loss(*arrays, mask, beta=0.7), loss(*left, beta=0.7)
    np.testing.assert_array_equal(masked[:4], alone)
    np.testing.assert_array_equal(masked[4:], 0.0)
    grads = jax.grad(partial(total, mask=mask), argnums=(0, 1))(*arrays)
    expected = jax.grad(total, argnums=(0, 1))(*left)
    for grad, want in zip(grads, expected, strict=True):
        np.testing.assert_array_equal(grad[mask], want)
        np.testing.assert_array_equal(grad[~mask], 0.0)
    zeroed = loss(*(jnp.where(mask, x, 0.0) for x in arrays), beta=0.7)
    assert abs(float(jnp.sum(zeroed) - jnp.sum(masked)) - 2 * LOG2) > 1e-3


@pytest.mark.parametrize("loss", [aot_loss, aot_unpaired_loss])
def test_aot_of_a_batch_spread_over_eight_devices(loss):
    """The sort is over the whole batch, not over each device's part."""
    rng = np.random.default_rng(4)
    arrays = tuple(jnp.asarray(rng.normal(size=16), jnp.float32) for _ in range(4))
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("batch")))

    @jax.jit
    def step(*arrays):
        return jax.value_and_grad(lambda *x: jnp.sum(loss(*x, beta=0.7)), argnums=(0, 1))(*arrays)

    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), step(*sharded), step(*arrays)
    )
    parts = sum(
        float(jnp.sum(loss(*(x[i : i + 2] for x in arrays), beta=0.7))) for i in range(0, 16, 2)
    )
    assert abs(parts - float(step(*arrays)[0])) > 0.1


def test_apo_zero_pushes_the_two_apart():
    down, up = slopes(
        apo_zero_loss, jnp.array([-3.0, 0.0, 3.0]), jnp.array([3.0, 0.0, -3.0]), beta=0.5
    )
    assert np.all(down < 0)
    assert np.all(up > 0)


def test_apo_down_pushes_both_down_and_the_rejected_more():
    """Gradient descent from the reference: the chosen answer falls, the rejected one further."""
    point = (jnp.zeros(()), jnp.zeros(()))
    np.testing.assert_allclose(slopes(apo_down_loss, *point, beta=1.0), [0.0, 0.25], atol=1e-7)

    def descend(point, _):
        return jax.tree.map(
            lambda x, g: x - 0.5 * g, point, slopes(apo_down_loss, *point, beta=1.0)
        ), point

    _, path = jax.lax.scan(descend, point, length=60)
    chosen, rejected = path
    assert np.all(np.diff(chosen)[1:] < 0)
    assert np.all(np.diff(rejected) < 0)
    assert rejected[-1] < chosen[-1] - 1 < -1


@properties
@given(gaps, gaps)
def test_swapped_answers(chosen, rejected):
    """Which losses are antisymmetric in the two answers, and about what."""
    chosen, rejected = jnp.array(chosen), jnp.array(rejected)
    gap = chosen - rejected

    def lost(loss, **hyper):
        return of(loss, chosen, rejected, **hyper) - of(loss, rejected, chosen, **hyper)

    def close(actual, expected):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)

    close(lost(bco_pair_loss, beta=0.5), -0.5 * gap)
    close(lost(bco_pair_loss, beta=0.5, shift=1.0), -0.5 * gap)
    close(lost(sppo_hard_loss, beta=0.5), -4.0 * gap)
    # The logistic term has no beta: -gap from it, -4 gap from the squares.
    close(lost(cal_dpo_loss, beta=0.5), -5.0 * gap)
    apo = partial(of, apo_zero_loss, beta=0.5)
    close(apo(chosen, rejected) + apo(rejected, chosen), 2.0)


@properties
@given(gaps, gaps, st.floats(-8.0, 8.0, width=32))
def test_bco_is_never_below_dpo(chosen, rejected, shift):
    """(1 + e^(d - c)) (1 + e^(l - d)) >= 1 + e^(l - c), for any shift d."""
    bound = of(bco_pair_loss, jnp.array(chosen), jnp.array(rejected), beta=0.5, shift=shift)
    dpo = of(dpo_loss, jnp.array(chosen), jnp.array(rejected), beta=0.5)
    assert np.all(bound >= dpo - 1e-6)


@pytest.mark.parametrize("name", ANCHORED)
def test_a_log_ratio_added_to_both_answers_matters(name):
    """Unlike in DPO: here the level of the two log-ratios is seen."""
    chosen, rejected = jnp.array([0.5, -1.0, -2.0]), jnp.array([-1.5, 0.5, -2.5])
    loss = partial(of, ANCHORED[name], beta=1.0)
    for shift in (-3.0, -1.0):
        moved = loss(chosen + shift, rejected + shift) - loss(chosen, rejected)
        assert np.max(np.abs(moved)) > 1e-2
        dpo = of(dpo_loss, chosen + shift, rejected + shift, beta=1.0)
        np.testing.assert_allclose(dpo, of(dpo_loss, chosen, rejected, beta=1.0), rtol=1e-5)


@properties
@given(gaps, gaps, st.floats(-4.0, 4.0, width=32))
def test_aot_does_not_see_a_common_level(chosen, rejected, shift):
    """Added to every log-ratio of the batch, it leaves all gaps of quantiles alone."""
    chosen, rejected = jnp.array(chosen), jnp.array(rejected)
    for loss in (aot_loss, aot_unpaired_loss):
        moved = of(loss, chosen + shift, rejected + shift, beta=0.5)
        np.testing.assert_allclose(
            moved, of(loss, chosen, rejected, beta=0.5), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("anchor", [-1e4, 1e4])
def test_far_shifts_and_penalties_stay_finite(anchor):
    for beta in (1e-6, 1e3):
        for loss in (
            partial(bco_pair_loss, beta=beta, shift=anchor),
            partial(dpop_loss, beta=beta, penalty=abs(anchor)),
        ):
            assert np.all(np.isfinite(loss(*PAIRS)))
            assert np.all(np.isfinite(slopes(loss, *PAIRS[:2])))


def test_the_shift_gets_no_gradient():
    slope = jax.grad(lambda d: jnp.sum(bco_pair_loss(*PAIRS, beta=1.0, shift=d)))(0.5)
    assert slope == 0.0
