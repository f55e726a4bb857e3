"""Eight simulated devices compute what one does, and memory is laid out as the rules say."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rlhf_jax.sharding import (
    batch_ways,
    check_mesh,
    compile_update,
    constrain,
    make_mesh,
    parse_mesh,
    shard_params,
    shard_state,
)
from rlhf_jax.types import TrainState

AXES = {"up": ("embed", "mlp"), "down": ("mlp", "embed"), "bias": ("embed",), "scale": ()}
OPTIMIZER = optax.adam(1e-2)


def init():
    up, down = (jax.random.normal(jax.random.key(i), (4, 8)) / 4 for i in (1, 2))
    params = {"up": up, "down": down.T, "bias": jnp.zeros(4), "scale": jnp.ones(())}
    return TrainState(params, OPTIMIZER.init(params), jnp.zeros((), jnp.int32))


def update(state, batch, key):
    noise = jax.random.normal(jax.random.fold_in(key, state.step), batch["x"].shape) / 10

    def loss_fn(p):
        hidden = jax.nn.silu((batch["x"] + noise) @ p["up"])
        error = p["scale"] * (hidden @ p["down"] + p["bias"]) - batch["y"]
        return batch["weight"] * jnp.mean(error**2)

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    updates, opt_state = OPTIMIZER.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, state.step + 1), {"loss": loss}


def batch_of(step):
    x = np.random.default_rng(step).normal(size=(16, 4)).astype(np.float32)
    return {"x": x, "y": -x, "weight": np.float32(2)}


def steps(step_fn, count=4):
    state, losses = init(), []
    for step in range(count):
        state, metrics = step_fn(state, batch_of(step), jax.random.key(5))
        losses.append(metrics["loss"])
    return state, losses


@pytest.mark.long
@pytest.mark.parametrize("model", [2, 8])
def test_eight_devices_agree_with_one(model):
    assert len(jax.devices()) == 8
    one, losses = steps(compile_update(update))
    mesh = make_mesh(fsdp=1, model=model)
    shardings = shard_state(init(), init().params, shard_params(AXES, mesh), mesh)
    eight, split_losses = steps(compile_update(update, mesh=mesh, state_shardings=shardings))
    np.testing.assert_allclose(losses, split_losses, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    up, moment = eight.params["up"], eight.opt_state[0].mu["up"]
    assert up.sharding.spec == moment.sharding.spec == PartitionSpec("fsdp", "model")
    assert up.addressable_shards[0].data.shape == (4, 8 // model)
    assert eight.step.sharding.is_fully_replicated
    assert len(up.sharding.device_set) == 8


def test_without_shardings_the_state_is_copied():
    mesh = make_mesh()
    state, _ = steps(compile_update(update, mesh=mesh), count=1)
    assert state.params["up"].sharding.is_fully_replicated
    assert dict(mesh.shape) == {"data": 1, "fsdp": 8, "sequence": 1, "model": 1}


def test_the_old_state_is_given_up_unless_kept():
    for donate in (True, False):
        state = init()
        compile_update(update, donate=donate)(state, batch_of(0), jax.random.key(5))
        assert state.params["up"].is_deleted() is donate


def test_rules():
    mesh = make_mesh(model=4)
    shardings = shard_params({"a": ("layers", "vocab", None), "b": ("mlp", "heads")}, mesh)
    assert shardings["a"].spec == PartitionSpec(None, "model", None)
    assert shardings["b"].spec == PartitionSpec("model", None)
    with pytest.raises(ValueError, match="no rule for axis 'colour'; the rules know"):
        shard_params(("colour",), mesh)


def test_a_lone_array_is_a_state_too():
    mesh = make_mesh()
    table = jnp.zeros((8, 3))
    state = {"params": table, "count": jnp.zeros(())}
    shardings = shard_state(state, table, shard_params(("batch", None), mesh), mesh)
    assert shardings["params"].spec == PartitionSpec(("data", "fsdp"), None)
    assert shardings["count"].spec == PartitionSpec()


def test_what_does_not_divide_is_named():
    with pytest.raises(ValueError, match="model=3 does not divide 8 devices"):
        make_mesh(model=3)
    step_fn = compile_update(update, mesh=make_mesh())
    short = {"x": np.ones((12, 4)), "y": np.ones((12, 4)), "weight": 1.0}
    with pytest.raises(
        ValueError,
        match="a batch of 12 does not divide over 8 devices: use a multiple of 8; fsdp=4,",
    ):
        step_fn(init(), short, jax.random.key(5))


def ways_of(mesh):
    return {name: count for name, count in mesh.shape.items() if count > 1}


def test_axes_that_are_left_out_take_the_devices_that_are_left():
    assert ways_of(make_mesh()) == {"fsdp": 8}
    assert ways_of(make_mesh(model=2)) == {"fsdp": 4, "model": 2}
    assert ways_of(make_mesh(fsdp=2, model=2)) == {"data": 2, "fsdp": 2, "model": 2}
    assert ways_of(make_mesh(data=4)) == {"data": 4, "fsdp": 2}
    assert ways_of(make_mesh(fsdp=1)) == {"data": 8}
    assert ways_of(make_mesh(sequence=2, devices=jax.devices()[:4])) == {"fsdp": 2, "sequence": 2}
    with pytest.raises(ValueError, match="data=2,fsdp=2 uses 4 of 8 devices"):
        make_mesh(data=2, fsdp=2)
    with pytest.raises(ValueError, match="model=0 does not divide 8 devices"):
        make_mesh(model=0)


def test_a_mesh_is_written_in_one_line():
    assert parse_mesh("fsdp=8,model=4") == {"fsdp": 8, "model": 4}
    assert parse_mesh("data=2, sequence=4") == {"data": 2, "sequence": 4}
    for text in ("", "fsdp", "fsdp=0", "fsdp=-1", "tensor=2", "fsdp=2,fsdp=2", "fsdp=2;model=2"):
        with pytest.raises(ValueError, match="a mesh is written like fsdp=8,model=4, each axis"):
            parse_mesh(text)


def test_a_parameter_that_does_not_divide_is_named_with_the_nearest_mesh():
    axes = {"attention": {"key": ("layers", "embed", "kv_heads", "head_dim")}}
    params = {"attention": {"key": jax.ShapeDtypeStruct((3, 16, 2, 4), np.float32)}}
    check_mesh(axes, params, make_mesh(fsdp=4, model=2))
    message = (
        r"the mesh fsdp=2,model=4 does not fit this model: 2 at \['attention'\]\['key'\] "
        r"\(kv_heads\) does not divide over 4 devices of 'model'; "
        "(data=2,fsdp=2|fsdp=4|fsdp=2,sequence=2),model=2 does"
    )
    with pytest.raises(ValueError, match=message):
        check_mesh(axes, params, make_mesh(fsdp=2, model=4))
    odd = {"attention": {"key": jax.ShapeDtypeStruct((3, 16, 3, 4), np.float32)}}
    with pytest.raises(ValueError, match=r"(data|sequence)=[24].* does"):
        check_mesh(axes, odd, make_mesh(fsdp=4, model=2))


def test_an_activation_is_split_as_far_as_it_divides():
    mesh = make_mesh(fsdp=4, model=2)
    x = constrain(jnp.zeros((8, 6, 3)), mesh, "batch", "length", "heads")
    expected = NamedSharding(mesh, PartitionSpec(("data", "fsdp"), "sequence", None))
    assert x.sharding == expected
    assert constrain(x, None, "batch", "length", "heads") is x
    assert batch_ways(mesh) == 4
    assert batch_ways(None) == 1


def test_a_program_of_a_mesh_is_lowered_from_shapes_alone():
    mesh = make_mesh(fsdp=4, model=2)
    shapes = jax.eval_shape(init)
    shardings = shard_state(shapes, shapes.params, shard_params(AXES, mesh), mesh)
    step_fn = compile_update(update, mesh=mesh, state_shardings=shardings)
    key = jax.eval_shape(lambda: jax.random.key(5))
    batch = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, batch_of(0)))
    compiled = step_fn.lower(shapes, batch, key).compile()
    (state, given, _), _ = compiled.input_shardings
    assert state.params["up"].spec == PartitionSpec("fsdp", "model")
    assert given["x"].spec == PartitionSpec(("data", "fsdp"))
    short = batch | {"x": jax.ShapeDtypeStruct((6, 4), np.float32)}
    with pytest.raises(ValueError, match="a batch of 6 does not divide over 4 devices"):
        step_fn.lower(shapes, short, key)
