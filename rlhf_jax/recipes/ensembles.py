"""Ensembles of reward models of language: heads on one trunk, and members trained apart.

    params = shared_reward_model(stage, lab, rows, first_heads(lab, params, members=5), fit)
    reward = ensemble_reward(lab, params, scale, combine=worst_case_scores, shared=True)

    each = [reward_model(stage_i, lab, rows_i, on_trunk(lab, params, key_i), fit) for i ...]
    reward = ensemble_reward(lab, stack_members(each), scale, combine=mean_scores)

Members trained apart differ in head and order of the pairs: rows of another seed, and another key.
They start from one trunk, so `average_members` of them is a reward model too (WARM). `scale` is
`member_scale` of `member_scores` on answers of the SFT policy, so that members share zero and unit.
"""

from functools import cache
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from rlhf_jax.algos.reward_ensemble import (
    Combine,
    FrozenMembers,
    RewardEnsemble,
    combined_reward,
    make_shared_update,
    separate_trunks,
    shared_trunk,
)
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.ensembles import MemberScale
from rlhf_jax.recipes.lab import LanguageLab, hold_params, stage_key
from rlhf_jax.recipes.offline import Fit, built, fit_rows, on_trunk, step_options
from rlhf_jax.recipes.rewards import Reward, not_on_host
from rlhf_jax.recipes.rows import Records, Rows, answer_batch, in_chunks
from rlhf_jax.training import Stage
from rlhf_jax.types import Params, Trajectory

# One ensemble of a reward model, so that its update compiles once.
shared_heads, _separate = cache(shared_trunk), cache(separate_trunks)


def first_heads(lab: LanguageLab, policy_params: Params, *, members: int) -> Params:
    """`on_trunk` with N heads, each drawn anew: leaves of params["head"] are [N, ...]."""
    keys = jax.random.split(stage_key(lab, "reward heads"), members)
    heads = jax.vmap(lambda key: lab.reward.init(key)["head"])(keys)
    return {**on_trunk(lab, policy_params, keys[0]), "head": heads}


def shared_reward_model(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    loss: Any = bradley_terry_loss,
) -> Params:
    """N scores per answer from pairs, in one pass of the trunk; params from `first_heads`."""
    ensemble = shared_heads(lab.reward, members=num_heads(params))
    options = {"loss": loss} | step_options(lab, fit, "reward")
    update = built(make_shared_update, ensemble, fit.optimizer, **options)
    axes = {**lab.axes, "reward": member_axes(lab.axes["reward"], shared=True)}
    return fit_rows(stage, lab._replace(axes=axes), update, rows, params, fit, part="reward")


def member_scores(
    lab: LanguageLab, params: Params, records: Records, *, shared: bool = False, batch_size: int
) -> np.ndarray:
    """Raw scores [N, R] of the members, of R records of a prompt and an answer."""
    score = jax.jit(ensemble_of(lab, params, shared=shared).scores)

    def chunk(part: list[dict]) -> Array:
        return score(params, answer_batch(lab, part)).T

    return in_chunks(chunk, records, size=batch_size).T


def ensemble_reward(
    lab: LanguageLab,
    params: Params,
    scale: MemberScale,
    *,
    combine: Combine,
    shared: bool = False,
) -> Reward:
    """The members' scores in units of `scale`, combined to one.

    Args:
      params: from `stack_members`, or from `shared_reward_model` if `shared`.
      combine: as in `algos.reward_ensemble.combined_reward`.
    """
    reward = combined_reward(ensemble_of(lab, params, shared=shared), combine)
    held = hold_params(lab, params, member_axes(lab.axes["reward"], shared=shared))

    def scores(params: FrozenMembers, _: Any, trajectory: Trajectory) -> Array:
        return reward.scores(params, trajectory)

    return Reward(FrozenMembers(held, scale), not_on_host, scores)


def ensemble_of(lab: LanguageLab, params: Params, *, shared: bool) -> RewardEnsemble:
    """The lab's reward model once for each member in params."""
    make = shared_heads if shared else _separate
    return make(lab.reward, members=num_heads(params))


def num_heads(params: Params) -> int:
    """N, the leading axis of the heads."""
    return params["head"]["weight"].shape[0]


def member_axes(axes: Params, *, shared: bool) -> Params:
    """Logical axis names of a reward model's params with members in front: of its head, or all."""

    def members_first(axes: Params) -> Params:
        return jax.tree.map(lambda names: (None, *names), axes, is_leaf=_is_names)

    return {**axes, "head": members_first(axes["head"])} if shared else members_first(axes)


def _is_names(x: Any) -> bool:
    return isinstance(x, tuple)
