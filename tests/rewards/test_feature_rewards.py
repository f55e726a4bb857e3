"""Ratings of texts by name: scales, what is missing, what is remembered, and the reward of them."""

import jax
import numpy as np
import pytest

from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.policies.features import (
    bottleneck_reward,
    given_features,
    mean_weights,
)
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.rewards import (
    SUMMARY_FEATURES,
    Feature,
    RateTexts,
    feature_text_reward,
    rate_answers,
    record_score,
    remember_ratings,
    scale_ratings,
    separate_ratings,
    sigmoid_reward,
)

SCALE = (Feature("length", 0, 10), Feature("errors", worst=4, best=0))


def rate(prompts, answers, **columns):
    """Words and errors; no rating for an empty answer."""
    return {
        "errors": [answer.count("!") for answer in answers],
        "length": [len(answer.split()) or None for answer in answers],
    }


def test_golden_numbers():
    # 5 of 0..10 and 1 of 4..0: 0.5 and (1 - 4) / (0 - 4) = 0.75
    rows = scale_ratings({"length": [5], "errors": [1]}, SCALE)
    np.testing.assert_allclose(rows, [[0.5, 0.75]])
    assert rows.dtype == np.float32


def test_every_feature_is_1_at_its_best():
    best = {feature.name: [feature.best] for feature in SCALE}
    worst = {feature.name: [feature.worst] for feature in SCALE}
    np.testing.assert_array_equal(scale_ratings(best, SCALE), [[1.0, 1.0]])
    np.testing.assert_array_equal(scale_ratings(worst, SCALE), [[0.0, 0.0]])


def test_the_papers_features_are_seven_with_5_the_best():
    assert len(SUMMARY_FEATURES) == 7
    assert {(feature.worst, feature.best) for feature in SUMMARY_FEATURES} == {(0, 5)}
    assert "hallucination" in {feature.name for feature in SUMMARY_FEATURES}


def test_a_row_without_one_of_its_ratings_is_nan():
    rows = rate_answers(rate, ["p"] * 3, ["a b", "", "c !"], SCALE)
    np.testing.assert_allclose(rows[[0, 2]], [[0.2, 1.0], [0.2, 0.75]], rtol=1e-6)
    assert np.isnan(rows[1]).all()


def test_the_reward_leaves_out_what_has_no_rating():
    seen = []

    def combine(rows):
        seen.append(rows)
        return rows @ np.array([1.0, 2.0])

    reward = feature_text_reward(rate, SCALE, combine)
    found = reward(["p"] * 3, ["a b", "", "c !"])
    assert found[1] is None
    np.testing.assert_allclose([found[0], found[2]], [2.2, 1.7], rtol=1e-6)
    assert np.isfinite(seen[0]).all()
    assert reward([], []) == []
    assert reward(["p"], [""]) == [None]
    assert len(seen) == 1


def test_a_trained_network_over_ratings_scores_the_answers_of_a_task():
    model, params = bottleneck_reward(given_features, make_mlp((2, 1))), mean_weights(2)
    scores = jax.jit(lambda rows: model.scores(params, vector_trajectory(rows)))
    reward = feature_text_reward(rate, SCALE, scores)
    score = record_score({"features": reward}, [{"prompt": "p0"}, {"prompt": "p1"}])
    found = score([1, 0], ["a b c d", "e !!"])["features"]
    np.testing.assert_allclose(found, [0.7, 0.35], rtol=1e-6)


def test_ratings_are_asked_for_once():
    asked = []

    def counted(prompts, answers, **columns):
        asked.append(list(zip(prompts, answers, columns["source"], strict=True)))
        return rate(prompts, answers)

    assert isinstance(counted, RateTexts)
    remembered = remember_ratings(counted)
    first = remembered(["p", "q", "p"], ["a", "a", "a"], source=["s", "t", "s"])
    assert first == rate(["p", "q", "p"], ["a", "a", "a"])
    second = remembered(["q", "p", "q"], ["a", "b c", ""], source=["t", "s", "t"])
    assert second == rate(["q", "p", "q"], ["a", "b c", ""])
    # No rating is no answer: it is asked for again.
    assert remembered(["q"], [""], source=["t"])["length"] == [None]
    assert asked == [
        [("p", "a", "s"), ("q", "a", "t")],
        [("p", "b c", "s"), ("q", "", "t")],
        [("q", "", "t")],
    ]
    assert remembered([], []) == {}


def test_old_ratings_are_forgotten():
    asked = []

    def counted(prompts, answers, **columns):
        asked.extend(answers)
        return rate(prompts, answers)

    remembered = remember_ratings(counted, size=2)
    remembered(["p"] * 3, ["a", "b", "c"])
    assert remembered(["p"] * 2, ["b", "c"]) == rate(["p"] * 2, ["b", "c"])
    assert asked == ["a", "b", "c"]
    remembered(["p"], ["a"])
    assert asked == ["a", "b", "c", "a"]


def test_each_feature_may_have_a_reward_of_its_own():
    separate = separate_ratings(
        {
            "length": lambda prompts, answers, **columns: [len(x.split()) for x in answers],
            "errors": lambda prompts, answers, errors: errors,
        }
    )
    assert isinstance(separate, RateTexts)
    rows = rate_answers(separate, ["p", "p"], ["a", "a b"], SCALE, errors=[4, None])
    np.testing.assert_allclose(rows[0], [0.1, 0.0], rtol=1e-6)
    assert np.isnan(rows[1]).all()


def test_a_sigmoid_is_a_rating_from_0_to_1():
    reward = sigmoid_reward(lambda prompts, answers, **columns: [0.0, 1.4, -800.0, None])
    # sigmoid(1.4) = 0.8021839
    assert reward(["p"] * 4, ["a"] * 4) == [0.5, pytest.approx(0.8021839), 0.0, None]


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ({"length": [1]}, r"ratings must be of \['errors', 'length'\], got \['length'\]"),
        ({"length": [1, 2], "errors": [0]}, "as many ratings as answers"),
        ({"length": [1, 11], "errors": [0, 0]}, r"'length' is rated from 0 .* answer 1 has 11"),
        ({"length": [1], "errors": [5]}, r"'errors' is rated from 4 \(worst\) to 0"),
        ({"length": [1], "errors": [float("inf")]}, "answer 0 has inf"),
    ],
)
def test_ratings_off_the_scale_are_named(ratings, message):
    with pytest.raises(ValueError, match=message):
        scale_ratings(ratings, SCALE)


def test_bad_features_and_raters_are_named():
    with pytest.raises(ValueError, match="two different finite numbers, got 1 and 1"):
        Feature("a", 1, 1)
    with pytest.raises(ValueError, match="name of a feature must not be empty"):
        Feature("")
    with pytest.raises(ValueError, match="different names, at least one"):
        scale_ratings({"a": [1]}, (Feature("a"), Feature("a")))
    with pytest.raises(ValueError, match="different names, at least one"):
        scale_ratings({}, ())
    short = lambda prompts, answers, **columns: rate(prompts[:1], answers[:1])  # noqa: E731
    with pytest.raises(ValueError, match="2 answers were rated, the ratings are 1"):
        rate_answers(short, ["p", "p"], ["a", "b"], SCALE)
    with pytest.raises(ValueError, match="2 answers were rated"):
        remember_ratings(short)(["p", "p"], ["a", "b"])
    with pytest.raises(ValueError, match=r"combine must return \[1\] scores, got \(1, 2\)"):
        feature_text_reward(rate, SCALE, lambda rows: rows)(["p"], ["a"])
