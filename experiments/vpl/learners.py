"""VPL and its baselines: the same reward network, from the same comparisons, in as many steps."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.vpl.config import Config
from experiments.vpl.population import Asked, Drawn, shown
from rlhf_jax.algos import reward_model, user_reward
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.user_reward import UserBatch, UserParams, init_user_model, posterior_of
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.ops.statistics import wins
from rlhf_jax.policies.latent import decoded_reward, user_encoder, vector_trajectory
from rlhf_jax.types import (
    Params,
    PreferenceBatch,
    RewardFn,
    Scalar,
    Trajectory,
    UserEncoder,
    UserPosterior,
    with_latents,
)


class Networks(NamedTuple):
    """The encoder of users and the reward that reads their latent."""

    encoder: UserEncoder
    reward: RewardFn


def networks(config: Config) -> Networks:
    """Two hidden layers in the reward; the encoder's are its own."""
    k, width = config.latent_dim, config.width
    reward = decoded_reward(make_mlp((config.features + k, width, width, 1)))
    return Networks(user_encoder(config.features, k, width=width), reward)


@partial(jax.jit, static_argnames="config")
def first_params(config: Config, key: Key[Array, ""]) -> UserParams:
    """Where VPL and its baselines start."""
    return init_user_model(key, *networks(config))


@partial(jax.jit, static_argnames="config")
def fit_vpl(
    config: Config, first: UserParams, users: Drawn, *, beta: Scalar
) -> tuple[UserParams, dict[str, Array]]:
    """VPL on fresh users at each step. Returns the params and the curves [steps] of the training:
    the KL of the posterior to the prior in nats, and accuracy on the noisy labels."""
    optimizer = optax.adam(config.rate)
    update = user_reward.make_update(*networks(config), optimizer, beta=beta)

    def step(state, given):
        state, metrics = update(state, user_batch(config, *given))
        return state, {"kl": metrics["users/kl"].value(), "fit": metrics["scores/accuracy"].value()}

    state, curves = jax.lax.scan(step, init_state(first, optimizer), (users.train, users.noise))
    return state.params, curves


def user_batch(config: Config, asked: Asked, noise: Float[Array, "U k"]) -> UserBatch:
    """The first comparisons of each user are encoded, and all of them are explained."""
    context = shown(asked, config.context, config.context)
    pairs = vector_trajectory(asked.chosen), vector_trajectory(asked.rejected)
    return UserBatch(context, *pairs, jnp.ones(asked.gaps.shape, bool), noise)


@partial(jax.jit, static_argnames="config")
def fit_given(
    config: Config, first: UserParams, users: Drawn, *, codes: Float[Array, "4 k"]
) -> Params:
    """The reward network with the latents given: `codes` of 0 are Bradley-Terry for everybody,
    rows of the identity an oracle that knows who the user is."""
    optimizer = optax.adam(config.rate)
    update = reward_model.make_update(networks(config).reward, optimizer)

    def step(state, asked):
        pairs = given(asked.chosen, codes[asked.groups]), given(asked.rejected, codes[asked.groups])
        return update(state, PreferenceBatch(*pairs))[0], None

    return jax.lax.scan(step, init_state(first.reward, optimizer), users.train)[0].params


def given(x: Float[Array, "U N d"], latents: Float[Array, "U k"]) -> Trajectory:
    """Items with the latents of the users who are asked about them."""
    return with_latents(vector_trajectory(x), latents)


def accuracy(
    nets: Networks, reward: Params, asked: Asked, latents: Float[Array, "U k"]
) -> Float[Array, ""]:
    """How often the scores order two items as the user's utility does, not its noisy answer."""
    scores = [nets.reward.scores(reward, given(x, latents)) for x in (asked.chosen, asked.rejected)]
    agree = jnp.sign(asked.gaps) * (scores[0] - scores[1])
    return jnp.mean(wins(agree, jnp.zeros_like(agree)))


def unseen(config: Config, asked: Asked) -> Asked:
    """The comparisons after the context."""
    return Asked(asked.groups, *(x[:, config.context :] for x in asked[1:]))


def curve(
    config: Config, nets: Networks, params: UserParams, asked: Asked
) -> tuple[Float[Array, " C"], UserPosterior]:
    """Accuracy on unseen comparisons after each of `config.sizes` shown ones, and the last
    posteriors; the latent is the posterior mean."""
    test = unseen(config, asked)

    def one(size):
        posterior = posterior_of(nets.encoder, params, shown(asked, size, config.context))
        return accuracy(nets, params.reward, test, posterior.means), posterior

    found, posteriors = jax.vmap(one)(jnp.asarray(config.sizes))
    return found, jax.tree.map(lambda x: x[-1], posteriors)


def identified(
    latents: Float[Array, "U k"], kinds: Int[Array, " U"], num_kinds: int
) -> Float[Array, ""]:
    """How often the nearest of the kinds' mean latents, from half of the users, is right on the
    other half."""
    half = len(kinds) // 2
    members = jax.nn.one_hot(kinds[:half], num_kinds)
    counts = jnp.sum(members, axis=0)
    centres = members.T @ latents[:half] / jnp.maximum(counts, 1.0)[:, None]
    away = jnp.sum((latents[half:, None] - centres) ** 2, axis=-1)
    nearest = jnp.argmin(jnp.where(counts > 0, away, jnp.inf), axis=-1)
    return jnp.mean(nearest == kinds[half:])
