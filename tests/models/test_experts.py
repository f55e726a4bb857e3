"""A mixture of experts: products in blocks equal dense ones; the load is measured rightly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from decoder_oracle import KINDS, V, tiny
from flax import nnx
from random_params import random_params

from rlhf_jax.algos import gradient, sft
from rlhf_jax.models import MoEConfig, make_transformer
from rlhf_jax.models.feedforward import Experts, blocks
from rlhf_jax.policies.language import (
    language_policy,
    language_router_loss,
    language_trajectory,
)
from rlhf_jax.sharding import make_mesh, shard_params, split_batch


def draw(normalise=True, experts=5, chosen=2):
    """An Experts module with random weights, and tokens [3, 4, d]."""
    moe = MoEConfig(experts=experts, experts_per_token=chosen, normalise_weights=normalise)
    module = Experts(tiny(norm_placement="post"), moe, nnx.Rngs(params=0), None)
    return module, jax.random.normal(jax.random.key(1), (3, 4, 16))


def dense(params, x, *, chosen, normalise):
    """Every expert on every token, with weights that are 0 for all but the k best."""
    probs = jax.nn.softmax(x @ params["router"])
    kept = probs >= jnp.sort(probs)[..., -chosen, None]
    weights = jnp.where(kept, probs, 0.0)
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True) if normalise else weights
    gate, up = (jnp.einsum("...d,edf->...ef", x, params[name]) for name in ("gate", "up"))
    return jnp.einsum("...e,...ef,efd->...d", weights, jax.nn.silu(gate) * up, params["down"])


@pytest.mark.long
@pytest.mark.parametrize("normalise", [True, False])
def test_products_in_blocks_equal_dense_ones_value_and_gradient(normalise):
    module, x = draw(normalise)
    graph, state = nnx.split(module)
    params = nnx.to_pure_dict(state)
    weights = jax.random.normal(jax.random.key(2), x.shape)

    def ours(params, x):
        return jnp.sum(weights * nnx.merge(graph, params)(x))

    def theirs(params, x):
        return jnp.sum(weights * dense(params, x, chosen=2, normalise=normalise))

    got, want = (jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(params, x) for f in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4), got, want)


@pytest.mark.long
def test_all_tokens_may_choose_the_same_experts():
    """No capacity: with one expert far ahead, all tokens still get it and the runner-up."""
    module, x = draw()
    module.router.set_value(jnp.zeros((16, 5)).at[0, 3].set(50.0).at[0, 1].set(20.0))
    x = x.at[..., 0].set(1.0)
    params = nnx.to_pure_dict(nnx.state(module))
    np.testing.assert_array_equal(module.route(x)[2], np.broadcast_to([3, 1], (3, 4, 2)))
    np.testing.assert_allclose(module(x), dense(params, x, chosen=2, normalise=True), atol=2e-5)


def test_blocks_by_hand():
    """24 choices among 3 experts, 13, 0 and 11 of them: two blocks of eight rows for each."""
    first = jnp.array([[0, 2]] * 11 + [[0, 0]])
    slots, owners, size = blocks(first, 3)
    assert size == 8  # the least; 24 / (4 x 3) is 2
    assert len(owners) == 6  # 24 / 8 + 3
    # Expert 0 fills slots 0 to 12 in the order of the tokens, expert 2 begins with block 2.
    np.testing.assert_array_equal(slots[:11], [[i, 16 + i] for i in range(11)])
    np.testing.assert_array_equal(slots[11], [11, 12])
    np.testing.assert_array_equal(owners[:4], [0, 0, 2, 2])


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (40, 2), (300, 4)])
def test_every_choice_has_a_slot_in_a_block_of_its_expert(shape):
    """For any load: even, random and all on one expert."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 5, shape), np.arange(np.prod(shape)) % 5, np.full(shape, 3)
    for chosen in draws:
        chosen = jnp.asarray(chosen).reshape(shape)
        slots, owners, size = blocks(chosen, 5)
        assert len(np.unique(slots)) == chosen.size
        assert int(jnp.max(slots)) < len(owners) * size
        np.testing.assert_array_equal(owners[slots // size], chosen)
        if chosen.size >= 32 * 5:
            assert len(owners) * size <= 1.25 * chosen.size


def test_load_balance_loss_by_hand():
    """Two experts, one choice, logits (log 3, 0) or (0, log 3): probabilities 3/4 and 1/4."""
    module, _ = draw(experts=2, chosen=1)
    module.router.set_value(jnp.zeros((16, 2)).at[0, 0].set(np.log(3.0)).at[1, 1].set(np.log(3.0)))
    first, second = jnp.eye(16)[0], jnp.eye(16)[1]
    real = jnp.ones((1, 4), bool)
    # All tokens to expert 0: f = (1, 0), P = (3/4, 1/4), 2 (3/4) = 1.5
    same = jnp.stack([first] * 4)[None]
    assert float(module.load_balance_loss(same, real)) == pytest.approx(1.5)
    # Half and half: f = (1/2, 1/2), P = (1/2, 1/2), 2 (1/4 + 1/4) = 1, the k of an even load
    even = jnp.stack([first, second, first, second])[None]
    assert float(module.load_balance_loss(even, real)) == pytest.approx(1.0)
    # Three real tokens: f = (2/3, 1/3), P = (7/12, 5/12), 2 (14/36 + 5/36) = 19/18
    cut = real.at[0, 3].set(False)
    assert float(module.load_balance_loss(even, cut)) == pytest.approx(19 / 18)


@pytest.mark.long
def test_the_router_loss_of_a_model_counts_no_padding_and_evens_the_load():
    model = make_transformer(KINDS["experts"])
    params = random_params(model.init)
    ids = jax.random.randint(jax.random.key(0), (2, 6), 0, V)
    segments = jnp.array([[1] * 6, [0, 0, 1, 1, 1, 0]])
    positions = jnp.where(segments > 0, jnp.cumsum(segments, axis=1) - 1, 0)
    loss = jax.jit(jax.value_and_grad(model.router_loss))
    want, _ = loss(params, ids, positions, segments)
    got, _ = loss(params, jnp.where(segments > 0, ids, 7), positions, segments)
    assert float(got) == pytest.approx(float(want), abs=1e-6)
    start = float(want)
    assert 2 <= start <= 5  # from k to E
    for _ in range(30):
        _, grads = loss(params, ids, positions, segments)
        params = jax.tree.map(lambda w, g: w - 0.3 * g, params, grads)
    assert float(loss(params, ids, positions, segments)[0]) < start - 0.1


@pytest.mark.long
def test_a_router_is_evened_while_the_model_is_fine_tuned():
    """SFT plus a large load-balance loss; two micro-batches of equal weight average it."""
    moe = MoEConfig(experts=5, experts_per_token=2, load_balance_weight=10.0)
    model = make_transformer(dataclasses.replace(KINDS["experts"], moe=moe))
    policy, router_loss = language_policy(model), language_router_loss(model)
    ids, full = jax.random.randint(jax.random.key(0), (2, 6), 0, V), jnp.ones((2, 3), bool)
    batch = language_trajectory(ids[:, :3], full, ids[:, 3:], full)
    objective = gradient.add_penalty(
        sft.make_objective(policy), lambda params, batch: router_loss(params, batch.inputs)
    )
    params = random_params(model.init)
    plain, _ = sft.make_objective(policy)(params, batch)
    loss, diagnostics = objective(params, batch)
    extra = router_loss(params, batch.inputs)
    assert float(loss) == pytest.approx(float(plain) + float(extra), rel=1e-6)
    assert float(diagnostics["penalty"]) == pytest.approx(float(extra), rel=1e-6)
    optimizer = optax.sgd(0.03)
    update = jax.jit(gradient.accumulate(objective, optimizer, parts=2))
    state, metrics = update(gradient.init_state(params, optimizer), batch)
    rows = [jax.tree.map(lambda x, i=i: x[i : i + 1], batch) for i in range(2)]
    parts = [float(router_loss(params, row.inputs)) for row in rows]
    assert float(metrics["penalty"].value()) == pytest.approx(sum(parts) / 2, rel=1e-5)
    for _ in range(20):
        state, metrics = update(state, batch)
    assert float(metrics["penalty"].value()) < sum(parts) / 2 - 1.0


def test_a_model_without_experts_has_no_router_loss():
    model = make_transformer(tiny())
    with pytest.raises(ValueError, match="moe=None"):
        language_router_loss(model)
    ones = jnp.ones((1, 2), int)
    params = jax.eval_shape(model.init, jax.random.key(0))
    with pytest.raises(ValueError, match="moe=None"):
        jax.eval_shape(model.router_loss, params, ones, ones, ones)


@pytest.mark.long
def test_experts_split_over_devices_equal_one_device():
    """Four devices hold a part of every expert, and two copies share the rows."""
    model = make_transformer(dataclasses.replace(KINDS["experts"], vocab_size=16, num_kv_heads=4))
    params = random_params(model.init)
    ids = jax.random.randint(jax.random.key(0), (4, 6), 0, 16)
    ones = jnp.ones((4, 6), int)
    rows = (ids, jnp.cumsum(ones, axis=1) - 1, ones)

    def loss(params, rows):
        return jnp.sum(jnp.sin(model.hidden(params, *rows)))

    run = jax.jit(jax.value_and_grad(loss))
    want = run(params, rows)
    mesh = make_mesh(model=4)
    placed = jax.device_put(params, shard_params(model.axes(), mesh))
    got = run(placed, split_batch(rows, mesh))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-3), got, want)


@pytest.mark.long
def test_experts_map_over_seeds():
    model = make_transformer(KINDS["experts"])
    many = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 2))
    many = jax.tree.map(lambda w: w + 0.1, many)
    ones = jnp.ones((1, 3), int)
    got = jax.vmap(model.hidden, in_axes=(0, None, None, None))(many, ones * 2, ones, ones)
    one = model.hidden(jax.tree.map(lambda w: w[1], many), ones * 2, ones, ones)
    np.testing.assert_allclose(got[1], one, atol=1e-5)
