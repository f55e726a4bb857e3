"""Preferences in PR-LSVI: the fit, the query rule, the mask, and the limits of the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from rlhf_jax.algos.planning import lsvi
from rlhf_jax.algos.planning import preference_lsvi as pr
from rlhf_jax.envs.linear_mdp import one_hot_features, step_blocks
from rlhf_jax.losses.reward import bradley_terry_loss

M, N, SLOPE = 4, 30, 3.0
TRUE = np.array([0.9, -0.4, 0.0, 0.5])
fit = jax.jit(pr.fit_reward, static_argnames="steps")


@pytest.fixture(scope="module", autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def told() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences, labels, and which were asked."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, M))
    labels = (rng.random(N) < 1 / (1 + np.exp(-SLOPE * x @ TRUE))).astype(int)
    return x, labels, rng.random(N) < 0.7


@pytest.fixture(scope="module")
def state(told) -> pr.RewardState:
    start = pr.init_reward(room=N + 5, num_features=M)

    def add(state, now):
        return pr.update_reward(state, *now), None

    run = jax.jit(lambda *now: jax.lax.scan(add, start, now)[0])
    return run(*(jnp.asarray(part) for part in told))


def objective(weights, told, ridge):
    x, labels, asked = told
    signs = np.where(labels == 1, 1, -1)[asked]
    losses = np.logaddexp(0, -SLOPE * signs * (x[asked] @ weights))
    return losses.sum() + ridge / 2 * weights @ weights


def test_only_what_was_asked_is_kept(told, state):
    x, labels, asked = told
    rows = asked.sum()
    assert int(state.rows) == rows
    np.testing.assert_array_equal(state.asked, np.arange(N + 5) < rows)
    np.testing.assert_array_equal(state.differences[:rows], x[asked])
    np.testing.assert_array_equal(state.labels[:rows], labels[asked])
    assert not np.any(state.differences[rows:])
    design = np.eye(M) + x[asked].T @ x[asked]
    np.testing.assert_allclose(state.inverse, np.linalg.inv(design), atol=1e-12)


def test_queries_with_one_difference_share_a_row_and_those_without_room_show():
    state = pr.init_reward(room=1, num_features=2)
    first, second = jnp.eye(2)
    rounds = [(first, 1, True), (first, 0, True), (first, 1, False), (second, 1, True)]
    for x, label, asked in rounds:
        state = pr.update_reward(state, x, jnp.array(label), jnp.array(asked))
    np.testing.assert_array_equal(state.differences, [[1.0, 0.0]])
    np.testing.assert_array_equal(state.asked, [2.0])
    np.testing.assert_array_equal(state.labels, [1.0])
    assert int(state.rows) == 2 > len(state.asked)
    np.testing.assert_allclose(state.inverse, np.diag([1 / 3, 1 / 2]), atol=1e-12)
    # One win and one loss: softplus(z) + softplus(-z).
    loss = pr.preference_loss(jnp.array([0.5, 9.0]), state, slope=2.0)
    np.testing.assert_allclose(loss, np.logaddexp(0, 1) + np.logaddexp(0, -1), rtol=1e-12)


def test_the_loss_is_bradley_terry_of_the_asked_pairs(told, state):
    x, labels, asked = told
    scores = jnp.asarray(SLOPE * x @ TRUE)
    zero = jnp.zeros_like(scores)
    chosen = jnp.where(labels == 1, scores, zero)
    rejected = jnp.where(labels == 1, zero, scores)
    known = np.sum(np.asarray(bradley_terry_loss(chosen, rejected))[asked])
    loss = pr.preference_loss(jnp.asarray(TRUE), state, slope=SLOPE)
    np.testing.assert_allclose(loss, known, rtol=1e-12)


def test_the_information_is_the_hessian_of_the_loss(state):
    hessian = jax.jit(jax.hessian(pr.preference_loss))(jnp.asarray(TRUE), state, slope=SLOPE)
    known = pr.reward_information(jnp.asarray(TRUE), state, slope=SLOPE, ridge=0.5)
    np.testing.assert_allclose(known, hessian + 0.5 * np.eye(M), atol=1e-12)


@pytest.mark.parametrize("radius", [10.0, 0.6])
def test_the_fit_is_the_constrained_optimum(told, state, radius):
    """Inside the ball and on its edge, against SciPy's."""
    found = fit(state, slope=SLOPE, radius=radius, ridge=0.3, steps=15)
    ball = {"type": "ineq", "fun": lambda weights: radius**2 - weights @ weights}
    known = minimize(objective, 0.1 * TRUE, (told, 0.3), "SLSQP", constraints=ball, tol=1e-12).x
    assert (np.linalg.norm(known) > radius - 1e-6) == (radius == 0.6)
    np.testing.assert_allclose(found, known, atol=1e-5)


@pytest.mark.long
def test_the_last_move_certifies_the_fit(state):
    options = {"slope": SLOPE, "radius": 0.6, "ridge": 0.3}
    moves = [
        np.abs(pr.newton_move(fit(state, steps=steps, **options), state, **options)).max()
        for steps in (1, 15)
    ]
    assert moves[0] > 1e-3
    assert moves[1] < 1e-12


def test_the_ball_is_kept_whatever_the_scales():
    """Newton on the multiplier needs eight steps here."""
    hessian = jnp.diag(jnp.array([1e-10, 5e-8, 1e-4, 11.0]))
    found = pr.ball_minimiser(hessian, jnp.array([1e-6, 5e-4, 1e-2, 34.0]), 2.5)
    assert float(jnp.linalg.norm(found)) == pytest.approx(2.5, rel=1e-12)


@pytest.mark.long
def test_separable_data_stop_at_the_edge_and_steps_at_one():
    """No ridge to speak of: the likelihood has no maximum, and from -2 it is flat."""
    state = pr.init_reward(room=1, num_features=2)
    state = pr.update_reward(state, jnp.array([1.0, 0.0]), jnp.array(1), jnp.array(True))
    state = state._replace(weights=jnp.array([-2.0, 0.0]))
    path = [state.weights[0]]
    for _ in range(16):
        weights = fit(state, slope=4.0, radius=2.5, ridge=1e-12)
        state = state._replace(weights=weights)
        path.append(state.weights[0])
    np.testing.assert_allclose(path[:3], [-2.0, -1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(state.weights, [2.5, 0.0], atol=1e-6)


def test_the_query_rule_is_the_mean_disagreement_of_two_draws(state):
    x = jnp.array([0.3, -1.0, 0.5, 0.2])
    keys = jax.random.split(jax.random.key(0), 100_000)
    draw = jax.vmap(lambda key: pr.draw_weights(key, jnp.zeros(M), state.inverse, sigma=0.7))
    draws = np.asarray(jax.jit(draw)(keys)).reshape(2, -1, M)
    sampled = np.abs((draws[0] - draws[1]) @ np.asarray(x)).mean()
    exact = pr.expected_disagreement(x, state.inverse, sigma=0.7)
    np.testing.assert_allclose(exact, sampled, rtol=0.015)
    # The same rule twice: eps against the mean, the threshold against the norm.
    for eps, asks in ((exact - 1e-9, True), (exact + 1e-9, False)):
        threshold = pr.norm_threshold(eps, sigma=0.7)
        assert bool(pr.query(state, x, threshold=threshold)) is asks


def test_identical_trajectories_are_never_asked_about(state):
    assert not pr.query(state, jnp.zeros(M), threshold=pr.norm_threshold(0.0, sigma=0.2))
    assert pr.query(state, 1e-9 * jnp.ones(M), threshold=0.0)


def test_queries_of_a_run_stay_within_the_potential_bound():
    """Random directions of length 2, asked about where they are long: log T, not T."""
    rounds, threshold = 2_000, 0.5

    def step(state, x):
        asked = pr.query(state, x, threshold=threshold)
        return pr.update_reward(state, x, jnp.array(1), asked), asked

    x = jax.random.normal(jax.random.key(5), (rounds, M))
    x = 2.0 * x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    start = pr.init_reward(room=rounds, num_features=M)
    asked = jax.jit(lambda x: jax.lax.scan(step, start, x)[1])(x)
    bound = pr.most_queries(rounds, num_features=M, length=2.0, threshold=threshold)
    # By hand: 4 log(1 + 2000) / log 1.25.
    np.testing.assert_allclose(bound, 4 * np.log(2001) / np.log(1.25), rtol=1e-12)
    assert 20 < asked.sum() <= bound
    assert asked[rounds // 2 :].sum() < 5


@pytest.fixture(scope="module")
def known(state) -> pr.PRLSVIState:
    """The preferences above, and some transitions of a world of 2 states and 1 action, H = 2."""
    counts = np.random.default_rng(1).integers(0, 4, size=(2, 2, 1, 2)).astype(float)
    return pr.PRLSVIState(
        state, lsvi.from_counts(one_hot_features(2, 1), jnp.asarray(counts), ridge=1.0)
    )


KNOBS = {"low": 5.0, "high": 6.0, "slope": SLOPE, "radius": 10.0, "ridge": 1.0}


@pytest.mark.long
def test_without_noise_it_is_lsvi_of_the_fitted_reward(known):
    features = one_hot_features(2, 1)
    blocks = step_blocks(features, 2)
    plan, new = pr.preference_plan(
        jax.random.key(0), known, features, blocks, sigma_reward=0.0, sigma_values=0.0, **KNOBS
    )
    # The whole eagerly, its fit jitted.
    weights = fit(known.reward, slope=SLOPE, radius=10.0, ridge=1.0)
    np.testing.assert_allclose(new.reward.weights, weights, atol=1e-13)
    # The last step has no transitions; the first one's clip is away where rewards are their own.
    np.testing.assert_allclose(plan.action_values[1], (blocks @ weights)[1], atol=1e-12)
    design = np.asarray(known.transitions.inverse[0]) @ np.asarray(known.transitions.moments[0])
    expected = (blocks @ weights)[0] + (features @ design) @ plan.values[1]
    np.testing.assert_allclose(plan.action_values[0], expected, atol=1e-12)


@pytest.mark.slow
def test_one_step_is_thompson_sampling_of_a_duelling_linear_bandit(state):
    """H = 1: the arm that is best for the draw, in every context; there are no values."""
    arms = jnp.asarray(np.random.default_rng(3).normal(size=(3, 5, M)))
    bandit = pr.PRLSVIState(state, lsvi.init_lsvi(horizon=1, num_features=15, num_states=3))

    def pick(key):
        plan, _ = pr.preference_plan(
            key,
            bandit,
            one_hot_features(3, 5),
            arms[None],
            sigma_reward=0.8,
            sigma_values=0.0,
            **KNOBS,
        )
        weights = fit(state, slope=SLOPE, radius=10.0, ridge=1.0)
        drawn = pr.draw_weights(jax.random.split(key)[0], weights, state.inverse, sigma=0.8)
        return jnp.argmax(plan.logps[0], -1), jnp.argmax(arms @ drawn, -1)

    got, known = jax.jit(jax.vmap(pick))(jax.random.split(jax.random.key(1), 200))
    np.testing.assert_array_equal(got, known)
    assert len(np.unique(np.asarray(got), axis=0)) > 1
