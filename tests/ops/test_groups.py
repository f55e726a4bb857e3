"""Group advantages: golden numbers, what reduces to what, and answers that are not there."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.ops.groups import (
    group_centred_advantages,
    group_normalised_advantages,
    informative_groups,
    leave_one_out_advantages,
    overlong_penalty,
    pairwise_advantages,
    remax_advantages,
    scored_answers,
)


def differences(scores):
    return scores[..., :, None] - scores[..., None, :]


def by_pairs(scores, mask=None, **eps):
    return pairwise_advantages(differences(scores), mask, **eps)


CENTRED = {
    "Dr. GRPO": group_centred_advantages,
    "GRPO": group_normalised_advantages,
    "RLOO": leave_one_out_advantages,
    "pairwise": by_pairs,
}
every_centred = pytest.mark.parametrize("advantages", CENTRED.values(), ids=CENTRED.keys())
ALL = CENTRED | {"ReMax": lambda scores, mask=None: remax_advantages(scores, scores[..., 0], mask)}
every_group_function = pytest.mark.parametrize("advantages", ALL.values(), ids=ALL.keys())

SCORES = jnp.array([[1.0, 2.0, 6.0], [0.5, 0.5, -1.0]])


def test_golden_numbers():
    # means 3 and 0
    centred = [[-2.0, -1.0, 3.0], [0.5, 0.5, -1.0]]
    np.testing.assert_allclose(group_centred_advantages(SCORES), centred, atol=1e-6)
    # times 3 / 2: 1 - (2 + 6) / 2 = -3, 2 - 3.5, 6 - 1.5
    left_out = [[-3.0, -1.5, 4.5], [0.75, 0.75, -1.5]]
    np.testing.assert_allclose(leave_one_out_advantages(SCORES), left_out, atol=1e-6)
    # squares 14 / 2 and 1.5 / 2: standard deviations 2.6457513 and 0.8660254
    normalised = [[-0.7559289, -0.3779645, 1.1338934], [0.5773503, 0.5773503, -1.1547005]]
    found = group_normalised_advantages(SCORES, eps=0.0)
    np.testing.assert_allclose(found, normalised, rtol=1e-5)
    # with eps = 1: divided by 3.6457513 and 1.8660254
    softer = [[-0.5485838, -0.2742919, 0.8228757], [0.2679492, 0.2679492, -0.5358984]]
    np.testing.assert_allclose(group_normalised_advantages(SCORES, eps=1.0), softer, rtol=1e-5)
    greedy = jnp.array([2.0, 1.0])
    against = [[-1.0, 0.0, 4.0], [-0.5, -0.5, -2.0]]
    np.testing.assert_allclose(remax_advantages(SCORES, greedy), against)


def test_group_normalised_default_eps_is_that_of_trl():
    spread = 1e-3 * SCORES
    expected = (spread - spread.mean(-1, keepdims=True)) / (
        np.std(spread, axis=-1, ddof=1, keepdims=True) + 1e-4
    )
    np.testing.assert_allclose(group_normalised_advantages(spread), expected, rtol=1e-4)


def test_leave_one_out_is_each_score_minus_the_mean_of_the_others():
    scores = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    others = np.stack([np.delete(scores, i, axis=-1).mean(-1) for i in range(5)], axis=-1)
    found = leave_one_out_advantages(jnp.asarray(scores))
    np.testing.assert_allclose(found, scores - others, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_reductions():
    scores = jax.random.normal(jax.random.key(0), (4, 6))
    centred, left_out = group_centred_advantages(scores), leave_one_out_advantages(scores)
    np.testing.assert_allclose(left_out, centred * 6 / 5, rtol=1e-6)
    normalised = group_normalised_advantages(scores, eps=0.0)
    std = np.std(scores, axis=-1, ddof=1, keepdims=True)
    np.testing.assert_allclose(normalised, centred / std, rtol=1e-5)
    np.testing.assert_allclose(by_pairs(scores, eps=0.0), normalised, rtol=1e-4, atol=1e-6)
    default = group_normalised_advantages(scores)
    np.testing.assert_allclose(by_pairs(scores), default, rtol=1e-4, atol=1e-6)
    pair = leave_one_out_advantages(scores[:, :2])
    gap = scores[:, 0] - scores[:, 1]
    np.testing.assert_allclose(pair, jnp.stack([gap, -gap], axis=-1), atol=1e-6)


finite = st.floats(-100.0, 100.0, width=32)
groups = st.lists(finite, min_size=2, max_size=5).map(
    lambda xs: jnp.asarray([*xs, *[0.0] * (5 - len(xs))], jnp.float32)
)


@pytest.mark.long
@every_centred
@settings(derandomize=True, deadline=None, max_examples=25)
@given(scores=groups, shift=finite)
def test_zero_sum_and_blind_to_a_shift(advantages, scores, shift):
    scores = jnp.round(scores, 1)
    found = advantages(scores)
    size = float(jnp.max(jnp.abs(found))) + 1e-3
    assert abs(float(jnp.sum(found))) <= 1e-4 * size
    shifted = advantages(scores + shift)
    # the rounding of the shifted scores, over a spread of 0.1 at least or none
    np.testing.assert_allclose(shifted, found, atol=2e-3 * size)


@every_group_function
def test_permuted_answers_get_permuted_advantages(advantages):
    scores = jax.random.normal(jax.random.key(1), (3, 5))
    order = jnp.array([0, 3, 1, 4, 2])  # the first stays: it is ReMax's greedy one here
    permuted = advantages(scores[:, order])
    np.testing.assert_allclose(permuted, advantages(scores)[:, order], rtol=1e-5, atol=1e-6)


@pytest.mark.long
@every_group_function
def test_missing_answers_never_matter(advantages):
    scores = jax.random.normal(jax.random.key(2), (3, 5))
    mask = jnp.array([[1, 1, 0, 1, 0], [1, 0, 1, 1, 1], [1, 1, 1, 1, 1]], bool)
    hidden = jnp.where(mask, scores, jnp.nan)
    found = advantages(hidden, mask)
    np.testing.assert_array_equal(found[~mask], 0.0)
    for row, kept, expected in zip(scores, mask, found, strict=True):
        alone = advantages(row[kept])
        np.testing.assert_allclose(expected[kept], alone, rtol=1e-5, atol=1e-6)
    grad = jax.grad(lambda x: jnp.sum(advantages(x, mask) ** 2))(hidden)
    assert bool(jnp.all(jnp.isfinite(jnp.where(mask, grad, 0.0))))


@pytest.mark.long
@every_centred
@pytest.mark.parametrize("value", [0.0, 0.1, -3.3e7])
def test_equal_scores_give_exactly_zero(advantages, value):
    scores = jnp.full((2, 7), value)  # seven times 0.1, divided by 7, is not 0.1
    found, grad = jax.value_and_grad(lambda x: jnp.sum(jnp.abs(advantages(x))))(scores)
    assert found == 0.0
    assert bool(jnp.all(jnp.isfinite(grad)))
    with_noise = jnp.where(jnp.arange(7) < 4, scores, 5.0)
    masked = advantages(with_noise, jnp.broadcast_to(jnp.arange(7) < 4, (2, 7)))
    np.testing.assert_array_equal(masked, 0.0)


@pytest.mark.long
@every_centred
def test_gaps_too_small_to_square_give_no_nan(advantages):
    scores = jnp.array([1e-30, 3e-30, 2e-30])  # their variance is 0 in float32
    found, grad = jax.value_and_grad(lambda x: jnp.sum(jnp.abs(advantages(x))))(scores)
    assert found < 1e-20
    assert bool(jnp.all(jnp.isfinite(grad)))


@every_centred
def test_groups_of_one_and_of_none_give_exactly_zero(advantages):
    np.testing.assert_array_equal(advantages(jnp.array([[3.0], [-1.0]])), 0.0)
    scores = jnp.array([[3.0, jnp.nan], [jnp.nan, jnp.inf]])
    mask = jnp.array([[1, 0], [0, 0]], bool)
    np.testing.assert_array_equal(advantages(scores, mask), 0.0)


@pytest.mark.long
@every_group_function
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_an_answer_without_a_finite_score_counts_as_missing(advantages, bad):
    scores = jnp.array([[1.0, bad, 2.0, 4.0], [1.0, 3.0, 2.0, bad], [1.0, bad, bad, bad]])
    found, grad = jax.value_and_grad(lambda x: jnp.sum(advantages(x) ** 2))(scores)
    np.testing.assert_allclose(
        advantages(scores), advantages(jnp.nan_to_num(scores), jnp.isfinite(scores)), rtol=1e-6
    )
    assert found > 0
    assert bool(jnp.all(jnp.isfinite(grad)))


def test_scored_answers_exist_and_have_a_finite_score():
    scores = jnp.array([1.0, jnp.nan, jnp.inf, -jnp.inf, 2.0])
    np.testing.assert_array_equal(scored_answers(scores), [1, 0, 0, 0, 1])
    np.testing.assert_array_equal(scored_answers(scores, jnp.arange(5) > 0), [0, 0, 0, 0, 1])


def test_remax_takes_groups_of_one_and_missing_prompts():
    np.testing.assert_array_equal(remax_advantages(jnp.array([[3.0]]), jnp.array([1.0])), [[2.0]])
    scores, greedy = jnp.array([[3.0, 1.0], [jnp.nan, jnp.nan]]), jnp.array([2.0, jnp.nan])
    mask = jnp.array([[1, 1], [0, 0]], bool)
    np.testing.assert_array_equal(remax_advantages(scores, greedy, mask), [[1.0, -1.0], [0.0, 0.0]])


def test_pairwise_golden_numbers():
    # 0 beats 1 by 0.4, 1 beats 2 by 0.2, 0 beats 2 by 0.1
    gaps = jnp.array([[0.0, 0.4, 0.1], [-0.4, 0.0, 0.2], [-0.1, -0.2, 0.0]])
    # row means 0.5 / 3, -0.2 / 3, -0.3 / 3; squares 2 (0.16 + 0.01 + 0.04) over 2 * 3 * 2 = 0.035
    expected = np.array([0.5, -0.2, -0.3]) / 3 / np.sqrt(0.035)
    found = pairwise_advantages(gaps, eps=0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    diagonal = jnp.diag(jnp.full(3, jnp.nan))
    np.testing.assert_array_equal(pairwise_advantages(gaps + diagonal, eps=0.0), found)
    # the deviation sqrt(0.035) = 0.1870829 and 1 more
    softer = np.array([0.5, -0.2, -0.3]) / 3 / 1.1870829
    np.testing.assert_allclose(pairwise_advantages(gaps, eps=1.0), softer, rtol=1e-5)


def test_the_rounding_of_even_comparisons_is_no_news():
    """P(0 beats 1) = 1/2 + 1e-7, one bit of float32; without eps answer 0 would get 0.707."""
    gaps = jnp.array([[0.0, 1e-7], [-1e-7, 0.0]])
    # row mean 5e-8, deviation 7.1e-8, eps 1e-4
    np.testing.assert_allclose(pairwise_advantages(gaps), [5e-4, -5e-4], rtol=1e-2)


def test_a_cycle_of_comparisons_gives_zero():
    """Each answer beats the next one by the same gap, as in rock, paper, scissors."""
    gaps = jnp.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    np.testing.assert_array_equal(pairwise_advantages(gaps), 0.0)


def test_informative_groups():
    scores = jnp.array([[1.0, 2.0, 2.0], [0.1, 0.1, 0.1], [1.0, 2.0, 1.0], [5.0, 6.0, jnp.nan]])
    np.testing.assert_array_equal(informative_groups(scores[:3]), [True, False, True])
    mask = jnp.array([[0, 1, 1], [1, 1, 1], [1, 1, 0], [1, 0, 0]], bool)
    np.testing.assert_array_equal(informative_groups(scores, mask), [False, False, True, False])
    assert not bool(informative_groups(jnp.ones(3), jnp.zeros(3, bool)))


def test_overlong_penalty_golden_numbers():
    lengths = jnp.array([0, 60, 80, 85, 95, 100, 101, 500])
    # nothing up to 80, then a twentieth for each token, all of it from 100 on
    expected = [0.0, 0.0, 0.0, -0.25, -0.75, -1.0, -1.0, -1.0]
    found = overlong_penalty(lengths, max_length=100, cache=20)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    traced = jax.jit(overlong_penalty)(lengths.astype(jnp.float32), max_length=100.0, cache=20.0)
    np.testing.assert_allclose(traced, expected, atol=1e-6)


@pytest.mark.long
@every_group_function
def test_shapes_and_transformations(advantages):
    scores = jax.random.normal(jax.random.key(3), (2, 3, 4))
    batched = advantages(scores)
    looped = jnp.stack([jnp.stack([advantages(row) for row in rows]) for rows in scores])
    np.testing.assert_allclose(looped, batched, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(advantages)(scores), batched, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(advantages)(scores), batched, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("advantages", [*ALL.values(), informative_groups])
def test_shapes_must_agree(advantages):
    errors = (AssertionError, jaxtyping.TypeCheckError)
    for shape in ((1, 3), (2, 1), (3,)):
        with pytest.raises(errors):
            advantages(jnp.zeros((2, 3)), jnp.ones(shape, bool))


def test_shapes_of_greedy_scores_and_gaps_must_agree():
    errors = (AssertionError, jaxtyping.TypeCheckError)
    for greedy in (jnp.zeros(1), jnp.zeros((2, 3))):
        with pytest.raises(errors):
            remax_advantages(jnp.zeros((2, 3)), greedy)
    with pytest.raises(errors):
        pairwise_advantages(jnp.zeros((2, 3, 4)))
    with pytest.raises(errors):
        partial(pairwise_advantages, jnp.zeros((2, 3, 3)))(jnp.ones((2, 2), bool))
