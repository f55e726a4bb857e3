"""Reward models of pairs that should not use a spurious feature (`algos.robust_reward`).

ids, names = environment_column(pairs)
rows = pair_rows(lab, pairs, batch_size=64, columns={"environments": ids})
risk = partial(vrex_risk, count=len(names), penalty=10.0)
params = robust_reward_model(stage, lab, rows, on_trunk(lab, sft, key), fit, risk=risk)
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from rlhf_jax.algos import robust_reward
from rlhf_jax.algos.robust_reward import Risk, init_group_dro
from rlhf_jax.recipes.lab import LanguageLab, start_training
from rlhf_jax.recipes.offline import Fit, built, fit_rows, fit_state
from rlhf_jax.recipes.rows import Records, Rows, host_batches, pair_batch
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import Params, PreferenceBatch


def environment_column(records: Records) -> tuple[Int[np.ndarray, "N"], tuple[Any, ...]]:
    """[N] the number of each pair's environment, and the environments in the order of their rows.

    Raises:
      UserError: a pair without the field "environment", or only one environment.
    """
    found: list[Any] = [records[i].get("environment") for i in range(len(records))]
    if None in found:
        first = records[found.index(None)]["prompt"]
        raise UserError(
            f"{found.count(None)} of {len(found)} pairs have no environment, the first with the "
            f"prompt {first!r:.60}: write where a pair comes from, a text or a whole number, into "
            'the field "environment"'
        )
    names = tuple(dict.fromkeys(found))
    if len(names) < 2:
        raise UserError(
            f"all {len(found)} pairs are in the environment {names[0]!r}; what does not hold in "
            "another one shows only with two or more"
        )
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[name] for name in found], np.int32), names


def robust_reward_model(
    stage: Stage, lab: LanguageLab, rows: Rows, params: Params, fit: Fit, *, risk: Risk
) -> Params:
    """A score per answer from pairs with columns; params from `on_trunk`.

    Args:
      risk: as in `algos.robust_reward.make_update`.
    Raises:
      UserError: micro-batches, or a mixture of experts.
    """
    check_whole_batches(lab, fit)
    update = built(robust_reward.make_update, lab.reward, fit.optimizer, risk=risk)
    return fit_rows(stage, lab, update, rows, params, fit, part="reward")


def group_dro_reward_model(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    count: int,
    eta: float,
) -> Params:
    """The same by group DRO; rows have the column "environments".

    Args:
      count, eta: as in `algos.robust_reward.make_group_dro_update`.
    """
    check_whole_batches(lab, fit)
    options = {"count": count, "eta": eta}
    update = built(robust_reward.make_group_dro_update, lab.reward, fit.optimizer, **options)
    init = partial(init_group_dro, count=count)
    axes = lab.axes["reward"]
    state, step = start_training(lab, params, axes, fit.optimizer, update, init=init)
    return fit_state(stage, step, state, rows, fit, lambda state: state.train.params)


def copies_reward_model(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    worst: bool = False,
    consistency: float = 0.0,
) -> Params:
    """The same from pairs [B, N] of N copies each, which `copy_rows` makes.

    Args:
      worst, consistency: as in `algos.robust_reward.make_copies_update`.
    """
    check_whole_batches(lab, fit)
    options = {"worst": worst, "consistency": consistency}
    update = built(robust_reward.make_copies_update, lab.reward, fit.optimizer, **options)
    return fit_rows(stage, lab, update, rows, params, fit, part="reward")


def copy_rows(lab: LanguageLab, copies: Sequence[Sequence[dict]], *, batch_size: int) -> Rows:
    """Batches [B, N] of pairs with N copies each, which differ in what should be ignored.

    Args:
      copies: of each pair, the pair itself among them if it is to be learned from.
    Raises:
      UserError: pairs with unequal numbers of copies.
    """
    sizes = {len(each) for each in copies}
    if len(sizes) != 1 or 0 in sizes:
        raise UserError(f"every pair must have as many copies, got {sorted(sizes)}")

    def take(numbers: Sequence[int]) -> PreferenceBatch:
        batch = pair_batch(lab, [row for i in numbers for row in copies[int(i)]])
        return jax.tree.map(lambda x: x.reshape(len(numbers), -1, *x.shape[1:]), batch)

    return host_batches(lab, len(copies), take, batch_size=batch_size)


def check_whole_batches(lab: LanguageLab, fit: Fit) -> None:
    """UserError for what would cut a batch into parts or add a term that no risk has."""
    if fit.parts > 1:
        raise UserError("a robust loss compares all pairs of a batch: no micro-batches")
    if lab.router_losses:
        raise UserError("a robust loss is not for a mixture of experts: its routers drift")
