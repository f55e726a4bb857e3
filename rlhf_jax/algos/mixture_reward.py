"""Reward models of groups of users that nobody has named: a mixture of Bradley-Terry models.

    update = make_update(reward, optimizer)          # any reward, by gradient steps of soft EM
    found = fit_mixture(key, comparisons, groups=2, precision=1e-3)       # linear rewards, exact EM

Everybody in group u has the reward r_u, and a share pi_u of the users is in it. A user, not
a comparison, belongs to a group: one comparison cannot tell. With l_hu the log-likelihood of all
comparisons of user h under r_u,

    gamma_hu = softmax_u(log pi_u + l_hu),   pi_u = mean_h gamma_hu,
    r_u = argmax sum_h gamma_hu l_hu

is soft EM, under which sum_h log sum_u pi_u exp(l_hu) never falls. Hard EM puts all of gamma_h on
the largest l_hu and drops the shares. What follows from such rewards: `ops.aggregate`.

Reference: Chakraborty et al. 2024, arXiv:2402.08925, Algorithm 2 (hard EM).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from rlhf_jax.algos.gradient import Diagnostics, accumulate
from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.losses.users import vpl_loss
from rlhf_jax.ops.masking import Mean, masked_sum, weighted_mean
from rlhf_jax.ops.newton import newton_minimum
from rlhf_jax.types import Params, RewardFn, Scalar, TrainState, Trajectory, Update, record


@record
class UserComparisons:
    """Users [H] with up to N comparisons each. mask: [H, N] True where one is real.

    differences: [H, N, d] features of the chosen minus those of the rejected answer.
    """

    differences: Array
    mask: Array


@record
class UserPairs:
    """The same for any reward: chosen, rejected: trajectories [H, N]. mask: [H, N]."""

    chosen: Trajectory
    rejected: Trajectory
    mask: Array


class MixtureParams(NamedTuple):
    """reward: params of a reward, each leaf [U, ...]. share_logits: [U], softmax of them is pi."""

    reward: Params
    share_logits: Array


class LinearMixture(NamedTuple):
    """weights: [U, d] of linear rewards. shares: [U] pi, sum 1."""

    weights: Array
    shares: Array


class MixtureFit(NamedTuple):
    """What `fit_mixture` found. responsibilities: [H, U] gamma, rows sum to 1.

    objectives: [rounds + 1] the penalised log-likelihood before each round and at the end, which
    never falls.
    """

    mixture: LinearMixture
    responsibilities: Array
    objectives: Array


# ---- Any reward, by gradient steps.


def init_mixture(key: Key[Array, ""], reward: RewardFn, *, groups: int) -> MixtureParams:
    """Fresh params of each group and equal shares. Equal rewards would stay equal, so a reward that
    starts at zero (a table, a linear one) gets small normal noise."""
    check_range("[1, inf)", groups=groups)
    init_key, noise_key = jax.random.split(key)
    params = jax.vmap(reward.init)(jax.random.split(init_key, groups))
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(noise_key, len(leaves))
    noisy = [
        x + 0.1 * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)
    ]
    return MixtureParams(jax.tree.unflatten(treedef, noisy), jnp.zeros(groups))


def user_losses(reward: RewardFn, params: Params, pairs: UserPairs) -> Float[Array, "H U"]:
    """-l_hu, the sum of Bradley-Terry losses over a user's comparisons, under each group's reward.

    Args:
      params: of `reward`, each leaf [U, ...].
    """
    scored = jax.vmap(reward.scores, (0, None))
    scores = [scored(params, each) for each in (pairs.chosen, pairs.rejected)]
    masks = jnp.broadcast_to(pairs.mask, scores[0].shape)
    nobody = jnp.zeros(masks.shape[:-1], scores[0].dtype)
    return vpl_loss(*scores, nobody, masks, beta=0.0).T


def make_objective(
    reward: RewardFn, *, hard: bool = False
) -> Callable[[MixtureParams, UserPairs], tuple[Mean, Diagnostics]]:
    """The objective of `make_update`: `(params, batch) -> (Mean over users, diagnostics)`."""

    def objective(params: MixtureParams, batch: UserPairs) -> tuple[Mean, Diagnostics]:
        losses = user_losses(reward, params.reward, batch)
        log_shares = jax.nn.log_softmax(params.share_logits)
        users = jnp.any(batch.mask, axis=-1).astype(losses.dtype)
        gammas = responsibilities(-losses, jnp.exp(log_shares), hard=hard)
        if hard:
            found = jnp.min(losses, axis=-1)
        else:
            found = -jax.nn.logsumexp(log_shares - losses, axis=-1)
        diagnostics = {
            "users/certainty": weighted_mean(jnp.max(gammas, axis=-1), users),
            "users/smallest_share": weighted_mean(jnp.min(jnp.exp(log_shares))[None]),
        }
        return weighted_mean(found, users), diagnostics

    return objective


def init_restarts(
    key: Key[Array, ""], reward: RewardFn, *, groups: int, restarts: int
) -> MixtureParams:
    """`init_mixture` of so many restarts, each leaf [R, U, ...]."""
    check_range("[1, inf)", restarts=restarts)
    keys = jax.random.split(key, restarts)
    return jax.vmap(partial(init_mixture, reward=reward, groups=groups))(keys)


def best_restart(
    reward: RewardFn, params: MixtureParams, pairs: UserPairs, *, hard: bool = False
) -> MixtureParams:
    """Of the restarts [R, ...] the one with the lowest loss on these pairs."""
    objective = make_objective(reward, hard=hard)
    losses = jax.lax.map(lambda each: objective(each, pairs)[0].value(), params)
    return jax.tree.map(lambda x: x[jnp.argmin(losses)], params)


def make_update(
    reward: RewardFn,
    optimizer: optax.GradientTransformation,
    *,
    hard: bool = False,
    restarts: bool = False,
    parts: int = 1,
) -> Update[TrainState, UserPairs]:
    """Update on -log sum_u pi_u exp(l_hu), or -max_u l_hu if hard, averaged over users.

    The gradient is that of the M-step after a fresh E-step: generalised EM in steps.

    Args:
      reward: of one group.
      hard: all of a user to the group that explains it best; the shares then stay.
      restarts: params are those of `init_restarts`, which share the batches and nothing else (but
        a limit on the norm of the gradient, if the optimiser has one). "loss" is their sum.
      parts: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` on `MixtureParams`, with metrics "loss",
      "grad_norm", "users/certainty" (mean of max_u gamma_hu) and "users/smallest_share".
    Reference: Chakraborty et al. 2024, arXiv:2402.08925, Algorithm 2.
    Departs: the paper fits each reward to the end between two assignments, see `fit_mixture`.
    """
    one = make_objective(reward, hard=hard)

    def together(params: MixtureParams, batch: UserPairs) -> tuple[Mean, Diagnostics]:
        # Totals are summed over restarts, so that each one's gradient is what it would be alone.
        loss, diagnostics = jax.vmap(one, (0, None))(params, batch)
        means = jax.tree.map(jnp.mean, diagnostics)
        return Mean(jnp.sum(loss.total), jnp.mean(loss.weight)), means

    step = accumulate(together if restarts else one, optimizer, parts=parts)

    def update(state: TrainState, batch: UserPairs) -> tuple[TrainState, Diagnostics]:
        return step(state, batch)

    return update


# ---- Linear rewards, to the end.


def responsibilities(
    logliks: Float[Array, "*B U"], shares: Float[Array, " U"], *, hard: bool = False
) -> Float[Array, "*B U"]:
    """gamma_hu = P(user h is in group u | its comparisons); one-hot if hard, then without pi.

    Args:
      logliks: l_hu in nats. shares: pi >= 0, sum 1.
    """
    chex.assert_axis_dimension(logliks, -1, shares.shape[0])
    if hard:
        return jax.nn.one_hot(jnp.argmax(logliks, axis=-1), shares.shape[0], dtype=logliks.dtype)
    return jax.nn.softmax(jnp.log(shares) + logliks, axis=-1)


def linear_logliks(
    weights: Float[Array, "U d"], comparisons: UserComparisons
) -> Float[Array, "H U"]:
    """l_hu of linear rewards."""
    check_mask(mask=comparisons.mask)
    known = jnp.where(comparisons.mask[..., None], comparisons.differences, 0.0)
    margins = jnp.einsum("hnd,ud->uhn", known, weights)
    masks = jnp.broadcast_to(comparisons.mask, margins.shape)
    losses = bradley_terry_loss(margins, jnp.zeros_like(margins))
    return -masked_sum(losses, masks, axis=-1).T


def mixture_objective(
    mixture: LinearMixture, comparisons: UserComparisons, *, precision: Scalar, hard: bool = False
) -> Float[Array, ""]:
    """What EM never lowers: the log-likelihood minus precision / 2 |theta|^2 of every group.

    sum_h log sum_u pi_u exp(l_hu), or sum_h max_u l_hu if hard.
    """
    logliks = linear_logliks(mixture.weights, comparisons)
    if hard:
        found = jnp.max(logliks, axis=-1)
    else:
        found = jax.nn.logsumexp(jnp.log(mixture.shares) + logliks, axis=-1)
    return jnp.sum(found) - precision / 2 * jnp.sum(mixture.weights**2)


def refit_mixture(
    gammas: Float[Array, "H U"],
    mixture: LinearMixture,
    comparisons: UserComparisons,
    *,
    precision: Scalar,
) -> LinearMixture:
    """The M-step: a weighted Bradley-Terry fit of each group, and its share of the users.

    A group without anybody keeps its weights.
    """
    known = jnp.where(comparisons.mask[..., None], comparisons.differences, 0.0)
    counts = jnp.where(comparisons.mask, 1.0, 0.0)

    def fit(gamma: Array, start: Array) -> Array:
        def objective(weights: Array) -> Array:
            margins = known @ weights
            losses = bradley_terry_loss(margins, jnp.zeros_like(margins)) * counts
            return gamma @ jnp.sum(losses, axis=-1) + precision / 2 * jnp.sum(weights**2)

        return newton_minimum(objective, start).params

    fitted = jax.vmap(fit, (1, 0))(gammas, mixture.weights)
    users = jnp.any(comparisons.mask, axis=-1)[:, None]
    counted = jnp.sum(jnp.where(users, gammas, 0.0), axis=0)
    weights = jnp.where(counted[:, None] > 0, fitted, mixture.weights)
    return LinearMixture(weights, counted / jnp.sum(counted))


def em_step(
    mixture: LinearMixture, comparisons: UserComparisons, *, precision: Scalar, hard: bool = False
) -> LinearMixture:
    """One round: who belongs where, and then the rewards and shares of the groups."""
    logliks = linear_logliks(mixture.weights, comparisons)
    gammas = responsibilities(logliks, mixture.shares, hard=hard)
    return refit_mixture(gammas, mixture, comparisons, precision=precision)


def fit_mixture(
    key: Key[Array, ""],
    comparisons: UserComparisons,
    *,
    groups: int,
    precision: float,
    rounds: int = 10,
    restarts: int = 5,
    hard: bool = False,
) -> MixtureFit:
    """EM from random assignments; of the restarts the one with the best objective.

    Args:
      groups: U >= 1; 1 is Bradley-Terry on all comparisons. Fewer than there are users.
      precision: > 0 of the prior N(0, I / precision) of the weights: without it, a group that
        contradicts itself nowhere has no finite fit.
      rounds: of EM, in each restart; the paper's code has 10.
      hard: as in `responsibilities`.
    Raises:
      ValueError: fewer users with comparisons than groups, or a difference that is not finite.
    """
    check_range("[1, inf)", groups=groups, rounds=rounds, restarts=restarts)
    check_range("(0, inf)", precision=precision)
    check_comparisons(comparisons, groups=groups)
    options: dict[str, Any] = {"precision": precision, "hard": hard}
    objective = partial(mixture_objective, comparisons=comparisons, **options)
    size = comparisons.differences.shape[-1]
    dtype = comparisons.differences.dtype

    def one(key: Array) -> tuple[LinearMixture, Array]:
        chosen = jax.random.randint(key, comparisons.mask.shape[:1], 0, groups)
        blank = LinearMixture(jnp.zeros((groups, size), dtype), jnp.full(groups, 1.0 / groups))
        start = refit_mixture(
            jax.nn.one_hot(chosen, groups, dtype=dtype), blank, comparisons, precision=precision
        )
        # A group that nobody was drawn into starts with a share all the same.
        start = start._replace(shares=blank.shares.astype(dtype))

        def step(mixture: LinearMixture, _: None) -> tuple[LinearMixture, Array]:
            return em_step(mixture, comparisons, **options), objective(mixture)

        last, objectives = jax.lax.scan(step, start, None, length=rounds)
        return last, jnp.append(objectives, objective(last))

    mixtures, objectives = jax.lax.map(one, jax.random.split(key, restarts))
    best = jnp.argmax(objectives[:, -1])
    mixture = jax.tree.map(lambda x: x[best], mixtures)
    logliks = linear_logliks(mixture.weights, comparisons)
    gammas = responsibilities(logliks, mixture.shares, hard=hard)
    return MixtureFit(mixture, gammas, objectives[best])


def check_comparisons(comparisons: UserComparisons, *, groups: int) -> None:
    """Differences are finite where the mask is True, and there are users for all groups.

    Raises:
      ValueError: counts what is wrong. Traced comparisons are checked by their shapes alone.
    """
    check_mask(mask=comparisons.mask)
    chex.assert_equal_shape([comparisons.differences[..., 0], comparisons.mask])
    if isinstance(comparisons.differences, Tracer) or isinstance(comparisons.mask, Tracer):
        return
    wrong = comparisons.mask & ~jnp.isfinite(comparisons.differences).all(-1)
    if wrong.any():
        raise ValueError(
            f"{int(wrong.sum())} of {int(comparisons.mask.sum())} comparisons have a difference "
            f"that is not finite, the first of user {int(jnp.argmax(wrong.any(-1)))}"
        )
    users = int(jnp.any(comparisons.mask, axis=-1).sum())
    if users < groups:
        raise ValueError(
            f"groups must be at most the users who have comparisons, got {groups} for {users}: a "
            "group of one user is that user"
        )
