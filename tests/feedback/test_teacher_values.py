"""What teachers judge by: hand numbers, limits, and the biases that a learner inherits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.feedback import values
from rlhf_jax.feedback.choices import choice_loglik, expected_options
from rlhf_jax.feedback.pairs import labels_to_pairs
from rlhf_jax.feedback.teachers import bt_labels, bt_prefs
from rlhf_jax.losses.links import soft_logistic
from rlhf_jax.losses.reward import deterministic_regrets, segment_regrets

KEY = jax.random.key(0, impl="rbg")  # compiles in half the time
REWARDS = np.array([[1.0, 2.0, 4.0], [3.0, np.nan, 5.0]], np.float32)
MASK = np.array([[True, True, True], [True, False, True]])


def test_a_myopic_teacher_forgets_the_first_steps():
    judge = jax.jit(values.myopic_values)
    np.testing.assert_allclose(judge(REWARDS, MASK, gamma=0.5), [5.25, 6.5])
    np.testing.assert_allclose(judge(REWARDS, MASK, gamma=1.0), [7.0, 8.0])
    np.testing.assert_allclose(judge(REWARDS, MASK, gamma=0.0), [4.0, 5.0])
    assert judge(REWARDS, MASK & False, gamma=0.5).tolist() == [0.0, 0.0]
    shifted = [np.pad(x, ((0, 0), (2, 1))) for x in (REWARDS, MASK)]
    np.testing.assert_allclose(judge(*shifted, gamma=0.5), [5.25, 6.5])


# A corridor of six states: -1 a step until its right end, where all stops. Action 1 goes right,
# 0 left (staying put at the wall).
STATE_VALUES = -np.arange(5.0, -1.0, -1.0, dtype=np.float32)
ACTION_VALUES = np.stack([STATE_VALUES[[0, 0, 1, 2, 3]], STATE_VALUES[1:]], 1) - 1


def walks(*, right, count=200, steps=4):
    """V* and Q* along walks that go right with a given chance, mask, and V* at both ends."""
    draws = np.random.default_rng(0)
    states = np.zeros((count, steps + 1), int)
    states[:, 0] = np.arange(count) % 5
    actions = (draws.random((count, steps)) < right).astype(int)
    for t in range(steps):
        moved = np.clip(states[:, t] + 2 * actions[:, t] - 1, 0, 5)
        states[:, t + 1] = np.where(states[:, t] == 5, 5, moved)
    mask = states[:, :-1] < 5
    taken = ACTION_VALUES[np.minimum(states[:, :-1], 4), actions]
    along = STATE_VALUES[states]
    return (along[:, :-1], taken, mask), (along[:, 0], along[:, -1])


def test_a_regret_teacher_prefers_optimal_behaviour_whatever_it_earned():
    """Also from a worse start, where the return is lower."""
    judge = jax.jit(values.regret_values)
    best, idle = (np.asarray(judge(*walks(right=right)[0])) for right in (1.1, 0.3))
    np.testing.assert_allclose(best, 0.0)
    assert idle.min() < -2.0
    assert idle.max() <= 0.0
    pairs = np.stack([np.roll(idle, 1), best], axis=-1)  # another start each
    prefs = np.asarray(jax.jit(bt_prefs)(pairs, beta=jnp.inf))
    worse = pairs[:, 0] < 0
    assert worse.mean() > 0.8
    assert (prefs[worse] == 1.0).all()


def test_in_a_deterministic_world_regret_telescopes():
    steps, ends = walks(right=0.6)
    rewards = -jnp.ones(steps[1].shape)

    @jax.jit
    def judge(steps, ends):
        return (
            values.regret_values(*steps),
            -segment_regrets(*steps),
            values.progress_values(rewards, *ends, steps[2]),
            -deterministic_regrets(rewards, *ends, steps[2]),
        )

    general, *others = judge(*jax.tree.map(jnp.asarray, (steps, ends)))
    assert float(np.std(general)) > 0.5
    for other in others:
        np.testing.assert_allclose(other, general, atol=1e-6)


def test_foresight_is_the_mean_of_hindsight():
    probs = np.array([0.2, 0.5, 0.3, 0.0], np.float32)
    outcomes = np.array([1.0, -1.0, 4.0, np.inf], np.float32)  # the last one can't happen

    @jax.jit
    def judge(probs, outcomes):
        many = [jnp.broadcast_to(x, (40_000, 4)) for x in (probs, outcomes)]
        drawn = values.hindsight_values(KEY, *many)
        return values.believed_values(probs, outcomes), drawn

    mean, drawn = map(np.asarray, judge(probs, outcomes))
    assert mean == pytest.approx(0.9)
    for prob, outcome in zip(probs, outcomes, strict=True):
        assert (drawn == outcome).mean() == pytest.approx(prob, abs=0.01)


def test_partial_hindsight_errs_by_gamma_to_the_steps_seen():
    gamma = 0.8
    utilities = np.random.default_rng(0).random((50, 40)).astype(np.float32)
    truth = utilities @ gamma ** np.arange(40)
    judge = jax.jit(values.partly_seen_values)
    for seen in (0, 1, 5, 20):
        mask = np.broadcast_to(np.arange(40) < seen, utilities.shape)
        for belief in (0.0, 1.0 / (1 - gamma)):
            beliefs = np.full(50, belief, np.float32)
            judged = judge(utilities, mask, beliefs, gamma=gamma)
            assert np.abs(judged - truth).max() <= gamma**seen / (1 - gamma)
    beliefs = np.arange(50, dtype=np.float32)
    foresight = judge(utilities, mask & False, beliefs, gamma=gamma)
    np.testing.assert_array_equal(foresight, beliefs)


def test_bias_is_an_offset_of_the_logit():
    """P = sigmoid(beta (G_1 - G_0) + c h), with c = beta * weight; weight 0 is no bias."""
    pairs = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    places = np.broadcast_to(np.arange(2, dtype=np.float32), (7, 2))

    @jax.jit
    def judge(weight):
        biased = values.biased_values(jnp.asarray(pairs), jnp.asarray(places), weight=weight)
        return biased, bt_prefs(biased, beta=2.0)

    want = 1 / (1 + np.exp(-2.0 * (pairs[:, 1] - pairs[:, 0]) - 0.8))
    np.testing.assert_allclose(judge(0.4)[1], want, rtol=1e-5)
    np.testing.assert_array_equal(judge(0.0)[0], pairs)


def test_a_feature_that_the_teacher_cannot_see_weighs_nothing():
    """theta (1, -1, .5), m (1, 0, 1), beta 2: theta_hat is beta m theta = (2, 0, 1); a run on
    sampled labels gave (2.00, -.01, .99)."""

    @jax.jit
    def fit(features):
        weights, seen = jnp.array([1.0, -1.0, 0.5]), jnp.array([True, False, True])
        prefs = bt_prefs(values.observed_values(features, weights, seen), beta=2.0)
        gaps = features[:, 1] - features[:, 0]
        slope = jax.grad(lambda w: jnp.mean(soft_logistic(gaps @ w, prefs)))
        return jax.lax.scan(lambda w, _: (w - 3.0 * slope(w), None), jnp.zeros(3), length=100)[0]

    features = np.random.default_rng(0).normal(size=(10_000, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(fit(features), [2.0, 0.0, 1.0], atol=0.005)


def test_what_is_believed_of_the_unseen_is_the_same_for_both_items():
    features = np.array([[1.0, np.nan, 2.0], [0.0, 7.0, 3.0]], np.float32)
    weights, seen = np.array([1.0, -1.0, 0.5], np.float32), np.array([True, False, True])
    judge = jax.jit(values.observed_values)
    zeros = np.zeros(3, np.float32)
    naive = np.asarray(judge(features, weights, seen, zeros))
    np.testing.assert_allclose(naive, [2.0, 1.5])
    np.testing.assert_array_equal(jax.jit(values.observed_values)(features, weights, seen), naive)
    believing = judge(features, weights, seen, np.array([9.0, 4.0, 9.0], np.float32))
    np.testing.assert_allclose(believing, naive - 4.0)
    assert float(judge(features, weights, seen | True, zeros)[1]) == pytest.approx(-5.5)


def test_similarity_by_hand():
    judged = jax.jit(values.similarity_values)(
        np.array([0.0, 1.0], np.float32), np.array([[0.0, 3.0], [1.0, 1.0]], np.float32)
    )
    np.testing.assert_allclose(judged, [-4.0, -1.0])
    assert float(jax.jit(bt_prefs)(judged, beta=1.0)) == pytest.approx(1 / (1 + np.exp(-3)))


def test_an_utterance_stands_for_the_trajectories_that_fulfil_it():
    fulfils = np.array([[True, True, False], [False, False, True], [True, True, True]])

    @jax.jit
    def speak(fulfils):
        psi = values.fulfilment_probs(fulfils, jnp.array([0.1, 0.3, 0.6]))
        options = expected_options(psi, jnp.array([[4.0], [0.0], [2.0]]))
        return psi, choice_loglik(options[:, 0], jnp.array(1), beta=1.0)

    psi, said = speak(fulfils)
    np.testing.assert_allclose(psi, [[0.25, 0.75, 0], [0, 0, 1], [0.1, 0.3, 0.6]], rtol=1e-6)
    worth = np.array([1.0, 2.0, 1.6])
    assert float(said) == pytest.approx(2.0 - np.log(np.exp(worth).sum()), rel=1e-5)
    assert np.isnan(speak(fulfils & [[True], [False], [True]])[0][1]).all()


def test_shapes_that_differ_are_refused():
    with pytest.raises((AssertionError, TypeError)):
        values.similarity_values(jnp.zeros(3), jnp.zeros((2, 4)))
    with pytest.raises((AssertionError, TypeError)):
        values.observed_values(jnp.zeros((5, 3)), jnp.zeros(3), jnp.ones(2, bool))


def test_a_world_model_is_as_accurate_as_it_says():
    facts = jnp.asarray(np.random.default_rng(0).random((20_000, 3)) < 0.4)
    simulate = jax.jit(values.simulated_facts)
    for accuracy in (0.0, 0.5, 0.9, 1.0):
        right = np.asarray(simulate(KEY, facts, accuracy=accuracy) == facts)
        assert right.mean() == pytest.approx(accuracy, abs=0.01)
        # Errors do not depend on the truth, nor on each other.
        assert right[np.asarray(facts)].mean() == pytest.approx(accuracy, abs=0.01)
        both = (right[:, 0] & right[:, 1]).mean()
        assert both == pytest.approx(accuracy**2, abs=0.015)
    with pytest.raises(ValueError, match=r"accuracy must be in \[0, 1\], got nan"):
        values.simulated_facts(KEY, facts, accuracy=float("nan"))
    with pytest.raises(TypeError, match="facts"):
        values.simulated_facts(KEY, facts.astype(int), accuracy=0.5)


def test_simulated_hindsight_errs_by_the_total_variation_of_the_model():
    """|E_model u - E_truth u| <= (max u - min u) TV, and outcomes that persuade change nothing."""
    draws = np.random.default_rng(1)
    truth, model = jnp.asarray(draws.dirichlet(np.ones(6), (2, 200)), jnp.float32)
    utilities = jnp.asarray(draws.normal(size=(200, 6)), jnp.float32)
    simulated, real = (values.believed_values(each, utilities) for each in (model, truth))
    error, distance = jnp.abs(simulated - real), 0.5 * jnp.abs(truth - model).sum(-1)
    assert (error <= jnp.ptp(utilities, axis=-1) * distance + 1e-6).all()
    assert error.max() > 0.1
    # The bound is met where the model moves mass from the best outcome to the worst.
    ends = jnp.array([1.0, 0.0, -1.0])
    before, moved = jnp.array([0.75, 0.0, 0.25]), jnp.array([0.25, 0.0, 0.75])
    assert values.believed_values(before, ends) - values.believed_values(moved, ends) == 1.0


def test_labels_are_right_beyond_twice_the_error_of_hindsight():
    """A gap of the truth above 2 gamma^n (max u - min u) / (1 - gamma) keeps its sign."""
    gamma, seen = 0.7, 7
    draws = np.random.default_rng(2)
    utilities = jnp.asarray(draws.random((500, 2, 60)), jnp.float32)
    truth = utilities @ gamma ** jnp.arange(60)
    mask = jnp.broadcast_to(jnp.arange(60) < seen, utilities.shape)
    beliefs = jnp.asarray(draws.random((500, 2)) / (1 - gamma), jnp.float32)
    judged = values.partly_seen_values(utilities, mask, beliefs, gamma=gamma)
    gap = truth[:, 1] - truth[:, 0]
    right = (bt_prefs(judged, beta=5.0) > 0.5) == (gap > 0)
    sure = jnp.abs(gap) > 2 * gamma**seen / (1 - gamma)
    assert right[sure].all()
    assert int(sure.sum()) > 20
    assert not right.all()


def test_an_unknown_outcome_leaves_its_pair_out():
    """NaN is no winner, and the gradient is that of the other pairs."""
    judged = jnp.array([[0.0, 1.0], [jnp.nan, 1.0], [1.0, 0.0]])
    labels = bt_labels(KEY, judged, beta=jnp.inf)
    assert labels.tolist() == [1, -1, 0]
    states = jnp.zeros((3, 2), int)
    both = bandit_trajectory(states, jnp.tile(jnp.arange(2), (3, 1)))
    pairs = labels_to_pairs(both, labels)
    assert pairs.weights is not None
    assert pairs.weights.tolist() == [1.0, 0.0, 1.0]
    assert float(jnp.mean(pairs.weights == 0)) == pytest.approx(1 / 3)
