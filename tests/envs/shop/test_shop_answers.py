"""The base corpus: right but for its faults, inside the length limit, and its ideal answers."""

from collections import Counter

import numpy as np
import pytest

from rlhf_jax.envs import shop


@pytest.fixture(scope="module")
def prompts():
    return [shop.make_prompt(11, index) for index in range(1500)]


@pytest.fixture(scope="module")
def answers(prompts):
    return [shop.sample_answer(5, prompt, 0) for prompt in prompts]


@pytest.fixture(scope="module")
def scores(prompts, answers):
    return [shop.score(prompt, text) for prompt, text in zip(prompts, answers, strict=True)]


def test_answer_is_a_function_of_seed_prompt_and_index(prompts, answers):
    assert [shop.sample_answer(5, prompt, 0) for prompt in prompts[:50]] == answers[:50]
    again = [shop.sample_answer(5, prompt, 1) for prompt in prompts[:50]]
    other = [shop.sample_answer(6, prompt, 0) for prompt in prompts[:50]]
    assert sum(a != b for a, b in zip(answers, again, strict=False)) > 40
    assert sum(a != b for a, b in zip(answers, other, strict=False)) > 40


def test_length_words_and_spacing(prompts, answers):
    vocabulary = set(shop.words())
    ideal = [shop.ideal_answer(prompt) for prompt in prompts]
    for text in answers + ideal:
        words = shop.split_words(text)
        assert 1 <= len(words) <= shop.MAX_ANSWER_WORDS <= 47
        assert set(words) <= vocabulary
        assert " ".join(words) == text
    lengths = [len(shop.split_words(text)) for text in answers]
    assert 12 <= np.median(lengths) <= 30


def test_most_answers_are_good_and_the_faults_have_their_shares(prompts):
    """1,500 prompts: within four standard errors of the documented shares."""
    drawn = Counter(shop.sample_mode(5, prompt, 0) for prompt in prompts)
    for mode in shop.MODES:
        shares = [shop.mode_shares(prompt).get(mode, 0.0) for prompt in prompts]
        error = np.sqrt(np.sum(np.array(shares) * (1 - np.array(shares))))
        assert abs(drawn[mode] - sum(shares)) <= 4 * error + 1
    assert 0.76 < drawn["good"] / len(prompts) < 0.83
    assert all(sum(shop.mode_shares(prompt).values()) == pytest.approx(1.0) for prompt in prompts)


def test_a_sample_is_the_answer_of_its_mode(prompts, answers):
    for prompt, text in zip(prompts[:200], answers, strict=False):
        assert text == shop.mode_answer(5, prompt, 0, shop.sample_mode(5, prompt, 0))


def test_a_mode_of_another_task_is_refused(prompts):
    prompt = next(prompt for prompt in prompts if prompt.task == "recommend")
    with pytest.raises(ValueError, match="no mode 'complying' for task 'recommend'; expected one"):
        shop.mode_answer(0, prompt, 0, "complying")


@pytest.fixture(scope="module")
def by_mode(prompts):
    """mode -> scores of its answers to the first 500 prompts."""
    found = {}
    for prompt in prompts[:500]:
        for mode in shop.mode_shares(prompt):
            text = shop.mode_answer(5, prompt, 0, mode)
            found.setdefault(mode, []).append(shop.score(prompt, text))
    return found


def mean(scores, axis):
    return np.mean([getattr(score, axis) for score in scores])


def test_good_answers_score_high(by_mode):
    assert mean(by_mode["good"], "overall") > 0.95
    assert min(score.overall for score in by_mode["good"]) > 0.5
    for axis in shop.AXES:
        assert mean(by_mode["good"], axis) > 0.93


@pytest.mark.parametrize(
    ("mode", "axis", "most"),
    [
        ("rude", "polite", 0.2),
        ("flattering", "honest", 0.55),
        ("lying", "honest", 0.16),
        ("rambling", "concise", 0.3),
        ("complying", "harmless", 0.2),
        ("vague", "helpful", 0.25),
        ("careless", "helpful", 0.35),
        ("inventing", "honest", 0.06),
        ("over_refusing", "helpful", 0.01),
        ("curt", "polite", 0.31),
    ],
)
def test_a_fault_hurts_its_axis(by_mode, mode, axis, most):
    scores = by_mode[mode]
    assert mean(scores, axis) <= most
    assert mean(scores, "overall") < mean(by_mode["good"], "overall") - 0.1
    told = [any(r.axis in (axis, "sense") for r in score.reasons) for score in scores]
    assert np.mean(told) > 0.97  # all but ties of careless answers with the best product


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        ("rude", ("helpful", "honest", "harmless", "fluent")),
        ("rambling", ("helpful", "honest", "harmless", "fluent", "polite")),
        ("lying", ("harmless", "fluent", "concise")),
        ("flattering", ("helpful", "harmless", "fluent")),
        ("complying", ("concise", "fluent")),
        ("curt", ("honest", "harmless", "concise", "fluent")),
    ],
)
def test_a_fault_leaves_the_other_axes(by_mode, mode, kept):
    for axis in kept:
        assert mean(by_mode[mode], axis) > 0.9


def test_only_over_refusing_answers_over_refuse(by_mode):
    for mode, scores in by_mode.items():
        expected = 1.0 if mode == "over_refusing" else 0.0
        assert {score.over_refusal for score in scores} == {expected}


def test_corpus_is_right_in_most_cases_and_spread(scores):
    gold = np.array([score.overall for score in scores])
    assert 0.8 <= gold.mean() <= 0.9
    assert 0.7 <= (gold > 0.8).mean() <= 0.9
    assert gold.std() >= 0.2


@pytest.mark.long
def test_ideal_answers_are_one_on_every_axis(prompts):
    for prompt in prompts:
        ideal = shop.score(prompt, shop.ideal_answer(prompt))
        assert ideal.vector().tolist() == [1.0] * 6
        assert ideal.reasons == () or prompt.task == "recommend"


@pytest.mark.long
def test_paraphrases_are_as_good_as_the_ideal_answer(prompts):
    texts = set()
    for prompt in prompts:
        for index in range(3):
            text = shop.ideal_variant(7, prompt, index)
            assert shop.score(prompt, text).overall >= 0.97, (prompt.text, text)
            assert set(shop.split_words(text)) <= set(shop.words())
            texts.add(text)
    assert len(texts) > 2.9 * len(prompts)
    assert shop.ideal_variant(7, prompts[0], 2) == shop.ideal_variant(7, prompts[0], 2)
