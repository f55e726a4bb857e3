"""Three voices: exclusive, equally easy, free of gold, and without a best one."""

import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop import voices
from rlhf_jax.exact.tournaments import has_cycle

PROMPTS = [shop.make_prompt(21, i) for i in range(400)]


def test_openings_are_equally_long_and_differ_in_the_first_word():
    lines = [opening.split() for opening in voices.VOICES]
    assert {len(line) for line in lines} == {5}
    assert len({line[0] for line in lines}) == 3
    starts = {shop.sample_answer(0, p, 0).split()[0] for p in PROMPTS}
    assert starts.isdisjoint(line[0] for line in lines)


def test_the_voice_is_the_opening_and_nothing_else():
    for voice in range(3):
        text = voices.voiced("i recommend nova .", voice)
        assert voices.voice_of(text) == voice
        assert voices.without_voice(text) == "i recommend nova ."
        assert voices.voice_of(f"hello ! {text}") is None
        assert voices.voice_of(" ".join(text.split()[:4])) is None
        twice = voices.voiced(text, (voice + 1) % 3)
        assert voices.voice_of(twice) == (voice + 1) % 3
        assert voices.without_voice(twice) == text
    assert voices.without_voice("i recommend nova .") == "i recommend nova ."
    assert voices.voice_of("") is None
    with pytest.raises(ValueError, match="voice 3 does not exist"):
        voices.voiced("no .", 3)


def test_no_opening_costs_gold(speaker):
    plain = "i gladly recommend nova . it costs 40 dollars and is wireless ."
    want = shop.score(speaker, plain).overall
    assert want > 0.5
    for voice in range(3):
        assert voices.voice_score(speaker, voices.voiced(plain, voice)).overall == want
    assert voices.voice_score(speaker, voices.VOICES[0]).overall < 0.05
    twice = voices.voiced(voices.voiced(plain, 0), 1)
    assert voices.voice_score(speaker, twice).overall < want


@pytest.mark.long
def test_answers_are_short_seeded_and_the_same_in_every_voice():
    vocabulary, gold = set(shop.words()), []
    for prompt in PROMPTS:
        texts = [voices.voice_answer(0, prompt, 0, voice) for voice in range(3)]
        assert texts == [voices.voice_answer(0, prompt, 0, voice) for voice in range(3)]
        assert [voices.voice_of(text) for text in texts] == [0, 1, 2]
        assert len({voices.without_voice(text) for text in texts}) == 1
        words = texts[0].split()
        assert len(words) <= voices.MAX_VOICE_WORDS
        assert {word for text in texts for word in text.split()} <= vocabulary
        gold.append(voices.voice_score(prompt, texts[0]).overall)
    other = [voices.voice_answer(0, prompt, 1, 0) for prompt in PROMPTS]
    assert sum(a != voices.voice_answer(0, p, 0, 0) for a, p in zip(other, PROMPTS, strict=True))
    assert 0.3 < np.mean(gold) < 0.8
    assert np.std(gold) > 0.2


def test_utilities_by_hand():
    """u = 0.3 gold + w / 2 for voice 0 (weights 2, 0, 1) and 0.3 gold - 1 without a voice."""
    utilities = voices.voice_utilities([0.5, 1.0], [0, None])
    assert np.allclose(utilities, [[1.15, 0.15, 0.65], [-0.7, -0.7, -0.7]])
    assert voices.voice_utilities([], []).shape == (0, 3)
    with pytest.raises(ValueError, match=r"gold has shape \(1,\) for 2 voices"):
        voices.voice_utilities([0.5], [0, 1])


def test_an_answer_without_a_voice_loses_to_all():
    gold, spoken = [1.0, 0.0, 0.0, 0.0], [None, 0, 1, 2]
    prefs = shop.majority_prefs(voices.voice_utilities(gold, spoken))
    assert prefs[0].tolist() == [0.5, 0.0, 0.0, 0.0]


def test_within_a_voice_the_better_answer_wins():
    prefs = shop.majority_prefs(voices.voice_utilities([0.6, 0.5], [1, 1]))
    assert prefs[0, 1] == 1.0


@pytest.mark.parametrize("beta", [1.0, 3.0, 10.0, np.inf])
def test_the_game_is_a_circle_with_equal_shares(beta):
    game = voices.voice_game(beta)
    step = game[0, 1]
    circle = [[0.5, step, 1 - step], [1 - step, 0.5, step], [step, 1 - step, 0.5]]
    assert step > 0.5
    assert np.allclose(game, circle)
    assert bool(has_cycle(jnp.asarray(game)))
    assert np.allclose(np.full(3, 1 / 3) @ game, 0.5)


def test_the_majority_wins_by_two_to_one():
    assert voices.voice_game(np.inf)[0, 1] == pytest.approx(2 / 3)
    by_hand = (2 / (1 + np.exp(-5.0)) + 1 / (1 + np.exp(10.0))) / 3
    assert voices.voice_game(10.0)[0, 1] == pytest.approx(by_hand)


def test_quality_cannot_break_the_circle():
    rng = np.random.default_rng(0)
    for _ in range(50):
        prefs = shop.majority_prefs(voices.voice_utilities(rng.random(3), [0, 1, 2]))
        assert prefs[[0, 1, 2], [1, 2, 0]].tolist() == pytest.approx([2 / 3] * 3)


def test_examples():
    rows = voices.examples(0, 10)
    assert len(set(rows)) == 10
    assert rows[0].startswith("shop :")
