"""Pairwise losses with one more number per pair: by hand, in their limits, at their optima."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandit_population import ANSWERS, assert_optimal, columns, draw_bandit, gaps, rows, slope
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.envs.bandit import preference_matrix
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.losses.preference import (
    alpha_dpo_loss,
    dpo_loss,
    geometric_dpo_loss,
    ipo_loss,
    mallows_dpo_loss,
    odpo_loss,
    r_dpo_loss,
    rebel_loss,
    sequence_kl_gaps,
    simpo_loss,
    tdpo_loss,
    xpo_loss,
)
from rlhf_jax.ops.kl import exact_kl

# Log-ratio gaps D = (2, -1): with beta = 1/2 the margins are (1, -1/2).
PAIRS = (
    jnp.array([-1.0, -2.0]),
    jnp.array([-3.0, -1.0]),
    jnp.array([-2.0, -1.0]),
    jnp.array([-2.0, -1.0]),
)


@pytest.fixture
def double():
    """float64 while a test runs."""
    with jax.enable_x64(True):
        yield


in_double = pytest.mark.usefixtures("double")


def random_pairs(count=7):
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(x) for x in 3.0 * rng.standard_normal((4, count)))


def test_odpo_golden_numbers():
    # softplus(-(1 - 0.5)) and softplus(-(-0.5 - 0.5))
    loss = odpo_loss(*PAIRS, jnp.array([0.5, 0.5]), beta=0.5)
    np.testing.assert_allclose(loss, [0.4740770, 1.3132617], rtol=1e-6)


def test_mallows_golden_numbers():
    # softplus(-2 * 1) and softplus(0.5 * 0.5)
    loss = mallows_dpo_loss(*PAIRS, jnp.array([2.0, 0.5]), beta=0.5)
    np.testing.assert_allclose(loss, [0.1269280, 0.8259394], rtol=1e-6)


def test_r_dpo_golden_numbers():
    # softplus(-(1 + 0.25 * 2)) and softplus(-(-0.5 - 0.25 * 2))
    loss = r_dpo_loss(*PAIRS, jnp.array([2.0, -2.0]), beta=0.5, alpha=0.25)
    np.testing.assert_allclose(loss, [0.2014133, 1.3132617], rtol=1e-6)


def test_tdpo_golden_numbers():
    # softplus(-(1 - 0.25 * 2)) and softplus(-(-0.5 + 0.25 * 2)) = log 2
    loss = tdpo_loss(*PAIRS, jnp.array([2.0, -2.0]), beta=0.5, alpha=0.5)
    np.testing.assert_allclose(loss, [0.4740770, 0.6931472], rtol=1e-6)


def test_rebel_golden_numbers():
    # (1 - 0.25)^2 and (-0.5 + 0.25)^2
    loss = rebel_loss(*PAIRS, jnp.array([0.25, -0.25]), beta=0.5)
    np.testing.assert_allclose(loss, [0.5625, 0.0625])


def test_xpo_golden_numbers():
    # log(1 + e^-1) - 0.1 * 3 and log(1 + e^0.5) - 0.1
    loss = xpo_loss(*PAIRS, jnp.array([-3.0, -1.0]), beta=0.5, alpha=0.1)
    np.testing.assert_allclose(loss, [0.0132617, 0.8740770], rtol=1e-5)


@in_double
@pytest.mark.parametrize(
    ("loss", "extra"),
    [
        (odpo_loss, 0.0),
        (mallows_dpo_loss, 1.0),
        (partial(r_dpo_loss, alpha=0.0), 3.0),
        (partial(r_dpo_loss, alpha=0.5), 0.0),
        (partial(tdpo_loss, alpha=0.0), 3.0),
        (partial(tdpo_loss, alpha=0.5), 0.0),
        (partial(xpo_loss, alpha=0.0), -3.0),
    ],
)
def test_without_their_number_they_are_dpo(loss, extra):
    pairs = random_pairs()
    numbers = jnp.full(7, extra)
    np.testing.assert_allclose(
        loss(*pairs, numbers, beta=0.7), dpo_loss(*pairs, beta=0.7), rtol=1e-12
    )


@in_double
def test_mallows_on_soft_labels_is_geometric_dpo():
    pairs, prefs = random_pairs(), jnp.linspace(0.0, 1.0, 7)
    scaled = mallows_dpo_loss(*pairs, 2.0 * prefs - 1.0, beta=0.7)
    np.testing.assert_allclose(scaled, geometric_dpo_loss(*pairs, prefs, beta=0.7), rtol=1e-12)


@pytest.mark.long
@in_double
def test_population_mallows_removes_the_scale_of_a_prompt():
    """Labels with P = sigmoid(c r gap): the optimum is that of r, whatever c."""
    beta, sharpness = 0.8, 3.0
    rewards, ref_logits, behaviour = draw_bandit()
    optimum = regularised_optimum(rewards, ref_logits, beta=beta)
    drawn = behaviour[:, None] * behaviour[None, :] * preference_matrix(sharpness * rewards)
    scales = jnp.full((ANSWERS, ANSWERS), sharpness)
    loss = lambda *x: mallows_dpo_loss(*x, scales, beta=beta)  # noqa: E731
    assert_optimal(loss, drawn, optimum, ref_logits)


@in_double
def test_rebel_on_gaps_of_one_half_is_ipo():
    """(beta D - 1/2)^2 = beta^2 (D - 1 / (2 beta))^2."""
    pairs, beta = random_pairs(), 0.7
    half = rebel_loss(*pairs, jnp.full(7, 0.5), beta=beta)
    np.testing.assert_allclose(half, beta**2 * ipo_loss(*pairs, beta=beta), rtol=1e-12)


@in_double
def test_population_r_dpo_charges_for_length():
    """Labels of r: the optimum is that of r - alpha |y|, hence the sign of +alpha (n_w - n_l)."""
    beta, alpha = 0.8, 0.25
    rewards, ref_logits, behaviour = draw_bandit()
    lengths = jnp.asarray([2.0, 11.0, 5.0, 7.0])
    optimum = regularised_optimum(rewards - alpha * lengths, ref_logits, beta=beta)
    drawn = behaviour[:, None] * behaviour[None, :] * preference_matrix(rewards)
    loss = lambda *x: r_dpo_loss(*x, gaps(lengths), beta=beta, alpha=alpha)  # noqa: E731
    assert_optimal(loss, drawn, optimum, ref_logits)
    # length-biased labels P = sigmoid(r gap + alpha length gap): R-DPO recovers r itself
    biased = preference_matrix(rewards + alpha * lengths)
    clean = regularised_optimum(rewards, ref_logits, beta=beta)
    drawn = behaviour[:, None] * behaviour[None, :] * biased
    assert_optimal(loss, drawn, clean, ref_logits)


@in_double
def test_population_odpo_adds_its_gap_to_the_reward():
    """Antisymmetric gaps g_a - g_b and labels of r: pi_ref exp((r + g) / beta) / Z."""
    beta = 0.8
    rewards, ref_logits, behaviour = draw_bandit()
    extra = jnp.asarray([0.3, -1.0, 0.5, 0.0])
    optimum = regularised_optimum(rewards + extra, ref_logits, beta=beta)
    drawn = behaviour[:, None] * behaviour[None, :] * preference_matrix(rewards)
    loss = lambda *x: odpo_loss(*x, gaps(extra), beta=beta)  # noqa: E731
    assert_optimal(loss, drawn, optimum, ref_logits)


@in_double
def test_odpo_as_modpo_reaches_the_weighted_reward():
    """Labels of r_1, gaps w_2 (r_2 gap) / w_1, beta / w_1: the optimum of w_1 r_1 + w_2 r_2."""
    beta, w_1, w_2 = 0.8, 0.6, 0.4
    r_1, ref_logits, behaviour = draw_bandit()
    r_2, _, _ = draw_bandit(5)
    optimum = regularised_optimum(w_1 * r_1 + w_2 * r_2, ref_logits, beta=beta)
    drawn = behaviour[:, None] * behaviour[None, :] * preference_matrix(r_1)
    loss = lambda *x: odpo_loss(*x, gaps(r_2) * w_2 / w_1, beta=beta / w_1)  # noqa: E731
    assert_optimal(loss, drawn, optimum, ref_logits)


@in_double
def test_population_rebel_regresses_any_score():
    beta = 0.8
    scores, ref_logits, behaviour = draw_bandit(3)
    optimum = regularised_optimum(scores, ref_logits, beta=beta)
    loss = lambda *x: rebel_loss(*x, gaps(scores), beta=beta)  # noqa: E731
    drawn = behaviour[:, None] * behaviour[None, :]
    assert_optimal(loss, drawn, optimum, ref_logits)
    logps, ref_logps = optimum, jax.nn.log_softmax(ref_logits)
    at_best = loss(rows(logps), columns(logps), rows(ref_logps), columns(ref_logps))
    np.testing.assert_allclose(at_best, 0.0, atol=1e-25)


@in_double
def test_xpo_moves_mass_away_from_reference_samples():
    """Its expected slope is that of DPO plus alpha (pi_ref - pi): descent goes the other way."""
    rewards, ref_logits, behaviour = draw_bandit()
    drawn = behaviour[:, None] * behaviour[None, :] * preference_matrix(rewards)
    ref_probs, probs = jax.nn.softmax(ref_logits), jax.nn.softmax(rewards)

    def total(logits, alpha):
        logps, ref_logps = jax.nn.log_softmax(logits), jax.nn.log_softmax(ref_logits)
        four = rows(logps), columns(logps), rows(ref_logps), columns(ref_logps)
        explored = jnp.broadcast_to(logps[:, None, None], (ANSWERS, ANSWERS, ANSWERS))
        four = (jnp.broadcast_to(x, explored.shape) for x in four)
        losses = xpo_loss(*four, explored, beta=0.8, alpha=alpha)
        return jnp.sum(ref_probs[:, None, None] * drawn * losses)

    bonus = jax.grad(total)(rewards, 0.3) - jax.grad(total)(rewards, 0.0)
    share = float(jnp.sum(drawn))
    np.testing.assert_allclose(bonus, 0.3 * share * (ref_probs - probs), atol=1e-12)
    plain = slope(partial(dpo_loss, beta=0.8), drawn, rewards, ref_logits)
    np.testing.assert_allclose(jax.grad(total)(rewards, 0.0), plain, atol=1e-12)


def two_step_world(seed=0):
    """Answers of two tokens out of three: rewards [3, 3], reference logits [3] and [3, 3]."""
    rng = np.random.default_rng(seed)
    shapes = (3, 3), (3,), (3, 3)
    return tuple(jnp.asarray(rng.standard_normal(shape)) for shape in shapes)


@pytest.mark.long
@in_double
def test_tdpo_margin_is_the_reward_gap_at_its_own_optimum():
    """The sign of the divergence gap, from the definition by enumeration.

    TDPO's optimal policy is pi(z | s) ~ pi_ref(z | s) exp(A(s, z) / beta), A the advantage of
    pi_ref. Advantages along an answer add up to r(y) - V(x), so the Bradley-Terry logit of a pair
    at that policy has to be the gap of rewards, whatever the pair.
    """
    beta = 0.6
    rewards, first, second = two_step_world()
    ref_first, ref_second = jax.nn.softmax(first), jax.nn.softmax(second)
    q_first = jnp.sum(ref_second * rewards, -1)
    a_first = q_first - jnp.sum(ref_first * q_first)
    a_second = rewards - q_first[:, None]
    logits_first, logits_second = first + a_first / beta, second + a_second / beta

    def answers(first, second):
        """log-probs of the nine answers."""
        return (jax.nn.log_softmax(first)[:, None] + jax.nn.log_softmax(second)).reshape(-1)

    kl_first = jnp.broadcast_to(exact_kl(first, logits_first), (3, 3))
    kl_second = jnp.broadcast_to(exact_kl(second, logits_second)[:, None], (3, 3))
    token_kl = jnp.stack([kl_first, kl_second], -1).reshape(9, 2)
    steps = jnp.ones((9, 9, 2), bool)
    all_kl = jnp.broadcast_to(token_kl, (9, 9, 2))
    kl_gaps = sequence_kl_gaps(jnp.swapaxes(all_kl, 0, 1), all_kl, steps, steps)

    def both(x):
        return jnp.broadcast_to(x[:, None], (9, 9)), jnp.broadcast_to(x[None, :], (9, 9))

    logps, ref_logps = answers(logits_first, logits_second), answers(first, second)
    loss = tdpo_loss(*both(logps), *both(ref_logps), kl_gaps, beta=beta, alpha=1.0)
    chosen, rejected = both(rewards.reshape(-1))
    # exact_kl computes in float32
    np.testing.assert_allclose(loss, np.log1p(np.exp(rejected - chosen)), rtol=1e-5)
    wrong = tdpo_loss(*both(logps), *both(ref_logps), -kl_gaps, beta=beta, alpha=1.0)
    assert float(jnp.max(jnp.abs(wrong - loss))) > 0.05


def test_sequence_kl_gaps_golden_numbers():
    chosen, rejected = jnp.array([[1.0, 2.0, 4.0]]), jnp.array([[0.5, 0.25]])
    first_two, all_two = jnp.array([[True, True, False]]), jnp.array([[True, True]])
    np.testing.assert_allclose(sequence_kl_gaps(chosen, rejected, first_two, all_two), [-2.25])
    grads = jax.grad(lambda *x: sequence_kl_gaps(*x, first_two, all_two)[0], argnums=(0, 1))(
        chosen, rejected
    )
    np.testing.assert_array_equal(grads[0], 0.0)
    np.testing.assert_array_equal(grads[1], 1.0)


def test_sequence_kl_gaps_see_nothing_under_the_mask():
    tokens = jnp.array([[1.0, jnp.nan], [jnp.nan, jnp.nan]])
    mask = jnp.array([[True, False], [False, False]])
    gap = sequence_kl_gaps(tokens, 3.0 * tokens, mask, mask)
    np.testing.assert_array_equal(gap, [2.0, 0.0])
    grad = jax.grad(lambda x: jnp.sum(sequence_kl_gaps(tokens, x, mask, mask)))(tokens)
    np.testing.assert_array_equal(grad, mask)


f32 = partial(st.floats, width=32, allow_subnormal=False)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(numbers=st.tuples(*[f32(-20, 20)] * 5), shift=f32(-20, 20))
@pytest.mark.parametrize(
    "loss",
    [
        odpo_loss,
        partial(r_dpo_loss, alpha=0.2),
        partial(tdpo_loss, alpha=0.5),
        rebel_loss,
        partial(xpo_loss, alpha=0.1),
    ],
)
def test_constants_and_swaps(loss, numbers, shift):
    """A constant per prompt cancels; swapped answers with minus their number give back -z."""
    chosen, rejected, ref_chosen, ref_rejected, extra = (jnp.float32(x) for x in numbers)
    value = loss(chosen, rejected, ref_chosen, ref_rejected, extra, beta=0.3)
    moved = loss(chosen + shift, rejected + shift, ref_chosen, ref_rejected, extra, beta=0.3)
    np.testing.assert_allclose(moved, value, rtol=1e-4, atol=1e-4)
    name = getattr(loss, "func", loss)
    if name is xpo_loss:  # its number belongs to a third answer
        return
    other = loss(rejected, chosen, ref_rejected, ref_chosen, -extra, beta=0.3)
    z = 0.3 * (numbers[0] - numbers[1] - numbers[2] + numbers[3])
    offset = {odpo_loss: -1.0, r_dpo_loss: 0.2, tdpo_loss: -0.3 * 0.5, rebel_loss: None}[name]
    cost = 0.0 if offset is None else -(z + offset * numbers[4])
    np.testing.assert_allclose(value - other, cost, rtol=1e-4, atol=1e-4)


def test_alpha_dpo_by_hand():
    """M = 1 - (-1) = 2: z = 0.5 * 2 - (0.3 + 0.2 (2 - 1) / 2) = 0.6; slopes -+0.5 sigmoid(-z)."""
    pair = tuple(jnp.float32(x) for x in (-1.0, -3.0, -2.0, -2.0))
    loss = partial(alpha_dpo_loss, beta=0.5, gamma=0.3, alpha=0.2, mean=1.0, std=2.0)
    np.testing.assert_allclose(loss(*pair), 0.4374879, rtol=1e-6)
    slopes = jax.grad(loss, argnums=(0, 1, 2, 3))(*pair)
    np.testing.assert_allclose(slopes, [-0.1771718, 0.1771718, 0.0, 0.0], rtol=1e-6)


def test_alpha_dpo_asks_more_of_pairs_that_have_moved_and_none_is_simpo():
    # M = 0 and 2
    pair = tuple(jnp.array(x) for x in ([-1.0, -1.0], [-3.0, -3.0], [-1.0, -2.0], [-3.0, -2.0]))
    still, moved = alpha_dpo_loss(*pair, beta=0.5, gamma=0.3, alpha=0.2)
    assert moved > still
    plain = simpo_loss(*pair[:2], beta=0.5, gamma=0.3)
    np.testing.assert_allclose(still, plain[0], rtol=1e-6)
    np.testing.assert_allclose(alpha_dpo_loss(*pair, beta=0.5, gamma=0.3, alpha=0.0), plain)
