"""Mixtures of Bradley-Terry models by hand, by what EM promises, and on users in known groups."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.mixture_reward import (
    LinearMixture,
    MixtureParams,
    UserComparisons,
    UserPairs,
    check_comparisons,
    em_step,
    fit_mixture,
    init_mixture,
    linear_logliks,
    make_objective,
    make_update,
    mixture_objective,
    refit_mixture,
    responsibilities,
    user_losses,
)
from rlhf_jax.losses.preference import mixture_loss
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.models import TransformerConfig, make_reward_model
from rlhf_jax.ops.newton import newton_minimum
from rlhf_jax.policies.language import language_reward, language_trajectory
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.policies.tabular import tabular_reward
from rlhf_jax.types import Trajectory

PRECISION = 1e-2


def answers(items):
    """[*B] items of a table with one state."""
    items = jnp.asarray(items)[..., None]
    return Trajectory(jnp.zeros_like(items), items, jnp.ones(items.shape, bool))


def crowd(key=0, users=60, pairs=10, share=0.75, scale=2.0):
    """Users of opposite taste in the first feature and of one taste in the second; classes [H]."""
    class_key, feature_key, label_key = jax.random.split(jax.random.key(key), 3)
    classes = (jax.random.uniform(class_key, (users,)) > share).astype(int)
    weights = scale * jnp.array([[1.0, 0.5, 0.0], [-1.0, 0.5, 0.0]])
    found = jax.random.normal(feature_key, (users, pairs, 3))
    margins = jnp.einsum("hnd,hd->hn", found, weights[classes])
    wins = jax.random.uniform(label_key, margins.shape) < jax.nn.sigmoid(margins)
    found = jnp.where(wins[..., None], found, -found)
    return UserComparisons(found, jnp.ones((users, pairs), bool)), classes, weights


def test_responsibilities_by_hand():
    # 1/4 e^0 : 3/4 e^-log 3 = 1 : 1
    shares = jnp.array([0.25, 0.75])
    logliks = jnp.array([[0.0, -np.log(3.0)], [-1000.0, -1001.0]])
    found = responsibilities(logliks, shares)
    # 1/4 : 3/4 e^-1 = 0.4753669
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.4753669, 0.5246331]], rtol=1e-4)
    np.testing.assert_array_equal(responsibilities(logliks, shares, hard=True), [[1, 0], [1, 0]])
    cold = responsibilities(1000.0 * logliks, shares)
    np.testing.assert_allclose(cold, responsibilities(logliks, shares, hard=True), atol=1e-6)


def test_golden_numbers():
    """One user, two comparisons of two items, rewards (0, 1) and (1, 0), equal shares."""
    params = MixtureParams(jnp.array([[[0.0, 1.0]], [[1.0, 0.0]]]), jnp.zeros(2))
    pairs = UserPairs(answers([[1, 1]]), answers([[0, 0]]), jnp.ones((1, 2), bool))
    reward = tabular_reward(1, 2)
    # 2 log(1 + e^-1) = 0.6265234 and 2 log(1 + e) = 2.6265234
    losses = user_losses(reward, params.reward, pairs)
    np.testing.assert_allclose(losses, [[0.6265234, 2.6265234]], rtol=1e-6)
    loss, found = make_objective(reward)(params, pairs)
    # 0.6265234 - log(1/2 + 1/2 e^-2) = 1.1927426; 1 / (1 + e^-2) = 0.8807971
    np.testing.assert_allclose(loss.value(), 1.1927426, rtol=1e-6)
    np.testing.assert_allclose(found["users/certainty"].value(), 0.8807971, rtol=1e-6)
    np.testing.assert_allclose(found["users/smallest_share"].value(), 0.5)
    np.testing.assert_allclose(
        make_objective(reward, hard=True)(params, pairs)[0].value(), 0.6265234, rtol=1e-6
    )


def batch_of(comparisons):
    """Any reward's view of linear comparisons: the rejected answer has features 0."""
    zeros = jnp.zeros_like(comparisons.differences)
    return UserPairs(
        vector_trajectory(comparisons.differences), vector_trajectory(zeros), comparisons.mask
    )


@pytest.mark.long
def test_the_gradient_is_that_of_the_m_step_after_an_e_step():
    comparisons, _, weights = crowd(users=12)
    batch, logits = batch_of(comparisons), jnp.array([0.3, -0.2])
    params, reward = MixtureParams(weights, logits), linear_reward(3)

    def loss(params):
        return make_objective(reward)(params, batch)[0].value()

    slopes = jax.grad(loss)(params)
    logliks = linear_logliks(weights, comparisons)
    np.testing.assert_allclose(user_losses(reward, weights, batch), -logliks, rtol=1e-5)
    gammas = responsibilities(logliks, jax.nn.softmax(logits))

    def m_step(weights):
        return -jnp.mean(jnp.sum(gammas * linear_logliks(weights, comparisons), -1))

    np.testing.assert_allclose(slopes.reward, jax.grad(m_step)(weights), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        slopes.share_logits, jax.nn.softmax(logits) - gammas.mean(0), atol=1e-6
    )
    np.testing.assert_allclose(
        loss(params), mixture_loss(-logliks, jax.nn.softmax(logits)).mean(), rtol=1e-5
    )


@pytest.mark.long
def test_one_group_is_bradley_terry():
    comparisons, _, _ = crowd()
    flat = comparisons.differences.reshape(-1, 3)

    def pooled(weights):
        losses = bradley_terry_loss(flat @ weights, jnp.zeros(len(flat)))
        return jnp.sum(losses) + PRECISION / 2 * jnp.sum(weights**2)

    want = newton_minimum(pooled, jnp.zeros(3)).params
    for hard in (False, True):
        found = fit_mixture(
            jax.random.key(0), comparisons, groups=1, precision=PRECISION, rounds=2, hard=hard
        )
        np.testing.assert_allclose(found.mixture.weights[0], want, rtol=1e-3)
        np.testing.assert_array_equal(found.responsibilities, 1.0)


@pytest.mark.long
@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_no_round_of_em_lowers_its_objective(hard):
    with jax.enable_x64(True):
        comparisons, _, _ = crowd(users=30, pairs=4, scale=1.0)
        for key in range(5):
            found = fit_mixture(
                jax.random.key(key),
                comparisons,
                groups=3,
                precision=PRECISION,
                rounds=25,
                restarts=1,
                hard=hard,
            )
            assert (np.diff(found.objectives) >= -1e-9).all()
            assert float(found.objectives[-1] - found.objectives[0]) > 1.0
            np.testing.assert_allclose(found.responsibilities.sum(-1), 1.0, rtol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_users_in_known_groups_are_found(hard):
    comparisons, classes, weights = crowd()
    found = fit_mixture(
        jax.random.key(1), comparisons, groups=2, precision=PRECISION, hard=hard, rounds=8
    )
    chosen = found.responsibilities.argmax(-1)
    right = float(jnp.mean(chosen == classes))
    assert max(right, 1 - right) >= 0.95
    order = [0, 1] if right > 0.5 else [1, 0]
    np.testing.assert_allclose(found.mixture.weights[jnp.array(order)], weights, atol=0.8)
    np.testing.assert_allclose(found.mixture.shares[order[1]], jnp.mean(classes == 1), atol=0.05)


@pytest.mark.long
def test_restarts_keep_the_best_of_their_objectives():
    """The first restart is the same however many follow, so more of them never end lower."""
    comparisons, _, _ = crowd(users=20, pairs=3, scale=1.0)
    ends = []
    for restarts in (1, 8):
        found = fit_mixture(
            jax.random.key(0),
            comparisons,
            groups=4,
            precision=PRECISION,
            rounds=6,
            restarts=restarts,
            hard=True,
        )
        last = mixture_objective(found.mixture, comparisons, precision=PRECISION, hard=True)
        np.testing.assert_allclose(found.objectives[-1], last, rtol=1e-4)
        ends.append(float(last))
    assert ends[1] > ends[0] + 0.1


@pytest.mark.long
def test_a_group_that_nobody_joins_keeps_its_weights():
    comparisons, _, weights = crowd(users=5)
    mixture = LinearMixture(weights, jnp.array([0.5, 0.5]))
    gammas = jnp.tile(jnp.array([1.0, 0.0]), (5, 1))
    found = refit_mixture(gammas, mixture, comparisons, precision=PRECISION)
    np.testing.assert_array_equal(found.weights[1], weights[1])
    np.testing.assert_array_equal(found.shares, [1.0, 0.0])
    assert jnp.isfinite(em_step(found, comparisons, precision=PRECISION).weights).all()


@pytest.mark.long
def test_a_user_without_comparisons_and_padding_never_matter():
    """To rounding of float64. In float32 Newton stops at the rounding of its objective, which
    padding changes."""
    with jax.enable_x64(True):
        comparisons, _, _ = crowd(users=20)
        blank = jnp.full((1, 10, 3), jnp.nan)
        padded = UserComparisons(
            jnp.concatenate([comparisons.differences, blank]),
            jnp.concatenate([comparisons.mask, jnp.zeros((1, 10), bool)]),
        )
        short = UserComparisons(comparisons.differences[:, :4], comparisons.mask[:, :4])
        few = comparisons.mask & (jnp.arange(10) < 4)
        unknown = jnp.where(few[..., None], comparisons.differences, jnp.nan)
        hidden = UserComparisons(unknown, few)
        weights = jax.random.normal(jax.random.key(0), (2, 3))
        mixture = LinearMixture(weights, jnp.array([0.6, 0.4]))
        for plain, more in ((comparisons, padded), (short, hidden)):
            found = [em_step(mixture, x, precision=PRECISION) for x in (plain, more)]
            for one, other in zip(*found, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
            values = [mixture_objective(mixture, x, precision=PRECISION) for x in (plain, more)]
            np.testing.assert_allclose(*values, rtol=1e-12)
        params = MixtureParams(weights, jnp.zeros(2))
        losses = [
            make_objective(linear_reward(3))(params, batch_of(x))[0].value()
            for x in (comparisons, padded)
        ]
        np.testing.assert_allclose(*losses, rtol=1e-6)


@pytest.mark.long
def test_gradient_steps_find_the_groups_too():
    comparisons, classes, _ = crowd()
    reward, optimizer = linear_reward(3), optax.adam(0.1)
    update = jax.jit(make_update(reward, optimizer))
    params = init_mixture(jax.random.key(0), reward, groups=2)
    assert float(jnp.abs(params.reward[0] - params.reward[1]).max()) > 0.01
    state = init_state(params, optimizer)
    for _ in range(100):
        state, metrics = update(state, batch_of(comparisons))
    losses = user_losses(reward, state.params.reward, batch_of(comparisons))
    right = float(jnp.mean(losses.argmin(-1) == classes))
    assert max(right, 1 - right) >= 0.95
    assert float(metrics["users/certainty"].value()) > 0.95
    shares = jax.nn.softmax(state.params.share_logits)
    np.testing.assert_allclose(shares.max(), max(classes.mean(), 1 - classes.mean()), atol=0.05)


@pytest.mark.long
@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_the_same_update_on_a_language_model(hard):
    """Four users, two of whom always choose the token that the others reject."""
    config = TransformerConfig(
        vocab_size=8, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=32
    )
    reward, optimizer = language_reward(make_reward_model(config)), optax.adam(0.02)
    tokens = jnp.array([[[3], [4]], [[3], [4]], [[4], [3]], [[4], [3]]])  # user, side, token

    def shown(side):
        ids = jnp.broadcast_to(tokens[:, None, side], (4, 3, 1))
        prompts = jnp.broadcast_to(jnp.array([5, 6, 7])[None, :, None], (4, 3, 1))
        ones = jnp.ones((4, 3, 1), bool)
        return language_trajectory(prompts, ones, ids, ones)

    batch = UserPairs(shown(0), shown(1), jnp.ones((4, 3), bool))
    update = jax.jit(make_update(reward, optimizer, hard=hard))
    params = init_mixture(jax.random.key(2), reward, groups=2)
    state = init_state(params, optimizer)
    first = None
    for _ in range(60):
        state, metrics = update(state, batch)
        first = metrics["loss"].value() if first is None else first
    losses = user_losses(reward, state.params.reward, batch)
    chosen = np.asarray(losses.argmin(-1))
    assert chosen[0] == chosen[1] != chosen[2] == chosen[3]
    assert float(metrics["loss"].value()) < 0.6 * float(first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": 0}, r"groups must be in \[1, inf\)"),
        ({"groups": 61}, "at most the users who have comparisons, got 61 for 60"),
        ({"precision": 0.0}, r"precision must be in \(0, inf\)"),
        ({"rounds": 0}, r"rounds must be in \[1, inf\)"),
        ({"restarts": -1}, r"restarts must be in \[1, inf\)"),
    ],
)
def test_numbers_out_of_range_are_named(change, message):
    given = {"groups": 2, "precision": PRECISION} | change
    with pytest.raises(ValueError, match=message):
        fit_mixture(jax.random.key(0), crowd()[0], **given)


def test_outcomes_that_are_no_numbers_are_counted():
    comparisons, _, _ = crowd(users=6)
    broken = UserComparisons(
        comparisons.differences.at[2, 3, 0].set(jnp.nan).at[4, 1, 0].set(jnp.inf), comparisons.mask
    )
    message = "2 of 60 comparisons have a difference that is not finite, the first of user 2"
    with pytest.raises(ValueError, match=message):
        check_comparisons(broken, groups=2)
    hidden = UserComparisons(
        broken.differences, broken.mask & jnp.isfinite(broken.differences[..., 0])
    )
    check_comparisons(hidden, groups=2)
