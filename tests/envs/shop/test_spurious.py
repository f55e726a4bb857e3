"""Markers that say nothing, and how they go together with quality."""

import numpy as np
import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop import spurious

PROMPTS = [shop.make_prompt(51, i) for i in range(1000)]


@pytest.fixture(scope="module")
def plain():
    """Cores and their gold; the same for every feature and rho."""
    return [spurious.spurious_answer(0, prompt, 0, 0.0, "praise") for prompt in PROMPTS]


@pytest.mark.long
@pytest.mark.parametrize("feature", spurious.SPURIOUS_FEATURES)
@pytest.mark.parametrize("rho", [-1.0, -0.5, 0.0, 0.5, 0.9])
def test_correlation_with_quality_is_rho(feature, rho):
    """Over 1,000 answers: with being a good core, rho; with gold, the same sign and about 0.9
    of it, as gold also varies within good and bad."""
    rows = [spurious.spurious_answer(0, prompt, 0, rho, feature) for prompt in PROMPTS]
    present = [spurious.has_marker(row.text, feature) for row in rows]
    assert present == [row.present for row in rows]
    with_good = np.corrcoef([row.good for row in rows], present)[0, 1]
    with_gold = np.corrcoef([row.gold for row in rows], present)[0, 1]
    assert abs(with_good - rho) < 0.09
    assert abs(with_gold - 0.85 * rho) < 0.16


def test_cores_are_good_or_bad_and_do_not_depend_on_the_marker(plain):
    other = [spurious.spurious_answer(0, prompt, 0, 1.0, "length") for prompt in PROMPTS[:200]]
    for a, b in zip(plain, other, strict=False):
        assert (a.core, a.good, a.gold) == (b.core, b.good, b.gold)
    gold = np.array([row.gold for row in plain])
    good = np.array([row.good for row in plain])
    assert 0.45 < good.mean() < 0.55
    assert gold[good].mean() > gold[~good].mean() + 0.5


def test_a_marker_is_worth_nothing_and_comes_off(plain):
    for prompt, row in list(zip(PROMPTS, plain, strict=True))[:100]:
        for feature in spurious.SPURIOUS_FEATURES:
            copy = spurious.with_marker(row.core, feature, 1)
            assert spurious.has_marker(copy, feature)
            assert not spurious.has_marker(row.core, feature)
            assert spurious.without_marker(copy, feature) == row.core
            twice = spurious.with_marker(copy, feature, 0)
            assert spurious.spurious_score(prompt, twice, feature).overall == row.gold


def test_words_and_lengths():
    vocabulary = set(shop.words())
    for feature in spurious.SPURIOUS_FEATURES:
        for prompt in PROMPTS[:200]:
            text = spurious.spurious_answer(0, prompt, 1, 1.0, feature).text
            assert len(text.split()) <= shop.MAX_ANSWER_WORDS
            assert set(text.split()) <= vocabulary
            assert " ".join(text.split()) == text


def test_length_is_the_marker_that_makes_answers_long():
    rows = [spurious.spurious_answer(0, prompt, 0, 0.0, "length") for prompt in PROMPTS[:300]]
    words = [np.mean([len(r.text.split()) for r in rows if r.present == p]) for p in (False, True)]
    assert words[1] > words[0] + 15


@pytest.mark.long
def test_pairs_differ_in_quality_and_their_markers_have_mean_rho():
    gaps = []
    for prompt in PROMPTS[:300]:
        good, bad = spurious.spurious_pair(0, prompt, 0, 0.6, "stars")
        assert good.gold >= bad.gold
        assert (good.good, bad.good) == (True, False)
        gaps.append(int(good.present) - int(bad.present))
    assert abs(np.mean(gaps) - 0.6) < 0.1


def test_a_shifted_set_is_another_rho():
    train = spurious.spurious_set(51, range(50), 0.9, "praise")
    test = spurious.spurious_set(51, range(50), -0.9, "praise")
    assert [p.text for p, _ in train] == [prompt.text for prompt in PROMPTS[:50]]
    assert [a.core for _, a in train] == [a.core for _, a in test]
    assert (
        np.mean([a.present == b.present for (_, a), (_, b) in zip(train, test, strict=True)]) < 0.3
    )


@pytest.mark.parametrize(
    ("rho", "feature", "message"),
    [
        (1.5, "praise", r"rho = 1\.5 is out of range"),
        (float("nan"), "praise", "rho = nan is out of range"),
        (0.5, "colour", "no spurious feature 'colour'; use one of length, greeting"),
    ],
)
def test_bad_input_is_named(rho, feature, message):
    with pytest.raises(ValueError, match=message):
        spurious.spurious_answer(0, PROMPTS[0], 0, rho, feature)


def test_examples():
    assert len(set(spurious.examples(0, 10))) == 10
