"""Queries to a user by the posterior: draws, probabilities and what is asked, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.recipes.user_queries import latent_probs, posterior_draws, user_queries
from rlhf_jax.recipes.users import UserNetworks, UserSizes, user_networks
from rlhf_jax.types import RewardFn, UserPosterior


def test_draws_have_the_moments_of_the_posterior():
    posterior = UserPosterior(jnp.array([1.0, -2.0]), jnp.log(jnp.array([0.25, 4.0])))
    found = np.asarray(posterior_draws(posterior, jax.random.key(0), draws=4096))
    assert found.shape == (4096, 2)
    # Four standard errors of a mean and of a standard deviation.
    std = np.array([0.5, 2.0])
    np.testing.assert_allclose(found.mean(0), [1.0, -2.0], atol=(4 * std / 64).max())
    np.testing.assert_allclose(found.std(0) / std, 1.0, atol=4 / np.sqrt(2 * 4096))
    with pytest.raises(ValueError, match="draws must be in"):
        posterior_draws(posterior, jax.random.key(0), draws=0)


def taste():
    """score = z . x, of answers with one vector."""

    def scores(params, trajectory):
        x, z = trajectory.inputs.inputs, trajectory.inputs.latents
        return params * jnp.sum(x[..., 0, :] * z, axis=-1)

    encoder = user_networks(2, UserSizes()).encoder
    return UserNetworks(encoder, RewardFn(lambda key: jnp.ones(()), scores))


# Pairs that differ in the first number, again in it, in the second one, and in nothing.
VECTORS = np.zeros((4, 2, 2), np.float32)
VECTORS[0, 0, 0] = VECTORS[1, 0, 0] = VECTORS[2, 0, 1] = 3.0
VECTORS = jnp.asarray(VECTORS)


def test_probabilities_are_those_of_the_rewards_under_each_latent():
    latents = jnp.array([[1.0, 0.0], [-1.0, 0.5]])
    found = latent_probs(taste(), jnp.float32(1.0), latents, VECTORS)
    gaps = np.array([[3.0, 3.0, 0.0, 0.0], [-3.0, -3.0, 1.5, 0.0]])
    np.testing.assert_allclose(found[..., 0], 1 / (1 + np.exp(-gaps)), rtol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-6)


def test_a_user_is_asked_what_the_posterior_leaves_open():
    """Of a user who is known to like the first number only the second one is asked for."""
    known = UserPosterior(jnp.array([1.0, 0.0]), jnp.log(jnp.array([1e-4, 1.0])))
    latents = posterior_draws(known, jax.random.key(1), draws=64)
    found = user_queries(latent_probs(taste(), jnp.float32(1.0), latents, VECTORS), count=2)
    assert int(found.numbers[0]) == 2
    assert float(found.gains[0]) > 0.1 > 20 * float(found.gains[1])
    # Nothing is known: one pair for each number, and no copy.
    both = UserPosterior(jnp.zeros(2), jnp.zeros(2))
    latents = posterior_draws(both, jax.random.key(1), draws=64)
    found = user_queries(latent_probs(taste(), jnp.float32(1.0), latents, VECTORS), count=2)
    assert {0 if i < 2 else int(i) for i in found.numbers.tolist()} == {0, 2}
    with pytest.raises(ValueError, match=r"n must be in \[1, 4\], got 5"):
        user_queries(jnp.full((2, 4, 2), 0.5), count=5)
