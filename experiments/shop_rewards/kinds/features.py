"""Rewards that see an answer through named features alone (domain_rm), from all pairs and a tenth.

The rater is the world with errors: each axis of an answer, with noise, in six steps. "equal
weights" is the mean of the features, which needs no pairs; "wrong features" are counts of words,
sentences and numbers.
"""

from collections.abc import Sequence
from functools import cache, partial
from random import Random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shop_rewards.kinds.scoring import Fitted, Scored, trained
from experiments.shop_rewards.world import SIDES, Part, Tools, axes_of
from rlhf_jax.envs.shop import AXES
from rlhf_jax.policies.features import mean_weights
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.recipes import Fit, stage_key
from rlhf_jax.recipes.features import feature_model, feature_network, feature_rows
from rlhf_jax.rewards import Feature, RateTexts, Ratings, rate_answers
from rlhf_jax.training import Run, Stage, StageResult
from rlhf_jax.types import Params

STEPS, RATE, SHARE, NOISE = 300, 0.03, 10, 0.15
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


def fit_features(job: Run, tools: Tools, part: Part) -> Fitted:
    """Bradley-Terry on ratings: a weight for each feature."""
    rated = partial(rate, tools.config.seed)
    some = part.pairs[: max(2, len(part.pairs) // SHARE)]
    runs: dict[str, tuple[RateTexts, tuple[Feature, ...], list[dict]]] = {
        "features": (rated, RATED, part.pairs),
        "features, a tenth of the pairs": (rated, RATED, some),
        "wrong features": (count, COUNTED, part.pairs),
    }
    found: dict[str, StageResult] = {}
    for name, (rater, features, pairs) in runs.items():
        network = feature_network(len(features))

        def work(
            stage: Stage, rater=rater, features=features, pairs=pairs, network=network
        ) -> tuple[Params, dict]:
            numbers = [row["index"] for row in pairs]
            columns = [
                rate_answers(rater, numbers, [row[side] for row in pairs], features)
                for side in SIDES
            ]
            size = min(tools.config.training.batch_size, len(pairs))
            rows = feature_rows(np.stack(columns, 1), batch_size=size, seed=part.lab.seed)
            first = network.init(stage_key(part.lab, "features"))
            fit = Fit(optax.adam(RATE), STEPS, save_every=STEPS)
            return feature_model(stage, part.lab, network, rows, first, fit), {}

        stage = f"{part.name}_{name.replace(', ', '_').replace(' ', '_')}"
        found[name] = trained(job, tools, stage, work, network.init)

    def scores(records: list[dict]) -> Scored:
        numbers, answers = ([row[x] for row in records] for x in ("index", "answer"))
        seen = {rater: rate_answers(rater, numbers, answers, of) for rater, of, _ in runs.values()}
        readings = {
            name: score_rows(found[name].arrays, seen[rater]) for name, (rater, *_) in runs.items()
        }
        equal = score_rows(mean_weights(len(RATED)), seen[rated])
        return Scored({**readings, EQUAL: equal})

    return Fitted(scores, {}, found["features"].seconds)


def score_rows(params: Params, rows: np.ndarray) -> np.ndarray:
    """[R] from [R, d]."""
    network = feature_network(rows.shape[-1])
    return np.asarray(jax.jit(network.scores)(params, vector_trajectory(jnp.asarray(rows))))
