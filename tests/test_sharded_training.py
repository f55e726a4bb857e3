"""A transformer trained on eight devices, parameters split over two of them, is the same one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_params import random_params

from rlhf_jax import PreferenceBatch, dpo_loss
from rlhf_jax.algos import preference, sft
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.language import language_policy, language_trajectory
from rlhf_jax.sharding import compile_update, make_mesh, shard_params, shard_state

MODEL = make_transformer(
    TransformerConfig(
        vocab_size=16, d_model=8, num_layers=2, num_heads=2, num_kv_heads=2, head_dim=4, d_ff=8
    )
)
POLICY = language_policy(MODEL)
# Plain gradient descent: Adam would divide rounding errors of tiny gradients by themselves.
OPTIMIZER = optax.sgd(0.1)


def answers(seed: int):
    """Eight prompts of up to 4 tokens and completions of up to 3."""
    rng = np.random.default_rng(seed)
    prompt_mask = jnp.asarray(np.arange(4) >= rng.integers(0, 4, 8)[:, None])
    mask = jnp.asarray(np.arange(3) < rng.integers(1, 4, 8)[:, None])
    prompt_ids, ids = (jnp.asarray(rng.integers(0, 16, (8, n))) for n in (4, 3))
    return language_trajectory(prompt_ids, prompt_mask, ids, mask)


def preference_batch(params):
    """Pairs with the reference log-probs of other params."""
    pairs = PreferenceBatch(answers(1), answers(2))
    return preference.attach_reference(POLICY, jax.tree.map(lambda x: 0.9 * x, params), pairs)


@pytest.mark.long
@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_eight_devices_train_as_one(name):
    params = random_params(MODEL.init)
    if name == "sft":
        update, batch = sft.make_update(POLICY, OPTIMIZER), answers(0)
    else:
        loss = partial(dpo_loss, beta=0.3)
        update = preference.make_update(POLICY, OPTIMIZER, loss)
        batch = preference_batch(params)
    mesh = make_mesh(model=2)
    assert mesh.shape == {"data": 4, "model": 2}
    state = init_state(params, OPTIMIZER)
    shardings = shard_state(state, params, shard_params(MODEL.axes(), mesh), mesh)
    alone = compile_update(update, donate=False)
    together = compile_update(update, mesh=mesh, state_shardings=shardings, donate=False)
    one, many = state, state
    for _ in range(3):
        one, expected = alone(one, batch)
        many, metrics = together(many, batch)
    split = many.params["trunk"]["layers"]["mlp"]["gate"]
    assert len({str(shard.index) for shard in split.addressable_shards}) == 2
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for key in expected:
        np.testing.assert_allclose(expected[key].value(), metrics[key].value(), atol=1e-4)
