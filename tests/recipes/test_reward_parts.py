"""Rewards of models and of texts, a critic from a reward model, and scores of no use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unigram_lab import LENGTH, RED, TASK, rollout_of, unigram_lab

from rlhf_jax.recipes import (
    critic_of,
    judged_reward,
    model_reward,
    task_reward,
    texts_judge,
    weighted_reward,
)
from rlhf_jax.recipes.episodes import transcripts
from rlhf_jax.recipes.offline import ScoreScale, score_scale
from rlhf_jax.recipes.rewards import check_scores, known_reward, not_on_host, pair_prefs
from rlhf_jax.training import UserError
from rlhf_jax.types import Prompts, RewardFn

LAB = unigram_lab()
ANSWERS = np.array([[[RED, RED, RED], [RED, 5, 6]]])  # [1, 2, LENGTH]
PROMPTS = Prompts((), np.array([0]))


def test_a_score_that_is_not_finite_names_its_prompt():
    indices = np.array([30, 7, 12])
    check_scores(indices, np.zeros(3))
    with pytest.raises(UserError, match=r"prompt 7: .* got nan \(1 of 3"):
        check_scores(indices, np.array([0.1, np.nan, 0.3]))
    with pytest.raises(UserError, match=r"prompt 7: .* got \[1\.0, inf\] \(2 of 3"):
        check_scores(indices, np.array([[0.1, 0.2], [1.0, np.inf], [-np.inf, 0.0]]))


def test_equal_scores_have_no_scale():
    with pytest.raises(UserError, match="reward: the 4 held-out scores have standard deviation 0"):
        score_scale("reward", np.ones((2, 2)))


@pytest.mark.long
def test_a_reward_model_is_read_in_units_of_its_scale():
    """A model that counts red, with mean 1 and deviation 2: (3 - 1) / 2 and (1 - 1) / 2."""

    def count(weight, trajectory):
        return weight * (trajectory.actions == RED).sum(-1)

    counter = RewardFn(lambda key: jnp.ones(()), count)
    lab = LAB._replace(reward=counter, axes=LAB.axes | {"reward": ()})
    reward = model_reward(lab, jnp.ones(()), ScoreScale(mean=1.0, std=2.0))
    rollout = rollout_of(LAB, ANSWERS)
    trajectory = rollout.trajectory
    assert reward.host is not_on_host
    assert not_on_host(PROMPTS, transcripts(rollout, None)) == ((), {})
    np.testing.assert_allclose(reward.scores(reward.params, (), trajectory), [[1.0, 0.0]])


def test_a_task_is_read_on_the_host_and_known_scores_pass_through():
    rollout = rollout_of(LAB, ANSWERS)
    trajectory = rollout.trajectory
    reward = task_reward(LAB, TASK)
    given, named = reward.host(PROMPTS, transcripts(rollout, None))
    np.testing.assert_array_equal(given, [[LENGTH, 1.0]])
    np.testing.assert_array_equal(named["red"], given)
    for each in (reward, known_reward()):
        np.testing.assert_array_equal(each.scores((), given, trajectory), given)


def redder(prompts, first, second):
    """The answer with more red wins; no verdict on what ends in red."""
    counts = [(a.count("red"), b.count("red")) for a, b in zip(first, second, strict=True)]
    return [None if 1 in pair else 0.5 + 0.5 * np.sign(pair[0] - pair[1]) for pair in counts]


def test_a_judge_of_pairs_gives_each_answer_its_win_rate_over_the_others():
    """Red 3 beats 0 and 0 ties with 0; the answer with one red has no verdict."""
    answers = np.array([[[RED, RED, RED], [RED, 5, 6], [5, 5, 5], [6, 6, 6]]])
    rollout = rollout_of(LAB, answers)
    reward = judged_reward(LAB, TASK, redder)
    given, named = reward.host(PROMPTS, transcripts(rollout, None))
    # 3 reds: two wins of two. No red: a loss and a tie, (0 + 1/2) / 2
    np.testing.assert_allclose(given, [[1.0, np.nan, 0.25, 0.25]])
    np.testing.assert_array_equal(named["red"], [[3.0, 1.0, 0.0, 0.0]])
    sides = [jax.tree.map(lambda x, k=k: x[:, k], rollout.trajectory) for k in (0, 2)]
    assert texts_judge(LAB, TASK, redder)(np.array([0]), *sides) == [1.0]


def test_a_judge_that_fails_or_gives_no_probabilities_is_named():
    def broken(prompts, first, second):
        raise ConnectionError("no line")

    with pytest.raises(
        UserError, match=r"asked about 1 pairs, .* failed: ConnectionError: no line"
    ):
        pair_prefs(broken, ["p"], ["a"], ["b"])
    for found in ([2.0], [0.5, 0.5]):
        with pytest.raises(UserError, match="must give a probability or None for each"):
            pair_prefs(lambda p, a, b, found=found: found, ["p"], ["a"], ["b"])
    np.testing.assert_array_equal(pair_prefs(lambda *_: [None], ["p"], ["a"], ["b"]), [np.nan])


def test_a_critic_predicts_scores_in_units_of_the_scale():
    params = {"trunk": "shared", "head": {"weight": jnp.array([4.0]), "bias": jnp.array(3.0)}}
    critic = critic_of(params, ScoreScale(mean=1.0, std=2.0))
    # (4 x + 3 - 1) / 2 = 2 x + 1.
    assert critic == {"trunk": "shared", "head": {"weight": 2.0, "bias": 1.0}}


def test_a_sum_of_no_rewards_is_refused():
    with pytest.raises(ValueError, match="at least one reward"):
        weighted_reward({})
