"""Groups of customers, a majority that goes round in a circle, and marks on single words."""

import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs import shop
from rlhf_jax.feedback import teachers


def test_group_utilities_by_hand():
    scores = np.array(
        [1.0, 0.5, 1.0, 0.0, 0.5, 1.0]
    )  # helpful honest harmless polite concise fluent
    utilities = shop.group_utilities(scores)
    assert utilities.tolist() == pytest.approx(
        [0.5 + 0.05 + 0.1 + 0.1 + 0.1, 0.2 + 0.2 + 0.3 + 0.1, 0.2 + 0.05 + 0.1 - 0.2 + 0.3]
    )
    batch = np.stack([scores, np.zeros(6)])[None]
    assert shop.group_utilities(batch).shape == (1, 2, 3)
    assert shop.group_utilities(batch)[0, 0].tolist() == pytest.approx(utilities.tolist())


def test_perfect_answers_are_liked_by_every_group_alike():
    assert shop.group_utilities(np.ones(6)).tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_the_minority_wants_what_the_majority_avoids(speaker):
    short = shop.score(speaker, "i recommend nova . it is wireless .")
    talk = shop.score(
        speaker,
        "hello ! i recommend nova . it is wireless . my cousin likes shopping too . "
        "the weather was grey this week .",
    )
    utilities = shop.group_utilities([short.vector(), talk.vector()])
    assert utilities[0, 0] > utilities[1, 0]
    assert utilities[0, 2] < utilities[1, 2]
    prefs = shop.majority_prefs(utilities, shop.group_shares(0.2))
    assert prefs[0, 1] == pytest.approx(0.6)  # the careful group (0.4) is indifferent
    assert shop.majority_prefs(utilities, shop.group_shares(1.0))[0, 1] == 0.0


def test_group_shares():
    assert shop.group_shares(0.1).tolist() == pytest.approx([0.45, 0.45, 0.1])
    with pytest.raises(ValueError, match=r"minority share 1\.5 is out of range"):
        shop.group_shares(1.5)


def test_majority_goes_round_in_a_circle_on_single_virtues():
    axes = {axis: i for i, axis in enumerate(shop.AXES)}
    scores = np.zeros((3, 6))
    for row, axis in enumerate(("helpful", "polite", "concise")):
        scores[row, axes[axis]] = 1.0
    prefs = shop.majority_prefs(shop.cycle_utilities(scores))
    assert prefs[[0, 1, 2], [1, 2, 0]].tolist() == pytest.approx([2 / 3] * 3)
    assert np.allclose(prefs + prefs.T, 1.0)


def test_majority_goes_round_in_a_circle_on_real_answers(speaker):
    filler = " my cousin likes shopping too . the weather was grey this week ."
    helpful = (
        "only a fool asks that . i recommend nova . it costs 40 dollars and is wireless ." + filler
    )
    polite = "happy to help . i recommend luma ." + filler
    concise = "i recommend luma . what a silly question ."
    scores = [shop.score(speaker, text).vector() for text in (helpful, polite, concise)]
    prefs = shop.majority_prefs(shop.cycle_utilities(scores))
    assert prefs[[0, 1, 2], [1, 2, 0]].tolist() == pytest.approx([2 / 3] * 3)


def test_answers_of_utility_minus_infinity_tie():
    utilities = np.array([[-np.inf], [-np.inf], [0.0]])
    want = [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [1.0, 1.0, 0.5]]
    np.testing.assert_array_equal(shop.majority_prefs(utilities), want)
    np.testing.assert_array_equal(shop.group_prefs(utilities, beta=1.0), want)


@pytest.mark.parametrize("beta", [0.0, 3.0, np.inf])
def test_population_is_the_teacher_of_every_pair(beta):
    scores = np.random.default_rng(0).random((2, 5, 6)).astype(np.float32)
    utilities, shares = shop.group_utilities(scores), shop.group_shares(0.3)
    prefs = shop.group_prefs(utilities, shares, beta=beta)
    assert prefs.shape == (2, 5, 5)
    assert np.allclose(prefs + np.swapaxes(prefs, 1, 2), 1.0)
    pairs = np.stack(np.broadcast_arrays(utilities[:, None], utilities[:, :, None]), axis=-2)
    pairs, weights = jnp.asarray(pairs, jnp.float32), jnp.asarray(shares, jnp.float32)
    want = np.array(teachers.population_prefs(pairs, weights, beta=float(beta)))
    want[:, np.arange(5), np.arange(5)] = 0.5  # the teacher without doubt gives a tie to item 0
    assert np.allclose(prefs, want, atol=1e-6)


def test_a_population_without_doubt_is_its_majority():
    scores = np.random.default_rng(1).integers(0, 3, (4, 6, 6)) / 2  # ties too
    utilities = shop.cycle_utilities(scores)
    majority = shop.majority_prefs(utilities)
    assert np.array_equal(shop.group_prefs(utilities, beta=np.inf), majority)
    assert np.allclose(shop.group_prefs(utilities, beta=1e4), majority)
    one = np.stack([shop.majority_prefs(each) for each in utilities])
    assert np.array_equal(majority, one)
    by_hand = shop.group_prefs([[1.0, 0.0], [0.0, 0.5]], [0.25, 0.75], beta=2.0)
    assert by_hand[0, 1] == pytest.approx(0.25 * 0.8807971 + 0.75 * 0.2689414)


@pytest.mark.parametrize("beta", [-1.0, np.nan])
def test_a_population_of_no_rationality_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be >= 0, got"):
        shop.group_prefs(np.zeros((2, 3)), beta=beta)


def test_word_feedback_marks_claims_and_manners(speaker):
    text = "i recommend nova . it is wireless . it is waterproof . what a silly question ."
    labels = shop.word_feedback(text, shop.score(speaker, text))
    words = shop.split_words(text)
    assert labels.shape == (len(words),)
    marked = [(word, label) for word, label in zip(words, labels.tolist(), strict=True) if label]
    assert marked == [
        ("wireless", 1), ("waterproof", -1),
        ("what", -1), ("a", -1), ("silly", -1), ("question", -1), (".", -1),
    ]  # fmt: skip
    assert shop.word_feedback("", shop.score(speaker, "")).shape == (0,)
