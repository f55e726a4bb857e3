"""Combined scores of several reward models: by hand, in their limits, and vmapped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.ensembles import mean_scores, uncertainty_penalised_scores, worst_case_scores

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
