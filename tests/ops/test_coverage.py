"""Coverage by hand, against dense algebra, and confidence sets that hold as often as said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.coverage import (
    concentrability,
    design_matrix,
    effective_dimension,
    logistic_radius,
    lower_rewards,
    offline_guarantee,
    relative_condition,
    spectrum,
)
from rlhf_jax.ops.elliptical import elliptical_norms
from rlhf_jax.ops.newton import newton_minimum

D, RIDGE = 4, 0.5


def test_designs_leave_out_what_has_no_weight():
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(2, 6, D)), rng.uniform(0, 2, (2, 6))
    weights[:, -1], x[:, -1] = 0.0, np.nan
    dense = np.einsum("bni,bn,bnj->bij", x[:, :-1], weights[:, :-1], x[:, :-1])
    found = design_matrix(jnp.asarray(x), jnp.asarray(weights))
    np.testing.assert_allclose(found, dense, rtol=2e-6, atol=1e-6)
    plain = design_matrix(jnp.asarray(x[:, :-1]))
    np.testing.assert_allclose(plain, np.einsum("bni,bnj->bij", *[x[:, :-1]] * 2), atol=1e-5)


def test_spectrum_and_effective_dimension_by_hand():
    design = jnp.diag(jnp.array([0.5, 0.0, 4.0, 1.5]))
    np.testing.assert_allclose(spectrum(design), [4.0, 1.5, 0.5, 0.0], atol=1e-6)
    # 4 / 4.5 + 1.5 / 2 + 0.5 / 1
    expected = 4 / 4.5 + 1.5 / 2 + 0.5
    np.testing.assert_allclose(effective_dimension(design, ridge=0.5), expected, rtol=1e-6)
    np.testing.assert_allclose(effective_dimension(1e6 * jnp.eye(D), ridge=1e-3), D, rtol=1e-6)


def test_concentrability_by_hand():
    policy = jnp.log(jnp.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]))
    data = jnp.log(jnp.array([[0.8, 0.1, 0.1], [0.5, 0.5, 0.0]]))
    np.testing.assert_allclose(concentrability(policy, data), [5.0, np.inf])
    np.testing.assert_allclose(concentrability(data, data), [1.0, 1.0])


def test_relative_condition_is_the_worst_direction():
    rng = np.random.default_rng(1)
    target, design = (x.T @ x for x in rng.normal(size=(2, 7, D)))
    found = float(relative_condition(jnp.asarray(target), jnp.asarray(design), ridge=RIDGE))
    whole = design + RIDGE * np.eye(D)
    values = np.linalg.eigvals(np.linalg.solve(whole, target)).real
    np.testing.assert_allclose(found, values.max(), rtol=1e-4)
    v = rng.normal(size=(500, D))
    ratios = np.einsum("ni,ij,nj->n", v, target, v) / np.einsum("ni,ij,nj->n", v, whole, v)
    assert ratios.max() <= found * (1 + 1e-5)
    assert ratios.max() > 0.5 * found


def test_radius_by_hand():
    # D = 0: no gain, so sqrt(log 20) / (sqrt(2) / 4) + sqrt(2) * 3, ridge / slope = 2
    found = logistic_radius(jnp.zeros((D, D)), ridge=0.5, slope=0.25, bound=3.0)
    expected = np.sqrt(np.log(20)) / (np.sqrt(2) / 4) + np.sqrt(2) * 3
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # 6 and 2 over ridge / slope = 2: log det V - log det 2 I = log 4 + log 2 = log 8.
    found = logistic_radius(jnp.diag(jnp.array([6.0, 2.0])), ridge=0.5, slope=0.25, bound=0.0)
    expected = np.sqrt(np.log(8) / 2 + np.log(20)) / (np.sqrt(2) / 4)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_lower_rewards_are_the_least_in_the_confidence_set():
    rng = np.random.default_rng(2)
    root = rng.normal(size=(D, D))
    inverse = root @ root.T + np.eye(D)
    params, features, origin = rng.normal(size=D), rng.normal(size=(3, D)), rng.normal(size=D)
    given = map(jnp.asarray, (features, params, inverse))
    found = lower_rewards(*given, radius=0.7, origin=jnp.asarray(origin))
    moves = rng.normal(size=(20_000, D))
    design = np.linalg.inv(inverse)
    moves *= 0.7 / np.sqrt(np.einsum("ni,ij,nj->n", moves, design, moves))[:, None]
    sampled = (features - origin) @ (params + moves).T
    assert (sampled.min(1) >= found - 1e-5).all()
    np.testing.assert_allclose(sampled.min(1), found, atol=0.05)


def _fit(key, *, pairs: int):
    """A regression on random pairs: its set, its distance to the truth, and the truth."""
    w_key, x_key, y_key = jax.random.split(key, 3)
    truth = jax.random.normal(w_key, (D,))
    truth = truth / jnp.linalg.norm(truth)
    x = jax.random.normal(x_key, (pairs, D)) * jnp.array([1.0, 1.0, 0.3, 0.0])
    y = jax.random.uniform(y_key, (pairs,)) < jax.nn.sigmoid(x @ truth)
    x = jnp.where(y[:, None], x, -x)

    def objective(w):
        return bradley_terry_loss(x @ w, jnp.zeros(pairs)).sum() + RIDGE * w @ w / 2

    fitted = newton_minimum(objective, jnp.zeros(D)).params
    margins = jnp.maximum(jnp.abs(x @ fitted), jnp.abs(x @ truth)).max()
    slope = jax.nn.sigmoid(margins) * jax.nn.sigmoid(-margins)
    design = design_matrix(x)
    radius = logistic_radius(design, ridge=RIDGE, slope=slope, bound=1.0, confidence=0.9)
    inverse = jnp.linalg.inv(design + RIDGE / slope * jnp.eye(D))
    error = fitted - truth
    return radius, jnp.sqrt(error @ jnp.linalg.inv(inverse) @ error), inverse, fitted, truth


def test_the_truth_is_in_the_confidence_set():
    keys = jax.random.split(jax.random.key(0), 100)
    radius, distance, *_ = jax.jit(jax.vmap(lambda key: _fit(key, pairs=200)))(keys)
    # The least slope makes the set wide; a set of a fifth of the width would be wrong.
    assert (distance <= radius).mean() >= 0.9
    assert (distance <= radius / 5).mean() < 0.9


@pytest.mark.parametrize("pairs", [20, 20_000])
def test_the_promise_is_kept_and_vacuous_when_it_says_nothing(pairs):
    """On a table of answers the loss of a pessimistic choice is never above its bound."""
    radius, distance, inverse, fitted, truth = _fit(jax.random.key(3), pairs=pairs)
    assert distance <= radius
    answers = jax.random.normal(jax.random.key(4), (12, D)) * jnp.array([1.0, 1.0, 0.3, 0.0])
    rewards = answers @ truth
    chosen = jnp.argmax(lower_rewards(answers, fitted, inverse, radius=radius))
    best = jnp.argmax(rewards)
    norm = elliptical_norms(answers[best], inverse)
    spread = rewards.max() - rewards.min()
    found = offline_guarantee(norm, radius=radius, reward_range=spread)
    loss = rewards[best] - rewards[chosen]
    assert loss <= found.bound + 1e-6
    assert bool(found.vacuous) == bool(found.bound >= spread)
    assert bool(found.vacuous) == (pairs == 20)


def test_what_is_out_of_range_is_refused():
    with pytest.raises(ValueError, match="ridge must be in"):
        effective_dimension(jnp.eye(2), ridge=0.0)
    with pytest.raises(ValueError, match="slope must be in"):
        logistic_radius(jnp.eye(2), ridge=1.0, slope=0.0, bound=1.0)
    with pytest.raises(ValueError, match="confidence must be in"):
        logistic_radius(jnp.eye(2), ridge=1.0, slope=0.1, bound=1.0, confidence=1.0)
    with pytest.raises(ValueError, match="reward_range must be in"):
        offline_guarantee(jnp.ones(1), radius=1.0, reward_range=0.0)
