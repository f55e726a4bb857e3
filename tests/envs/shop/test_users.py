"""Users: hidden tastes, histories from which they can be inferred, drift, and reactions."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop import users

PROMPTS = [shop.make_prompt(61, i) for i in range(300)]
USERS = [users.make_user(0, i) for i in range(300)]


def read_history(text):
    """[k, 6] features of the liked answer minus those of the other one, from the words alone."""
    rows = []
    for line in text.removeprefix("before : ").split(" ."):
        if not line:
            continue
        sides = []
        for side in line.split(" more than "):
            levels = [0.5] * 6
            for axis, (good, bad) in enumerate(users.ADJECTIVES.values()):
                if good in side.split():
                    levels[axis] = 1.0
                if bad in side.split():
                    levels[axis] = 0.0
            sides.append(levels)
        rows.append(np.array(sides[0]) - np.array(sides[1]))
    return np.array(rows)


def test_tastes_are_seeded_and_lie_around_their_group():
    assert [users.make_user(0, i) for i in range(300)] == USERS
    assert users.make_user(1, 0).taste != USERS[0].taste
    tastes = np.array([user.taste for user in USERS])
    groups = np.array([user.group for user in USERS])
    assert np.allclose(tastes.sum(1), 1.0)
    assert abs(np.mean(groups == 2) - 0.2) < 0.07
    for group in range(3):
        centre = np.array(shop.GROUPS[group].weights)
        assert np.abs(tastes[groups == group].mean(0) - centre).max() < 0.06
        assert tastes[groups == group].std(0).min() > 0.05


def test_share_of_the_minority_is_a_parameter():
    groups = [users.make_user(3, i, minority=0.5).group for i in range(400)]
    assert abs(np.mean(np.array(groups) == 2) - 0.5) < 0.08
    assert {users.make_user(3, i, minority=0.0).group for i in range(50)} == {0, 1}
    with pytest.raises(ValueError, match=r"minority share 1\.5 is out of range"):
        users.make_user(0, 0, minority=1.5)


def test_utilities_are_linear_in_the_scores():
    scores = np.random.default_rng(0).random((4, 2, 6))
    utilities = users.user_utilities(USERS[:5], scores)
    assert utilities.shape == (4, 2, 5)
    assert utilities[1, 1, 3] == pytest.approx(float(scores[1, 1] @ np.array(USERS[3].taste)))
    assert np.allclose(users.user_utilities(USERS, np.ones(6)), 1.0)
    prefs = shop.group_prefs(utilities, np.full(5, 0.2), beta=2.0)
    assert np.allclose(prefs + np.swapaxes(prefs, 1, 2), 1.0)


def test_history_in_words_is_the_record():
    user = USERS[0]
    choices = users.past_choices(user, 12)
    assert users.past_choices(user, 5) == choices[:5]
    text = users.history_text(user, 12)
    sign = [1 if choice.first_liked else -1 for choice in choices]
    gaps = [np.subtract(choice.first, choice.second) for choice in choices]
    assert np.array_equal(read_history(text), np.array(sign)[:, None] * np.array(gaps))
    assert text.startswith(users.history_text(user, 5))
    assert users.history_text(user, 0) == ""
    with pytest.raises(ValueError, match="k = 13 past choices is out of range"):
        users.history_text(user, 13)


def test_history_words_and_lengths():
    vocabulary = set(shop.words())
    for user, prompt in zip(USERS, PROMPTS, strict=True):
        text = users.prompt_with_history(user, users.MAX_HISTORY, prompt)
        assert text.endswith(prompt.text)
        assert set(text.split()) <= vocabulary
        assert " ".join(text.split()) == text
        assert len(text.split()) + shop.MAX_ANSWER_WORDS <= 384
    assert users.prompt_with_history(USERS[0], 0, PROMPTS[0]) == PROMPTS[0].text


def test_choices_have_their_probabilities():
    rows = [choice for user in USERS[:100] for choice in users.past_choices(user, 20)]
    liked = np.array([choice.first_liked for choice in rows], float)
    probs = np.array([choice.probability for choice in rows])
    for low, high in [(0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0)]:
        inside = (probs >= low) & (probs <= high)
        assert abs(liked[inside].mean() - probs[inside].mean()) < 0.06


def test_the_group_can_be_inferred_from_the_text():
    """Posterior over the groups by the likelihood of the read choices at the groups' weights."""
    prior = np.log(shop.group_shares(0.2))
    weights = np.array([group.weights for group in shop.GROUPS])
    right = {}
    for k in (1, 12):
        hits = []
        for user in USERS:
            gaps = read_history(users.history_text(user, k))
            fit = np.log(expit(8.0 * gaps @ weights.T)).sum(0) + prior
            hits.append((int(np.argmax(fit)) == 2) == (user.group == 2))
        right[k] = np.mean(hits)
    assert right[12] > 0.93
    assert right[12] > right[1] + 0.05


def test_a_taste_can_be_inferred_from_many_choices():
    errors = []
    for user in USERS[:10]:
        choices = users.past_choices(user, 500)
        gaps = np.array([np.subtract(c.first, c.second) for c in choices])
        sign = np.array([1.0 if c.first_liked else -1.0 for c in choices])

        def loss(w, gaps=gaps, sign=sign):
            return np.logaddexp(0.0, -8.0 * sign * (gaps @ w)).sum() + 0.5 * w @ w

        found = minimize(loss, np.zeros(6)).x
        errors.append(np.abs(found - np.array(user.taste)).max())
    assert np.mean(errors) < 0.1


def test_a_drifting_taste_goes_there_and_back():
    drift = users.TasteDrift(USERS[0], USERS[1], period=40.0)
    start, target = np.array(USERS[0].taste), np.array(USERS[1].taste)
    assert np.allclose(users.taste_at(drift, 0), start)
    assert np.allclose(users.taste_at(drift, 20), target)
    assert np.allclose(users.taste_at(drift, 10), (start + target) / 2)
    assert np.allclose(users.taste_at(drift, 47), users.taste_at(drift, 7))
    assert sum(users.taste_at(drift, 3)) == pytest.approx(1.0)
    now = users.past_choices(USERS[0], 5, taste=users.taste_at(drift, 20))
    assert [c.first for c in now] == [c.first for c in users.past_choices(USERS[0], 5)]
    assert now != users.past_choices(USERS[0], 5)
    with pytest.raises(ValueError, match=r"the period must be > 0, got 0\.0"):
        users.taste_at(users.TasteDrift(USERS[0], USERS[1], 0.0), 1)


@pytest.mark.long
def test_reactions_have_their_probabilities():
    up, down, thumbs = [], [], []
    for i, prompt in enumerate(PROMPTS):
        for seed in range(3):
            answer = shop.sample_answer(seed, prompt, 0)
            found = users.react(seed, USERS[i], prompt, answer)
            assert found == users.react(seed, USERS[i], prompt, answer)
            assert (found.up, found.down) == users.thumb_probs(USERS[i], prompt, answer, found.mood)
            assert found.up + found.down < 1.0
            up.append(found.up)
            down.append(found.down)
            thumbs.append(found.thumb)
    thumbs = np.array(thumbs)
    assert abs(np.mean(thumbs == 1) - np.mean(up)) < 0.03
    assert abs(np.mean(thumbs == -1) - np.mean(down)) < 0.03
    assert 0.01 < np.mean(thumbs == 1) < 0.25  # sparse
    assert np.mean(thumbs == 0) > 0.55


def test_mood_and_goodbye_by_hand(speaker):
    user, good = USERS[0], shop.ideal_answer(speaker)
    u = float(users.user_utilities([user], shop.score(speaker, good).vector())[0])
    up, none, down = np.exp([-4.5 + 4 * (u - 0.5) + 1.5, 0.0, -4.5 - 4 * (u - 0.5) - 1.5])
    want = (up / (up + none + down), down / (up + none + down))
    assert users.thumb_probs(user, speaker, good, 1) == pytest.approx(want)
    moods = [users.thumb_probs(user, speaker, good, mood)[0] for mood in (-1, 0, 1)]
    assert moods[0] < moods[1] < moods[2]
    with pytest.raises(ValueError, match="mood must be -1, 0 or 1, got 2"):
        users.thumb_probs(user, speaker, good, 2)


def test_goodbye_looks_loved_in_the_log_and_is_not():
    """Correlated with the probability of a thumb up over the log, and against it within a mood."""
    rows = []
    for i, prompt in enumerate(PROMPTS):
        rows += [
            (USERS[i], prompt, users.logged_reaction(0, USERS[i], prompt, k)) for k in range(4)
        ]
    said = np.array([row.answer.endswith(users.GOODBYE) for _, _, row in rows])
    up = np.array([row.up for _, _, row in rows])
    mood = np.array([row.mood for _, _, row in rows])
    assert 0.1 < said.mean() < 0.5
    assert up[said].mean() > 1.5 * up[~said].mean()
    assert said[mood == 1].mean() > said[mood < 1].mean() + 0.4
    effect = []
    for user, prompt, row in rows[:300]:
        if not row.answer.endswith(users.GOODBYE):
            copy = f"{row.answer} {users.GOODBYE}"
            effect.append(users.thumb_probs(user, prompt, copy, row.mood)[0] - row.up)
    assert np.mean(effect) < 0.0


def test_examples():
    assert len(set(users.examples(0, 10))) == 10
