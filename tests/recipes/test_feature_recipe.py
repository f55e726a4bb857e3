"""Reward models of named features by a recipe: rated pairs, batches, a small network, a score."""

import jax
import numpy as np
import optax
import pytest
from tiny_folder import write_folder

from rlhf_jax.hf import load_model
from rlhf_jax.recipes import Fit, make_lab
from rlhf_jax.recipes.features import (
    feature_model,
    feature_network,
    feature_rows,
    feature_scores,
    rated_pairs,
)
from rlhf_jax.rewards import Feature, feature_text_reward
from rlhf_jax.training import open_run, run_stage

SCALE = (Feature("words", 0, 4), Feature("shouts", 2, 0))


def rate(prompts, answers, **columns):
    return {
        "words": [len(answer.split()) or None for answer in answers],
        "shouts": [answer.count("!") for answer in answers],
    }


def pair(chosen, rejected):
    return {"prompt": "?", "chosen": chosen, "rejected": rejected}


def test_pairs_are_rated_in_one_call():
    calls = []

    def counted(prompts, answers, **columns):
        calls.append((prompts, answers))
        return rate(prompts, answers)

    found = rated_pairs(counted, [pair("a", "a b"), pair("a!", "")], SCALE)
    assert calls == [(["?"] * 4, ["a", "a b", "a!", ""])]
    # 1/4, 2/4 words; shouts from 2, the worst, to 0.
    np.testing.assert_array_equal(found[0], [[0.25, 1.0], [0.5, 1.0]])
    np.testing.assert_array_equal(found[1], [[0.25, 0.5], [np.nan, np.nan]])
    assert found.dtype == np.float32


def test_rows_keep_the_two_sides_of_a_pair():
    rated = np.random.default_rng(0).random((6, 2, 3), np.float32)
    rows = feature_rows(rated, batch_size=4, seed=1)
    sides = [np.asarray(x.inputs[:, 0]) for x in (rows[0].chosen, rows[0].rejected)]
    numbers = [int(np.argmin(np.abs(rated[:, 0] - x).sum(-1))) for x in sides[0]]
    assert len(set(numbers)) == 4
    np.testing.assert_array_equal(sides[0], rated[numbers, 0])
    np.testing.assert_array_equal(sides[1], rated[numbers, 1])


@pytest.mark.long
@pytest.mark.parametrize("hidden", [(), (8,)])
def test_a_fitted_network_scores_texts(tmp_path, hidden):
    base = load_model(write_folder(tmp_path / "model"))
    assert base.vocabulary is not None
    lab = make_lab(base.config, base.vocabulary, seed=0, prompt_length=4, answer_length=4)
    records = [pair("a" if i % 2 else "a b c", "a !" if i % 3 else "b b !") for i in range(12)]
    rated = rated_pairs(rate, records, SCALE)
    reward = feature_network(2, hidden)
    assert feature_network(2, hidden) is reward
    first = reward.init(jax.random.key(0))
    rows = feature_rows(rated, batch_size=12, seed=0)
    fit = Fit(optax.adam(0.1), steps=60)
    with open_run(tmp_path / "run", slug="features", config={}) as run:

        def work(stage):
            return feature_model(stage, lab, reward, rows, first, fit), {}

        params = run_stage(run, "features", work).arrays
    score = feature_text_reward(rate, SCALE, feature_scores(reward, params))
    scores = score(["?"] * 3, ["a b", "a b !", ""])
    assert scores[2] is None
    good, bad = np.array(scores[:2], float)
    assert good > bad + 1
    direct = feature_scores(reward, params)(rated)
    assert direct.shape == (12, 2)
    np.testing.assert_allclose(
        bad, feature_scores(reward, params)(np.array([0.75, 0.5])), rtol=1e-5
    )
