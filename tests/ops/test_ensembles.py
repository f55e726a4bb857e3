"""Scores of several reward models, combined and compared: by hand, in their limits, vmapped."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.ensembles import (
    MemberScale,
    error_correlation,
    mean_off_diagonal,
    mean_scores,
    member_scale,
    member_variances,
    standardised_scores,
    uncertainty_penalised_scores,
    worst_case_scores,
)
from rlhf_jax.ops.statistics import best_of_n_curve

SCORES = jnp.array([[1.0, 2.0], [3.0, 2.0], [2.0, -1.0]])
quick = settings(derandomize=True, deadline=None, max_examples=25)
members = st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=4).map(jnp.array)


def test_by_hand():
    np.testing.assert_allclose(mean_scores(SCORES), [2.0, 1.0])
    np.testing.assert_allclose(worst_case_scores(SCORES), [1.0, -1.0])
    # population variances (1 + 1 + 0) / 3 and (1 + 1 + 4) / 3; with N - 1 they would be 1 and 3
    penalised = uncertainty_penalised_scores(SCORES, penalty=0.5)
    np.testing.assert_allclose(penalised, [2 - 1 / 3, 1 - 1.0], rtol=1e-6, atol=1e-6)


def test_no_penalty_is_the_mean_and_not_a_default():
    np.testing.assert_array_equal(
        uncertainty_penalised_scores(SCORES, penalty=0.0), mean_scores(SCORES)
    )


def test_members_that_agree_are_one():
    one = jnp.array([[0.3, -1.2]])
    for scores in (one, jnp.tile(one, (5, 1))):
        np.testing.assert_allclose(mean_scores(scores), one[0], rtol=1e-6)
        np.testing.assert_array_equal(worst_case_scores(scores), one[0])
        penalised = uncertainty_penalised_scores(scores, penalty=2.0)
        np.testing.assert_allclose(penalised, one[0], rtol=1e-6)


@given(members, st.permutations(range(4)).map(jnp.array))
@quick
def test_members_have_no_order_and_the_worst_is_below_the_mean(scores, order):
    for combine in (
        mean_scores,
        worst_case_scores,
        lambda x: uncertainty_penalised_scores(x, penalty=0.5),
    ):
        np.testing.assert_allclose(combine(scores[order]), combine(scores), rtol=1e-4, atol=1e-5)
    assert worst_case_scores(scores) <= mean_scores(scores) + 1e-5


def test_a_larger_penalty_is_a_lower_score():
    values = jax.vmap(lambda p: uncertainty_penalised_scores(SCORES, penalty=p))(
        jnp.array([0.0, 0.5, 2.0])
    )
    assert bool(jnp.all(jnp.diff(values, axis=0) < 0))


def test_a_constant_of_one_member_moves_the_mean_by_its_share_and_may_turn_the_minimum():
    moved = SCORES.at[2].add(-9.0)
    np.testing.assert_allclose(mean_scores(SCORES) - mean_scores(moved), 3.0, rtol=1e-6)
    np.testing.assert_allclose(worst_case_scores(moved), SCORES[2] - 9.0)


def test_leading_axes_are_free():
    scores = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 5)), jnp.float32)
    for combine in (
        mean_scores,
        worst_case_scores,
        lambda x: uncertainty_penalised_scores(x, penalty=0.5),
    ):
        assert combine(scores).shape == (4, 5)
        np.testing.assert_allclose(combine(scores)[2], combine(scores[:, 2]), rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("value", [1e4, -1e4])
def test_far_apart(value):
    scores = jnp.array([[value], [-value]])
    combined = uncertainty_penalised_scores(scores, penalty=1.0)
    np.testing.assert_allclose(combined, -1e8)
    slopes = jax.grad(lambda s: uncertainty_penalised_scores(s, penalty=1.0)[0])(scores)
    assert bool(jnp.all(jnp.isfinite(slopes)))


@pytest.mark.long
def test_vmapped_members_train_as_they_would_alone():
    """Three linear reward models on a leading axis: losses and gradients of each, apart."""
    rng = np.random.default_rng(0)
    params = jnp.asarray(rng.standard_normal((3, 4)), jnp.float32)
    chosen, rejected = (jnp.asarray(rng.standard_normal((6, 4)), jnp.float32) for _ in range(2))

    def loss(member):
        return jnp.mean(bradley_terry_loss(chosen @ member, rejected @ member))

    together = jax.vmap(jax.value_and_grad(loss))(params)
    for i, member in enumerate(params):
        value, grad = jax.value_and_grad(loss)(member)
        np.testing.assert_allclose(together[0][i], value, rtol=1e-6)
        np.testing.assert_allclose(together[1][i], grad, rtol=1e-5, atol=1e-7)
    scores = jax.vmap(lambda member: chosen @ member)(params)
    np.testing.assert_allclose(worst_case_scores(scores), np.min(chosen @ params.T, axis=1), 1e-5)


def test_scale_and_standardised_scores_by_hand():
    # Means 2 and 2, population deviations 1 and 2: (3 - 2) / 1, (6 - 2) / 2 and (1 - 2) / 2.
    scale = member_scale(jnp.array([[1.0, 3.0], [0.0, 4.0]]))
    np.testing.assert_allclose(scale, [[2.0, 2.0], [1.0, 2.0]])
    scores = jnp.array([[3.0, 2.0], [6.0, 1.0]])
    np.testing.assert_allclose(standardised_scores(scores, scale), [[1.0, 0.0], [2.0, -0.5]])


def test_the_zero_and_the_unit_of_a_member_do_not_matter():
    with jax.enable_x64(True):
        scores = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 5)))
        other = scores * jnp.array([2.0, 0.1, 30.0])[:, None, None] + jnp.arange(3.0)[:, None, None]
        first, second = (standardised_scores(x, member_scale(x)) for x in (scores, other))
        np.testing.assert_allclose(first, second, atol=1e-12)
        # The raw minimum is another one.
        assert np.abs(worst_case_scores(other) - worst_case_scores(scores)).max() > 0.1


def test_no_scale_is_the_scores_themselves():
    scale = MemberScale(jnp.zeros(3), jnp.ones(3))
    np.testing.assert_array_equal(standardised_scores(SCORES, scale), SCORES)


def test_a_member_that_tells_no_answers_apart_is_named():
    scores = SCORES.at[1].set(0.1)
    with pytest.raises(ValueError, match="member 1 of 3 scores all 2 reference answers alike"):
        member_scale(scores)
    assert np.isnan(jax.jit(member_scale)(scores).std[1])


def test_a_scale_of_other_members_is_refused():
    with pytest.raises(AssertionError):
        standardised_scores(SCORES, MemberScale(jnp.zeros(2), jnp.ones(2)))


def test_the_penalty_is_on_the_variance_that_is_logged():
    variances = member_variances(SCORES)
    np.testing.assert_allclose(variances, [2 / 3, 2.0], rtol=1e-6)
    penalised = uncertainty_penalised_scores(SCORES, penalty=0.7)
    np.testing.assert_allclose(mean_scores(SCORES) - penalised, 0.7 * variances, rtol=1e-5)


GOLD = jnp.array([-1.0, 1.0, -1.0, 1.0])
ERRORS = jnp.array([[1.0, 1.0, -1.0, -1.0], [2.0, 0.0, -2.0, 0.0]])


def test_correlation_of_errors_by_hand():
    # Both errors have product 0 with the gold; theirs is 4, their norms 2 and 8^0.5.
    scores = jnp.array([[2.0], [-1.0]]) * GOLD + jnp.array([[1.0], [10.0]]) * ERRORS + 5.0
    for gold in (GOLD, 3.0 - 2.0 * GOLD):
        found = error_correlation(scores, gold)
        np.testing.assert_allclose(found, [[1.0, 0.5**0.5], [0.5**0.5, 1.0]], rtol=1e-5)


def test_correlation_of_errors_is_that_of_the_noise():
    """Members are gold plus a shared error of variance 0.6 and their own of 0.4: rho = 0.6."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        size = 20_000
        gold = jax.random.normal(keys[0], (size,))
        noise = jax.random.normal(keys[1], (size,)) * 0.6**0.5
        own = jax.random.normal(keys[2], (4, size)) * 0.4**0.5
        scores = gold + noise + own
        rho = mean_off_diagonal(error_correlation(scores, gold))
        # Standard error of one correlation (1 - rho^2) / 20,000^0.5 = 0.0045.
        assert abs(rho - 0.6) < 0.02
        # What is left of the error's variance in the mean: (1 + 3 rho) / 4 of that of a member.
        left = jnp.var(mean_scores(scores) - gold)
        assert abs(left - (1 + 3 * rho) / 4) < 0.02


def test_mean_off_diagonal():
    assert mean_off_diagonal(jnp.array([[9.0, 1.0], [2.0, 9.0]])) == 1.5
    assert np.isnan(mean_off_diagonal(jnp.ones((1, 1))))


def test_members_that_agree_choose_the_same_best_of_n():
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        proxy, gold = (jnp.asarray(rng.standard_normal((2, 30))) for _ in range(2))
        ns = jnp.array([1, 3, 30])
        scores = jnp.tile(proxy, (4, 1, 1))
        alone = best_of_n_curve(proxy, gold, ns)
        for combine in (
            mean_scores,
            worst_case_scores,
            partial(uncertainty_penalised_scores, penalty=2.0),
        ):
            curve = best_of_n_curve(combine(scores), gold, ns)
            np.testing.assert_allclose(curve, alone, atol=1e-12)
