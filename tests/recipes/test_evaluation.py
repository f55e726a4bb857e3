"""Evaluation by hand: KL, scores, win rates, best-of-n, perplexity, a tournament."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_word_lab import IDS, TASK, VOCABULARY, one_word_lab, words
from unigram_lab import unigram_lab

from rlhf_jax.recipes import (
    at_temperature,
    best_of_curve,
    best_of_n,
    corpus_loss,
    evaluation,
    heldout_means,
    measure,
    paired_win_rate,
    perplexity,
    pool_tournament,
    task_judge,
    tournament,
)
from rlhf_jax.recipes.evaluation import prompt_win_rates
from rlhf_jax.recipes.lab import make_prompts
from rlhf_jax.training import UserError, open_run

LAB = one_word_lab()
INDICES = np.array(TASK.splits["heldout"])  # 5 prompts
KEY = jax.random.key(0)
REF = words(red=0.25, green=0.75)
SCORES = jnp.zeros(VOCABULARY.size).at[IDS["red"]].set(3.0)


@pytest.fixture(autouse=True)
def two_prompts_at_a_time(monkeypatch):
    monkeypatch.setattr(evaluation, "CHUNK", 2)


@pytest.mark.long
def test_scores_and_log_ratios_of_a_policy_that_says_red():
    """log 1 - log 1/4 = log 4 nats an answer; red is worth 2 to the task and 3 to the model."""
    found = measure(LAB, TASK, words(red=1.0), REF, INDICES, KEY, samples=2, reward=SCORES)
    assert found.texts == [["red", "red"]] * 5
    np.testing.assert_array_equal(found.named["worth"], np.full((5, 2), 2.0))
    np.testing.assert_array_equal(found.scores, np.full((5, 2), 3.0))
    np.testing.assert_allclose(found.log_ratios, np.full((5, 2), np.log(4.0)), rtol=1e-6)
    means = heldout_means(found)
    assert means.pop("heldout/kl/ref") == pytest.approx(np.log(4.0))
    assert means == {
        "heldout/worth": 2.0,
        "heldout/scores/mean": 3.0,
        "heldout/answers/length": 1.0,
        "heldout/answers/finished": 1.0,
    }


def test_greedy_answers_keep_the_log_probs_of_the_policy():
    """Red has 3/4: always drawn at temperature 0, and its log-prob stays that of the policy."""
    lab = unigram_lab()
    params = (
        jnp.full(VOCABULARY.size, -1e9)
        .at[jnp.array([IDS["red"], IDS["green"]])]
        .set(jnp.log(jnp.array([0.75, 0.25])))
    )
    prompts = make_prompts(lab, TASK, INDICES)
    found = at_temperature(lab, 0.0).draw(params, prompts, KEY, 2)
    np.testing.assert_array_equal(found.trajectory.actions, np.full((5, 2, 3), IDS["red"]))
    np.testing.assert_allclose(found.token_logps, np.full((5, 2, 3), np.log(0.75)), rtol=1e-6)
    sampled = lab.draw(params, prompts, KEY, 2).trajectory.actions
    assert (np.asarray(sampled) == IDS["green"]).any()


@pytest.mark.long
def test_an_answer_is_drawn_by_its_prompt_and_number_alone():
    whole = measure(LAB, TASK, REF, REF, INDICES, KEY, samples=4)
    assert len({text for row in whole.texts for text in row}) == 2
    np.testing.assert_array_equal(whole.log_ratios, np.zeros((5, 4)))
    part = measure(LAB, TASK, REF, REF, INDICES[3:], KEY, samples=2, first=2)
    assert part.texts == [row[2:] for row in whole.texts[3:]]
    assert part.scores is None


@pytest.mark.long
def test_a_reward_model_without_a_finite_score_names_the_prompt():
    with pytest.raises(UserError, match=r"prompt 13: the reward model's scores must be finite"):
        measure(LAB, TASK, REF, REF, INDICES, KEY, reward=SCORES * jnp.nan)


@pytest.mark.long
def test_answers_that_the_task_left_out_do_not_count_in_means():
    mute = TASK._replace(score=lambda i, answers: {"s": [None, *range(len(answers) - 1)]})
    found = measure(LAB, mute, REF, REF, INDICES, KEY)
    assert heldout_means(found)["heldout/s"] == (0 + 1 + 2 + 3) / 4


@pytest.mark.long
def test_win_rates_by_hand():
    """1, 1/2 and 0: mean 1/2, s = 1/2, half width 1.96 s / sqrt(3)."""
    expected = [0.5, 0.5 - 1.959964 * 0.5 / 3**0.5, 0.5 + 1.959964 * 0.5 / 3**0.5]
    one, other = np.array([1.0, 0.0, 2.0]), np.array([0.0, 0.0, 3.0])
    np.testing.assert_allclose(paired_win_rate(one, other), expected, rtol=1e-6)
    # Prompt 0: 1 beats 0 and loses to 2, 3 beats both: 3/4. Prompt 1: its NaN is left out, 1.
    several, rivals = np.array([[1.0, 3.0], [1.0, np.nan]]), np.array([[0.0, 2.0], [0.0, 0.0]])
    assert paired_win_rate(several, rivals)[0] == pytest.approx((0.75 + 1.0) / 2)
    # 0.5 ties one and wins one, 0.9 wins both; of the second prompt nothing is known.
    rates = prompt_win_rates(
        np.array([[0.5, 0.9], [np.nan] * 2]), np.array([[0.5, 0.1], [0.2] * 2])
    )
    np.testing.assert_array_equal(rates, np.array([3.5 / 4, np.nan], np.float32))
    # A prompt without an answer is left out.
    mute = np.append(one, np.nan), np.append(other, 1.0)
    np.testing.assert_allclose(paired_win_rate(*mute), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="got 3 and 2"):
        paired_win_rate(one, other[:2])


@pytest.mark.long
def test_best_of_n_chooses_by_the_reward_model(tmp_path):
    with open_run(tmp_path, slug="best", config={}) as run:
        best = best_of_n(run, LAB, TASK, REF, SCORES, INDICES, KEY, n=3)
    drawn = measure(LAB, TASK, REF, REF, INDICES, KEY, samples=3)
    assert best.texts == drawn.texts
    np.testing.assert_array_equal(best.named["worth"], drawn.named["worth"])
    np.testing.assert_array_equal(best.scores, 3.0 * (best.named["worth"] == 2.0))
    red = ["red" in row for row in best.texts]
    assert any(red)
    chosen = [row[i] == "red" for row, i in zip(best.texts, best.chosen, strict=True)]
    assert chosen == red
    curve = best_of_curve(best, "worth", np.array([1, 3]))
    np.testing.assert_allclose(curve["mean"], [best.named["worth"].mean(), 1 + np.mean(red)])
    # log 3 - 2/3
    np.testing.assert_allclose(curve["kl"], [0.0, 0.431946], atol=1e-6)


@pytest.mark.long
def test_best_of_n_of_a_constant_reward_is_the_first_answer(tmp_path):
    with open_run(tmp_path, slug="best", config={}) as run:
        best = best_of_n(run, LAB, TASK, words(red=1.0), 0 * SCORES, INDICES, KEY, n=2)
    np.testing.assert_array_equal(best.chosen, np.zeros(5))
    curve = best_of_curve(best, "worth", np.array([1, 2]))
    for name in ("mean", "low", "high"):
        np.testing.assert_array_equal(curve[name], [2.0, 2.0])


def test_the_perplexity_of_given_answers():
    """exp(-(log 1/4 + log 3/4 + log 3/4) / 3) = (64 / 9)^(1/3)."""
    records = [{"prompt": "blue", "answer": word} for word in ("red", "green", "green")]
    found = perplexity(LAB, REF, records, batch_size=2)
    assert found == pytest.approx((64 / 9) ** (1 / 3))
    loss = corpus_loss(LAB, REF, records, batch_size=2)
    assert loss == pytest.approx(np.log(64 / 9) / 3)


def test_the_corpus_loss_is_of_a_token_in_answers_of_any_length():
    lab, answers = unigram_lab(), ("red", "red green")
    records = [{"prompt": "blue", "answer": text} for text in answers]
    params = lab.policy.init(jax.random.key(0))

    def token_logps(params, batch):
        return lab.policy.logps(params, batch.inputs, batch.actions)

    lab = lab._replace(token_logps=token_logps)
    loss = corpus_loss(lab, params, records, batch_size=2)
    assert loss == pytest.approx(np.log(lab.vocabulary.size), rel=1e-6)


@pytest.mark.long
def test_a_tournament_by_hand():
    """Red, worth 2, beats green, worth 1, at sigmoid(1): green's gap is 2 sigmoid(1) - 1."""
    policies = {"red": words(red=1.0), "green": words(green=1.0)}
    judge = task_judge(LAB, TASK, beta=1.0)
    found = tournament(LAB, TASK, judge, policies, INDICES, KEY, samples=2)
    won = 1 / (1 + np.exp(-1.0))
    expected = np.array([[0.5, won], [1 - won, 0.5]])
    np.testing.assert_allclose(found.wins, np.tile(expected, (5, 1, 1)), rtol=1e-6)
    np.testing.assert_allclose(found.games["red"].gap, 0.0, atol=1e-6)
    np.testing.assert_allclose(found.games["green"].gap, 2 * won - 1, rtol=1e-5)


def test_a_pool_without_two_answers_of_a_policy_is_refused():
    with pytest.raises(ValueError, match="at least 2 samples"):
        pool_tournament(("a", "b"), np.full((1, 2, 2), 0.5))
