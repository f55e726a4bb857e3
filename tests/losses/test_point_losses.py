"""Point-wise DPO and PMPO: by hand, in their limits, at their optima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.preference import (
    bco_pair_loss,
    pmpo_loss,
    pointwise_dpo_loss,
    sft_loss,
)
from rlhf_jax.ops.kl import exact_kl

LOGPS = jnp.array([-1.0, -1.0])
REF_LOGPS = jnp.array([-3.0, -3.0])  # u = 2
GOOD_BAD = jnp.array([True, False])


def test_pointwise_dpo_by_hand():
    # beta u = 1: log(1 + e^-1) and log(1 + e)
    losses = pointwise_dpo_loss(LOGPS, REF_LOGPS, GOOD_BAD, beta=0.5)
    np.testing.assert_allclose(losses, [0.3132617, 1.3132617], rtol=1e-6)
    # of a pair with u_w = 2, u_l = 2
    pair = bco_pair_loss(LOGPS[0], LOGPS[1], REF_LOGPS[0], REF_LOGPS[1], beta=0.5)
    np.testing.assert_allclose(jnp.sum(losses), pair, rtol=1e-6)


def test_pointwise_dpo_is_least_at_the_log_odds():
    """Desirable with chance 0.8: beta u = log 4."""

    def population(log_ratio):
        zero = jnp.zeros(())
        losses = [
            pointwise_dpo_loss(log_ratio, zero, jnp.asarray(label), beta=0.5)
            for label in (True, False)
        ]
        return 0.8 * losses[0] + 0.2 * losses[1]

    below, there, above = jax.vmap(jax.grad(population))(2 * jnp.log(4.0) + jnp.array([-1, 0, 1.0]))
    assert below < -1e-2 < 1e-2 < above
    np.testing.assert_allclose(there, 0.0, atol=1e-7)


def test_pmpo_by_hand():
    """0.3 + 0.5 * 0.4 and -0.7 + 0.5 * 0.4; slopes -0.3 and 0.7 in log pi, 0.5 in the KL."""
    kls = jnp.array([0.4, 0.4])

    def total(logps, kls):
        losses = pmpo_loss(logps, kls, GOOD_BAD, alpha=0.3, beta=0.5)
        return jnp.sum(losses), losses

    (slopes, kl_slopes), losses = jax.grad(total, argnums=(0, 1), has_aux=True)(LOGPS, kls)
    np.testing.assert_allclose(losses, [0.5, -0.5], rtol=1e-6)
    np.testing.assert_allclose(slopes, [-0.3, 0.7], rtol=1e-6)
    np.testing.assert_allclose(kl_slopes, 0.5)


def test_pmpo_of_accepted_answers_alone_is_imitation():
    losses = pmpo_loss(LOGPS, jnp.array([3.0, 4.0]), jnp.ones(2, bool), alpha=1.0, beta=0.0)
    np.testing.assert_allclose(losses, sft_loss(LOGPS))


@pytest.mark.long
@pytest.mark.parametrize(("alpha", "beta", "accepted"), [(0.4, 0.7, 0.5), (0.0, 1.5, 0.0)])
def test_pmpo_optimum_adds_what_is_accepted_and_cuts_what_is_rejected(alpha, beta, accepted):
    """All answers of a bandit: a alpha d_a - (1 - a) (1 - alpha) d_r + beta pi_ref, a the share."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        good, bad, ref = jax.nn.softmax(jnp.asarray(0.5 * rng.standard_normal((3, 4))))

        def population(logits):
            logps = jax.nn.log_softmax(logits)
            kls = jnp.broadcast_to(exact_kl(jnp.log(ref), logits), logps.shape)
            total = 0.0
            for share, law, label in ((accepted, good, True), (1 - accepted, bad, False)):
                labels = jnp.full(4, label)
                losses = pmpo_loss(logps, kls, labels, alpha=alpha, beta=beta)
                total += share * jnp.sum(law * losses)
            return total

        target = accepted * alpha * good - (1 - accepted) * (1 - alpha) * bad + beta * ref
        assert bool(jnp.all(target > 0))
        slope = jax.grad(population)
        np.testing.assert_allclose(slope(jnp.log(target)), 0.0, atol=1e-12)
        assert float(jnp.max(jnp.abs(slope(jnp.log(ref))))) > 1e-3
