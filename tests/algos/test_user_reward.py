"""The update of variational preference learning: by hand, by its limits, on a small population."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.user_reward import (
    UserBatch,
    UserContext,
    UserParams,
    cosine_cycles,
    init_user_model,
    make_objective,
    make_update,
    posterior_of,
    prior_kl,
)
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.ops.gaussians import diagonal_normal_kl, standard_normal_kl
from rlhf_jax.policies.latent import decoded_reward, latent_reward, user_encoder
from rlhf_jax.policies.tabular import tabular_reward
from rlhf_jax.types import Trajectory, UserEncoder, UserPosterior, with_latents

SGD = optax.sgd(1.0)
K, ITEMS, USERS = 1, 4, 64


def fixed_encoder(means, log_variances):
    """An encoder that reads nothing: its params are the posterior of each user."""
    found = UserPosterior(jnp.asarray(means), jnp.asarray(log_variances))
    return UserEncoder(lambda key: found, lambda params, chosen, rejected, mask: params)


def answers(items):
    """[*B] items of a table with one state."""
    items = jnp.asarray(items)[..., None]
    return Trajectory(jnp.zeros_like(items), items, jnp.ones(items.shape, bool))


def batch_of(chosen, rejected, mask, noise, features=ITEMS):
    one_hot = (jax.nn.one_hot(x, features) for x in (jnp.asarray(chosen), jnp.asarray(rejected)))
    mask = jnp.asarray(mask)
    context = UserContext(*one_hot, mask)
    return UserBatch(context, answers(chosen), answers(rejected), mask, jnp.asarray(noise))


def test_golden_numbers():
    """One user, two comparisons of two items, r(i, z) = z i."""
    reward = latent_reward(tabular_reward(1, 2), latent_dim=1)
    params = {"base": jnp.zeros((1, 2)), "directions": jnp.array([[[0.0, 1.0]]])}
    encoder = fixed_encoder([[0.5]], [[0.0]])
    params = UserParams(encoder.init(jax.random.key(0)), params)
    batch = batch_of([[1, 0]], [[0, 1]], [[True, True]], [[0.5]], features=2)
    # z = 0.5 + 1 * 0.5 = 1: margins 1 and -1, 0.3132617 + 1.3132617; KL 0.5^2 / 2 = 0.125
    update = make_update(encoder, reward, SGD, beta=2.0)
    state, metrics = jax.jit(update)(init_state(params, SGD), batch)
    np.testing.assert_allclose(metrics["loss"], (1.8765233, 1.0), rtol=1e-6)
    np.testing.assert_allclose(metrics["users/kl"], (0.125, 1.0), rtol=1e-6)
    np.testing.assert_allclose(metrics["scores/accuracy"], (1.0, 2.0))
    # d/dz of the fit is -sigmoid(-1) + sigmoid(1) = 0.4621172, d/dm of 2 KL is 2 * 0.5
    np.testing.assert_allclose(
        params.encoder.means - state.params.encoder.means, [[1.4621172]], rtol=1e-5
    )
    # in lv: 0.4621172 * exp(0) / 2 * 0.5, plus 2 * (exp(0) - 1) / 2 = 0
    np.testing.assert_allclose(
        params.encoder.log_variances - state.params.encoder.log_variances, [[0.1155293]], rtol=1e-5
    )


def small_case(prior_dim=None):
    rng = np.random.default_rng(0)
    encoder, reward = user_encoder(ITEMS, K, width=8), decoded_reward(make_mlp((3 + K, 8, 1)))
    x = jnp.asarray(rng.normal(size=(2, 6, 3, 1, 3)), jnp.float32)
    mask = jnp.asarray(np.arange(3) < np.array([3, 2, 1, 3, 2, 0])[:, None])
    ones = jnp.ones((6, 3, 1), bool)
    chosen, rejected = (Trajectory(each, ones.astype(int), ones) for each in x)
    context = UserContext(
        *jnp.asarray(rng.normal(size=(2, 6, 2, ITEMS)), jnp.float32), jnp.ones((6, 2), bool)
    )
    noise = jnp.asarray(rng.normal(size=(6, K)), jnp.float32)
    params = init_user_model(jax.random.key(0), encoder, reward, prior_dim=prior_dim)
    return encoder, reward, params, UserBatch(context, chosen, rejected, mask, noise)


@pytest.mark.long
def test_users_are_averaged_and_one_without_comparisons_does_not_count():
    encoder, reward, params, batch = small_case()
    loss, diagnostics = make_objective(encoder, reward)(params, batch, 0.3)
    assert float(loss.weight) == 5.0
    total = 0.0
    for u in range(6):
        row = jax.tree.map(lambda x, u=u: x[u : u + 1], batch)
        one, found = make_objective(encoder, reward)(params, row, 0.3)
        total += float(one.total)
        assert float(found["users/kl"].weight) == (u < 5)
    np.testing.assert_allclose(loss.total, total, rtol=1e-5)
    assert float(diagnostics["scores/margin"].weight) == 11.0


def test_padding_never_matters():
    encoder, reward, params, batch = small_case()
    update = jax.jit(make_update(encoder, reward, SGD, beta=0.3))
    hidden = batch.mask[..., None, None]
    spoiled = replace(
        batch,
        chosen=replace(batch.chosen, inputs=jnp.where(hidden, batch.chosen.inputs, 1e3)),
        rejected=replace(batch.rejected, inputs=jnp.where(hidden, batch.rejected.inputs, -1e3)),
    )
    one, other = (update(init_state(params, SGD), each)[0].params for each in (batch, spoiled))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), one, other)


@pytest.mark.long
def test_micro_batches_and_order_change_nothing():
    encoder, reward, params, batch = small_case(prior_dim=K)
    whole = make_update(encoder, reward, SGD, beta=0.3)(init_state(params, SGD), batch)[0]
    parts = make_update(encoder, reward, SGD, beta=0.3, parts=3)(init_state(params, SGD), batch)[0]
    turned = jax.tree.map(lambda x: x[::-1], batch)
    order = make_update(encoder, reward, SGD, beta=0.3)(init_state(params, SGD), turned)[0]
    for other in (parts, order):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), whole, other
        )


def test_a_latent_that_is_not_read_leaves_bradley_terry():
    """z removed: the loss of the reward is the mean over users of their Bradley-Terry losses."""
    encoder, reward, params, batch = small_case()
    blind = jax.tree.map(lambda x: x, params.reward)
    first = blind[0]["weight"].at[3:].set(0.0)  # the rows of z
    params = params._replace(reward=({**blind[0], "weight": first}, *blind[1:]))
    loss, _ = make_objective(encoder, reward)(params, batch, 0.0)
    zeros = jnp.zeros((6, K))
    scores = [
        reward.scores(params.reward, with_latents(each, zeros))
        for each in (batch.chosen, batch.rejected)
    ]
    plain = jnp.where(batch.mask, bradley_terry_loss(*scores), 0.0).sum() / 5
    np.testing.assert_allclose(loss.value(), plain, rtol=1e-5)


def test_the_prior_is_standard_or_learned():
    encoder, reward, params, batch = small_case(prior_dim=K)
    found = posterior_of(encoder, params, batch.context)
    np.testing.assert_allclose(
        prior_kl(params, found), standard_normal_kl(*found), rtol=1e-5, atol=1e-7
    )
    moved = params._replace(prior=UserPosterior(jnp.array([0.3]), jnp.array([-0.5])))
    wide = [jnp.broadcast_to(x, found.means.shape) for x in moved.prior]
    np.testing.assert_allclose(prior_kl(moved, found), diagonal_normal_kl(*found, *wide), rtol=1e-5)
    state, _ = make_update(encoder, reward, SGD, beta=1.0)(init_state(params, SGD), batch)
    assert float(jnp.abs(state.params.prior.means).min()) > 0


def test_a_weight_that_changes_with_the_step():
    encoder, reward, params, batch = small_case()
    cycles = cosine_cycles(0.4, period=10)
    update = jax.jit(make_update(encoder, reward, SGD, beta=cycles))
    state = init_state(params, SGD)._replace(step=jnp.asarray(12))
    plain = make_update(encoder, reward, SGD, beta=float(cycles(jnp.asarray(2))))
    np.testing.assert_allclose(
        update(state, batch)[1]["loss"], plain(state, batch)[1]["loss"], rtol=1e-5
    )


def test_cycles_by_hand():
    # rises over 5 of 10 steps: (1 - cos(pi t)) / 2 at t = 0, 2/5, 1, 1, and again
    beta = cosine_cycles(2.0, period=10)
    found = [float(beta(jnp.asarray(step))) for step in (0, 2, 5, 9, 10, 12)]
    np.testing.assert_allclose(found, [0.0, 0.6909830, 2.0, 2.0, 0.0, 0.6909830], atol=1e-6)
    with pytest.raises(ValueError, match=r"period must be in \[1, inf\)"):
        cosine_cycles(1.0, period=0)
    with pytest.raises(ValueError, match=r"ramp must be in \(0, 1\]"):
        cosine_cycles(1.0, period=4, ramp=0.0)


@pytest.mark.long
def test_two_opposite_users_on_a_table():
    """Users who rank four items from both ends: a table linear in z serves each of them from four
    noiseless comparisons, where one table for all is at chance. Unseen comparisons are measured."""
    rng = np.random.default_rng(1)
    encoder = user_encoder(ITEMS, K, width=16)
    reward = latent_reward(tabular_reward(1, ITEMS), latent_dim=K)

    def population(users, pairs):
        signs = np.where(np.arange(users) % 2, 1, -1)
        items = np.stack([rng.permutation(ITEMS)[:2] for _ in range(users * pairs)])
        items = items.reshape(users, pairs, 2)
        order = np.where((items[..., 0] - items[..., 1]) * signs[:, None] > 0, 0, 1)[..., None]
        winners = np.take_along_axis(items, order, -1)[..., 0]
        return winners, items.sum(-1) - winners

    optimizer = optax.adam(2e-2)
    update = jax.jit(make_update(encoder, reward, optimizer, beta=0.01))
    state = init_state(init_user_model(jax.random.key(0), encoder, reward), optimizer)
    ones = np.ones((USERS, 4), bool)
    for _ in range(150):
        noise = jnp.asarray(rng.normal(size=(USERS, K)), jnp.float32)
        state, metrics = update(state, batch_of(*population(USERS, 4), ones, noise))
    assert float(metrics["users/kl"].value()) > 0.1
    winners, losers = population(500, 8)
    shown = batch_of(winners[:, :4], losers[:, :4], np.ones((500, 4), bool), np.zeros((500, K)))
    means = posterior_of(encoder, state.params, shown.context).means

    def accuracy(latents):
        scores = [
            reward.scores(state.params.reward, with_latents(answers(items[:, 4:]), latents))
            for items in (winners, losers)
        ]
        return float(jnp.mean(scores[0] > scores[1]))

    assert accuracy(means) > 0.95
    assert accuracy(means[::-1]) < 0.05  # 500 users: the last has the other taste than the first
    assert abs(accuracy(0 * means) - 0.5) < 0.1
