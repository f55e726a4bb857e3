"""Rows that end make room for others, and the answers stay the same."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.language import LanguageDecoder, language_decoder, mixture_decoder
from rlhf_jax.sampling.decode import SamplingConfig, sample_many

CONFIG = TransformerConfig(
    vocab_size=11, d_model=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=24
)
P, T, PROMPTS, COPIES = 5, 9, 5, 3
SAMPLING = SamplingConfig(max_new_tokens=T, stop_ids=(2, 9), pad_id=3)


def prompts():
    rng = np.random.default_rng(0)
    mask = np.arange(P) >= P - rng.integers(1, P + 1, PROMPTS)[:, None]
    return jnp.asarray(np.where(mask, rng.integers(1, 11, (PROMPTS, P)), 0)), jnp.asarray(mask)


def answers(decoder, params, config=SAMPLING):
    return jax.jit(partial(sample_many, decoder, config=config))(
        params,
        *prompts(),
        jax.random.key(3),
        prompt_indices=jnp.arange(PROMPTS) + 20,
        sample_indices=jnp.broadcast_to(jnp.arange(COPIES), (PROMPTS, COPIES)),
    )


def same(got, want):
    """Tokens, masks, flags and inputs equal; log-probs within 1e-5."""
    exact = lambda x: (x.trajectory, x.finished)  # noqa: E731
    jax.tree.map(np.testing.assert_array_equal, exact(got), exact(want))
    np.testing.assert_allclose(got.token_logps, want.token_logps, atol=1e-5)
    np.testing.assert_allclose(got.sampling_token_logps, want.sampling_token_logps, atol=1e-5)


def test_refilled_rows_give_the_answers_of_rows_side_by_side():
    model = make_transformer(CONFIG)
    decoder, params = language_decoder(model), random_params(model.init, seed=5)
    want = answers(decoder, params)
    lengths = np.asarray(want.trajectory.mask.sum(-1))
    assert (len(np.unique(lengths)) > 3, lengths.min() < 3, lengths.max()) == (True, True, T)
    same(answers(decoder, params, dataclasses.replace(SAMPLING, rows=4)), want)


@pytest.mark.long
@pytest.mark.parametrize("window", [None, 4])
def test_mixtures_and_windows_are_refilled_too(window):
    model = make_transformer(dataclasses.replace(CONFIG, sliding_window=window))
    decoder = mixture_decoder(language_decoder(model), weight=0.3)
    params = tuple(random_params(model.init, seed=seed) for seed in (5, 6))
    same(answers(decoder, params, dataclasses.replace(SAMPLING, rows=1)), answers(decoder, params))


def counting_decoder(log):
    """Row i says 1 until it has as many tokens as its prompt's last id says, then 2."""
    model = make_transformer(
        dataclasses.replace(CONFIG, vocab_size=13, num_layers=1, d_model=2, head_dim=2)
    )
    inner = language_decoder(model)

    def step(weights, cache, ids, positions):
        jax.debug.callback(lambda: log.append(len(ids)))
        lengths = jnp.where(ids > 2, ids - 2, 0)
        ((keys, values),) = cache.layers
        left = jnp.where(lengths > 0, lengths, keys[:, 0, 0, 0].astype(jnp.int32)) - 1
        cache = cache._replace(layers=((keys.at[:].set(left[:, None, None, None]), values),))
        said = jnp.where(left > 0, 1, 2)
        return jnp.where(jnp.arange(3) == said[:, None], 9.0, 0.0), cache

    return LanguageDecoder(inner.read, inner.prefill, step), model.init(jax.random.key(0))


@pytest.mark.long
@pytest.mark.parametrize(
    ("lengths", "steps"),
    [
        # Side by side it would be 8 + 1 + 1. Now the long answer has one row to itself, and the
        # short ones share the other at the same time.
        ([8, 1, 1, 1, 1, 1], 8),
        # The third begins in step 2 and ends in step 11, when the tables of 10 lines have come
        # round: the first answer must still be there.
        ([9, 1, 10], 11),
    ],
)
def test_short_answers_do_not_wait_for_long_ones(lengths, steps):
    log = []
    decoder, params = counting_decoder(log)
    count = len(lengths)
    config = SamplingConfig(max_new_tokens=10, temperature=0.0, stop_ids=(2,), rows=2)
    rollout = jax.jit(partial(sample_many, decoder, config=config))(
        params,
        jnp.array(lengths)[:, None] + 2,
        jnp.ones((count, 1), bool),
        jax.random.key(0),
        prompt_indices=jnp.arange(count),
        sample_indices=jnp.zeros((count, 1), jnp.int32),
    )
    jax.effects_barrier()
    want = [[1] * (n - 1) + [2] + [0] * (10 - n) for n in lengths]
    np.testing.assert_array_equal(rollout.trajectory.actions[:, 0], want)
    np.testing.assert_array_equal(rollout.trajectory.mask[:, 0].sum(-1), lengths)
    assert log == [2] * steps
