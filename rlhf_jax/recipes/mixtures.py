"""Rewards of groups of users that nobody has named, on a frozen language model.

    pairs = embedded_pairs(lab, params, records, batch_size=16)
    rows = mixture_rows(pairs, limit=32, batch_size=32, seed=0)
    reward = linear_reward(d)
    first = init_restarts(key, reward, groups=2, restarts=4)
    params = mixture_model(stage, lab, reward, rows, first, fit)     # of all restarts

The language model makes one vector of a prompt and an answer (`recipes.users`); each group has a
linear reward of the vectors (`algos.mixture_reward`).

Reference: Chakraborty et al. 2024, arXiv:2402.08925, Algorithm 2.
Departs: the model is frozen, and assignments and rewards move in turns of one gradient step.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos import mixture_reward
from rlhf_jax.algos.mixture_reward import MixtureParams, UserPairs
from rlhf_jax.checks import check_range
from rlhf_jax.data.loader import batches
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.recipes.lab import LanguageLab, start_training
from rlhf_jax.recipes.offline import Fit, built, fit_state
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.recipes.users import EmbeddedPairs, padded_numbers, rows_by_user
from rlhf_jax.training import Stage
from rlhf_jax.types import RewardFn


def pairs_by_user(pairs: EmbeddedPairs) -> tuple[tuple[Hashable, ...], UserPairs]:
    """All users, in the order of their first rows, with all of their pairs."""
    rows = rows_by_user(pairs.users)
    longest = max(map(len, rows.values()))
    return tuple(rows), _padded(pairs.vectors, list(rows.values()), longest)


def mixture_rows(pairs: EmbeddedPairs, *, limit: int, batch_size: int, seed: int) -> Rows:
    """Batches of users, each with up to `limit` of its pairs, drawn anew in every step.

    Args:
      batch_size: users of a batch.
    """
    check_range("[1, inf)", limit=limit)
    rows = list(rows_by_user(pairs.users).values())
    size = min(limit, max(map(len, rows)))
    order = batches(len(rows), batch_size=batch_size, seed=seed)
    return _MixtureRows(pairs.vectors, rows, order, size, seed)


@dataclass(frozen=True)
class _MixtureRows:
    """Of `mixture_rows`; rows: the numbers of each user's pairs."""

    vectors: np.ndarray
    rows: list[np.ndarray]
    order: Any
    size: int
    seed: int

    def __getitem__(self, step: int, /) -> UserPairs:
        rng = np.random.default_rng((self.seed, step))
        own = [self.rows[int(i)] for i in self.order[step]]
        return _padded(self.vectors, [rng.permutation(x) for x in own], self.size)


def _padded(vectors: np.ndarray, rows: list[np.ndarray], size: int) -> UserPairs:
    """The first pairs of each user as [H, size]; what is missing is masked."""
    numbers, mask = padded_numbers(rows, size)
    chosen, rejected = np.moveaxis(vectors[numbers], 2, 0)
    return UserPairs(
        vector_trajectory(jnp.asarray(chosen)),
        vector_trajectory(jnp.asarray(rejected)),
        jnp.asarray(mask),
    )


def mixture_model(
    stage: Stage,
    lab: LanguageLab,
    reward: RewardFn,
    rows: Rows,
    params: MixtureParams,
    fit: Fit,
    *,
    hard: bool = False,
) -> MixtureParams:
    """EM by gradient steps on batches of `mixture_rows`, on one device; params of all restarts."""
    options = {"hard": hard, "restarts": True, "parts": fit.parts}
    update = built(mixture_reward.make_update, reward, fit.optimizer, **options)
    state, step = start_training(lab._replace(mesh=None), params, None, fit.optimizer, update)
    return fit_state(stage, step, state, rows, fit, lambda state: state.params)
