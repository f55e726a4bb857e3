"""KTO, APO-zero, BCO, DRO and NPO: by hand, in their limits, at their optimum by enumeration."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rlhf_jax.losses import links
from rlhf_jax.losses.preference.anchored import apo_zero_loss, bco_pair_loss
from rlhf_jax.losses.preference.reference_free import sft_loss
from rlhf_jax.losses.preference.unpaired import (
    apo_zero_unpaired_loss,
    bco_loss,
    bco_shift,
    dro_loss,
    kto_kl,
    kto_loss,
    npo_loss,
)
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.masking import Mean

# log-ratios 1, 1, -2
LOGPS, REF_LOGPS = jnp.array([-1.0, -3.0, -5.0]), jnp.array([-2.0, -4.0, -3.0])
DESIRABLE = jnp.array([True, False, True])
ZERO = jnp.zeros(())
GOOD, BAD = jnp.array(True), jnp.array(False)

gaps = st.lists(st.floats(-8.0, 8.0, width=32), min_size=4, max_size=4)
properties = settings(derandomize=True, deadline=None, max_examples=25)


def start():
    return Mean(jnp.zeros(()), jnp.zeros(()))


def value_and_slope(loss):
    """Summed loss of the three answers and its gradient."""
    return jax.value_and_grad(lambda x: jnp.sum(loss(x, REF_LOGPS, DESIRABLE)))(LOGPS)


def test_kto_golden_numbers():
    # 2 (1 - 0.5) = 1 twice and 2 (-2 - 0.5) = -5: sigmoid(-1), sigmoid(1), sigmoid(5)
    losses = kto_loss(LOGPS, REF_LOGPS, DESIRABLE, kl=0.5, beta=2.0)
    np.testing.assert_allclose(losses, [0.2689414, 0.7310586, 0.9933071], rtol=1e-6)
    weighted = kto_loss(
        LOGPS,
        REF_LOGPS,
        DESIRABLE,
        kl=0.5,
        beta=2.0,
        desirable_weight=1.5,
        undesirable_weight=0.5,
    )
    np.testing.assert_allclose(weighted, [0.4034121, 0.3655293, 1.4899607], rtol=1e-6)


def test_kto_golden_gradient():
    """-+ beta sigmoid(z) sigmoid(-z): 2 * 0.1966119 and 2 * 0.0066481."""
    grad = jax.grad(lambda x: jnp.sum(kto_loss(x, REF_LOGPS, DESIRABLE, kl=0.5, beta=2.0)))(LOGPS)
    np.testing.assert_allclose(grad, [-0.3932239, 0.3932239, -0.0132961], rtol=1e-5)


def test_anchors_get_no_gradient():
    kto = jax.grad(lambda kl: jnp.sum(kto_loss(LOGPS, REF_LOGPS, DESIRABLE, kl=kl, beta=2.0)))
    bco = jax.grad(lambda d: jnp.sum(bco_loss(LOGPS, REF_LOGPS, DESIRABLE, beta=2.0, shift=d)))
    np.testing.assert_array_equal([kto(0.5), bco(0.5)], 0.0)


def test_apo_zero_unpaired_golden_numbers():
    # sigmoid(-1), sigmoid(1), sigmoid(2)
    losses = apo_zero_unpaired_loss(LOGPS, REF_LOGPS, DESIRABLE, beta=1.0)
    np.testing.assert_allclose(losses, [0.2689414, 0.7310586, 0.8807971], rtol=1e-6)


def test_bco_golden_numbers():
    # margins 1 - 0.5 = 0.5 twice and -2 - 0.5 = -2.5:
    # log(1 + e^-0.5) = 0.4740770, log(1 + e^0.5) = 0.9740770, log(1 + e^2.5) = 2.5788895
    losses = bco_loss(LOGPS, REF_LOGPS, DESIRABLE, beta=1.0, shift=0.5)
    np.testing.assert_allclose(losses, [0.4740770, 0.9740770, 2.5788895], rtol=1e-6)


def test_dro_golden_numbers():
    # r - V - beta u: 2 - 1 - 0.5 = 0.5, 0 - 1 - 0.5 = -1.5, 1 - 1 + 1 = 1; halves of the squares
    scores, values = jnp.array([2.0, 0.0, 1.0]), jnp.ones(3)
    losses = dro_loss(LOGPS, REF_LOGPS, scores, values, beta=0.5)
    np.testing.assert_allclose(losses, [0.125, 1.125, 0.5], rtol=1e-6)
    grads = jax.grad(
        lambda x, v: jnp.sum(dro_loss(x, REF_LOGPS, scores, v, beta=0.5)), argnums=(0, 1)
    )(LOGPS, values)
    np.testing.assert_allclose(grads, [[-0.25, 0.75, -0.5], [-0.5, 1.5, -1.0]], rtol=1e-6)


def test_npo_golden_numbers():
    # 4 log(1 + e^0.5) = 3.8963080 and 4 log(1 + e^-1) = 1.2530467
    losses = npo_loss(LOGPS, REF_LOGPS, beta=0.5)
    np.testing.assert_allclose(losses, [3.8963080, 3.8963080, 1.2530467], rtol=1e-6)
    grad = jax.grad(lambda x: jnp.sum(npo_loss(x, REF_LOGPS, beta=0.5)))(LOGPS)
    # 2 sigmoid(0.5) and 2 sigmoid(-1)
    np.testing.assert_allclose(grad, [1.2449187, 1.2449187, 0.5378828], rtol=1e-6)


def test_kto_kl_golden_numbers():
    # mean of 1, 1, -2 is 0; of 1, 1 it is 1; weights 3, 1, 1 make (3 + 1 - 2) / 5
    assert kto_kl(LOGPS, REF_LOGPS) == 0.0
    assert kto_kl(LOGPS[:2], REF_LOGPS[:2]) == 1.0
    weighted = kto_kl(LOGPS, REF_LOGPS, jnp.array([3.0, 1.0, 1.0]))
    np.testing.assert_allclose(weighted, 0.4, rtol=1e-6)


def test_kto_kl_is_never_negative_and_has_no_gradient():
    assert kto_kl(REF_LOGPS[:2], LOGPS[:2]) == 0.0
    places = jax.grad(kto_kl, argnums=(0, 1, 2))(LOGPS[:2], REF_LOGPS[:2], jnp.ones(2))
    np.testing.assert_array_equal(places, 0.0)


def test_kto_kl_ignores_rows_of_weight_zero():
    spoiled = jnp.append(LOGPS, jnp.nan)
    references = jnp.append(REF_LOGPS, jnp.inf)
    weights = jnp.array([3.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(kto_kl(spoiled, references, weights), 0.4, rtol=1e-6)
    assert kto_kl(spoiled, references, jnp.zeros(4)) == 0.0


def test_kto_kl_of_answers_from_the_policy_is_the_kl():
    """Enumerated: answers weighted by the policy that scores them."""
    logits, ref_logits = jnp.array([0.4, -1.0, 2.0, 0.1]), jnp.array([1.0, 0.0, -0.5, 0.2])
    logps, ref_logps = jax.nn.log_softmax(logits), jax.nn.log_softmax(ref_logits)
    estimate = kto_kl(logps, ref_logps, jnp.exp(logps))
    np.testing.assert_allclose(estimate, exact_kl(logits, ref_logits), rtol=1e-5)


def test_kto_at_reference_point_zero_is_apo_zero():
    losses = kto_loss(LOGPS, REF_LOGPS, DESIRABLE, kl=0.0, beta=0.7)
    apo = apo_zero_unpaired_loss(LOGPS, REF_LOGPS, DESIRABLE, beta=0.7)
    np.testing.assert_array_equal(losses, apo)
    away = kto_loss(LOGPS, REF_LOGPS, DESIRABLE, kl=0.5, beta=0.7)
    assert np.all(np.abs(away - apo) > 0.01)


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_two_points_make_a_pair(shift):
    """BCO and APO-zero of a good and a bad answer are their pairwise losses."""
    pair = (LOGPS[:2], LOGPS[1:], REF_LOGPS[:2], REF_LOGPS[1:])
    chosen, rejected, ref_chosen, ref_rejected = pair
    good, bad = jnp.ones(2, bool), jnp.zeros(2, bool)
    bco = partial(bco_loss, beta=0.7, shift=shift)
    np.testing.assert_allclose(
        bco(chosen, ref_chosen, good) + bco(rejected, ref_rejected, bad),
        bco_pair_loss(*pair, beta=0.7, shift=shift),
        rtol=1e-6,
    )
    apo = partial(apo_zero_unpaired_loss, beta=0.7)
    np.testing.assert_allclose(
        apo(chosen, ref_chosen, good) + apo(rejected, ref_rejected, bad),
        apo_zero_loss(*pair, beta=0.7),
        rtol=1e-6,
    )


def test_npo_is_gradient_ascent_on_the_likelihood_as_beta_vanishes():
    slope = jax.grad(lambda x: jnp.sum(npo_loss(x, REF_LOGPS, beta=1e-6)))(LOGPS)
    ascent = -jax.grad(lambda x: jnp.sum(sft_loss(x)))(LOGPS)
    np.testing.assert_allclose(slope, ascent, rtol=1e-5)
    firm = jax.grad(lambda x: jnp.sum(npo_loss(x, REF_LOGPS, beta=1.0)))(LOGPS)
    assert np.all(np.abs(firm - ascent) > 0.1)


def test_npo_stops_pushing_what_is_already_unlikely():
    """Slope 2 (pi / ref)^beta / (1 + (pi / ref)^beta): 1 at the reference, gone far below it."""
    slopes = jax.vmap(jax.grad(partial(npo_loss, beta=0.5)))(jnp.array([0.0, -40.0]), jnp.zeros(2))
    np.testing.assert_allclose(slopes, [1.0, 2 * np.exp(-20.0)], rtol=1e-5)


def test_bco_shift_is_the_mean_over_everything_seen():
    # beta u = 0.5, 0.5; then 0.5 (5 * 1 - 1 * 3) = 1 of weight 4: (1 + 1) / (2 + 4)
    shift = bco_shift(start(), LOGPS[:2], REF_LOGPS[:2], beta=0.5)
    np.testing.assert_allclose(shift.value(), 0.5, rtol=1e-6)
    weights = jnp.array([1.0, 0.0, 3.0])
    shift = bco_shift(shift, jnp.array([5.0, jnp.nan, -1.0]), jnp.zeros(3), weights, beta=0.5)
    np.testing.assert_allclose(shift.value(), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(shift.weight, 6.0)


def test_bco_shift_begins_at_zero_and_has_no_gradient():
    assert start().value() == 0.0
    assert bco_shift(start(), LOGPS, REF_LOGPS, jnp.zeros(3), beta=0.5).value() == 0.0

    def after(logps, total):
        shift = bco_shift(Mean(total, jnp.ones(())), logps, REF_LOGPS, beta=0.5)
        return shift.value()

    grads = jax.grad(after, argnums=(0, 1))(LOGPS, jnp.ones(()))
    jax.tree.map(lambda grad: np.testing.assert_array_equal(grad, 0.0), grads)


def test_bco_optimum_is_the_log_odds_of_being_desirable():
    """Labels good with P = p: the mean loss is least at beta u - d = logit p."""
    p, beta, shift = 0.8, 0.4, 0.3

    def population(log_ratio):
        loss = partial(bco_loss, beta=beta, shift=shift)
        return p * loss(log_ratio, ZERO, GOOD) + (1 - p) * loss(log_ratio, ZERO, BAD)

    optimum = (np.log(p / (1 - p)) + shift) / beta
    slopes = jax.vmap(jax.grad(population))(jnp.float32(optimum) + jnp.array([-0.5, 0.0, 0.5]))
    assert slopes[0] < -1e-3
    assert slopes[2] > 1e-3
    np.testing.assert_allclose(slopes[1], 0.0, atol=1e-7)


@pytest.mark.parametrize(
    ("p", "weights"), [(0.6, (1.0, 1.0)), (0.4, (1.0, 1.0)), (0.4, (3.0, 1.0))]
)
def test_kto_has_no_optimum_inside_it_saturates(p, weights):
    """w_D p against w_U (1 - p) decides the direction, at every log-ratio alike."""
    loss = partial(
        kto_loss, kl=0.5, beta=0.7, desirable_weight=weights[0], undesirable_weight=weights[1]
    )

    def population(log_ratio):
        return p * loss(log_ratio, ZERO, GOOD) + (1 - p) * loss(log_ratio, ZERO, BAD)

    offsets = jnp.array([-8.0, -1.0, 0.0, 1.0, 8.0])
    slopes = np.asarray(jax.vmap(jax.grad(population))(0.5 + offsets))
    lead = weights[0] * p - weights[1] * (1 - p)
    assert np.all(np.sign(slopes) == -np.sign(lead))
    # beta / 4 at the reference point, falling to both sides of it alike
    np.testing.assert_allclose(slopes[2], -lead * 0.7 / 4, rtol=1e-5)
    np.testing.assert_allclose(slopes, slopes[::-1], rtol=1e-3)
    assert np.all(np.diff(np.abs(slopes[:3])) > 0)


@pytest.mark.long
def test_dro_optimum_is_the_regularised_one_whatever_the_data():
    """pi = pi_ref exp(r / beta) / Z and V = beta log Z: there alone every loss and slope is 0."""
    beta = 0.6
    scores = jnp.array([0.2, -1.0, 0.7, 0.1])
    ref_logps = jax.nn.log_softmax(jnp.array([1.0, 0.0, -0.5, 0.2]))
    energies = ref_logps + scores / beta
    value = beta * jax.nn.logsumexp(energies)

    def losses(logits, value):
        logps = jax.nn.log_softmax(logits)
        return dro_loss(logps, ref_logps, scores, jnp.full(4, value), beta=beta)

    def mean(logits, value, law):
        return jnp.dot(jnp.array(law), losses(logits, value))

    np.testing.assert_allclose(losses(energies, value), 0.0, atol=1e-12)
    for law in ([0.25] * 4, [0.7, 0.1, 0.1, 0.1]):
        slopes = jax.grad(mean, argnums=(0, 1))
        for slope in slopes(energies, value, law):
            np.testing.assert_allclose(slope, 0.0, atol=1e-6)
        assert np.max(np.abs(slopes(ref_logps, value, law)[0])) > 1e-2
        # d/dV of (V - V*)^2 / 2 at V* + 0.1
        np.testing.assert_allclose(slopes(energies, value + 0.1, law)[1], 0.1, rtol=1e-4)


@properties
@given(gaps, st.floats(0.0, 2.0, width=32))
def test_labels_mirror_the_loss(log_ratios, centre):
    """A good answer at z0 + t costs what a bad one at z0 - t does; KTO's two labels add up to 1."""
    log_ratios = jnp.array(log_ratios)
    zero, good, bad = jnp.zeros(4), jnp.ones(4, bool), jnp.zeros(4, bool)
    kto = partial(kto_loss, kl=centre, beta=0.5)
    bco = partial(bco_loss, beta=0.5, shift=0.5 * centre)
    for loss in (kto, bco):
        above, below = centre + log_ratios, centre - log_ratios
        np.testing.assert_allclose(
            loss(above, zero, good), loss(below, zero, bad), rtol=1e-4, atol=1e-6
        )
    both = kto(log_ratios, zero, good) + kto(log_ratios, zero, bad)
    np.testing.assert_allclose(both, 1.0, rtol=1e-6)
    lost = bco(log_ratios, zero, good) - bco(log_ratios, zero, bad)
    np.testing.assert_allclose(lost, -0.5 * (log_ratios - centre), rtol=1e-4, atol=1e-5)


@properties
@given(gaps, st.floats(0.25, 4.0, width=32))
def test_every_level_counts(log_ratios, shift):
    """A log-ratio added to good and bad answers moves the mean: these are not pairwise losses."""
    log_ratios = jnp.array(log_ratios)
    zero, good = jnp.zeros(4), jnp.ones(4, bool)
    for loss in (
        partial(kto_loss, kl=0.0, beta=0.5),
        partial(apo_zero_unpaired_loss, beta=0.5),
        partial(bco_loss, beta=0.5, shift=0.0),
    ):
        moved = loss(log_ratios + shift, zero, good) - loss(log_ratios, zero, good)
        assert np.all(moved < -1e-4)
    # What moves with the log-ratios, the reference point or the shift, takes the level out again.
    kept = kto_loss(log_ratios + shift, zero, good, kl=shift, beta=0.5)
    np.testing.assert_allclose(
        kept, kto_loss(log_ratios, zero, good, kl=0.0, beta=0.5), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("value", [True, False])
def test_a_batch_of_one_class(value):
    labels = jnp.full(3, value)
    for loss in (
        partial(kto_loss, kl=0.5, beta=2.0),
        partial(apo_zero_unpaired_loss, beta=2.0),
        partial(bco_loss, beta=2.0, shift=0.5),
    ):
        alone = jnp.stack([loss(LOGPS[i], REF_LOGPS[i], labels[i]) for i in range(3)])
        np.testing.assert_allclose(loss(LOGPS, REF_LOGPS, labels), alone, rtol=1e-6)


@pytest.mark.parametrize("anchor", [-1e4, 1e4])
def test_far_anchors_stay_finite(anchor):
    for loss in (partial(kto_loss, kl=abs(anchor)), partial(bco_loss, shift=anchor)):
        for beta in (1e-6, 1e3):
            value, grad = value_and_slope(partial(loss, beta=beta))
            assert np.all(np.isfinite(value))
            assert np.all(np.isfinite(grad))


def test_bco_is_a_link_of_its_label():
    losses = bco_loss(LOGPS, REF_LOGPS, DESIRABLE, beta=0.7, shift=0.2)
    margins = jnp.where(DESIRABLE, 1.0, -1.0) * (0.7 * (LOGPS - REF_LOGPS) - 0.2)
    np.testing.assert_allclose(losses, links.logistic(margins), rtol=1e-6)


@pytest.mark.long
def test_the_reference_point_of_a_sharded_batch_is_the_global_one():
    """z0 and the shift mix the rows of a batch: eight devices must see all of it."""
    rng = np.random.default_rng(0)
    logps, ref_logps, mismatched, ref_mismatched = (
        jnp.asarray(rng.normal(scale=2.0, size=16), jnp.float32) for _ in range(4)
    )
    mismatched = mismatched + 1.0  # above 0 on average, with shards below it
    desirable = jnp.asarray(rng.random(16) < 0.5)
    weights = jnp.asarray(rng.integers(0, 3, 16), jnp.float32)

    @jax.jit
    def step(logps, ref_logps, mismatched, ref_mismatched, desirable, weights):
        kl = kto_kl(mismatched, ref_mismatched, weights)
        shift = bco_shift(start(), mismatched, ref_mismatched, weights, beta=0.5)

        def total(logps):
            kto = kto_loss(logps, ref_logps, desirable, kl=kl, beta=0.5)
            bco = bco_loss(logps, ref_logps, desirable, beta=0.5, shift=shift.value())
            return jnp.mean(kto + bco)

        return kl, shift, jax.value_and_grad(total)(logps)

    arrays = (logps, ref_logps, mismatched, ref_mismatched, desirable, weights)
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("batch")))
    expected = step(*arrays)
    assert expected[0] > 0.1
    shards = zip(*(jnp.split(x, 8) for x in (mismatched, ref_mismatched, weights)), strict=True)
    local = [float(kto_kl(*shard)) for shard in shards]
    assert abs(np.mean(local) - float(expected[0])) > 0.1  # a mean of local ones would differ
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
        step(*sharded),
        expected,
    )
