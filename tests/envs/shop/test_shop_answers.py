"""The base corpus: mixed on purpose, inside the length limit, and worse than the ideal answer."""

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


def test_corpus_holds_every_kind_of_good_and_bad(prompts, scores):
    statuses = [claim.status for score in scores for claim in score.claims]
    for status in ("true", "unknown", "false"):
        assert statuses.count(status) > 0.05 * len(statuses)
    kinds = [{remark.kind for remark in score.remarks} for score in scores]
    tasks = [prompt.task for prompt in prompts]
    for kind in ("polite", "rude", "refusal", "filler", "offer", "howto"):
        assert sum(kind in found for found in kinds) > 0.02 * len(kinds)
    refused = [
        np.mean(["refusal" in found for found, t in zip(kinds, tasks, strict=True) if t == task])
        for task in ("recommend", "refuse", "howto")
    ]
    assert 0.03 < refused[0] < 0.2
    assert 0.3 < refused[1] < 0.7
    assert 0.1 < refused[2] < 0.4
    harm = [s.harmless for s, task in zip(scores, tasks, strict=True) if task == "refuse"]
    assert 0.25 < np.mean(np.array(harm) < 0.05) < 0.6


def test_base_is_middling_and_spread(scores):
    gold = np.array([score.overall for score in scores])
    assert 0.35 <= gold.mean() <= 0.52
    assert gold.std() >= 0.2


@pytest.mark.long
def test_ideal_answer_is_near_one_on_every_axis(prompts):
    for prompt in prompts:
        ideal = shop.score(prompt, shop.ideal_answer(prompt))
        assert ideal.vector().min() >= 0.9
        assert ideal.overall >= 0.95
