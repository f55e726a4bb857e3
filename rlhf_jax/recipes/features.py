"""Reward models of a few named features, from pairs of texts and a rater.

    rated = rated_pairs(rate, records, features)             # [N, 2, d] in [0, 1]
    rows = feature_rows(rated, batch_size=32, seed=0)
    reward = feature_network(d, (6, 4, 2))
    params = feature_model(stage, lab, reward, rows, first, fit)
    score = feature_text_reward(rate, features, feature_scores(reward, params))

The rater is asked once, before the training; a policy is then trained on `score`.
"""

from collections.abc import Callable, Sequence
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rlhf_jax.algos import reward_model as reward_update
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.policies.features import bottleneck_reward, given_features
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.recipes.lab import LanguageLab, start_training
from rlhf_jax.recipes.offline import Fit, built, fit_state
from rlhf_jax.recipes.rows import Records, Rows, array_rows
from rlhf_jax.rewards import Feature, RateTexts, rate_answers
from rlhf_jax.training import Stage
from rlhf_jax.types import Params, PreferenceBatch, RewardFn


@cache
def feature_network(num_features: int, hidden: tuple[int, ...] = ()) -> RewardFn:
    """Over `vector_trajectory`s of features; without hidden layers a weight for each feature."""
    return bottleneck_reward(given_features, make_mlp((num_features, *hidden, 1)))


def rated_pairs(rate: RateTexts, records: Records, features: Sequence[Feature]) -> np.ndarray:
    """[N, 2, d] float32 of the chosen and the rejected answer of each record; `rate` is asked once.

    An answer without one of its ratings is NaN.

    Raises:
      ValueError: as `rate_answers`.
    """
    prompts = [row["prompt"] for row in records for _ in range(2)]
    answers = [row[side] for row in records for side in ("chosen", "rejected")]
    return rate_answers(rate, prompts, answers, features).reshape(-1, 2, len(features))


def feature_rows(rated: np.ndarray, *, batch_size: int, seed: int) -> Rows:
    """Batches of rated pairs [N, 2, d], all of them finite."""
    chosen, rejected = (vector_trajectory(jnp.asarray(rated[:, side])) for side in range(2))
    return array_rows(PreferenceBatch(chosen, rejected), batch_size=batch_size, seed=seed)


def feature_model(
    stage: Stage, lab: LanguageLab, reward: RewardFn, rows: Rows, params: Params, fit: Fit
) -> Params:
    """Bradley-Terry on batches of `feature_rows`; all of it on one device."""
    update = built(reward_update.make_update, reward, fit.optimizer, parts=fit.parts)
    state, step = start_training(lab._replace(mesh=None), params, None, fit.optimizer, update)
    return fit_state(stage, step, state, rows, fit, lambda state: state.params)


def feature_scores(reward: RewardFn, params: Params) -> Callable[[np.ndarray], Array]:
    """Features [*B, d] -> scores [*B]: what `feature_text_reward` combines by."""

    def scores(rows: np.ndarray) -> Array:
        return _score(reward, params, vector_trajectory(jnp.asarray(rows)))

    return scores


_score = jax.jit(lambda reward, *given: reward.scores(*given), static_argnums=0)
