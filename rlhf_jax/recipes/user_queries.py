"""Which pairs to ask a user next, by the posterior of a reward of users (VPL).

    latents = posterior_draws(posterior, jax.random.key(0), draws=256)      # of one user
    probs = latent_probs(networks, params, latents, vectors)                # [M, N, 2]
    asked = user_queries(probs, count=4)                                    # numbers, nats

Reference: Poddar et al. 2024, arXiv:2408.10075 (queries by information gain). Departs: the
  information of answers about the latent, by draws from the posterior, and not the rule of their
  code (`feedback.queries.variance_information`), which looks at variances alone.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rlhf_jax.checks import check_range
from rlhf_jax.feedback.query_batches import InformativeSet, informative_set
from rlhf_jax.ops.gaussians import gaussian_draws
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.recipes.users import UserNetworks
from rlhf_jax.types import Params, UserPosterior, with_latents


def posterior_draws(
    posterior: UserPosterior, key: Key[Array, ""], *, draws: int
) -> Float[Array, "M k"]:
    """Latents that one user may have. posterior: [k]."""
    check_range("[1, inf)", draws=draws)
    noise = jax.random.normal(key, (draws, posterior.means.shape[-1]))
    return gaussian_draws(*(jnp.broadcast_to(x, noise.shape) for x in posterior), noise)


def latent_probs(
    networks: UserNetworks,
    reward_params: Params,
    latents: Float[Array, "M k"],
    vectors: Float[Array, "N 2 d"],
) -> Float[Array, "M N 2"]:
    """P(the first answer of each pair wins), and P(the second one), under each latent.

    Args:
      reward_params: of `networks.reward`. vectors: in the units that it reads.
    """
    trajectory = vector_trajectory(jnp.asarray(vectors))

    def one(latent: Float[Array, " k"]) -> Float[Array, "N 2"]:
        scores = networks.reward.scores(reward_params, with_latents(trajectory, latent))
        return jax.nn.softmax(scores, axis=-1)

    # One latent at a time: all at once would hold M copies of the vectors.
    return jax.lax.map(one, jnp.asarray(latents))


def user_queries(probs: Float[Array, "M N 2"], *, count: int) -> InformativeSet:
    """The pairs of which the choices together tell most about the user; M latents weigh the same.

    Raises:
      ValueError: fewer pairs than `count`, or more than 12 asked at once; ask, then choose again.
    """
    weights = jnp.full(len(probs), 1.0 / len(probs))
    return jax.jit(informative_set, static_argnums=2)(probs, weights, count)
