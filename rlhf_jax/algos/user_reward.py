"""Fitting the rewards of users who differ: an encoder of users and a reward given their latent.

    params = init_user_model(key, encoder, reward)
    update = make_update(encoder, reward, optimizer, beta=0.01)

At test time: `posterior_of` a few comparisons of a user, then `with_latents(trajectory, means)`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.algos.gradient import Diagnostics, accumulate
from rlhf_jax.checks import check_range
from rlhf_jax.losses.users import vpl_loss
from rlhf_jax.ops.gaussians import diagonal_normal_kl, gaussian_draws, standard_normal_kl
from rlhf_jax.ops.masking import Mean, weighted_mean
from rlhf_jax.ops.statistics import wins
from rlhf_jax.types import (
    Params,
    RewardFn,
    Scalar,
    TrainState,
    Trajectory,
    Update,
    UserEncoder,
    UserPosterior,
    record,
    with_latents,
)


class UserParams(NamedTuple):
    """encoder, reward: params of the two. prior: a learned Gaussian of latents [k], None for
    N(0, I)."""

    encoder: Params
    reward: Params
    prior: UserPosterior | None = None


@record
class UserContext:
    """The comparisons from which a user is recognised: one vector for each answer.

    chosen, rejected: [*B, N, d], e.g. embeddings of a frozen model.
    mask: [*B, N] True where a comparison is real.
    """

    chosen: Array
    rejected: Array
    mask: Array


@record
class UserBatch:
    """Users [U], each with comparisons that are encoded and comparisons that are explained.

    context: what is encoded, [U, N].
    chosen, rejected: trajectories [U, M], without latents; those of the same user.
    mask: [U, M] True where such a comparison is real; a user without any does not count.
    noise: [U, k] standard normal, of the drawn latents.

    A comparison in both parts is explained by its own label: measure accuracy on others.
    """

    context: UserContext
    chosen: Trajectory
    rejected: Trajectory
    mask: Array
    noise: Array


def init_user_model(
    key: Key[Array, ""], encoder: UserEncoder, reward: RewardFn, *, prior_dim: int | None = None
) -> UserParams:
    """Fresh params; with `prior_dim` = k the prior is learned and starts as N(0, I)."""
    encoder_key, reward_key = jax.random.split(key)
    prior = None if prior_dim is None else UserPosterior(jnp.zeros(prior_dim), jnp.zeros(prior_dim))
    return UserParams(encoder.init(encoder_key), reward.init(reward_key), prior)


def posterior_of(encoder: UserEncoder, params: UserParams, context: UserContext) -> UserPosterior:
    """q(z | context), [*B, k]; its means are what a user is served by."""
    return encoder.posterior(params.encoder, context.chosen, context.rejected, context.mask)


def prior_kl(params: UserParams, found: UserPosterior) -> Float[Array, "*B"]:
    """KL(q || p) of each user in nats, to the learned prior or to N(0, I)."""
    if params.prior is None:
        return standard_normal_kl(*found)
    return diagonal_normal_kl(
        *found, *(jnp.broadcast_to(x, found.means.shape) for x in params.prior)
    )


def cosine_cycles(peak: Scalar, *, period: int, ramp: float | int = 0.5) -> Callable[[Any], Array]:
    """KL weights that rise from 0 to the peak in each period: `step -> beta`.

    beta = peak (1 - cos(pi t)) / 2,   t = min((step mod period) / (ramp period), 1).

    A low weight at first lets the reward learn to read the latent, before the KL could make every
    posterior the prior.

    Args:
      period: steps, >= 1.
      ramp: share of a period in which the weight rises, in (0, 1].
    Reference: Fu et al. 2019, arXiv:1903.10145 (cyclical annealing); a cosine in the code of
      Poddar et al. 2024, arXiv:2408.10075.
    """
    check_range("[1, inf)", period=period)
    check_range("(0, 1]", ramp=ramp)

    def beta(step: Int[Array, ""]) -> Array:
        place = jnp.minimum((step % period) / (ramp * period), 1.0)
        return peak * 0.5 * (1.0 - jnp.cos(jnp.pi * place))

    return beta


def make_objective(
    encoder: UserEncoder, reward: RewardFn
) -> Callable[..., tuple[Mean, Diagnostics]]:
    """The objective of `make_update`: `(params, batch, beta) -> (Mean over users, diagnostics)`."""

    def objective(params: UserParams, batch: UserBatch, beta: Scalar) -> tuple[Mean, Diagnostics]:
        found = posterior_of(encoder, params, batch.context)
        latents = gaussian_draws(*found, batch.noise)
        chosen, rejected = (
            jnp.where(batch.mask, reward.scores(params.reward, with_latents(each, latents)), 0.0)
            for each in (batch.chosen, batch.rejected)
        )
        kl = prior_kl(params, found)
        users = jnp.any(batch.mask, axis=-1).astype(kl.dtype)
        pairs = batch.mask.astype(chosen.dtype)
        diagnostics = {
            "users/kl": weighted_mean(kl, users),
            "scores/accuracy": weighted_mean(wins(chosen, rejected), pairs),
            "scores/margin": weighted_mean(chosen - rejected, pairs),
        }
        losses = vpl_loss(chosen, rejected, kl, batch.mask, beta=beta)
        return weighted_mean(losses, users), diagnostics

    return objective


def make_update(
    encoder: UserEncoder,
    reward: RewardFn,
    optimizer: optax.GradientTransformation,
    *,
    beta: Scalar | Callable[[Any], Array],
    parts: int = 1,
) -> Update[TrainState, UserBatch]:
    """Update on `losses.users.vpl_loss`, averaged over the users of a batch.

    Args:
      reward: over `LatentInputs`, of `policies.latent`.
      beta: weight of the KL to the prior, >= 0 and relative to the number of comparisons of a user;
        or `step -> beta`, e.g. `cosine_cycles`.
      parts: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` on `UserParams`, with metrics "loss",
      "grad_norm", "users/kl" (nats; near 0 the posterior has collapsed to the prior),
      "scores/accuracy" and "scores/margin" of the explained pairs.
    Reference: Poddar et al. 2024, arXiv:2408.10075.
    """
    step = accumulate(make_objective(encoder, reward), optimizer, parts=parts)

    def update(state: TrainState, batch: UserBatch) -> tuple[TrainState, Diagnostics]:
        weight = beta(state.step) if callable(beta) else beta
        return step(state, batch, weight)

    return update
