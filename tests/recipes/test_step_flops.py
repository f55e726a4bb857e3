"""FLOPs of a step, by hand, and the rates of a clock."""

import jax
import jax.numpy as jnp
import pytest

from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.models.flops import TokenRows, causal_pairs, forward_flops, layer_weights
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.recipes import flops, make_lab
from rlhf_jax.training import clock as clocks
from rlhf_jax.training.clock import Clock, rates
from rlhf_jax.types import Rollout

SIZES = {"d_model": 4, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_dim": 2}
CONFIG = TransformerConfig(vocab_size=10, d_ff=5, gated_mlp=True, **SIZES)


def test_a_forward_pass_by_hand():
    # Of a layer: 4 * 2 * (2 * 2 + 2 * 1) = 48 for attention, 3 * 4 * 5 = 60 for the MLP.
    assert layer_weights(CONFIG) == 2 * (48 + 60)
    assert causal_pairs(CONFIG, 3) == 2 * (1 + 2 + 3)
    # 2 * 216 * 3 + 4 * 2 * 2 * 12 + 2 * 4 * 10 * 2 = 1296 + 192 + 160 of a row.
    assert forward_flops(CONFIG, TokenRows(5, 3, 2)) == 5 * 1648


def test_a_step_is_three_passes_and_two_with_frozen_weights(monkeypatch):
    vocabulary = standard_vocabulary(train_word_tokenizer(["red", "blue"]))
    config = TransformerConfig(vocab_size=vocabulary.size, d_ff=5, gated_mlp=True, **SIZES)
    lab = make_lab(config, vocabulary, prompt_length=1, answer_length=2)
    ids, real = jnp.ones((5, 2), jnp.int32), jnp.ones((5, 2), bool)
    batch = language_trajectory(ids[:, :1], real[:, :1], ids, real)
    whole, adapter = jnp.zeros(216), jnp.zeros(16)
    assert flops.fit_flops(lab, whole, batch) == 0.0  # a CPU has no peak in the table
    monkeypatch.setattr(flops, "peak_flops", lambda: 1e12)
    one = forward_flops(config, TokenRows(5, 3, 2))
    assert flops.fit_flops(lab, whole, batch) == 3 * one
    assert flops.fit_flops(lab, adapter, batch) == 2 * one
    rollout = Rollout(batch, jnp.zeros((5, 2)), jnp.zeros((5, 2)), real[:, 0])
    assert flops.online_flops(lab, rollout, epochs=2) == 8 * one


def test_rates_and_parts(monkeypatch):
    assert rates(100.0, 0.0, 4.0) == {"speed/tokens": 25.0}
    monkeypatch.setattr(clocks, "peak_flops", lambda: 2e12)
    assert rates(0.0, 4e12, 4.0) == {"speed/mfu": 0.5}
    clock = Clock()
    with clock("data"):
        pass
    clock.flops += 3.0
    parts, counted = clock.lap()
    assert (set(parts), counted) == ({"data", "step"}, 3.0)
    assert parts["step"] >= parts["data"] > 0
    assert clock.lap()[0].keys() == {"step"}
    clock.add("sft", {"step": 1.5, "steps": 2.0, "tokens": 300.0, "update": 1.2, "data": 0.3})
    clock.add("sft", {"step": 0.5, "steps": 1.0, "tokens": 100.0, "update": 0.4, "data": 0.1})
    clock.add("short", {"step": 0.5, "steps": 1.0, "tokens": 0.0})
    assert clock.notes() == ["sft: 3 steps in 2.0 s: update 80%, data 20%; 200 tokens/s"]


def test_the_peak_is_that_of_all_devices(monkeypatch):
    class Device:
        device_kind = "TPU v5p chip"

    monkeypatch.setattr(jax, "devices", lambda: [Device()] * 4)
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    assert clocks.peak_flops() == pytest.approx(4 * 459e12)
    Device.device_kind = "cpu"
    assert clocks.peak_flops() is None
