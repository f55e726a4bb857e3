"""Pairwise losses with a reference: by hand, in their limits, and at their optima."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandit_population import assert_optimal, draw_bandit, gaps, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.envs.bandit import preference_matrix
from rlhf_jax.exact.bandit import ipo_rewards, regularised_optimum
from rlhf_jax.losses import links
from rlhf_jax.losses.preference import (
    alpha_score,
    cdpo_loss,
    discopop_loss,
    dpo_loss,
    exo_loss,
    f_dpo_loss,
    forward_kl_score,
    geometric_dpo_loss,
    gpo_loss,
    hinge_dpo_loss,
    ipo_loss,
    js_score,
    rebel_loss,
    robust_dpo_loss,
    soft_preference_loss,
)
from rlhf_jax.losses.preference.ratios import pair_log_ratios, pair_margins
from rlhf_jax.ops.logprobs import mean_logps, sequence_logps

# chosen, rejected, ref_chosen, ref_rejected: D = (1, -1) - (-1, 0) = (2, -1), so with beta = 1/2
# the margins are (1, -1/2).
PAIRS = (
    jnp.array([-1.0, -2.0]),
    jnp.array([-3.0, -1.0]),
    jnp.array([-2.0, -1.0]),
    jnp.array([-2.0, -1.0]),
)
SOFTPLUS = np.array([0.3132617, 0.9740770])  # log(1 + e^-1), log(1 + e^0.5)


@pytest.fixture
def double():
    """float64 while a test runs."""
    with jax.enable_x64(True):
        yield


in_double = pytest.mark.usefixtures("double")


def random_pairs(seed=0, count=7, scale=3.0):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(x) for x in scale * rng.standard_normal((4, count)))


def swapped(pairs):
    chosen, rejected, ref_chosen, ref_rejected = pairs
    return rejected, chosen, ref_rejected, ref_chosen


GOLDEN = {
    # softplus(-z) + h z and softplus(-z) - h z / (1 - 2 h), h = 0.1
    "cdpo": (partial(cdpo_loss, label_smoothing=0.1), SOFTPLUS + np.array([0.1, -0.05])),
    "robust": (
        partial(robust_dpo_loss, label_smoothing=0.1),
        SOFTPLUS + np.array([-0.125, 0.0625]),
    ),
    "hinge": (hinge_dpo_loss, [0.0, 1.5]),
    # 0.7310586 (log 0.7310586 - log 0.9) + 0.2689414 (log 0.2689414 - log 0.1), likewise at -1/2
    "exo": (partial(exo_loss, label_smoothing=0.1), [0.1140821, 0.8101961]),
    # 0.1192029 * 0.3132617 + 0.8807971 * 0.3678794, 0.7310586 * 0.9740770 + 0.2689414 * 1.6487213
    "discopop": (partial(discopop_loss, temperature=0.5), [0.3613688, 1.1555168]),
    "gpo": (partial(gpo_loss, link=lambda z: z**2), [1.0, 0.25]),
    # scores -1 / ratio: log-ratios 1, -1 and -1, 0: (-e^-1 + e) / 2 = 1.1752012,
    # (-e + 1) / 2 = -0.8591409; softplus of the negatives
    "forward KL": (partial(f_dpo_loss, score=forward_kl_score), [0.2690777, 1.2122776]),
}


@pytest.mark.parametrize(("loss", "expected"), GOLDEN.values(), ids=GOLDEN.keys())
def test_golden_numbers(loss, expected):
    np.testing.assert_allclose(loss(*PAIRS, beta=0.5), expected, rtol=1e-5)


def test_soft_label_golden_numbers():
    prefs = jnp.array([0.75, 0.75])
    # softplus(-z) + (1 - p) z: + 0.25 and - 0.125
    soft = soft_preference_loss(*PAIRS, prefs, beta=0.5)
    np.testing.assert_allclose(soft, SOFTPLUS + np.array([0.25, -0.125]), rtol=1e-6)
    # margins halved: log(1 + e^-0.5), log(1 + e^0.25)
    geometric = geometric_dpo_loss(*PAIRS, prefs, beta=0.5)
    np.testing.assert_allclose(geometric, [0.4740770, 0.8259394], rtol=1e-6)


def test_log_ratios_and_margins():
    chosen, rejected = pair_log_ratios(*PAIRS)
    np.testing.assert_allclose(chosen, [1.0, -1.0])
    np.testing.assert_allclose(rejected, [-1.0, 0.0])
    np.testing.assert_allclose(pair_margins(*PAIRS, beta=0.5), [1.0, -0.5])


SAME = {
    "cDPO(0) = DPO": (partial(cdpo_loss, label_smoothing=0.0), dpo_loss),
    "robust(0) = DPO": (partial(robust_dpo_loss, label_smoothing=0.0), dpo_loss),
    "f-DPO(u) = DPO": (partial(f_dpo_loss, score=lambda u: u), dpo_loss),
    "alpha(1) = DPO": (partial(f_dpo_loss, score=partial(alpha_score, alpha=1.0)), dpo_loss),
    "alpha(0) = forward KL": (
        partial(f_dpo_loss, score=partial(alpha_score, alpha=0.0)),
        partial(f_dpo_loss, score=forward_kl_score),
    ),
    "GPO(logistic) = DPO": (partial(gpo_loss, link=links.logistic), dpo_loss),
    "GPO(hinge) = hinge": (partial(gpo_loss, link=links.hinge), hinge_dpo_loss),
    "GPO(discopop) = DiscoPOP": (partial(gpo_loss, link=links.discopop), discopop_loss),
    **{
        f"GPO({link.__name__}) = {loss.__name__}": (
            partial(gpo_loss, link=partial(link, label_smoothing=0.2)),
            partial(loss, label_smoothing=0.2),
        )
        for link, loss in (
            (links.smoothed_logistic, cdpo_loss),
            (links.robust_logistic, robust_dpo_loss),
            (links.exo, exo_loss),
        )
    },
}


@in_double
@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME.keys())
def test_reductions(one, other):
    pairs = random_pairs()
    np.testing.assert_allclose(one(*pairs, beta=0.7), other(*pairs, beta=0.7), rtol=1e-12)


@in_double
@pytest.mark.parametrize("loss", [soft_preference_loss, geometric_dpo_loss])
def test_hard_labels_are_dpo(loss):
    pairs = random_pairs()
    won = loss(*pairs, jnp.ones(7), beta=0.7)
    np.testing.assert_allclose(won, dpo_loss(*pairs, beta=0.7), rtol=1e-12)
    lost = loss(*pairs, jnp.zeros(7), beta=0.7)
    np.testing.assert_allclose(lost, dpo_loss(*swapped(pairs), beta=0.7), rtol=1e-12)


@in_double
def test_soft_label_of_one_minus_h_is_cdpo():
    pairs = random_pairs()
    soft = soft_preference_loss(*pairs, jnp.full(7, 0.8), beta=0.7)
    np.testing.assert_allclose(soft, cdpo_loss(*pairs, beta=0.7, label_smoothing=0.2), rtol=1e-12)


@pytest.mark.long
def test_an_even_label_pulls_back_or_not_at_all():
    """At p = 1/2 the cross-entropy is least at the reference; the geometric mean has no slope."""
    prefs = jnp.full(2, 0.5)
    slopes = [
        jax.grad(lambda x, loss=loss: jnp.sum(loss(x, *PAIRS[1:], prefs, beta=0.5)))(PAIRS[0])
        for loss in (soft_preference_loss, geometric_dpo_loss)
    ]
    # beta (sigmoid(z) - 1/2) at z = 1, -1/2
    np.testing.assert_allclose(slopes[0], [0.1155293, -0.0612297], rtol=1e-5)
    np.testing.assert_array_equal(slopes[1], 0.0)


@in_double
def test_alpha_near_one_is_dpo_to_first_order():
    """S(u) = u + (alpha - 1) u^2 / 2: the gap to DPO shrinks with alpha - 1, at that slope."""
    pairs = random_pairs()
    chosen, rejected = pair_log_ratios(*pairs)
    step = 1e-6
    near = f_dpo_loss(*pairs, beta=0.7, score=partial(alpha_score, alpha=1.0 + step))
    slope = (near - dpo_loss(*pairs, beta=0.7)) / step
    margins = pair_margins(*pairs, beta=0.7)
    expected = -0.7 * (chosen**2 - rejected**2) / 2 / (1 + np.exp(margins))
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-4)


@in_double
def test_other_forms_of_alpha_differ_by_a_constant():
    """exp((alpha - 1) u) / (alpha - 1), and (1 - exp(-a u)) / a with a = 1 - alpha."""
    pairs, alpha = random_pairs(), 0.4
    ours = f_dpo_loss(*pairs, beta=0.7, score=partial(alpha_score, alpha=alpha))
    for score in (
        lambda u: jnp.exp((alpha - 1) * u) / (alpha - 1),
        lambda u: (1 - jnp.exp(-(1 - alpha) * u)) / (1 - alpha),
    ):
        other = f_dpo_loss(*pairs, beta=0.7, score=score)
        np.testing.assert_allclose(ours, other, rtol=1e-10)


@pytest.mark.long
@in_double
def test_averaged_forms_on_answers_of_equal_and_of_unequal_length():
    """Mean log-probs: DPO with beta / n (sigmoid_norm), IPO on D / n."""
    tokens = -jnp.asarray(np.random.default_rng(1).exponential(size=(4, 5, 6)))
    beta, full = 2.0, jnp.ones((5, 6), bool)
    sums = [sequence_logps(x, full) for x in tokens]
    means = [mean_logps(x, full) for x in tokens]
    np.testing.assert_allclose(dpo_loss(*means, beta=beta), dpo_loss(*sums, beta=beta / 6))
    gap = sums[0] - sums[1] - sums[2] + sums[3]
    expected = (gap / 6 - 1 / (2 * beta)) ** 2
    np.testing.assert_allclose(ipo_loss(*means, beta=beta), expected, rtol=1e-12)
    short = jnp.broadcast_to(jnp.arange(6) < 3, (5, 6))
    mixed = [mean_logps(x, short if i % 2 else full) for i, x in enumerate(tokens)]
    # chosen 6 and rejected 3 tokens: beta (u_w / 6 - u_l / 3)
    u_w, u_l = sums[0] - sums[2], jnp.sum((tokens[1] - tokens[3])[:, :3], -1)
    margins = beta * (u_w / 6 - u_l / 3)
    np.testing.assert_allclose(dpo_loss(*mixed, beta=beta), np.log1p(np.exp(-margins)), rtol=1e-12)


@in_double
def test_robust_dpo_is_dpo_on_clean_labels():
    """Labels flipped at rate 0.2, whichever answer is truly the better."""
    pairs = random_pairs()
    loss = partial(robust_dpo_loss, beta=0.7, label_smoothing=0.2)
    mean = 0.8 * loss(*pairs) + 0.2 * loss(*swapped(pairs))
    np.testing.assert_allclose(mean, dpo_loss(*pairs, beta=0.7), atol=1e-12)


def slope_at(loss, margin):
    """dL/dz at a margin z, all other log-probs 0 and beta = 1."""
    zero = jnp.zeros(())
    return jax.grad(lambda z: loss(z, zero, zero, zero))(jnp.asarray(margin))


@in_double
@pytest.mark.parametrize(
    "loss",
    [
        partial(cdpo_loss, beta=1.0, label_smoothing=0.1),
        partial(exo_loss, beta=1.0, label_smoothing=0.1),
        lambda *x: soft_preference_loss(*x, jnp.asarray(0.9), beta=1.0),
    ],
    ids=["cdpo", "exo", "soft"],
)
def test_smoothed_optima_are_at_the_log_odds(loss):
    """logit 0.9 = 2.1972, from both sides."""
    assert slope_at(loss, 2.1971) < 0 < slope_at(loss, 2.1973)
    np.testing.assert_allclose(slope_at(loss, np.log(9.0)), 0.0, atol=1e-15)


@pytest.mark.long
@in_double
def test_population_optima_are_the_regularised_optimum():
    """All pairs, Bradley-Terry labels, any behaviour: pi_ref exp(r / beta) / Z, gradient zero."""
    beta = 0.8
    rewards, ref_logits, behaviour = draw_bandit()
    optimum = regularised_optimum(rewards, ref_logits, beta=beta)
    drawn = behaviour[:, None] * behaviour[None, :]
    prefs = preference_matrix(rewards)
    assert_optimal(partial(dpo_loss, beta=beta), drawn * prefs, optimum, ref_logits)
    alpha_one = partial(f_dpo_loss, beta=beta, score=partial(alpha_score, alpha=1.0))
    assert_optimal(alpha_one, drawn * prefs, optimum, ref_logits)
    soft = lambda *x: soft_preference_loss(*x, prefs, beta=beta)  # noqa: E731
    assert_optimal(soft, drawn, optimum, ref_logits)
    flipped = 0.7 * prefs + 0.3 * prefs.T
    robust = partial(robust_dpo_loss, beta=beta, label_smoothing=0.3)
    assert_optimal(robust, drawn * flipped, optimum, ref_logits)
    regressed = lambda *x: rebel_loss(*x, gaps(rewards), beta=beta)  # noqa: E731
    assert_optimal(regressed, drawn, optimum, ref_logits)


@in_double
def test_soft_labels_depend_on_judge_temperature_times_beta():
    """p = sigmoid(r gap / tau) gives pi_ref exp(r / (tau beta)) / Z."""
    beta, tau = 0.8, 2.5
    rewards, ref_logits, behaviour = draw_bandit(1)
    prefs = preference_matrix(rewards / tau)
    soft = lambda *x: soft_preference_loss(*x, prefs, beta=beta)  # noqa: E731
    optimum = regularised_optimum(rewards, ref_logits, beta=beta * tau)
    assert_optimal(soft, behaviour[:, None] * behaviour[None, :], optimum, ref_logits)


@in_double
def test_population_ipo_is_stationary_at_the_optimum_of_its_own_reward():
    """Intransitive preferences: rock, paper, scissors and a fourth."""
    beta = 0.3
    noise, ref_logits, behaviour = draw_bandit(2)
    turns = gaps(noise) + jnp.sin(3.0 * rows(noise) * rows(noise).T) * jnp.sign(gaps(noise))
    prefs = jax.nn.sigmoid(2.0 * (turns - turns.T))
    rewards = ipo_rewards(prefs, behaviour)
    optimum = regularised_optimum(rewards, ref_logits, beta=beta)
    drawn = behaviour[:, None] * behaviour[None, :]
    assert_optimal(partial(ipo_loss, beta=beta), drawn * prefs, optimum, ref_logits)


f32 = partial(st.floats, width=32, allow_subnormal=False)
four = st.tuples(*[f32(-20, 20)] * 4)


def as_pairs(numbers):
    return tuple(jnp.asarray(x, jnp.float32) for x in numbers)


EVERY = {
    "dpo": dpo_loss,
    "cdpo": partial(cdpo_loss, label_smoothing=0.1),
    "robust": partial(robust_dpo_loss, label_smoothing=0.1),
    "hinge": hinge_dpo_loss,
    "ipo": ipo_loss,
    "exo": partial(exo_loss, label_smoothing=0.1),
    "discopop": partial(discopop_loss, temperature=0.9),
    "gpo": partial(gpo_loss, link=jnp.tanh),
    "alpha = 1": partial(f_dpo_loss, score=partial(alpha_score, alpha=1.0)),
}


@pytest.mark.long
@settings(derandomize=True, deadline=None, max_examples=25)
@given(numbers=four, shift=f32(-20, 20))
@pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY.keys())
def test_a_constant_added_to_both_answers_changes_nothing(loss, numbers, shift):
    """As beta log Z(x) of the implicit reward, which is why no partition function is needed."""
    chosen, rejected, *refs = as_pairs(numbers)
    moved = loss(chosen + shift, rejected + shift, *refs, beta=0.3)
    np.testing.assert_allclose(moved, loss(chosen, rejected, *refs, beta=0.3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "score", [forward_kl_score, js_score, partial(alpha_score, alpha=0.5)], ids=["kl", "js", "half"]
)
def test_other_divergences_do_see_a_constant(score):
    """Their optimum has a multiplier per prompt, but the loss is not a function of the gap."""
    chosen, rejected, *refs = PAIRS
    loss = partial(f_dpo_loss, beta=0.5, score=score)
    moved = loss(chosen + 1.0, rejected + 1.0, *refs)
    assert float(jnp.min(jnp.abs(moved - loss(*PAIRS)))) > 1e-2


@pytest.mark.long
@settings(derandomize=True, deadline=None, max_examples=25)
@given(numbers=four, rate=st.floats(0.0, 0.4))
def test_what_swapping_the_answers_costs(numbers, rate):
    """L(w, l) - L(l, w): odd in z, and exactly known for each link."""
    pairs, beta = as_pairs(numbers), 0.3
    z = float(pair_margins(*pairs, beta=beta))
    h = {"label_smoothing": rate}
    for loss, cost in (
        (dpo_loss, -z),
        (partial(cdpo_loss, **h), -(1 - 2 * rate) * z),
        (partial(robust_dpo_loss, **h), -z / (1 - 2 * rate)),
        (hinge_dpo_loss, max(0.0, 1 - z) - max(0.0, 1 + z)),
        (ipo_loss, -2 * z / beta**2),  # (D - c)^2 - (D + c)^2 = -4 c D, c = 1 / (2 beta)
    ):
        gap = loss(*pairs, beta=beta) - loss(*swapped(pairs), beta=beta)
        np.testing.assert_allclose(gap, cost, rtol=1e-4, atol=1e-3)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(numbers=four, pref=f32(0, 1))
@pytest.mark.parametrize("loss", [soft_preference_loss, geometric_dpo_loss])
def test_swapping_answers_and_label_changes_nothing(loss, numbers, pref):
    pairs, prefs = as_pairs(numbers), jnp.asarray(pref, jnp.float32)
    one = loss(*pairs, prefs, beta=0.3)
    np.testing.assert_allclose(loss(*swapped(pairs), 1.0 - prefs, beta=0.3), one, atol=1e-4)


@pytest.mark.parametrize("beta", [1e-6, 0.1, 1e3])
@pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY.keys())
def test_improbable_answers_are_finite(loss, beta):
    """Log-probs of -1e4 under the policy, the reference, or both."""
    far, near = jnp.array([-1e4, -1e4, 0.0, 0.0]), jnp.array([-1e4, 0.0, -1e4, 0.0])
    for pairs in ((far, near, near, near), (near, far, far, near), (far, near, near, far)):
        value, grad = jax.value_and_grad(lambda x, p=pairs: jnp.sum(loss(x, *p[1:], beta=beta)))(
            pairs[0]
        )
        assert bool(jnp.isfinite(value) & jnp.all(jnp.isfinite(grad)))


@pytest.mark.long
def test_soft_labels_at_their_ends_are_finite():
    far = jnp.array([-1e4, 1e4, 0.0])
    zero = jnp.zeros(3)
    for pref in (0.0, 0.5, 1.0):
        for loss in (soft_preference_loss, geometric_dpo_loss):
            total = partial(
                lambda x, loss, prefs: jnp.sum(loss(x, zero, zero, zero, prefs, beta=1e3)),
                loss=loss,
                prefs=jnp.full(3, pref),
            )
            value, grad = jax.value_and_grad(total)(far)
            assert bool(jnp.isfinite(value) & jnp.all(jnp.isfinite(grad)))


def test_robust_dpo_is_linear_far_out():
    """-h z / (1 - 2 h) at z = 1e7, h = 0.1: -1.25e6; (1 - h) |z| / (1 - 2 h) at -1e7: 1.125e7."""
    zero = jnp.zeros(2)
    loss = robust_dpo_loss(jnp.array([1e4, -1e4]), zero, zero, zero, beta=1e3, label_smoothing=0.1)
    np.testing.assert_allclose(loss, [-1.25e6, 1.125e7], rtol=1e-5)
