"""The supervised term of PRO by hand, and PRO's limits in n: weights, lengths, Plackett-Luce."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.preference import pro_loss, pro_sft_loss, sft_loss, simpo_loss
from rlhf_jax.losses.reward import plackett_luce_loss


def test_the_supervised_term_by_hand():
    logps = jnp.array([[-2.0, -1.0, -7.0], [-2.0, -1.0, -7.0], [-2.0, -1.0, -7.0]])
    mask = jnp.array([[True, True, True], [True, True, False], [False, True, False]])
    # 0.05 (3 - 1)^2 2 = 0.4; 0.05 (2 - 1)^2 2 = 0.1; a list of one has no contrast
    loss = pro_sft_loss(logps, mask, sft_weight=0.05)
    np.testing.assert_allclose(loss, [0.4, 0.1, 0.0], rtol=1e-6, atol=1e-9)
    slope = jax.grad(lambda x: pro_sft_loss(x, mask[0], sft_weight=0.05))(logps[0])
    np.testing.assert_allclose(slope, [-0.2, 0.0, 0.0], rtol=1e-6)


def test_of_two_answers_it_is_the_likelihood_of_the_better():
    logps = jnp.array([[-3.0, -1.0], [-0.5, -2.0]])
    loss = pro_sft_loss(logps, jnp.ones((2, 2), bool), sft_weight=0.3)
    np.testing.assert_allclose(loss, 0.3 * sft_loss(logps[:, 0]), rtol=1e-6)
    with pytest.raises(ValueError, match="sft_weight must be in"):
        pro_sft_loss(logps, jnp.ones((2, 2), bool), sft_weight=-0.1)


def test_two_answers_without_temperatures_are_simpo_and_any_number_is_plackett_luce():
    """Constant weights: the list of n is a product of n - 1 softmaxes."""
    a = jnp.array([[-0.4, -1.3], [-2.0, -0.1]])
    two = plackett_luce_loss(a, jnp.ones((2, 2), bool))
    np.testing.assert_allclose(two, simpo_loss(a[:, 0], a[:, 1], beta=1.0, gamma=0.0), rtol=1e-6)
    b = jnp.array([-0.5, -1.0, -1.5, -0.2])
    steps = [jax.nn.logsumexp(b[k:]) - b[k] for k in range(3)]
    np.testing.assert_allclose(plackett_luce_loss(b, jnp.ones(4, bool)), sum(steps), rtol=1e-6)


@pytest.mark.long
def test_shorter_lists_in_one_batch_are_those_lists():
    a, scores = jnp.array([-0.5, -1.0, -1.5, -0.2]), jnp.array([0.9, 0.6, 0.5, 0.1])
    for n in (1, 2, 3, 4):
        mask = jnp.arange(4) < n
        alone = pro_loss(a[:n], scores[:n], jnp.ones(n, bool))
        np.testing.assert_allclose(pro_loss(a, scores, mask), alone, rtol=1e-6)


def test_a_list_of_ties_has_no_slope_and_a_tie_inside_has_weight_zero():
    a, mask = jnp.array([-0.5, -1.0, -1.5]), jnp.ones(3, bool)
    loss, slope = jax.value_and_grad(pro_loss)(a, jnp.full(3, 0.4), mask)
    np.testing.assert_allclose(loss, np.log(6.0), rtol=1e-6)  # log 3 + log 2
    np.testing.assert_array_equal(slope, 0.0)
    # r = 0.8, 0.3, 0.3: the second contrast is log 2, without a slope
    tied = jnp.array([0.8, 0.3, 0.3])
    first = jax.nn.logsumexp(0.5 * a) - 0.5 * a[0]
    np.testing.assert_allclose(pro_loss(a, tied, mask), first + np.log(2.0), rtol=1e-6)
