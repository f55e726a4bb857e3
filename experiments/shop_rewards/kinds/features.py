"""Rewards that see an answer through named features alone (domain_rm), from all pairs and a tenth.

The rater is the world with errors: each axis of an answer, with noise, in six steps. "equal
weights" is the mean of the features, which needs no pairs; "wrong features" are counts of words,
sentences and numbers.
"""

from collections.abc import Sequence
from functools import cache, partial
from random import Random
from typing import Any, NamedTuple

import numpy as np
import optax

from experiments.shop_rewards.kinds.scoring import Fitted, Scored, trained
from experiments.shop_rewards.world import SIDES, Part, Tools, axes_of, first_share
from rlhf_jax.envs.shop import AXES
from rlhf_jax.policies.features import mean_weights
from rlhf_jax.recipes import Fit, Reward, stage_key
from rlhf_jax.recipes.episodes import Transcripts, score_transcripts
from rlhf_jax.recipes.features import (
    feature_model,
    feature_network,
    feature_rows,
    feature_scores,
)
from rlhf_jax.recipes.rewards import known_reward
from rlhf_jax.recipes.task import Scores
from rlhf_jax.rewards import Feature, RateTexts, Ratings, rate_answers
from rlhf_jax.sharding import on_host
from rlhf_jax.training import Run, Stage, StageResult
from rlhf_jax.types import Params, Prompts

STEPS, RATE, SHARE, NOISE = 300, 0.03, 10, 0.15
FIT = Fit(optax.adam(RATE), STEPS, save_every=STEPS)  # one, so that an update compiles once
RATED = tuple(Feature(axis, 0, 5) for axis in AXES)
COUNTED = (Feature("words", 0, 48), Feature("sentences", 0, 8), Feature("numbers", 0, 4))
EQUAL = "features, equal weights"


@cache
def rating(seed: int, index: int, answer: str) -> tuple[float, ...]:
    """Six ratings of an answer, 0 to 5; the same answer is always rated alike."""
    rng = Random(f"rating/{seed}/{index}/{answer}")
    noisy = [x + NOISE * rng.gauss(0.0, 1.0) for x in axes_of(seed, index, answer)]
    return tuple(float(np.clip(round(5 * x), 0, 5)) for x in noisy)


def rate(seed: int, prompts: Sequence[int], answers: Sequence[str], **_: Sequence[Any]) -> Ratings:
    """Ratings by name; prompts are numbers."""
    rows = [rating(seed, index, answer) for index, answer in zip(prompts, answers, strict=True)]
    return {feature.name: [row[i] for row in rows] for i, feature in enumerate(RATED)}


def count(prompts: Sequence[int], answers: Sequence[str], **_: Sequence[Any]) -> Ratings:
    """What says nothing of the quality."""
    words = [answer.split() for answer in answers]
    return {
        "words": [min(len(each), 48) for each in words],
        "sentences": [min(sum(word in ".!?" for word in each), 8) for each in words],
        "numbers": [min(sum(word.isdigit() for word in each), 4) for each in words],
    }


class Rater(NamedTuple):
    """What rates answers, and its features."""

    rate: RateTexts
    features: tuple[Feature, ...]

    def rows(self, records: Sequence[dict], side: str = "answer") -> np.ndarray:
        """[R, d] ratings of one answer of each record."""
        numbers = [row["index"] for row in records]
        return rate_answers(self.rate, numbers, [row[side] for row in records], self.features)


def axes_rater(tools: Tools) -> Rater:
    """Noisy ratings of the six axes."""
    return Rater(partial(rate, tools.config.seed), RATED)


def fit_weights(job: Run, tools: Tools, part: Part, rater: Rater, *, share: int) -> StageResult:
    """Bradley-Terry on the ratings of one pair in `share`: a weight for each feature."""
    network = feature_network(len(rater.features))
    named = "features" if rater.features == RATED else "wrong_features"

    def work(stage: Stage) -> tuple[Params, dict]:
        pairs = first_share(part.pairs, share)
        rated = np.stack([rater.rows(pairs, side) for side in SIDES], 1)
        size = min(tools.config.training.batch_size, len(pairs))
        rows = feature_rows(rated, batch_size=size, seed=part.lab.seed)
        first = network.init(stage_key(part.lab, "features"))
        return feature_model(stage, part.lab, network, rows, first, FIT), {}

    return trained(job, tools, f"{part.name}_{named}_{share}", work, network.init)


def fit_features(job: Run, tools: Tools, part: Part) -> Fitted:
    """The right features from all pairs and from a tenth, wrong ones from all."""
    rated = axes_rater(tools)
    runs = {
        "features": (rated, 1),
        "features, a tenth of the pairs": (rated, SHARE),
        "wrong features": (Rater(count, COUNTED), 1),
    }
    found = {
        name: fit_weights(job, tools, part, rater, share=share)
        for name, (rater, share) in runs.items()
    }

    def scores(records: list[dict]) -> Scored:
        readings = {
            name: score_rows(found[name].arrays, rater.rows(records))
            for name, (rater, _) in runs.items()
        }
        equal = score_rows(mean_weights(len(RATED)), rated.rows(records))
        return Scored({**readings, EQUAL: equal})

    rewards = {"features": partial(rated_reward, tools, found["features"].arrays)}
    return Fitted(scores, rewards, found["features"].seconds)


def rated_reward(tools: Tools, params: Params) -> Reward:
    """The weighted ratings as a reward of policies, which are read on the host."""
    rater = axes_rater(tools)

    def host(prompts: Prompts, found: Transcripts) -> tuple[np.ndarray, Scores]:
        indices = np.asarray(prompts.indices)
        texts, named = score_transcripts(tools.lab, tools.task, indices, on_host(found))
        records = [
            {"index": int(index), "answer": text}
            for index, row in zip(indices, texts, strict=True)
            for text in row
        ]
        return score_rows(params, rater.rows(records)).reshape(len(indices), -1), named

    return known_reward()._replace(host=host)


def score_rows(params: Params, rows: np.ndarray) -> np.ndarray:
    """[R] from [R, d]."""
    return np.asarray(feature_scores(feature_network(rows.shape[-1]), params)(rows))
