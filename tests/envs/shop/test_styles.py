"""Styles of the shop's answers and the judges who differ in them."""

import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs import shop
from rlhf_jax.exact.tournaments import has_cycle

PROMPT = next(p for p in (shop.make_prompt(0, i) for i in range(50)) if p.task == "recommend")


def shares(text):
    return shop.style_shares(text, shop.score(PROMPT, text))


def test_style_shares_by_hand():
    """14 words, nothing kind and nothing claimed: brief 0.75 of (0.8 + 0.05 + 0.05)."""
    assert np.allclose(shares(" ".join(["the"] * 14)), np.array([0.8, 0.05, 0.05]) / 0.9)
    assert np.allclose(shares(" ".join(["the"] * 40)), 1 / 3)


def test_more_of_one_style_is_less_of_another():
    ideal = shop.ideal_answer(PROMPT)
    found = shop.score(PROMPT, ideal)
    kind = sum(remark.kind == "polite" for remark in found.remarks)
    true = sum(claim.status == "true" for claim in found.claims)
    raw = [(26 - len(ideal.split())) / 16, kind / 2, true / 2]
    raw = np.clip(raw, 0, 1) + 0.05
    assert np.allclose(shares(ideal), raw / raw.sum())


def test_utilities_are_quality_plus_style():
    texts = [shop.sample_answer(0, PROMPT, i) for i in range(6)]
    found = [shop.score(PROMPT, text) for text in texts]
    weights = np.array([[2, 1, 0], [0, 2, 1], [1, 0, 2]])
    expected = [
        s.overall + weights @ shop.style_shares(t, s) for s, t in zip(found, texts, strict=True)
    ]
    assert np.allclose(shop.style_utilities([PROMPT] * 6, texts), expected)


def test_pure_styles_of_one_quality_beat_each_other_in_a_circle():
    weights = np.array([[2, 1, 0], [0, 2, 1], [1, 0, 2]])
    prefs = shop.majority_prefs(np.eye(3) @ weights.T)
    assert np.allclose(prefs - 0.5, np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]]) / 6)


@pytest.mark.long
def test_most_prompts_have_a_cycle_among_the_answers_of_the_corpus():
    prompts = [shop.make_prompt(0, i) for i in range(40)]
    texts = [[shop.sample_answer(0, p, k) for k in range(12)] for p in prompts]
    utilities = [shop.style_utilities([p] * 12, t) for p, t in zip(prompts, texts, strict=True)]
    prefs = jnp.asarray(shop.group_prefs(np.array(utilities), beta=10.0))
    assert np.mean(has_cycle(prefs)) > 0.5


def test_the_base_corpus_is_in_the_middle():
    prompts = [shop.make_prompt(0, i) for i in range(200)]
    texts = [shop.sample_answer(0, p, i) for i, p in enumerate(prompts)]
    rows = [shop.style_shares(t, shop.score(p, t)) for p, t in zip(prompts, texts, strict=True)]
    assert np.all(np.abs(np.mean(rows, axis=0) - 1 / 3) < 0.1)
