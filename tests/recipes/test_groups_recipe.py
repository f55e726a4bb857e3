"""Rewards of groups: the rules by hand, and a tiny policy that serves the worst-off group."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import keyed, unigram_lab
from word_lab import transformer_lab

from rlhf_jax.ops.aggregate import minimum_rewards
from rlhf_jax.recipes import (
    Fit,
    grouped_reward,
    grpo,
    online,
    prompt_rows,
    soft_group_scores,
    text_task,
    worst_group_scores,
)
from rlhf_jax.training import UserError, open_run, read_metrics, run_stage

NAN = float("nan")
# means 2 and 1: the second group is worse off
REWARDS = jnp.array([[[1.0, 4.0], [3.0, -2.0]]])


def test_the_rules_by_hand():
    np.testing.assert_array_equal(worst_group_scores(REWARDS), [[4.0, -2.0]])
    np.testing.assert_array_equal(minimum_rewards(REWARDS), [[1.0, -2.0]])
    # softmax(-2, -1) = 0.2689414, 0.7310586
    soft = soft_group_scores(REWARDS, temperature=1.0)
    np.testing.assert_allclose(soft, [[3.1931757, -0.6552928]], rtol=1e-6)
    np.testing.assert_allclose(soft_group_scores(REWARDS, temperature=1e6), [[2.5, 0.5]], 1e-5)
    np.testing.assert_allclose(soft_group_scores(REWARDS, temperature=1e-3), [[4.0, -2.0]])
    with pytest.raises(ValueError, match="temperature must be in"):
        soft_group_scores(REWARDS, temperature=0.0)


def test_an_answer_without_the_worst_groups_reward_is_left_out():
    rewards = REWARDS.at[0, 0, 1].set(NAN)  # means 2 and -2
    np.testing.assert_array_equal(worst_group_scores(rewards), [[NAN, -2.0]])
    rewards = REWARDS.at[0, 0, 0].set(NAN)  # means 3 and 1
    np.testing.assert_array_equal(worst_group_scores(rewards), [[4.0, -2.0]])


def task_of(score, **changes):
    options = {"objective": {"red": 1.0, "blue": 1.0}, "heldout": 1} | changes
    return text_task(["red", "green", "blue", "grey"], score, **options)


def colours(prompts, answers):
    """The share of words that each of two groups likes."""
    return {
        "red": [answer.split().count("red") / 2 for answer in answers],
        "blue": [answer.split().count("blue") / 2 for answer in answers],
    }


def test_one_reward_is_no_group():
    lab = unigram_lab()
    with pytest.raises(UserError, match="groups need an objective of several scores, got 'red'"):
        grouped_reward(lab, task_of(colours, objective="red"), worst_group_scores)


def train(lab, rule, out, *, start, rate=0.2, steps=15):
    """GRPO under a rule: the chance of each word, and the metrics."""
    task = task_of(colours)
    rows, fit = prompt_rows(task, batch_size=8, seed=0), Fit(optax.adam(rate), steps=steps)

    def work(stage):
        reward = grouped_reward(lab, task, rule)
        given = (stage, lab, task, grpo(lab, samples=8), reward, start, rows, fit)
        return {"params": online(*given, key=keyed(lab))}, {}

    with open_run(out, slug="groups", config={}) as run:
        return run_stage(run, "online", work).arrays["params"], read_metrics(out)


@pytest.mark.long
def test_the_group_that_starts_behind_is_served_until_it_is_level(tmp_path):
    """Red is likely at first. The sum is as happy with red alone; the worst group is not."""
    lab = unigram_lab()
    ids = [lab.vocabulary.tokenizer.token_to_id(word) for word in ("red", "blue")]
    start = lab.policy.init(None).at[ids[0]].set(2.0)
    rules = {"worst": worst_group_scores, "sum": lambda rewards: jnp.sum(rewards, axis=-1)}
    shares = {}
    for name, rule in rules.items():
        params, metrics = train(lab, rule, tmp_path / name, start=start)
        shares[name] = np.asarray(jax.nn.softmax(params))[ids]
        assert {"named/red", "named/blue", "scores/mean"} <= set(metrics[0])
    # What is paid is the mean of the group that is behind.
    first = read_metrics(tmp_path / "worst")[0]
    assert first["scores/mean"] == pytest.approx(first["named/blue"], rel=1e-5)
    assert shares["worst"].min() > 0.25
    assert shares["sum"].min() < 0.2 < shares["sum"].max()


@pytest.mark.long
def test_a_transformer_is_trained_for_the_worst_group(tmp_path):
    lab = transformer_lab(prompt_length=8)
    start = lab.policy.init(keyed(lab))
    for name, rule in (
        ("soft", partial(soft_group_scores, temperature=0.1)),
        ("answer", minimum_rewards),
    ):
        params, metrics = train(lab, rule, tmp_path / name, start=start, rate=0.01, steps=2)
        assert all(np.isfinite(row["loss"]) for row in metrics)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))
