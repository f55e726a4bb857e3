"""Named features of answers, rated on the host, and rewards made of them.

    scale = (Feature("faithfulness", 0, 5), Feature("invented facts", worst=4, best=0))
    rows = rate_answers(rate, prompts, answers, scale)               # [N, 2] in [0, 1]
    reward = feature_text_reward(rate, scale, combine)               # a TextReward

`rate` is any function over texts: a rubric put to a chat model, a counter, a classifier.
`separate_ratings` makes it of a reward for each feature. `combine` maps rows to scores, e.g. the
trained network of `policies.features`.

Reference: Nath et al. 2024, arXiv:2402.15473, seven features rated 0 to 5 by a language model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.special

from rlhf_jax.types import TextReward

Rating = float | int | None
Ratings = Mapping[str, Sequence[Rating]]
Combine = Callable[[np.ndarray], Any]  # [N, d] -> N scores


@runtime_checkable
class RateTexts(Protocol):
    """Ratings of N answers under the names of the features; None where there is no rating."""

    def __call__(
        self, prompts: Sequence[Any], answers: Sequence[str], /, **columns: Sequence[Any]
    ) -> Ratings: ...


@dataclass(frozen=True)
class Feature:
    """A quality and the ends of its scale, in the units of the rater.

    worst, best: map to 0 and 1, so every feature points the same way. best may be the lower one,
      e.g. a count of errors.
    """

    name: str
    worst: float | int = 0
    best: float | int = 1

    def __post_init__(self):
        if not self.name:
            raise ValueError("name of a feature must not be empty")
        if not np.isfinite([self.worst, self.best]).all() or self.worst == self.best:
            raise ValueError(
                f"feature {self.name!r}: worst and best must be two different finite numbers, "
                f"got {self.worst} and {self.best}"
            )


SUMMARY_FEATURES = tuple(
    Feature(name, 0, 5)
    for name in (
        *("aspect coverage", "opinion faithfulness", "opinion coverage", "conciseness"),
        *("relevance", "hallucination", "language correctness"),
    )
)  # of the paper; hallucination is rated 5 where there is none


def scale_ratings(ratings: Ratings, features: Sequence[Feature]) -> np.ndarray:
    """v = (rating - worst) / (best - worst), [N, d] float32; a row with a None or NaN is all NaN.

    Raises:
      ValueError: no features or a name twice, ratings of other features, lengths that differ, a
        rating off its scale; it names the feature and the answer.
    """
    names = [feature.name for feature in features]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"features must have different names, at least one, got {names}")
    if set(ratings) != set(names):
        raise ValueError(f"ratings must be of {sorted(names)}, got {sorted(ratings)}")
    sizes = {name: len(ratings[name]) for name in names}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"features must have as many ratings as answers, got {sizes}")
    rows = np.stack([_scaled(ratings[feature.name], feature) for feature in features], axis=-1)
    return np.where(np.isnan(rows).any(-1, keepdims=True), np.float32(np.nan), rows)


def rate_answers(
    rate: RateTexts,
    prompts: Sequence[Any],
    answers: Sequence[str],
    features: Sequence[Feature],
    **columns: Sequence[Any],
) -> np.ndarray:
    """`scale_ratings` of what `rate` says, [N, d]; an answer without all its ratings is NaN.

    Raises:
      ValueError: as `scale_ratings`, and another number of ratings than of answers.
    """
    rows = scale_ratings(rate(prompts, answers, **columns), features)
    if len(rows) != len(answers):
        raise ValueError(f"{len(answers)} answers were rated, the ratings are {len(rows)}")
    return rows


def separate_ratings(rewards: Mapping[str, TextReward]) -> RateTexts:
    """Each feature rated by a reward of its own: a judge with its rubric, a function, a model.

    Args:
      rewards: name of the feature -> the reward that rates it.
    """

    def rate(
        prompts: Sequence[Any], answers: Sequence[str], /, **columns: Sequence[Any]
    ) -> Ratings:
        return {name: reward(prompts, answers, **columns) for name, reward in rewards.items()}

    return rate


def remember_ratings(rate: RateTexts, *, size: int = 100_000) -> RateTexts:
    """The same rater, asked once for each pair of prompt and answer.

    One call is made with what is new, each pair once. Ratings that are None are asked for again.
    Columns must depend on the prompt alone.

    Args:
      size: pairs that are remembered between calls, the latest ones.
    """
    known: dict[tuple[str, str], dict[str, Rating]] = {}

    def remembered(
        prompts: Sequence[Any], answers: Sequence[str], /, **columns: Sequence[Any]
    ) -> Ratings:
        keys = [(repr(prompt), answer) for prompt, answer in zip(prompts, answers, strict=True)]
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        new = sorted(row for key, row in first.items() if _incomplete(known.get(key)))
        if new:
            picked = {name: [column[row] for row in new] for name, column in columns.items()}
            asked = [[column[row] for row in new] for column in (prompts, answers)]
            found = rate(*asked, **picked)
            if any(len(column) != len(new) for column in found.values()):
                sizes = {name: len(column) for name, column in found.items()}
                raise ValueError(f"{len(new)} answers were rated, the ratings are {sizes}")
            for place, row in enumerate(new):
                known[keys[row]] = {name: column[place] for name, column in found.items()}
        names = known[keys[0]] if keys else {}
        ratings = {name: [known[key][name] for key in keys] for name in names}
        for key in list(known)[: max(0, len(known) - size)]:
            del known[key]
        return ratings

    return remembered


def feature_text_reward(
    rate: RateTexts, features: Sequence[Feature], combine: Combine
) -> TextReward:
    """score = combine(v(x, y)); None, which leaves an answer out, where a rating is missing.

    Args:
      rate: ratings by name, see `RateTexts`.
      features: scales, in the order of the columns of `combine`.
      combine: `[N, d] -> N` scores. It never sees a row with a missing rating.
    Raises:
      ValueError: from the reward, as `rate_answers`.
    """

    def score(
        prompts: Sequence[Any], answers: Sequence[str], /, **columns: Sequence[Any]
    ) -> list[float | None]:
        if not answers:
            return []
        rows = rate_answers(rate, prompts, answers, features, **columns)
        rated = np.asarray(~np.isnan(rows).any(-1))
        scores: list[float | None] = [None] * len(answers)
        if rated.any():
            # One shape for a compiled `combine`: rows without a rating are put at 0 and dropped.
            found = np.asarray(combine(np.where(rated[:, None], rows, 0.0)), float)
            if found.shape != (len(answers),):
                raise ValueError(f"combine must return [{len(answers)}] scores, got {found.shape}")
            scores = [float(x) if use else None for x, use in zip(found, rated, strict=True)]
        return scores

    return score


def sigmoid_reward(reward: TextReward) -> TextReward:
    """score = sigmoid(r), in (0, 1): a model's score as a rating, or as what is handed to PPO."""

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> Any:
        found = reward(prompts, answers, **columns)
        return [None if x is None else float(scipy.special.expit(x)) for x in found]

    return score


def _incomplete(ratings: Mapping[str, Rating] | None) -> bool:
    """Whether an answer has never been rated, or not under each name."""
    return ratings is None or None in ratings.values()


def _scaled(ratings: Sequence[Rating], feature: Feature) -> np.ndarray:
    """One column of `scale_ratings`."""
    given = np.array([np.nan if x is None else x for x in ratings], float)
    rows = (given - feature.worst) / (feature.best - feature.worst)
    outside = (rows < 0) | (rows > 1)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(
            f"feature {feature.name!r} is rated from {feature.worst} (worst) to {feature.best} "
            f"(best), answer {row} has {given[row]:g}"
        )
    return rows.astype(np.float32)
