"""What every update shares: one loss per example, and one denominator for all micro-batches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rlhf_jax.algos import ppo, preference, sft
from rlhf_jax.algos.gradient import accumulate, check_losses, init_state, map_parts
from rlhf_jax.losses.policy_gradient import ppo_clip_loss
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.ops.masking import Mean
from rlhf_jax.policies.tabular import tabular_value
from rlhf_jax.sharding import make_mesh
from rlhf_jax.types import Policy, PreferenceBatch, Trajectory


def test_one_loss_per_example_passes():
    check_losses(jnp.zeros((4, 2)), (4, 2), loss=ppo_clip_loss, per="pair")


def test_losses_per_token_are_refused_by_the_name_of_the_loss_and_both_shapes():
    loss = partial(ppo_clip_loss, clip_eps=0.2)
    message = r"ppo_clip_loss returned losses of shape \[4, 7\].* one loss per pair, \[4\]"
    with pytest.raises(ValueError, match=message):
        check_losses(jnp.zeros((4, 7)), (4,), loss=loss, per="pair")


# ---- Micro-batches. The table policy of the library is float32; this one has its params' dtype.


def table_logps(params, states, actions):
    return jax.nn.log_softmax(params)[states, actions]


TABLE = Policy(lambda key: jnp.zeros((3, 4)), lambda params, states: params[states], table_logps)
SGD = optax.sgd(1.0)
ROWS, STEPS = 8, 4
RAGGED = np.arange(STEPS) < np.array([1, 4, 2, 4, 1, 3, 1, 4])[:, None]
PIECES = 2  # rows 0, 2, 4, 6 have 5 tokens, the others 15


def answers(rng):
    states, actions = (jnp.asarray(rng.integers(0, n, (ROWS, STEPS))) for n in (3, 4))
    return Trajectory(states, actions, jnp.asarray(RAGGED))


def sft_case(rng):
    return partial(sft.make_update, TABLE, SGD), answers(rng), rng.standard_normal((3, 4))


def dpo_case(rng):
    refs = (jnp.asarray(rng.standard_normal(ROWS)) for _ in range(2))
    weights = jnp.asarray([1.0, 0.5, 2.0, 1.0, 0.0, 1.0, 3.0, 1.0], float)
    batch = PreferenceBatch(answers(rng), answers(rng), *refs, weights)
    make_update = partial(preference.make_update, TABLE, SGD, partial(dpo_loss, beta=0.3))
    return make_update, batch, rng.standard_normal((3, 4))


def ppo_case(rng):
    """Advantages are whitened, which a micro-batch by itself would do with other numbers."""
    batch = ppo.PPOBatch(answers(rng), *(jnp.asarray(rng.standard_normal((4, ROWS, STEPS)))))
    config = ppo.PPOConfig(value_coef=0.5)
    params = ppo.ActorCritic(rng.standard_normal((3, 4)), rng.standard_normal(3))
    return partial(ppo.make_update, TABLE, tabular_value(3), SGD, config), batch, params


@pytest.mark.long
@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("case", [sft_case, dpo_case, ppo_case])
def test_micro_batches_take_the_step_of_the_whole_batch(case, x64):
    with jax.enable_x64(x64):
        make_update, batch, params = case(np.random.default_rng(0))
        state = init_state(jax.tree.map(jnp.asarray, params), SGD)
        whole, parts = (jax.jit(make_update(parts=n))(state, batch) for n in (1, PIECES))
        assert jax.tree.leaves(whole[0].params)[0].dtype == (jnp.float64 if x64 else jnp.float32)
        bounds = {"rtol": 1e-12, "atol": 1e-12} if x64 else {"rtol": 2e-5, "atol": 2e-6}
        jax.tree.map(partial(np.testing.assert_allclose, **bounds), parts, whole)


@pytest.mark.long
def test_a_mean_of_means_would_take_another_step():
    """The micro-batches have 5 and 15 of the 20 tokens."""
    make_update, batch, params = sft_case(np.random.default_rng(0))
    whole, _ = make_update()(state := init_state(jnp.asarray(params), SGD), batch)
    halves = [jax.tree.map(lambda x, k=k: x[k::PIECES], batch) for k in range(PIECES)]
    steps = [make_update()(state, half)[0].params - state.params for half in halves]
    weighted = (5 * steps[0] + 15 * steps[1]) / 20
    np.testing.assert_allclose(whole.params - state.params, weighted, rtol=1e-4, atol=1e-6)
    assert np.abs(sum(steps) / 2 - weighted).max() > 0.01


def test_metrics_add_up_as_totals_and_weights():
    make_update, batch, params = sft_case(np.random.default_rng(0))
    _, metrics = make_update(parts=4)(init_state(jnp.asarray(params), SGD), batch)
    assert metrics["loss"].weight == 20.0


def test_every_device_works_on_every_micro_batch():
    make_update, batch, params = sft_case(np.random.default_rng(0))
    mesh = make_mesh(devices=jax.devices()[:4])
    spread = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    state = init_state(jnp.asarray(params), SGD)
    step = jax.jit(make_update(parts=2))
    one, many = (step(state, each)[0].params for each in (batch, spread))
    np.testing.assert_allclose(many, one, rtol=1e-5, atol=1e-6)
    assert "all-to-all" not in str(step.lower(state, spread).compile().as_text())


def test_the_other_arguments_reach_each_micro_batch_whole():
    def objective(params, batch, point):
        loss, diagnostics = sft.make_objective(TABLE)(params, batch)
        return loss._replace(total=loss.total * point.sum()), diagnostics

    _, batch, params = sft_case(np.random.default_rng(0))
    state = init_state(jnp.asarray(params), SGD)
    point = jnp.array([1.0, 1.0, 1.0])
    tripled = accumulate(objective, SGD, parts=2)(state, batch, point)[1]["loss"]
    plain = accumulate(sft.make_objective(TABLE), SGD)(state, batch)[1]["loss"]
    np.testing.assert_allclose(tripled.value(), 3 * plain.value(), rtol=1e-5)


def test_gradients_of_low_precision_are_summed_in_float32():
    """512 micro-batches with slope 1; a sum in bfloat16 would end at 256, a mean of one half."""

    def objective(params, batch):
        return Mean(jnp.sum(params * batch), jnp.float32(len(batch))), {}

    state = init_state(jnp.bfloat16(3.0), SGD)
    state, _ = accumulate(objective, SGD, parts=512)(state, jnp.ones(512, jnp.bfloat16))
    assert state.params.dtype == jnp.bfloat16
    assert state.params == 2.0


def test_results_of_micro_batches_come_in_the_order_of_the_rows():
    x = jnp.arange(12.0).reshape(6, 2)
    for parts in (1, 3):
        np.testing.assert_array_equal(map_parts(lambda y: y.sum(-1), x, parts=parts), x.sum(-1))


def test_parts_that_do_not_divide_the_rows_are_refused():
    make_update, batch, params = sft_case(np.random.default_rng(0))
    with pytest.raises(ValueError, match="8 rows do not divide into 3 micro-batches"):
        make_update(parts=3)(init_state(jnp.asarray(params), SGD), batch)
    with pytest.raises(ValueError, match="parts"):
        make_update(parts=0)
