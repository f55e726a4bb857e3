"""Laws of comparisons against their tables, and the pinned order of a teacher's stages."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos.reward_model import make_update
from rlhf_jax.feedback import comparisons
from rlhf_jax.feedback.comparisons import EQUAL, compare
from rlhf_jax.feedback.teachers import bt_labels, bt_prefs, pref_labels
from rlhf_jax.feedback.values import myopic_values
from rlhf_jax.losses.reward import rao_kupper_loss, soft_bradley_terry_loss
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.types import PreferenceBatch, TrainState, Trajectory

PAIRS = 200_000
KEY = jax.random.key(7, impl="rbg")  # compiles in half the time


def turned(key, labels, values):
    """An adversary who turns every label around."""
    del key, values
    return jnp.where(labels == EQUAL, EQUAL, 1 - labels)


@jax.jit
def teach(values, returns, stages):
    """A teacher whose stages are data, so that one compilation serves all of them.

    Its labels are Bradley-Terry ones where the threshold of the weak comparison is 0.
    """

    def draw(key, values):
        weak = comparisons.weak_logps(values, beta=stages["beta"], threshold=stages["threshold"])
        labels = bt_labels(key, values, beta=stages["beta"])
        return jnp.where(stages["threshold"] > 0, comparisons.outcome_labels(key, weak), labels)

    def adversary(key, labels, values):
        return jnp.where(stages["adversary"], turned(key, labels, values), labels)

    return compare(
        *(KEY, values, returns),
        draw=draw,
        mistake=stages["mistake"],
        adversary=adversary,
        skip_below=stages["skip"],
        equal_below=stages["equal"],
        missing=stages["missing"],
    )


NONE = {"beta": jnp.inf, "mistake": 0.0, "skip": -jnp.inf, "equal": 0.0, "missing": 0.0}
NONE = {**NONE, "adversary": False, "threshold": 0.0}


def taught(values, returns, **stages):
    """Comparisons as NumPy arrays, whose arithmetic needs no compilation."""
    return jax.tree.map(np.asarray, teach(values, returns, {**NONE, **stages}))


@pytest.fixture(scope="module")
def steps():
    """[N, 2, 10] rewards, each N(0.2, 0.5^2): sd of R_1 - R_0 is 2.24."""
    draws = np.random.default_rng(0).normal(0.2, 0.5, (PAIRS, 2, 10))
    return draws.astype(np.float32)


@pytest.fixture(scope="module")
def returns(steps):
    return jnp.asarray(steps.sum(-1))


def agreement(data):
    """Share of the kept pairs, equal ones apart, whose label names the truly better item."""
    kept = data.valid & ~data.equal
    return (data.labels == data.oracle_labels)[kept].mean()


@pytest.mark.long
def test_reference_agreements(returns):
    assert np.std(returns[:, 1] - returns[:, 0]) == pytest.approx(2.24, abs=0.02)
    assert agreement(taught(returns, returns, beta=1.0)) == pytest.approx(0.796, abs=0.004)
    assert agreement(taught(returns, returns, mistake=0.1)) == pytest.approx(0.899, abs=0.004)
    # Two flips in a row: e + a - 2 e a.
    assert agreement(taught(returns, returns, mistake=0.1, adversary=True)) == pytest.approx(
        0.101, abs=0.004
    )


@pytest.mark.long
def test_reference_agreements_of_a_myopic_teacher(steps, returns):
    judge = jax.jit(lambda steps, gamma: myopic_values(steps, steps < jnp.inf, gamma=gamma))
    for gamma, want in ((0.9, 0.907), (0.5, 0.683), (1.0, 1.0)):
        judged = judge(steps, gamma)
        assert agreement(taught(judged, returns)) == pytest.approx(want, abs=0.004)


def test_reference_shares_of_skipped_and_equal_pairs(steps, returns):
    length = comparisons.common_length(np.ones(steps.shape[1:], bool))

    def threshold(mean):
        return comparisons.return_threshold(mean, eps=0.1, segment_steps=length, episode_steps=10)

    assert float(threshold(2.0)) == pytest.approx(0.2)
    assert float(threshold(-2.0)) == pytest.approx(0.2)
    margin = threshold(float(np.mean(returns)))
    data = taught(returns, returns, skip=margin, equal=margin)
    assert data.valid.mean() == pytest.approx(0.984, abs=0.004)
    assert data.equal.mean() == pytest.approx(0.071, abs=0.004)
    np.testing.assert_array_equal(data.weights, data.valid)
    assert agreement(data) == 1.0


def test_a_pair_without_finite_values_is_not_valid():
    values = jnp.array([[0.0, 1.0], [jnp.nan, 1.0], [0.0, jnp.inf], [-jnp.inf, 1.0]])
    draw = partial(bt_labels, beta=1.0)
    assert compare(jax.random.key(0), values, draw=draw).weights.tolist() == [1, 0, 0, 0]
    hidden = compare(jax.random.key(0), values, jnp.ones((4, 2)), draw=draw)
    assert hidden.valid.tolist() == [True, False, False, False]


VALUES = np.array([[0.0, 0.7], [1.0, -1.0], [2.0, 2.0]], np.float32)


def test_laws_of_three_outcomes_sum_to_one_and_are_drawn():
    @jax.jit
    def run(values):
        laws = (
            comparisons.weak_logps(values, beta=1.5, threshold=0.4),
            comparisons.two_order_logps(values, beta=1.5, bias=0.8),
        )
        logps = jnp.stack(laws)
        labels = jnp.array([0, 1, EQUAL])
        logliks = [comparisons.outcome_loglik(jnp.full((2, 3), y), logps) for y in labels]
        many = jnp.broadcast_to(logps, (40_000, 2, 3, 3))
        return logps, jnp.stack(logliks, -1), comparisons.outcome_labels(KEY, many)

    logps, logliks, drawn = map(np.asarray, run(VALUES))
    np.testing.assert_allclose(np.exp(logliks).sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(logliks, logps)
    shares = np.stack([(drawn == y).mean(0) for y in (0, 1, EQUAL)], -1)
    np.testing.assert_allclose(shares, np.exp(logps), atol=0.01)
    mirrored = np.asarray(run(VALUES[:, ::-1])[0])
    np.testing.assert_allclose(mirrored[..., [1, 0, 2]], logps, rtol=1e-5, atol=1e-6)


def test_the_weak_comparison_is_rao_and_kuppers_law():
    """With a threshold of 0 it is Bradley-Terry; with beta = inf it splits ties only."""

    @jax.jit
    def losses(values):
        scores = 1.5 * values
        rows = [
            rao_kupper_loss(scores[:, 1], scores[:, 0], jnp.full(3, y), theta=jnp.exp(0.4))
            for y in (-1, 1, 0)
        ]
        return jnp.stack(rows, -1), bt_prefs(values, beta=1.5)

    law = jax.jit(partial(comparisons.weak_logps, jnp.asarray(VALUES)))
    rao_kupper, prefs = losses(VALUES)
    np.testing.assert_allclose(law(beta=1.5, threshold=0.4), -rao_kupper, rtol=1e-5)
    plain = np.exp(law(beta=1.5, threshold=0.0))
    np.testing.assert_allclose(plain[:, 1], prefs, rtol=1e-6)
    np.testing.assert_array_equal(plain[:, 2], 0.0)
    betas = np.array([0.0, 1.5, np.inf], np.float32)
    mapped = jax.jit(jax.vmap(lambda beta: law(beta=beta, threshold=0.4)))(betas)
    rows = [law(beta=beta, threshold=0.4) for beta in betas.tolist()]
    np.testing.assert_allclose(mapped, rows, rtol=1e-6)
    sure = np.exp(law(beta=np.inf, threshold=0.4))
    tied = 1 / (1 + np.exp(0.4))
    want = [[0, 1, 0], [1, 0, 0], [tied, tied, 1 - 2 * tied]]
    np.testing.assert_allclose(sure, want, rtol=1e-5)


def test_a_judge_asked_twice():
    """Without a liking for a place, two honest verdicts that differ make the items equal; a judge
    who likes one place above all calls everything equal."""
    law = jax.jit(partial(comparisons.two_order_logps, jnp.asarray(VALUES), beta=1.0))
    p = 1 / (1 + np.exp(VALUES[:, 0] - VALUES[:, 1]))
    want = np.stack([(1 - p) ** 2, p**2, 2 * p * (1 - p)], -1)
    np.testing.assert_allclose(np.exp(law(bias=0.0)), want, rtol=1e-5)
    np.testing.assert_allclose(np.exp(law(bias=40.0))[:, 2], 1.0, atol=1e-6)
    first, second = jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1])
    labels = comparisons.consistent_labels(first, second)
    assert labels.tolist() == [EQUAL, 0, 1, EQUAL]


def test_thurstone_by_hand():
    """Phi(1) = .841345 at a gap of sqrt(2) s; labels sum to one, and tails keep their digits."""

    @jax.jit
    def law(scale):
        pairs = jnp.array([[0.0, 2.0**0.5], [1.0, 1.0], [60.0, 0.0]])
        prefs = comparisons.thurstone_prefs(pairs, scale=scale)
        labels = jnp.array([[1, 1, 1], [0, 0, 0]])
        loglik = jax.vmap(lambda y: comparisons.thurstone_loglik(y, pairs, scale=scale))
        return prefs, loglik(labels), comparisons.pref_loglik(labels[0], prefs)

    prefs, logliks, plain = map(np.asarray, law(1.0))
    np.testing.assert_allclose(prefs, [0.841345, 0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(np.exp(logliks).sum(0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(logliks[0, 2], -904.6666, rtol=1e-5)  # log Phi(-42.4264)
    np.testing.assert_allclose(plain[:2], logliks[0, :2], rtol=1e-6)
    np.testing.assert_allclose(law(1e-6)[0], [1.0, 0.5, 0.0])


def test_labels_follow_any_preference():
    @jax.jit
    def run(prefs):
        many = jnp.broadcast_to(prefs, (40_000, 3))
        zeros = comparisons.pref_loglik(jnp.zeros(3, int), prefs)
        return pref_labels(KEY, many), zeros

    labels, zeros = map(np.asarray, run(jnp.array([0.0, 0.3, 1.0])))
    np.testing.assert_allclose(labels.mean(0), [0.0, 0.3, 1.0], atol=0.01)
    np.testing.assert_allclose(np.exp(zeros), [1.0, 0.7, 0.0], rtol=1e-6)


def test_the_order_of_stages_by_hand():
    """The values say the opposite of the returns; the last pair is a tie."""
    rows = np.array([[0.0, 1.0], [2.0, 2.1], [5.0, 3.0], [-1.0, -2.0], [1.0, 1.0]], np.float32)
    many = jnp.asarray(np.resize(rows, (PAIRS, 2)))  # the shape that is compiled already

    def taught_rows(**stages):
        return jax.tree.map(lambda x: x[:5], taught(-many, many, **stages))

    plain = taught_rows()
    assert plain.labels.tolist() == [0, 0, 1, 1, 0]
    assert plain.oracle_labels.tolist() == [1, 1, 0, 0, 0]
    assert plain.prefs.tolist() == [0.0, 0.0, 1.0, 1.0, 0.0]
    assert plain.valid.all()
    assert not plain.equal.any()  # a tie is no "equal" unless a threshold says so
    # Mistakes turn all, the adversary turns them back; near returns are equal whatever was said.
    both = taught_rows(mistake=1.0, adversary=True, equal=0.2, skip=0.5)
    assert both.labels.tolist() == [0, EQUAL, 1, 1, EQUAL]
    assert both.prefs.tolist() == [0.0, 0.5, 1.0, 1.0, 0.5]
    # Skipping looks at the raw returns, not at what the teacher judges by.
    assert both.valid.tolist() == [True, True, True, False, True]
    assert both.weights.tolist() == [1.0, 1.0, 1.0, 0.0, 1.0]
    assert taught_rows(mistake=1.0).labels.tolist() == [1, 1, 0, 0, 1]
    assert not taught_rows(missing=1.0).valid.any()


def test_a_stage_more_does_not_reshuffle_the_others(returns):
    """Same key: labels, mistakes and losses of answers are the same whatever else is on."""
    plain = taught(returns, returns, beta=1.0)
    missed = taught(returns, returns, beta=1.0, missing=0.3)
    np.testing.assert_array_equal(missed.labels, plain.labels)
    assert missed.valid.mean() == pytest.approx(0.7, abs=0.01)
    mistaken = taught(returns, returns, beta=1.0, missing=0.3, mistake=0.2)
    np.testing.assert_array_equal(mistaken.valid, missed.valid)
    flipped = mistaken.labels != plain.labels
    assert flipped.mean() == pytest.approx(0.2, abs=0.01)
    assert flipped[missed.valid].mean() == pytest.approx(0.2, abs=0.01)  # streams of their own
    everything = taught(returns, returns, beta=1.0, missing=0.3, mistake=0.2, skip=0.5, equal=0.5)
    kept = ~everything.equal
    np.testing.assert_array_equal(everything.labels[kept], mistaken.labels[kept])
    want = missed.valid & (np.max(returns, -1) > 0.5)
    np.testing.assert_array_equal(everything.valid, want)


def test_weak_labels_survive_the_mistakes(returns):
    """EQUAL has no opposite."""
    data = taught(0 * returns, returns, beta=1.0, threshold=0.5, mistake=1.0)
    assert set(data.labels.tolist()) == {EQUAL, 0, 1}
    want = 1 - 2 / (1 + np.exp(0.5))
    assert data.equal.mean() == pytest.approx(want, abs=0.01)
    np.testing.assert_array_equal(data.prefs[data.equal], 0.5)


def test_a_reward_model_is_fitted_by_what_is_there_already():
    """Comparisons -> PreferenceBatch -> algos.reward_model, its loss the soft Bradley-Terry one.

    Pairs that are not valid hold nonsense and never matter.
    """
    weights = np.array([1.0, -0.5, 0.2], np.float32)
    features = np.random.default_rng(1).normal(size=(4000, 2, 3)).astype(np.float32)
    returns = jnp.asarray(np.resize(features @ weights, (PAIRS, 2)))
    many = taught(returns, returns, beta=2.0, equal=0.1, missing=0.2)
    data = jax.tree.map(lambda x: jnp.asarray(x[:4000]), many)

    @jax.jit
    def fit(data, features):
        shown = jnp.where(data.valid[:, None, None], features, 1e3)
        mask = jnp.ones((4000, 1), bool)
        items = [Trajectory(shown[:, i : i + 1], mask.astype(int), mask) for i in (0, 1)]
        batch = PreferenceBatch(items[1], items[0], weights=data.weights)
        reward, optimizer = linear_reward(3), optax.sgd(1.0)

        def loss(first, second):
            return soft_bradley_terry_loss(first, second, data.prefs)

        update = make_update(reward, optimizer, loss=loss)
        params = reward.init(KEY)
        state = TrainState(params, optimizer.init(params), jnp.array(0))
        return jax.lax.scan(lambda state, _: update(state, batch), state, length=200)

    state, metrics = fit(data, features)
    np.testing.assert_allclose(state.params, 2.0 * weights, atol=0.2)
    losses = np.asarray(metrics["loss"].total) / np.asarray(metrics["loss"].weight)
    assert losses[0] == pytest.approx(np.log(2), rel=1e-5)
    assert losses[-1] < 0.45


def test_segments_of_different_lengths_are_refused():
    mask = np.arange(4) < np.array([[3, 3], [3, 2]])[..., None]
    assert comparisons.common_length(mask[:1]) == 3
    message = r"one length: segment \(1, 1\) counts 2 steps, the first one 3"
    with pytest.raises(ValueError, match=message):
        comparisons.common_length(mask)
    with pytest.raises(ValueError, match=r"got a mask of \(0, 4\)"):
        comparisons.common_length(mask[0, :0])
