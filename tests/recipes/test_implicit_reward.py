"""A policy trained on pairs as the reward model of a lab."""

import jax
import numpy as np
import pytest
from random_params import random_params

from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.recipes import (
    Fit,
    adamw_cosine,
    implicit_lab,
    implied_reward,
    make_lab,
    model_reward,
    online,
    prompt_rows,
    reference_logps,
    rloo,
    text_task,
)
from rlhf_jax.recipes.offline import ScoreScale, pair_scores
from rlhf_jax.recipes.rows import answer_batch
from rlhf_jax.training import open_run, run_stage

VOCABULARY = standard_vocabulary(train_word_tokenizer(["red green blue say"]))
SIZE = {"d_model": 8, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 4, "d_ff": 8}
LAB = make_lab(
    TransformerConfig(vocab_size=VOCABULARY.size, **SIZE),
    VOCABULARY,
    prompt_length=3,
    answer_length=3,
)
BETA = 0.5
PAIRS = [
    {"prompt": "say red", "chosen": "red", "rejected": "green blue"},
    {"prompt": "say blue", "chosen": "blue red", "rejected": "red"},
]


@pytest.fixture(scope="module")
def models() -> dict:
    first, second = (random_params(LAB.policy.init, seed) for seed in (0, 1))
    return {"policy": first, "reference": second}


@pytest.mark.long
def test_its_scores_are_beta_times_the_log_ratio(models):
    judged = implicit_lab(LAB, beta=BETA)
    ratios = {
        side: logps - reference_logps(LAB, models["reference"], PAIRS, batch_size=2)[side]
        for side, logps in reference_logps(LAB, models["policy"], PAIRS, batch_size=2).items()
    }
    expected = BETA * np.stack([ratios["chosen"], ratios["rejected"]], axis=1)
    found = pair_scores(judged, models, PAIRS, batch_size=2)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found).max() > 0.01


def test_it_is_a_reward_in_units_of_its_scale(models):
    judged = implicit_lab(LAB, beta=BETA)
    reward = model_reward(judged, models, ScoreScale(1.0, 2.0))
    answers = answer_batch(
        LAB, [{"prompt": row["prompt"], "answer": row["chosen"]} for row in PAIRS]
    )
    scores = pair_scores(judged, models, PAIRS, batch_size=2)[:, 0]
    found = jax.jit(reward.scores)(reward.params, (), answers)
    np.testing.assert_allclose(found, (scores - 1.0) / 2.0, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_what_tokens_are_paid_sums_to_the_score(models):
    judged, scale = implicit_lab(LAB, beta=BETA), ScoreScale(1.0, 2.0)
    reward = implied_reward(judged, models, scale, beta=BETA)
    assert reward.steps is not None
    rows = [{"prompt": row["prompt"], "answer": row["chosen"]} for row in PAIRS]
    answers = answer_batch(LAB, rows)
    paid = reward.steps(reward.params, (), answers)
    scores = reward.scores(reward.params, (), answers)
    np.testing.assert_allclose(paid.sum(-1), scores, rtol=1e-4, atol=1e-5)
    assert np.count_nonzero(paid[0]) == 2  # "red" and its end
    whole = model_reward(judged, models, scale)
    np.testing.assert_array_equal(whole.scores(whole.params, (), answers), scores)


@pytest.mark.long
def test_an_online_method_trains_on_it(models, tmp_path):
    judged = implicit_lab(LAB, beta=BETA)
    task = text_task(["say red", "say blue", "say green"], length, objective="short", heldout=1)
    fit = Fit(adamw_cosine(0.01, 2), 2)
    reward = model_reward(judged, models, ScoreScale(0.0, 1.0))
    rows = prompt_rows(task, batch_size=2, seed=0)
    with open_run(tmp_path / "run", slug="implicit", config={}) as run:
        params = run_stage(
            run,
            "rloo",
            lambda stage: (
                online(
                    stage,
                    judged,
                    task,
                    rloo(judged, samples=2),
                    reward,
                    models["reference"],
                    rows,
                    fit,
                    key=jax.random.key(0),
                ),
                {},
            ),
        ).arrays
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, models["reference"])
    assert max(jax.tree.leaves(moved)) > 1e-4


def length(prompts, answers):
    """Short answers are good."""
    return {"short": [-len(answer.split()) for answer in answers]}
