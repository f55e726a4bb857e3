"""Rotary frequencies of published models, by hand from the papers' formulas."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import tiny

from rlhf_jax.models import RopeScaling
from rlhf_jax.models.rotary import attention_factor, kept_shares, rotation


def turns(positions, *, local=False, **settings):
    """Cosines and sines, [L, h/2] each."""
    found = rotation(positions, tiny(**settings), local=local)
    assert found is not None
    return found


def frequencies(local=False, **settings):
    """Radians per token of each pair: the angles at position 1, if below pi."""
    cos, sin = turns(jnp.array([1]), local=local, **settings)
    return np.arctan2(sin, cos)[0]


def test_plain_frequencies():
    # h = 6, theta = 1000: 1000^(-2i/6) = 1, 1/10, 1/100
    np.testing.assert_allclose(frequencies(rope_theta=1000.0), [1, 0.1, 0.01], rtol=1e-5)


def test_linear_scaling_divides_every_frequency():
    scaling = RopeScaling(kind="linear", factor=4.0)
    got = frequencies(rope_theta=1000.0, rope_scaling=scaling)
    np.testing.assert_allclose(got, [0.25, 0.025, 0.0025], rtol=1e-5)


def test_llama3_scaling_of_llama_3_1():
    """theta 500000, head size 128, factor 8, 8192 positions, factors 1 and 4."""
    scaling = RopeScaling(kind="llama3", factor=8.0, original_max_positions=8192)
    kept = kept_shares(scaling, theta=500_000.0, head_dim=128)
    # Pair i turns 8192 / (2 pi) * 500000^(-i/64) times: pair 28 turns 4.186 times, pair 29 3.410.
    # (3.410 - 1) / (4 - 1) = 0.803. Pair 34 turns 1.223 times: 0.074. Pair 35 turns 0.996 times.
    turns = 8192 / (2 * math.pi) * 500_000 ** (-np.array([28, 29, 34, 35]) / 64)
    np.testing.assert_allclose(turns, [4.186, 3.410, 1.223, 0.996], atol=2e-3)
    np.testing.assert_allclose(kept[[28, 29, 34, 35]], [1, 0.8034, 0.0743, 0], atol=1e-3)
    assert np.all(kept[:29] == 1)
    assert np.all(kept[35:] == 0)


def test_yarn_scaling_of_qwen_2_5():
    """theta 1000000, head size 128, factor 4, 32768 positions, betas 32 and 1."""
    scaling = RopeScaling(kind="yarn", factor=4.0, original_max_positions=32768)
    kept = kept_shares(scaling, theta=1e6, head_dim=128)
    # 128 log(32768 / (2 pi 32)) / (2 log 1e6) = 23.6, down to 23;
    # 128 log(32768 / (2 pi)) / (2 log 1e6) = 39.7, up to 40. Between them 1 - (i - 23) / 17.
    assert np.all(kept[:24] == 1)
    assert np.all(kept[40:] == 0)
    np.testing.assert_allclose(kept[[24, 31, 39]], [16 / 17, 9 / 17, 1 / 17], rtol=1e-12)
    # 0.1 log 4 + 1 = 1.13863
    assert attention_factor(scaling) == pytest.approx(1.138629, abs=1e-6)
    exact = RopeScaling(kind="yarn", factor=4.0, original_max_positions=32768, truncate=False)
    shares = kept_shares(exact, theta=1e6, head_dim=128)
    assert shares[24] == pytest.approx(1 - (24 - 23.595) / (39.651 - 23.595), abs=1e-3)


def test_yarn_makes_queries_and_keys_longer():
    given = RopeScaling(kind="yarn", factor=4.0, original_max_positions=64, attention_factor=1.5)
    for scaling, size in [(given, 1.5), (RopeScaling(kind="linear", factor=4.0), 1.0)]:
        cos, sin = turns(jnp.arange(5), rope_scaling=scaling)
        np.testing.assert_allclose(cos**2 + sin**2, size**2, rtol=1e-5)


def test_dynamic_scaling_changes_nothing_up_to_the_length_of_pretraining():
    scaling = RopeScaling(kind="dynamic", factor=4.0, original_max_positions=8)
    cos, sin = turns(jnp.arange(10), rope_scaling=scaling)
    plain = turns(jnp.arange(10))
    np.testing.assert_array_equal(cos[:8], plain[0][:8])
    np.testing.assert_array_equal(sin[:8], plain[1][:8])
    assert jnp.isnan(cos[8:]).all()


def test_local_layers_may_have_a_theta_of_their_own():
    scaling = RopeScaling(kind="linear", factor=8.0)
    settings = {"sliding_window": 4, "rope_theta": 1000.0, "rope_scaling": scaling}
    np.testing.assert_allclose(
        frequencies(local=True, rope_local_theta=8.0, **settings), [1, 0.5, 0.25], rtol=1e-5
    )
    np.testing.assert_allclose(
        frequencies(local=False, rope_local_theta=8.0, **settings), [1 / 8, 1 / 80, 1 / 800], 1e-4
    )
    np.testing.assert_allclose(
        frequencies(local=True, **settings), [1 / 8, 1 / 80, 1 / 800], rtol=1e-4
    )
