"""Several reward models on one set of comparisons, trained together by `vmap`.

    ensemble = separate_trunks(reward, members=5)           # params: a leading axis [N]
    update = make_update(reward, optimizer)                 # (state [N], batch [N, B])
    state = jax.vmap(lambda params: init_state(params, optimizer))(ensemble.init(key))

    ensemble = shared_trunk(reward, members=5)              # params: {"trunk", "head": [N]}
    update = make_shared_update(ensemble, optimizer)        # (state, batch [B]): one pass for all

    scores = ensemble.scores(params, trajectory)            # [N, *B], for `ops.ensembles`
    frozen = combined_reward(ensemble, worst_case_scores)   # one number per answer

Separate members start from other params and read the pairs in another order; heads on a shared
trunk start from other params and are cheaper, but share the errors of the trunk. Members that start
from one set of params can also be averaged as weights (`average_members`, WARM).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos import reward_model
from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate, check_losses
from rlhf_jax.checks import check_range
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.ensembles import MemberScale, standardised_scores
from rlhf_jax.ops.masking import Mean, keep_weighted, weighted_mean
from rlhf_jax.ops.statistics import wins
from rlhf_jax.types import Metrics, Params, PreferenceBatch, RewardFn, TrainState, Update

Combine = Callable[[Float[Array, "N *B"]], Float[Array, "*B"]]


class RewardEnsemble(NamedTuple):
    """N reward models as one. init: `key -> params`; scores: `(params, trajectory) -> [N, *B]`."""

    init: Callable[..., Params]
    scores: Callable[..., Float[Array, "N *B"]]


class FrozenMembers(NamedTuple):
    """What `combined_reward` reads: params of the ensemble, zero and unit of each member."""

    params: Params
    scale: MemberScale


def separate_trunks(reward: RewardFn, *, members: int) -> RewardEnsemble:
    """Members that share nothing: every leaf of the params has a leading axis [N].

    Reference: Coste et al. 2023, arXiv:2310.02743, Section 4 (members differ by their seed).
    """
    check_range("[1, inf)", members=members)

    def init(key: jax.Array) -> Params:
        return jax.vmap(reward.init)(jax.random.split(key, members))

    return RewardEnsemble(init, jax.vmap(reward.scores, (0, None)))


def shared_trunk(reward: RewardFn, *, members: int) -> RewardEnsemble:
    """N heads on one trunk, in one forward pass: only params["head"] has a leading axis [N].

    Args:
      reward: its params are a dict with a "head", as of `language_reward`.
    Raises:
      ValueError: they have no head.
    """
    check_range("[1, inf)", members=members)

    def init(key: jax.Array) -> Params:
        params = reward.init(key)
        if not isinstance(params, dict) or "head" not in params:
            raise ValueError(
                'a shared trunk needs params with a "head", {"trunk": ..., "head": ...}; use '
                "separate_trunks for other reward models"
            )
        heads = jax.vmap(lambda key: reward.init(key)["head"])(jax.random.split(key, members))
        return {**params, "head": heads}

    def scores(params: Params, trajectory) -> Array:
        def score(head: Params) -> Array:
            return reward.scores({**params, "head": head}, trajectory)

        # What does not depend on the head, the trunk, is computed once.
        return jax.vmap(score)(params["head"])

    return RewardEnsemble(init, scores)


def make_update(
    reward: RewardFn,
    optimizer: optax.GradientTransformation,
    *,
    loss=bradley_terry_loss,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, PreferenceBatch]:
    """`reward_model.make_update` for N separate members at once, each as it would be alone.

    Returns:
      Pure `update(state, batch) -> (state, metrics)`; state and batch have a leading axis [N], so
      that each member has its own order of the pairs. Metrics are pooled over the members.
    """
    one = reward_model.make_update(reward, optimizer, loss=loss, parts=parts, penalty=penalty)

    def update(state: TrainState, batch: PreferenceBatch) -> tuple[TrainState, Metrics]:
        state, metrics = jax.vmap(one)(state, batch)
        return state, {name: Mean(*map(jnp.sum, each)) for name, each in metrics.items()}

    return update


def make_shared_update(
    ensemble: RewardEnsemble,
    optimizer: optax.GradientTransformation,
    *,
    loss=bradley_terry_loss,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, PreferenceBatch]:
    """Update of all members on one batch [*B], for params that they share.

    The objective is the weighted mean over members and pairs of `loss(chosen_scores,
    rejected_scores)`. The batch's weights are [*B], or [*B, N] where each member counts pairs of
    its own, e.g. those of one annotator (`data.annotators`).

    Args:
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)`, with the metrics of `reward_model`.
    """

    def objective(params: Params, batch: PreferenceBatch) -> tuple[Mean, Diagnostics]:
        pairs = batch.chosen.mask.shape[:-1]
        chosen, rejected = (ensemble.scores(params, x) for x in (batch.chosen, batch.rejected))
        weights = _member_weights(batch.weights, (len(chosen), *pairs))
        chosen, rejected = (keep_weighted(x, weights) for x in (chosen, rejected))
        losses = jax.vmap(loss)(chosen, rejected)
        check_losses(losses, weights.shape, loss=loss, per="member and pair")
        diagnostics = {
            "scores/accuracy": weighted_mean(wins(chosen, rejected), weights),
            "scores/margin": weighted_mean(chosen - rejected, weights),
        }
        return weighted_mean(losses, weights), diagnostics

    return accumulate(objective, optimizer, parts=parts, penalty=penalty)


def _member_weights(weights: Array | None, shape: tuple[int, ...]) -> Array:
    """[N, *B] from weights [*B] or [*B, N]; 1 without any."""
    if weights is None:
        return jnp.ones(shape)
    if weights.shape == (*shape[1:], shape[0]):
        return jnp.moveaxis(weights, -1, 0)
    if weights.shape == shape[1:]:
        return jnp.broadcast_to(weights, shape)
    raise ValueError(
        f"weights must be {list(shape[1:])}, or {[*shape[1:], shape[0]]} with one for each member, "
        f"got {list(weights.shape)}"
    )


def combined_reward(ensemble: RewardEnsemble, combine: Combine) -> RewardFn:
    """One score per answer, R = combine of the standardised members, without gradient.

    Args:
      combine: `(scores [N, *B]) -> [*B]`: `mean_scores`, `worst_case_scores`, or
        `partial(uncertainty_penalised_scores, penalty=...)` of `ops.ensembles`.
    Returns:
      RewardFn of `FrozenMembers`; `init` has mean 0 and deviation 1, the raw scores.
    Reference: Coste et al. 2023, arXiv:2310.02743, Section 3.
    """

    def init(key: jax.Array) -> FrozenMembers:
        params = ensemble.init(key)
        heads = params["head"] if isinstance(params, dict) and "head" in params else params
        size = jax.tree.leaves(heads)[0].shape[0]
        return FrozenMembers(params, MemberScale(jnp.zeros(size), jnp.ones(size)))

    def scores(params: FrozenMembers, trajectory) -> Array:
        found = ensemble.scores(params.params, trajectory)
        return jax.lax.stop_gradient(combine(standardised_scores(found, params.scale)))

    return RewardFn(init, scores)


def stack_members(members: Sequence[Params]) -> Params:
    """Params of members that were trained apart, as `separate_trunks` has them.

    Raises:
      ValueError: no members, or two of unequal size; the leaf that differs is named.
    """
    if not members:
        raise ValueError("an ensemble needs at least one member, got none")
    first = _shapes(members[0])
    for number, member in enumerate(members[1:], start=1):
        found = _shapes(member)
        for place in first | found:
            if first.get(place) != found.get(place):
                raise ValueError(
                    f"members of unequal size: {place} has shape {first.get(place)} in member 0 "
                    f"and {found.get(place)} in member {number}; score the answers with each and "
                    "stack the scores [N, *B] instead"
                )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def _shapes(params: Params) -> dict[str, tuple[int, ...]]:
    """Place in the tree -> shape of the array there."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}


def average_members(params: Params) -> Params:
    """Weight averaging (WARM): one reward model with the mean of N members' params [N, ...].

    The members must start from one set of params of the trunk: means of networks that did not are
    no networks. Means are taken in float32 at least; on disk, `rlhf merge` does the same.

    Reference: Ramé et al. 2024, arXiv:2401.12187, Eq. 2.
    """

    def mean(x: Array) -> Array:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        return jnp.mean(x.astype(wide), axis=0).astype(x.dtype)

    return jax.tree.map(mean, params)
