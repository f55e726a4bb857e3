"""A transformer trained on eight devices, whatever they split, is the same one."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_params import random_params

from rlhf_jax import PreferenceBatch, dpo_loss
from rlhf_jax.algos import online, ppo, preference, reward_model, sft
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.losses.group_policy_gradient import dapo_loss
from rlhf_jax.models import (
    TransformerConfig,
    make_reward_model,
    make_transformer,
    make_value_model,
)
from rlhf_jax.ops.masking import token_mean
from rlhf_jax.policies.language import (
    language_decoder,
    language_policy,
    language_reward,
    language_trajectory,
    language_value,
)
from rlhf_jax.sampling.decode import SamplingConfig, sample
from rlhf_jax.sharding import (
    check_mesh,
    compile_update,
    make_mesh,
    shard_params,
    shard_state,
    split_batch,
)

CONFIG = TransformerConfig(
    vocab_size=32, d_model=64, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=4, d_ff=32
)
# Plain gradient descent: Adam would divide rounding errors of tiny gradients by themselves.
OPTIMIZER = optax.sgd(0.01)
MESHES = [
    {"data": 8},
    {"fsdp": 8},
    {"data": 2, "fsdp": 4},
    {"fsdp": 4, "model": 2},
    {"data": 2, "model": 4},
    {"data": 2, "fsdp": 2, "model": 2},
    {"fsdp": 4, "sequence": 2},
    {"fsdp": 2, "sequence": 2, "model": 2},
]


def answers(seed: int):
    """Eight prompts of up to 6 tokens and completions of up to 3, in 9 columns."""
    rng = np.random.default_rng(seed)
    prompt_mask = jnp.asarray(np.arange(6) >= rng.integers(0, 6, 8)[:, None])
    mask = jnp.asarray(np.arange(3) < rng.integers(1, 4, 8)[:, None])
    prompt_ids, ids = (jnp.asarray(rng.integers(0, 32, (8, n))) for n in (6, 3))
    return language_trajectory(prompt_ids, prompt_mask, ids, mask)


class Case(NamedTuple):
    """What a method trains: axes and first value of its params, update and batch."""

    axes: object
    params: object
    update: object
    batch: object


def drawn(init):
    """At 64 features, larger ones would make logits of hundreds, which multiply rounding errors."""
    return jax.tree.map(lambda x: x / 3, random_params(init))


def case(name: str, mesh) -> Case:
    model, rewards = make_transformer(CONFIG, mesh), make_reward_model(CONFIG, mesh)
    critic, policy = make_value_model(CONFIG, mesh), language_policy(model)
    params, trajectory = drawn(model.init), answers(0)
    noise = jax.random.normal(jax.random.key(3), (8, 3))
    if name == "sft":
        return Case(model.axes(), params, sft.make_update(policy, OPTIMIZER), trajectory)
    pairs = PreferenceBatch(answers(1), answers(2))
    if name == "reward":
        update = reward_model.make_update(language_reward(rewards), OPTIMIZER)
        return Case(rewards.axes(), drawn(rewards.init), update, pairs)
    if name == "dpo":
        reference = jax.tree.map(lambda x: 0.9 * x, params)
        pairs = preference.attach_reference(policy, reference, pairs)
        update = preference.make_update(policy, OPTIMIZER, partial(dpo_loss, beta=0.3))
        return Case(model.axes(), params, update, pairs)
    if name == "grpo":
        columns = {"old_token_logps": -jnp.abs(noise), "advantages": noise[:, 0]}
        loss = partial(dapo_loss, clip_eps_low=0.2, clip_eps_high=0.2)
        update = online.make_answer_update(policy, OPTIMIZER, loss, reduction=token_mean)
        return Case(model.axes(), params, update, online.AnswerBatch(trajectory, columns))
    both = ppo.ActorCritic(params, drawn(critic.init))
    axes = ppo.ActorCritic(model.axes(), critic.axes())
    config = ppo.PPOConfig(beta=0.1, whiten_advantages=False)
    logps, scores = -jnp.abs(noise), noise[:, 0]
    given = {"old_logps": logps, "ref_logps": logps - 0.1, "old_values": 0.1 * noise}
    batch = ppo.make_batch(trajectory, scores, **given, config=config)
    update = ppo.make_update(policy, language_value(critic), OPTIMIZER, config)
    return Case(axes, both, update, batch)


def trained(name: str, ways=None):
    """Losses of three steps, the state after them, and the text of the compiled update."""
    mesh = None if ways is None else make_mesh(**ways)
    axes, params, update, batch = case(name, mesh)
    state, options = init_state(params, OPTIMIZER), {}
    if mesh is not None:
        check_mesh(axes, params, mesh)
        shardings = shard_state(state, params, shard_params(axes, mesh), mesh)
        options = {"mesh": mesh, "state_shardings": shardings}
    step, losses = compile_update(update, donate=False, **options), []
    text = step.lower(state, batch).compile().as_text() if mesh is not None else ""
    for _ in range(3):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"].value()))
    return losses, state, text


def share_on_one_device(params) -> float:
    """Of the elements of all arrays, the part that the first device holds."""
    leaves = jax.tree.leaves(params)
    held = sum(x.addressable_shards[0].data.size for x in leaves)
    return held / sum(x.size for x in leaves)


@pytest.mark.long
@pytest.mark.parametrize("name", ["sft", "reward", "dpo", "ppo", "grpo"])
def test_parameters_split_over_eight_devices_train_as_whole_ones(name):
    losses, one, _ = trained(name)
    split_losses, many, text = trained(name, {"fsdp": 8})
    np.testing.assert_allclose(losses, split_losses, rtol=3e-7, atol=3e-7)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert share_on_one_device(many.params) <= 0.13
    assert " all-gather(" in text


@pytest.mark.long
@pytest.mark.parametrize("ways", MESHES, ids=str)
def test_every_mesh_trains_as_one_device(ways):
    losses, one, _ = trained("sft")
    split_losses, many, _ = trained("sft", ways)
    np.testing.assert_allclose(losses, split_losses, rtol=3e-7)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    ways = {"data": 1, "fsdp": 1, "model": 1} | ways
    # Norm gains, 1.4% of the parameters, are split over fsdp alone.
    expected = 1 / (ways["fsdp"] * ways["model"])
    assert expected <= share_on_one_device(many.params) <= expected + 0.011


def test_moments_are_split_as_the_parameters_are():
    mesh = make_mesh(fsdp=8)
    model = make_transformer(CONFIG, mesh)
    params = jax.eval_shape(model.init, jax.random.key(0))
    state = jax.eval_shape(partial(init_state, optimizer=optax.adamw(1e-3)), params)
    shardings = shard_state(state, params, shard_params(model.axes(), mesh), mesh)
    sizes = [
        (x.size, int(np.prod(s.shard_shape(x.shape))))
        for x, s in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True)
    ]
    whole, held = map(sum, zip(*sizes, strict=True))
    assert held / whole <= 0.13


def test_a_batch_on_the_mesh_has_its_rows_over_data_and_fsdp():
    mesh = make_mesh(data=2, fsdp=2, model=2)
    batch = split_batch({"ids": np.zeros((8, 3)), "beta": np.float32(1)}, mesh)
    assert {s.data.shape for s in batch["ids"].addressable_shards} == {(2, 3)}
    assert batch["beta"].sharding.is_fully_replicated


def test_a_row_that_the_devices_cannot_share_evenly_is_filled_up():
    mesh = make_mesh(data=2, sequence=4)
    model, alone = make_transformer(CONFIG, mesh), make_transformer(CONFIG)
    params, inputs = drawn(model.init), answers(0).inputs
    rows = (inputs.ids, inputs.positions, inputs.segments)
    lowered = jax.jit(model.hidden).lower(params, *split_batch(rows, mesh))
    text = lowered.as_text()
    assert "tensor<8x12x64xf32>" in text  # 9 columns, 4 parts of 3
    real = np.asarray(inputs.segments) > 0
    found = np.asarray(jax.jit(model.hidden)(params, *split_batch(rows, mesh)))[real]
    expected = np.asarray(jax.jit(alone.hidden)(params, *rows))[real]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_answers_on_a_mesh_are_those_of_one_device_and_gather_parameters_once():
    mesh, config = make_mesh(fsdp=4, model=2), SamplingConfig(max_new_tokens=4)
    rows = (np.arange(24).reshape(8, 3) % 32, np.ones((8, 3), bool), np.arange(8), np.zeros(8, int))
    found = []
    for where in (None, mesh):
        model = make_transformer(CONFIG, where)
        params = drawn(model.init)
        if where is not None:
            params = jax.device_put(params, shard_params(model.axes(), mesh))
        ids, mask, prompts, samples = rows if where is None else split_batch(rows, mesh)
        numbers = {"prompt_indices": prompts, "sample_indices": samples}
        run = jax.jit(partial(sample, language_decoder(model), config=config))
        compiled = run.lower(params, ids, mask, jax.random.key(1), **numbers).compile()
        found.append(compiled(params, ids, mask, jax.random.key(1), **numbers))
    alone, together = found
    np.testing.assert_array_equal(alone.trajectory.actions, together.trajectory.actions)
    np.testing.assert_allclose(alone.token_logps, together.token_logps, rtol=1e-5, atol=1e-5)
    gathers = [line for line in str(compiled.as_text()).splitlines() if " all-gather(" in line]
    tokens = [line for line in gathers if "(sample)/while/body/dot" in line]
    assert len(gathers) > 10
    assert tokens == []
