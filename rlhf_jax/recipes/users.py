"""Rewards of users who differ (VPL) on a frozen language model, from pairs with a user each.

    pairs = embedded_pairs(lab, params, records, batch_size=16)
    rows = user_rows(pairs, UserSizes(), batch_size=32, seed=0)
    networks = user_networks(d, UserSizes())
    fitted = user_model(stage, lab, networks, rows, first, fit, beta=0.01)

The language model makes one vector of a prompt and an answer. An encoder of users and a reward that
reads their latent are trained on the vectors (`algos.user_reward`).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos import user_reward
from rlhf_jax.algos.user_reward import UserBatch, UserContext, UserParams
from rlhf_jax.checks import check_fields
from rlhf_jax.data.loader import batches
from rlhf_jax.data.users import user_sets
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.policies.latent import decoded_reward, user_encoder, vector_trajectory
from rlhf_jax.recipes.lab import LanguageLab, start_training
from rlhf_jax.recipes.offline import Fit, built, fit_state
from rlhf_jax.recipes.rows import Records, Rows
from rlhf_jax.recipes.vectors import pair_vectors
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import Params, RewardFn, UserEncoder


@dataclass(frozen=True, kw_only=True)
class UserSizes:
    """context, targets: a user's pairs that are encoded, and others that are explained, at most.
    latent_dim, width: of the latent, and of the hidden layers."""

    context: int = 8
    targets: int = 4
    latent_dim: int = 8
    width: int = 64

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "context", "targets", "latent_dim", "width")


class EmbeddedPairs(NamedTuple):
    """vectors: [N, 2, d] float32 of the chosen and of the rejected answer. users: who judged."""

    vectors: np.ndarray
    users: tuple[Hashable, ...]


class UserNetworks(NamedTuple):
    """The encoder of users and the reward that reads their latent."""

    encoder: UserEncoder
    reward: RewardFn


@cache
def user_networks(num_features: int, sizes: UserSizes) -> UserNetworks:
    """Two hidden layers each; the reward has one step, of one vector."""
    k, width = sizes.latent_dim, sizes.width
    decoder = make_mlp((num_features + k, width, width, 1))
    return UserNetworks(user_encoder(num_features, k, width=width), decoded_reward(decoder))


def embedded_pairs(
    lab: LanguageLab, params: Params, records: Records, *, batch_size: int
) -> EmbeddedPairs:
    """The vectors of pairs by the lab's policy, which stays as it is.

    Raises:
      UserError: a pair without a user; it quotes the first prompt.
    """
    users = tuple(records[i].get("user") for i in range(len(records)))
    if None in users:
        first = records[users.index(None)]["prompt"]
        raise UserError(
            f"{users.count(None)} of {len(users)} pairs have no user, the first with the prompt "
            f'{first!r:.60}: write who judged, a text or a whole number, into the field "user"'
        )
    return EmbeddedPairs(pair_vectors(lab, params, records, batch_size=batch_size), users)


def user_rows(pairs: EmbeddedPairs, sizes: UserSizes, *, batch_size: int, seed: int) -> Rows:
    """Batches of users: in each step some of a user's pairs are encoded, others explained.

    Args:
      pairs: two or more of each user. batch_size: users of a batch.
    """
    rows = tuple(rows_by_user(pairs.users).values())
    order = batches(len(rows), batch_size=batch_size, seed=seed)
    return _UserRows(pairs.vectors, rows, order, sizes, seed)


@dataclass(frozen=True)
class _UserRows:
    """Of `user_rows`; rows: the numbers of each user's pairs."""

    vectors: np.ndarray
    rows: tuple[np.ndarray, ...]
    order: Any
    sizes: UserSizes
    seed: int

    def __getitem__(self, step: int, /) -> UserBatch:
        rng = np.random.default_rng((self.seed, step))
        own = [self.rows[int(i)] for i in self.order[step]]
        # Places in the batch and not names: a batch across two epochs can hold a user twice.
        places = np.repeat(np.arange(len(own)), [len(each) for each in own]).tolist()
        sets = user_sets(
            places,
            context=self.sizes.context,
            targets=self.sizes.targets,
            seed=int(rng.integers(2**32)),
        )
        flat = np.concatenate(own)
        chosen, rejected = np.moveaxis(self.vectors[flat[sets.targets]], 2, 0)
        return UserBatch(
            context_of(self.vectors[flat[sets.context]], sets.context_mask),
            vector_trajectory(jnp.asarray(chosen)),
            vector_trajectory(jnp.asarray(rejected)),
            jnp.asarray(sets.targets_mask),
            jnp.asarray(rng.standard_normal((len(own), self.sizes.latent_dim)), jnp.float32),
        )


def rows_by_user(users: Sequence[Hashable]) -> dict[Hashable, np.ndarray]:
    """The row numbers of each user, in the order of their first rows."""
    found: dict[Hashable, list[int]] = {}
    for row, user in enumerate(users):
        found.setdefault(user, []).append(row)
    return {user: np.array(rows) for user, rows in found.items()}


def padded_numbers(rows: Sequence[np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `size` row numbers of each user as [U, size], and where they are real; else 0."""
    numbers, mask = np.zeros((len(rows), size), int), np.zeros((len(rows), size), bool)
    for i, own in enumerate(rows):
        first = own[:size]
        numbers[i, : len(first)], mask[i, : len(first)] = first, True
    return numbers, mask


def context_of(vectors: np.ndarray, mask: np.ndarray) -> UserContext:
    """Pairs [U, N, 2, d] as what is encoded."""
    chosen, rejected = np.moveaxis(vectors, 2, 0)
    return UserContext(jnp.asarray(chosen), jnp.asarray(rejected), jnp.asarray(mask))


def first_contexts(
    pairs: EmbeddedPairs, sizes: UserSizes
) -> tuple[tuple[Hashable, ...], UserContext]:
    """All users, with their first `sizes.context` pairs."""
    rows = rows_by_user(pairs.users)
    numbers, mask = padded_numbers(tuple(rows.values()), sizes.context)
    return tuple(rows), context_of(pairs.vectors[numbers], mask)


def user_model(
    stage: Stage,
    lab: LanguageLab,
    networks: UserNetworks,
    rows: Rows,
    params: UserParams,
    fit: Fit,
    *,
    beta: float,
) -> UserParams:
    """Variational preference learning on batches of `user_rows`; all of it on one device."""
    update = built(user_reward.make_update, *networks, fit.optimizer, beta=beta, parts=fit.parts)
    state, step = start_training(lab._replace(mesh=None), params, None, fit.optimizer, update)
    return fit_state(stage, step, state, rows, fit, lambda state: state.params)
