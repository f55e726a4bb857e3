"""Ensembles of reward models: each member as it would be alone, heads on one trunk, averages."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_params import random_params

from rlhf_jax.algos import reward_model
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.reward_ensemble import (
    FrozenMembers,
    average_members,
    combined_reward,
    make_shared_update,
    make_update,
    separate_trunks,
    shared_trunk,
    stack_members,
)
from rlhf_jax.losses.reward import smoothed_bradley_terry_loss
from rlhf_jax.models import TransformerConfig, make_reward_model
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.ops.ensembles import (
    MemberScale,
    mean_scores,
    member_scale,
    uncertainty_penalised_scores,
    worst_case_scores,
)
from rlhf_jax.policies.language import language_reward, language_trajectory
from rlhf_jax.types import PreferenceBatch, RewardFn, Trajectory

SGD = optax.sgd(1.0)
FEATURES = 3


def answers(x):
    """Answers [*B, d] of one step."""
    mask = jnp.ones((*x.shape[:-1], 1), bool)
    return Trajectory(x, jnp.zeros(mask.shape, int), mask)


def network(width=4):
    """A reward with a trunk and a head."""
    mlp = make_mlp((FEATURES, width, 1))

    def init(key):
        trunk, head = mlp.init(key)
        return {"trunk": trunk, "head": head}

    def scores(params, trajectory):
        return mlp.apply((params["trunk"], params["head"]), trajectory.inputs)[..., 0]

    return RewardFn(init, scores)


def pairs(*lead, seed=0):
    x = np.random.default_rng(seed).standard_normal((2, *lead, FEATURES))
    return PreferenceBatch(*(answers(jnp.asarray(each, jnp.float32)) for each in x))


def member(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def assert_trees_close(one, other, **tolerance):
    jax.tree.map(partial(np.testing.assert_allclose, **tolerance), one, other)


def test_separate_members_train_as_they_would_alone():
    """Each on its own order of pairs, its gradient clipped by its own norm."""
    reward, size = network(), 3
    optimizer = optax.chain(optax.clip_by_global_norm(0.05), optax.adam(0.1))
    params = separate_trunks(reward, members=size).init(jax.random.key(0))
    state = jax.vmap(lambda params: init_state(params, optimizer))(params)
    batch = pairs(size, 6)
    together, metrics = jax.jit(make_update(reward, optimizer))(state, batch)
    alone = jax.jit(reward_model.make_update(reward, optimizer))
    totals = 0.0
    for i in range(size):
        new, found = alone(member(state, i), member(batch, i))
        assert_trees_close(member(together, i).params, new.params, rtol=1e-5, atol=1e-6)
        totals += found["loss"].total
    np.testing.assert_allclose(metrics["loss"], (totals, 18.0), rtol=1e-5)
    assert metrics.keys() == found.keys()


def scaled_reward():
    """Score a w x: trunk a, head w."""
    return RewardFn(
        lambda key: {"trunk": jnp.ones(()), "head": jax.random.normal(key)},
        lambda params, trajectory: params["trunk"] * params["head"] * trajectory.inputs[..., 0],
    )


def test_shared_trunk_golden_numbers():
    ensemble = shared_trunk(scaled_reward(), members=2)
    params = {"trunk": jnp.ones(()), "head": jnp.array([1.0, -1.0])}
    batch = PreferenceBatch(answers(jnp.ones((1, 1))), answers(jnp.zeros((1, 1))))
    state, metrics = jax.jit(make_shared_update(ensemble, SGD))(init_state(params, SGD), batch)
    # Margins 1 and -1: log(1 + e^-1) + log(1 + e) = 0.3132617 + 1.3132617 over two members.
    np.testing.assert_allclose(metrics["loss"], (1.6265234, 2.0), rtol=1e-6)
    np.testing.assert_allclose(metrics["scores/accuracy"], (1.0, 2.0))
    # Heads: + sigmoid(-1) / 2 = 0.1344707 and + sigmoid(1) / 2 = 0.3655293;
    # the trunk: + 0.1344707 - 0.3655293.
    np.testing.assert_allclose(state.params["head"], [1.1344707, -0.6344707], rtol=1e-6)
    np.testing.assert_allclose(state.params["trunk"], 0.7689414, rtol=1e-6)


@pytest.mark.long
def test_one_head_is_one_reward_model():
    reward, batch = network(), pairs(5)
    loss = partial(smoothed_bradley_terry_loss, label_smoothing=0.1)
    params = reward.init(jax.random.key(0))
    stacked = {**params, "head": jax.tree.map(lambda x: x[None], params["head"])}
    alone, metrics = reward_model.make_update(reward, SGD, loss=loss)(
        init_state(params, SGD), batch
    )
    update = make_shared_update(shared_trunk(reward, members=1), SGD, loss=loss)
    shared, found = update(init_state(stacked, SGD), batch)
    assert_trees_close(shared.params["trunk"], alone.params["trunk"], rtol=1e-6)
    assert_trees_close(member(shared.params["head"], 0), alone.params["head"], rtol=1e-6)
    assert_trees_close(found, metrics, rtol=1e-5)


@pytest.mark.long
def test_pairs_may_count_for_some_members_only():
    """As if each head had its own pairs; in micro-batches too."""
    reward = network()
    ensemble = shared_trunk(reward, members=2)
    params, batch = ensemble.init(jax.random.key(1)), pairs(6)
    weights = jnp.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 2)  # [B, N]
    state = init_state(params, SGD)
    new, metrics = make_shared_update(ensemble, SGD)(
        state, PreferenceBatch(batch.chosen, batch.rejected, weights=weights)
    )
    assert metrics["loss"].weight == 6.0

    def loss(params):
        gaps = ensemble.scores(params, batch.chosen) - ensemble.scores(params, batch.rejected)
        return -jnp.sum(jax.nn.log_sigmoid(gaps) * weights.T) / 6

    grads = jax.grad(loss)(params)
    expected = jax.tree.map(jnp.subtract, params, grads)
    assert_trees_close(new.params, expected, rtol=1e-5, atol=1e-6)
    split, _ = make_shared_update(ensemble, SGD, parts=2)(
        state, PreferenceBatch(batch.chosen, batch.rejected, weights=weights)
    )
    assert_trees_close(split.params, new.params, rtol=1e-5, atol=1e-6)


def test_other_weights_and_losses_of_another_shape_are_named():
    ensemble, batch = shared_trunk(network(), members=2), pairs(4)
    state = init_state(ensemble.init(jax.random.key(0)), SGD)
    with pytest.raises(ValueError, match=r"weights must be \[4\], or \[4, 2\] .* got \[3\]"):
        make_shared_update(ensemble, SGD)(
            state, PreferenceBatch(batch.chosen, batch.rejected, weights=jnp.ones(3))
        )
    with pytest.raises(ValueError, match="one loss per member and pair"):
        make_shared_update(ensemble, SGD, loss=lambda a, b: jnp.mean(a - b))(state, batch)


def test_a_shared_trunk_is_computed_once():
    reward, x = network(width=64), answers(jnp.ones((100, FEATURES)))

    def operations(ensemble):
        params = ensemble.init(jax.random.key(0))
        cost = jax.jit(ensemble.scores).lower(params, x).cost_analysis()
        assert cost is not None
        return cost["flops"]

    one = operations(separate_trunks(reward, members=1))
    assert operations(shared_trunk(reward, members=8)) < 4 * one
    assert operations(separate_trunks(reward, members=8)) > 7 * one


def test_heads_start_apart_and_share_the_rest():
    ensemble = shared_trunk(network(), members=3)
    params = ensemble.init(jax.random.key(0))
    assert params["head"]["weight"].shape == (3, 4, 1)
    assert params["trunk"]["weight"].shape == (FEATURES, 4)
    assert len(np.unique(params["head"]["weight"])) == 12
    with pytest.raises(ValueError, match='needs params with a "head"'):
        shared_trunk(RewardFn(lambda key: jnp.ones(2), lambda *_: None), members=2).init(
            jax.random.key(0)
        )
    with pytest.raises(ValueError, match=r"members must be in \[1, inf\)"):
        separate_trunks(network(), members=0)


def test_combined_scores_are_standardised_and_frozen():
    ensemble = separate_trunks(network(), members=3)
    params, x = ensemble.init(jax.random.key(0)), pairs(20).chosen
    raw = ensemble.scores(params, x)
    scale = member_scale(raw)
    for combine, by_hand in (
        (mean_scores, lambda z: z.mean(0)),
        (worst_case_scores, lambda z: z.min(0)),
        (
            partial(uncertainty_penalised_scores, penalty=2.0),
            lambda z: z.mean(0) - 2 * z.var(0),
        ),
    ):
        reward = combined_reward(ensemble, combine)
        found = reward.scores(FrozenMembers(params, scale), x)
        z = np.asarray(raw)
        z = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
        np.testing.assert_allclose(found, by_hand(z), rtol=1e-4, atol=1e-5)
        grads = jax.grad(lambda p, reward=reward: reward.scores(p, x).sum())(
            FrozenMembers(params, scale)
        )
        assert all(bool((g == 0).all()) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("make", [separate_trunks, shared_trunk])
def test_without_a_scale_scores_are_raw(make):
    ensemble, x = make(network(), members=2), pairs(4).chosen
    reward = combined_reward(ensemble, mean_scores)
    start = reward.init(jax.random.key(3))
    np.testing.assert_array_equal(start.scale, MemberScale(jnp.zeros(2), jnp.ones(2)))
    np.testing.assert_allclose(
        reward.scores(start, x), ensemble.scores(start.params, x).mean(0), rtol=1e-6
    )


def test_members_trained_apart_are_stacked():
    reward, x = network(), pairs(4).chosen
    each = [reward.init(jax.random.key(i)) for i in range(3)]
    stacked = stack_members(each)
    found = separate_trunks(reward, members=3).scores(stacked, x)
    alone = [reward.scores(one, x) for one in each]
    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-6)


def test_members_of_unequal_size_are_named():
    key = jax.random.key(0)
    small, large = network(4).init(key), network(5).init(key)
    message = (
        r"members of unequal size: \['head'\]\['weight'\] has shape \(4, 1\) in member 0 and "
        r"\(5, 1\) in member 2"
    )
    with pytest.raises(ValueError, match=message):
        stack_members([small, small, large])
    with pytest.raises(ValueError, match=r"\['trunk'\]\['bias'\] has shape \(4,\) .* and None in"):
        stack_members([small, {**small, "trunk": {"weight": small["trunk"]["weight"]}}])
    with pytest.raises(ValueError, match="at least one member, got none"):
        stack_members([])


def test_averaged_weights():
    params = {"a": jnp.array([[1.0, 2.0], [3.0, 6.0]]), "b": jnp.array([1.0, 2.0], jnp.bfloat16)}
    found = average_members(params)
    np.testing.assert_array_equal(found["a"], [2.0, 4.0])
    assert found["b"] == 1.5
    assert found["b"].dtype == jnp.bfloat16


def test_averaged_weights_of_linear_members_are_their_mean_score():
    """Where scores are linear in the params, WARM and the ensemble mean are one."""
    reward = RewardFn(
        lambda key: jax.random.normal(key, (FEATURES,)),
        lambda params, trajectory: trajectory.inputs @ params,
    )
    ensemble, x = separate_trunks(reward, members=4), pairs(7).chosen
    params = ensemble.init(jax.random.key(0))
    found = reward.scores(average_members(params), x)
    np.testing.assert_allclose(found, mean_scores(ensemble.scores(params, x)), rtol=1e-5, atol=1e-6)


CONFIG = TransformerConfig(
    vocab_size=11, d_model=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4, d_ff=8
)


def language_pairs(rows=6):
    rng = np.random.default_rng(0)
    full = np.ones((rows, 2), bool)

    def side():
        ids = [jnp.asarray(rng.integers(1, 11, (rows, 2)), jnp.int32) for _ in range(2)]
        return language_trajectory(ids[0], full, ids[1], full)

    return PreferenceBatch(side(), side())


@pytest.mark.long
@pytest.mark.parametrize("make", [separate_trunks, shared_trunk])
def test_members_of_a_language_model_learn_pairs(make):
    """Heads and trunk of a transformer; the mean, the worst and UWO agree with the labels."""
    reward = language_reward(make_reward_model(CONFIG))
    ensemble, batch, optimizer = make(reward, members=3), language_pairs(), optax.adam(0.02)
    params = random_params(ensemble.init)
    if make is separate_trunks:
        update = make_update(reward, optimizer)
        state = jax.vmap(lambda params: init_state(params, optimizer))(params)
        seen = jax.tree.map(lambda x: jnp.broadcast_to(x, (3, *jnp.shape(x))), batch)
    else:
        update = make_shared_update(ensemble, optimizer)
        state, seen = init_state(params, optimizer), batch

    @jax.jit
    def train(state):
        def step(state, _):
            state, metrics = update(state, seen)
            return state, metrics["loss"].value()

        return jax.lax.scan(step, state, length=60)

    state, losses = train(state)
    assert losses[-1] < 0.2 < losses[0]
    both = [ensemble.scores(state.params, x) for x in (batch.chosen, batch.rejected)]
    assert both[0].shape == (3, 6)
    scale = member_scale(jnp.stack(both, axis=1))
    for combine in (
        mean_scores,
        worst_case_scores,
        partial(uncertainty_penalised_scores, penalty=0.5),
    ):
        scores = combined_reward(ensemble, combine).scores
        frozen = FrozenMembers(state.params, scale)
        assert (scores(frozen, batch.chosen) > scores(frozen, batch.rejected)).mean() >= 5 / 6
