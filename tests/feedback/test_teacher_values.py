"""What teachers judge by: hand numbers, limits, and the biases that a learner inherits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.feedback import values
from rlhf_jax.feedback.choices import choice_loglik, expected_options
from rlhf_jax.feedback.teachers import bt_prefs
from rlhf_jax.losses.links import soft_logistic
from rlhf_jax.losses.reward import deterministic_regrets, segment_regrets

REWARDS = jnp.array([[1.0, 2.0, 4.0], [3.0, jnp.nan, 5.0]])
MASK = jnp.array([[True, True, True], [True, False, True]])


def test_a_myopic_teacher_forgets_the_first_steps():
    np.testing.assert_allclose(values.myopic_values(REWARDS, MASK, gamma=0.5), [5.25, 6.5])
    np.testing.assert_allclose(values.myopic_values(REWARDS, MASK, gamma=1.0), [7.0, 8.0])
    np.testing.assert_allclose(values.myopic_values(REWARDS, MASK, gamma=0.0), [4.0, 5.0])
    assert values.myopic_values(REWARDS, MASK & False, gamma=0.5).tolist() == [0.0, 0.0]
    shifted = jnp.pad(REWARDS, ((0, 0), (2, 1))), jnp.pad(MASK, ((0, 0), (2, 1)))
    np.testing.assert_allclose(values.myopic_values(*shifted, gamma=0.5), [5.25, 6.5])


def corridor():
    """Optimal values of a corridor of six states: -1 a step until the right end, where all stops.

    Action 1 goes right, 0 left (staying put at the wall).
    """
    state_values = -jnp.arange(5.0, -1.0, -1.0)
    to_the_left = jnp.array([0, 0, 1, 2, 3])
    left, right = -1 + state_values[to_the_left], -1 + state_values[1:]
    return state_values, jnp.stack([left, right], axis=1)


def segments(key, *, steps, right):
    """Random walks in the corridor that go right with a given chance: states, actions, mask."""
    draws = jax.random.uniform(key, (steps, 200))

    def move(state, draw):
        action = (draw < right).astype(int)
        moved = jnp.clip(state + 2 * action - 1, 0, 5)
        following = jnp.where(state == 5, 5, moved)
        return following, (state, action)

    start = jnp.arange(200) % 5
    end, (states, actions) = jax.lax.scan(move, start, draws)
    return states.T, actions.T, states.T < 5, end


def test_a_regret_teacher_prefers_optimal_behaviour_whatever_it_earned():
    """Also from a worse start, where the return is lower."""
    state_values, action_values = corridor()

    def judged(right):
        states, actions, mask, _ = segments(jax.random.key(0), steps=4, right=right)
        taken = action_values[jnp.minimum(states, 4), actions]
        return values.regret_values(state_values[states], taken, mask)

    best, idle = judged(1.1), judged(0.3)
    np.testing.assert_allclose(best, 0.0)
    assert float(idle.min()) < -2.0
    assert float(idle.max()) <= 0.0
    pairs = jnp.stack([jnp.roll(idle, 1), best], axis=-1)
    worse = pairs[:, 0] < 0
    prefs = bt_prefs(pairs, beta=jnp.inf)
    assert bool(jnp.all(jnp.where(worse, prefs == 1.0, True)))
    assert float(jnp.mean(worse)) > 0.8


def test_in_a_deterministic_world_regret_telescopes():
    state_values, action_values = corridor()
    states, actions, mask, end = segments(jax.random.key(3), steps=4, right=0.6)
    taken = action_values[jnp.minimum(states, 4), actions]
    general = values.regret_values(state_values[states], taken, mask)
    ends = (state_values[states[:, 0]], state_values[end])
    progress = values.progress_values(-jnp.ones_like(taken), *ends, mask)
    np.testing.assert_allclose(progress, general, atol=1e-6)
    np.testing.assert_allclose(general, -segment_regrets(state_values[states], taken, mask))
    minus = deterministic_regrets(-jnp.ones_like(taken), *ends, mask)
    np.testing.assert_allclose(progress, -minus, atol=1e-6)


def test_foresight_is_the_mean_of_hindsight():
    probs = jnp.array([0.2, 0.5, 0.3])
    outcomes = jnp.array([1.0, -1.0, 4.0])
    assert float(values.believed_values(probs, outcomes)) == pytest.approx(0.9)
    many = (jnp.broadcast_to(x, (40_000, 3)) for x in (probs, outcomes))
    drawn = values.hindsight_values(jax.random.key(0), *many)
    for prob, outcome in zip(probs, outcomes, strict=True):
        assert float(jnp.mean(drawn == outcome)) == pytest.approx(float(prob), abs=0.01)
    # What can't happen does not count, whatever it would be worth.
    sure = values.believed_values(jnp.array([1.0, 0.0]), jnp.array([2.0, jnp.inf]))
    assert float(sure) == 2.0


def test_partial_hindsight_errs_by_gamma_to_the_steps_seen():
    gamma, utilities = 0.8, jax.random.uniform(jax.random.key(0), (50, 40))
    truth = values.myopic_values(jnp.flip(utilities, -1), jnp.ones((50, 40), bool), gamma=gamma)
    for seen in (0, 1, 5, 20):
        mask = jnp.broadcast_to(jnp.arange(40) < seen, utilities.shape)
        for belief in (0.0, 1.0 / (1 - gamma)):
            judged = values.partly_seen_values(utilities, mask, jnp.full(50, belief), gamma=gamma)
            bound = gamma**seen / (1 - gamma)
            assert float(jnp.abs(judged - truth).max()) <= bound
    no_steps = values.partly_seen_values(utilities, mask & False, jnp.arange(50.0), gamma=gamma)
    np.testing.assert_allclose(no_steps, jnp.arange(50.0))


def test_bias_is_an_offset_of_the_logit():
    """P = sigmoid(beta (G_1 - G_0) + c h), with c = beta * weight; weight 0 is no bias."""
    pairs = jax.random.normal(jax.random.key(0), (7, 2))
    places = jnp.broadcast_to(jnp.arange(2.0), (7, 2))
    biased = values.biased_values(pairs, places, weight=0.4)
    want = jax.nn.sigmoid(2.0 * (pairs[:, 1] - pairs[:, 0]) + 0.8)
    np.testing.assert_allclose(bt_prefs(biased, beta=2.0), want, rtol=1e-6)
    np.testing.assert_array_equal(values.biased_values(pairs, places, weight=0.0), pairs)


def bt_fit(features, prefs):
    """Bradley-Terry weights [d] of least mean cross-entropy, by Newton's method."""

    def loss(weights):
        return jnp.mean(soft_logistic(features @ weights, prefs))

    def step(weights, _):
        change = jnp.linalg.solve(jax.hessian(loss)(weights), jax.grad(loss)(weights))
        return weights - change, None

    start = jnp.zeros(features.shape[-1])
    return jax.lax.scan(step, start, length=8)[0]


def test_a_feature_that_the_teacher_cannot_see_weighs_nothing():
    """theta (1, -1, .5), m (1, 0, 1), beta 2: theta_hat is beta m theta = (2, 0, 1)."""
    features = jax.random.normal(jax.random.key(0), (200_000, 2, 3))
    weights, seen = jnp.array([1.0, -1.0, 0.5]), jnp.array([True, False, True])
    prefs = bt_prefs(values.observed_values(features, weights, seen), beta=2.0)
    gaps = features[:, 1] - features[:, 0]
    np.testing.assert_allclose(bt_fit(gaps, prefs), [2.0, 0.0, 1.0], atol=0.005)
    labels = (jax.random.uniform(jax.random.key(1), prefs.shape) < prefs).astype(jnp.float32)
    np.testing.assert_allclose(bt_fit(gaps, labels), [2.0, -0.01, 0.99], atol=0.03)


def test_what_is_believed_of_the_unseen_is_the_same_for_both_items():
    features = jnp.array([[1.0, jnp.nan, 2.0], [0.0, 7.0, 3.0]])
    weights, seen = jnp.array([1.0, -1.0, 0.5]), jnp.array([True, False, True])
    naive = values.observed_values(features, weights, seen)
    np.testing.assert_allclose(naive, [2.0, 1.5])
    believing = values.observed_values(features, weights, seen, jnp.array([9.0, 4.0, 9.0]))
    np.testing.assert_allclose(believing, naive - 4.0)
    everything = values.observed_values(features[1], weights, seen | True)
    assert float(everything) == pytest.approx(-7.0 + 1.5)


def test_similarity_by_hand():
    anchor = jnp.array([0.0, 1.0])
    items = jnp.array([[0.0, 3.0], [1.0, 1.0]])
    judged = values.similarity_values(anchor, items)
    np.testing.assert_allclose(judged, [-4.0, -1.0])
    assert float(bt_prefs(judged, beta=1.0)) == pytest.approx(float(jax.nn.sigmoid(3.0)))


def test_an_utterance_stands_for_the_trajectories_that_fulfil_it():
    fulfils = jnp.array([[True, True, False], [False, False, True], [True, True, True]])
    psi = values.fulfilment_probs(fulfils, jnp.array([0.1, 0.3, 0.6]))
    np.testing.assert_allclose(psi, [[0.25, 0.75, 0], [0, 0, 1], [0.1, 0.3, 0.6]], rtol=1e-6)
    options = expected_options(psi, jnp.array([[4.0], [0.0], [2.0]]))
    said = choice_loglik(options @ jnp.ones(1), jnp.array(1), beta=1.0)
    worth = np.array([1.0, 2.0, 1.6])
    assert float(said) == pytest.approx(float(2.0 - np.log(np.exp(worth).sum())), rel=1e-5)
    nothing = values.fulfilment_probs(jnp.zeros((1, 3), bool), jnp.array([0.1, 0.3, 0.6]))
    assert bool(jnp.isnan(nothing).all())


def test_shapes_that_differ_are_refused():
    with pytest.raises((AssertionError, TypeError)):
        values.similarity_values(jnp.zeros(3), jnp.zeros((2, 4)))
    with pytest.raises((AssertionError, TypeError)):
        values.observed_values(jnp.zeros((5, 3)), jnp.zeros(3), jnp.ones(2, bool))
