"""Reward models of a few named features: training on rated pairs, and held-out numbers.

Their folder is that of the language model, which is not changed and not read, with a file FEATURES
beside it: the features, what rates them, and the network.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rlhf_jax.cli.data import dialogue_numbers, text_of
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.reward_measures import beside_rivals, grouped_mean, hits, margin_quality
from rlhf_jax.hf.vocabulary import read_object
from rlhf_jax.recipes.features import (
    feature_model,
    feature_network,
    feature_rows,
    feature_scores,
    rated_pairs,
)
from rlhf_jax.recipes.lab import stage_key
from rlhf_jax.recipes.rows import Records
from rlhf_jax.rewards import (
    Feature,
    RateTexts,
    Ratings,
    feature_text_reward,
    remember_ratings,
    separate_ratings,
)
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params, RewardFn, TextReward

FEATURES = "feature_reward.json"
# "[WEIGHT*]REWARD" -> weight, name, reward, column that it needs
NameReward = Callable[[str], tuple[float, str, TextReward, str | None]]


class FeatureModel(NamedTuple):
    """scorers: what rates each feature, as --reward has it. hidden, params: of the network."""

    features: tuple[Feature, ...]
    scorers: tuple[str, ...]
    hidden: tuple[int, ...]
    params: Params

    def network(self) -> RewardFn:
        """The function of `params`."""
        return feature_network(len(self.features), self.hidden)


class Rated(NamedTuple):
    """Pairs of which both answers have all ratings.

    rows: their numbers, n of `total`. features: [n, 2, d] of the chosen and the rejected answer.
    """

    rows: np.ndarray
    total: int
    features: np.ndarray


def named_features(specs: tuple[str, ...]) -> dict[str, tuple[Feature, str]]:
    """Name -> the feature and its scorer, of NAME=SCORER and NAME:WORST:BEST=SCORER.

    Raises:
      UserError: no features, a name twice, or another form.
    """
    found: dict[str, tuple[Feature, str]] = {}
    for spec in specs:
        left, equal, scorer = spec.partition("=")
        name, *ends = left.split(":")
        if not (equal and scorer and len(ends) in (0, 2)):
            raise UserError(f"--features {spec!r}: expected NAME=SCORER or NAME:WORST:BEST=SCORER")
        if name in found:
            raise UserError(f"--features: two features are called {name!r}")
        try:
            found[name] = Feature(name, *map(float, ends)), scorer
        except ValueError as error:
            raise UserError(f"--features {spec!r}: {error}") from error
    if not found:
        raise UserError("--kind features needs --features NAME=SCORER, one or more")
    return found


def feature_training(
    opened: Opened, first: FeatureModel, rate: RateTexts, *, batch_size: int
) -> Training:
    """A network on ratings of the answers, which are asked for once, before the training.

    first: the model without params.

    Raises:
      UserError: no pair is left to train on.
    """
    lab, network = opened.lab, first.network()
    train = rate_records(rate, opened.records, first.features)
    if not len(train.rows):
        raise UserError(f"none of the {train.total} pairs has all ratings of both answers")
    differ = (train.features[:, 0] != train.features[:, 1]).any(-1)
    if not differ.any():
        raise UserError(
            f"the two answers of all {len(differ)} rated pairs have the same features: "
            "there is nothing to learn"
        )
    if same := int((~differ).sum()):
        print(f"note: {same} of {len(differ)} rated pairs are ties, with the same features")
    held = rate_records(rate, opened.held, first.features) if opened.held else None

    def finished(params: Params) -> FeatureModel:
        return first._replace(params=params)

    def files(params: Params) -> dict[str, bytes]:
        note_dead(finished(params), train)
        return feature_files(finished(params))

    def quality(params: Params) -> Numbers:
        return {} if held is None else feature_quality(finished(params), held, opened.held)

    def compare(params: Params) -> dict[str, Any]:
        if held is None or not len(held.rows):
            return {}
        measured = [opened.held[int(i)] for i in held.rows]
        margins = feature_margins(finished(params), held)
        found = beside_rivals(lab, opened.records, measured, margins)
        mean, groups = mean_margins(held), dialogue_numbers(measured)
        found["numbers"] |= {
            "mean of features: accuracy": grouped_mean(hits(mean), groups),
            "accuracy minus mean of features": grouped_mean(hits(margins) - hits(mean), groups),
        }
        return found

    return Training(
        lab=lab,
        first=network.init(stage_key(lab, "features")),
        recipe=lambda stage, lab, *given: feature_model(stage, lab, network, *given),
        rows=lambda _: feature_rows(train.features, batch_size=batch_size, seed=lab.seed),
        quality=quality,
        compare=compare,
        export=lambda _: opened.base.params,
        trained_files=files,
        total=len(train.rows),
    )


def rate_records(rate: RateTexts, records: Records, features: tuple[Feature, ...]) -> Rated:
    """The pairs that have all their ratings; a note counts the others.

    Raises:
      UserError: a rating that is not on its scale, or a rater that fails.
    """
    texts = [
        {"prompt": row["prompt"], **{side: text_of(row[side]) for side in ("chosen", "rejected")}}
        for row in records
    ]
    with reading_input():
        found = rated_pairs(rate, texts, features)
    rows = np.flatnonzero(np.isfinite(found).all((1, 2)))
    if left := len(found) - len(rows):
        print(f"note: {left} of {len(found)} pairs lack a rating of an answer and are left out")
    return Rated(rows, len(found), found[rows])


def note_dead(model: FeatureModel, rated: Rated) -> None:
    """A note if hidden layers of ReLU units have died, so that all answers have one score."""
    if not feature_margins(model, rated).any():
        print(
            "note: the network has one score for all answers, its hidden units are dead; choose "
            "wider --feature-layers, none, or another --seed"
        )


def feature_margins(model: FeatureModel, rated: Rated) -> np.ndarray:
    """[n] score of the chosen minus that of the rejected answer."""
    scores = np.asarray(feature_scores(model.network(), model.params)(rated.features), float)
    return scores[:, 0] - scores[:, 1]


def mean_margins(rated: Rated) -> np.ndarray:
    """[n] the same of the untrained mean of the features."""
    means = rated.features.astype(float).mean(-1)
    # Sums of the same ratings in another order differ by rounding, and are ties.
    return np.round(means[:, 0] - means[:, 1], 6)


def feature_quality(model: FeatureModel, rated: Rated, records: Records) -> Numbers:
    """Accuracy and calibration; of a linear model the log-odds that each feature adds from 0 to 1.

    rated: of the records.
    """
    found: Numbers = {}
    if len(rated.rows):
        groups = dialogue_numbers([records[int(i)] for i in rated.rows])
        found |= margin_quality(feature_margins(model, rated), groups)
    if not model.hidden:
        weights = np.asarray(model.params[0]["weight"])[:, 0].tolist()
        names = [feature.name for feature in model.features]
        found |= {f"weight of {name}": x for name, x in zip(names, weights, strict=True)}
    if left := rated.total - len(rated.rows):
        found["pairs without all ratings"] = float(left)
    return found


# ---- Their folder.


def feature_files(model: FeatureModel) -> dict[str, bytes]:
    """FEATURES."""
    rows = zip(model.features, model.scorers, strict=True)
    layers = [{name: np.asarray(x).tolist() for name, x in layer.items()} for layer in model.params]
    content = {
        "features": [{**vars(feature), "scorer": scorer} for feature, scorer in rows],
        "layers": layers,
    }
    return {FEATURES: (json.dumps(content, indent=1) + "\n").encode()}


def has_features(folder: Path) -> bool:
    """Whether this is the folder of a reward model of named features."""
    return (folder / FEATURES).is_file()


def read_feature_model(folder: Path) -> FeatureModel:
    """What `feature_files` wrote.

    Raises:
      UserError: a damaged file.
    """
    try:
        found = read_object(folder / FEATURES)
        features = tuple(
            Feature(row["name"], row["worst"], row["best"]) for row in found["features"]
        )
        scorers = tuple(row["scorer"] for row in found["features"])
        params = tuple(
            {name: np.array(layer[name], np.float32) for name in ("weight", "bias")}
            for layer in found["layers"]
        )
        hidden = tuple(layer["weight"].shape[1] for layer in params[:-1])
        model = FeatureModel(features, scorers, hidden, params)
        shapes = jax.eval_shape(partial(model.network().init, jax.random.key(0)))
        _check_shapes(params, shapes)
    except (OSError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: its reward of features cannot be read: {error}") from error
    return model


def _check_shapes(params: Params, expected: Any) -> None:
    """ValueError unless the arrays have these shapes, and finite numbers."""
    for x, known in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        if x.shape != known.shape or not np.isfinite(x).all():
            raise ValueError(f"expected finite numbers {known.shape}, got {x.shape}")


def feature_reward(folder: Path, make: NameReward) -> TextReward:
    """The reward of a folder of `rlhf reward --kind features`; None where a rating is missing.

    make: `rewards.named_reward`, here and below.

    Raises:
      UserError: its scorers cannot be made.
    """
    model = read_feature_model(folder)
    rate = open_rater(folder, model, make)
    return feature_text_reward(rate, model.features, feature_scores(model.network(), model.params))


def open_rater(folder: Path, model: FeatureModel, make: NameReward) -> RateTexts:
    """`feature_rater` of a folder's model.

    Raises:
      UserError: a scorer cannot be made; it names the folder.
    """
    names = [feature.name for feature in model.features]
    try:
        return feature_rater(dict(zip(names, model.scorers, strict=True)), make)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error


def feature_rater(scorers: Mapping[str, str], make: NameReward) -> RateTexts:
    """Ratings of features, each by a reward as --reward has it; an answer is rated once.

    Raises:
      UserError: a reward that cannot be made, or has a weight; it names the feature. The rater: a
        column that the reward cannot do without is missing.
    """
    rewards, wanted = {}, {}
    for feature, spec in scorers.items():
        try:
            weight, _, rewards[feature], wanted[feature] = make(spec)
        except UserError as error:
            raise UserError(f"feature {feature!r}: {error}") from error
        if weight != 1:
            raise UserError(f"feature {feature!r}: {spec!r} must have no weight; it has a scale")
    rate = remember_ratings(separate_ratings(rewards))

    def checked(
        prompts: Sequence[Any], answers: Sequence[str], /, **columns: Sequence[Any]
    ) -> Ratings:
        for feature, column in wanted.items():
            if column is not None and None in columns.get(column, [None]):
                raise UserError(f"feature {feature!r} reads the field {column!r}, which is missing")
        return rate(prompts, answers, **columns)

    return checked
