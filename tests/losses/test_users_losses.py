"""The loss of variational preference learning by hand, and what it reduces to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses import bradley_terry_loss, vpl_loss
from rlhf_jax.ops.gaussians import standard_normal_kl

CHOSEN = jnp.array([[1.0, 0.5, 9.0], [0.0, 2.0, -1.0]])
REJECTED = jnp.array([[0.0, 1.5, 9.0], [0.0, 2.0, -1.0]])
MASK = jnp.array([[True, True, False], [True, True, True]])


def test_golden_numbers():
    # Margins 1 and -1: 0.3132617 + 1.3132617 = 1.6265233, plus 0.5 * 0.4; three ties: 3 log 2.
    losses = vpl_loss(CHOSEN, REJECTED, jnp.array([0.4, 0.0]), MASK, beta=0.5)
    np.testing.assert_allclose(losses, [1.8265233, 2.0794415], rtol=1e-6)


def test_without_the_kl_it_is_the_sum_of_bradley_terry():
    plain = jnp.where(MASK, bradley_terry_loss(CHOSEN, REJECTED), 0.0).sum(-1)
    np.testing.assert_allclose(
        vpl_loss(CHOSEN, REJECTED, jnp.array([3.0, 7.0]), MASK, beta=0.0), plain, rtol=1e-6
    )


def test_a_mean_over_pairs_is_the_same_at_beta_over_n():
    """The two codes of the paper: a sum with weight beta, a mean with weight beta / N."""
    n, kl, mask = 3, jnp.array([0.4, 1.3]), jnp.ones((2, 3), bool)
    summed = vpl_loss(CHOSEN, REJECTED, kl, mask, beta=0.6)
    mean = bradley_terry_loss(CHOSEN, REJECTED).mean(-1) + 0.6 / n * kl
    np.testing.assert_allclose(summed, n * mean, rtol=1e-6)


def test_two_opposite_users_leave_bradley_terry_at_chance():
    """Equal shares of r and -r: without a latent, equal scores have the least loss, of log 2 a
    pair; with a latent the loss is the entropy of each user's own labels."""
    gaps = jnp.arange(-3.0, 4.0)  # of the scores, given to a pair with true gap 1

    def population(first, second):  # the first user, then the second, who has the opposite reward
        p = jax.nn.sigmoid(1.0)
        return sum(
            0.5 * (q * jax.nn.softplus(-z) + (1 - q) * jax.nn.softplus(z))
            for q, z in ((p, first), (1 - p, second))
        )

    shared = population(gaps, gaps)
    assert gaps[jnp.argmin(shared)] == 0.0
    np.testing.assert_allclose(shared.min(), np.log(2), rtol=1e-6)
    assert population(1.0, -1.0) < population(gaps, gaps).min() - 0.1


def test_a_strong_kl_makes_the_posterior_the_prior():
    """Least of fit + beta KL over the mean m of N(m, 1), where the margin is m: m -> 0 as beta
    grows, and the loss that of no latent, log 2."""

    def best(beta):
        m = jnp.linspace(0.0, 5.0, 501)[:, None]
        kl = standard_normal_kl(m, jnp.zeros_like(m))
        losses = vpl_loss(m, jnp.zeros_like(m), kl, jnp.ones(m.shape, bool), beta=beta)
        at = jnp.argmin(losses)
        return float(m[at, 0]), float(losses[at])

    places, losses = zip(*[best(beta) for beta in (0.01, 0.1, 1.0, 100.0)], strict=True)
    assert list(places) == sorted(places, reverse=True)
    # slope: sigmoid(-m) = beta m; at beta = 1 m = 0.401, at 100 m = 0.005
    np.testing.assert_allclose([places[2], places[3]], [0.40, 0.0], atol=0.0101)
    np.testing.assert_allclose(losses[-1], np.log(2), atol=2e-3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"beta": -0.1}, ValueError, r"beta must be in \[0, inf\)"),
        ({"mask": MASK.astype(int)}, Exception, "mask"),
    ],
)
def test_bad_input_is_named(change, error, message):
    given = {"mask": MASK, "beta": 0.1} | change
    mask = given.pop("mask")
    with pytest.raises(error, match=message):
        vpl_loss(CHOSEN, REJECTED, jnp.zeros(2), mask, **given)
