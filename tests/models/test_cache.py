"""Reading a row token by token through the cache gives the states of reading it at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from rlhf_jax.models import TransformerConfig, make_transformer

P, T = 4, 3


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_steps_continue_a_prefill(kv_heads):
    config = TransformerConfig(
        vocab_size=9,
        d_model=16,
        num_layers=3,
        num_heads=2,
        num_kv_heads=kv_heads,
        head_dim=8,
        d_ff=12,
        qkv_bias=True,
    )
    model = make_transformer(config)
    params = random_params(model.init)
    ids = jax.random.randint(jax.random.key(1), (3, P + T), 0, 9)
    starts = jnp.array([[0], [2], [3]])  # left padding of 0, 2 and 3 tokens
    segments = (jnp.arange(P + T) >= starts).astype(jnp.int32)
    positions = jnp.where(segments > 0, jnp.arange(P + T) - starts, 0)
    want = jax.jit(model.hidden)(params, ids, positions, segments)

    prompt = (ids[:, :P], positions[:, :P], segments[:, :P])
    hidden, cache = jax.jit(model.prefill, static_argnums=4)(params, *prompt, P + T)
    real = segments[:, :P] > 0
    np.testing.assert_allclose(hidden[real], want[:, :P][real], atol=1e-5)
    step = jax.jit(model.decode_step, donate_argnums=1)
    for t in range(P, P + T):
        hidden, cache = step(params, cache, ids[:, t], positions[:, t])
        np.testing.assert_allclose(hidden, want[:, t], atol=1e-5)
    assert int(cache.slot) == P + T
    np.testing.assert_array_equal(cache.valid, segments > 0)
    assert cache.layers[0][0].shape == (3, kv_heads, P + T, 8)
