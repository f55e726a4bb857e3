"""Each family against `transformers`: logits, greedy text, and a round trip that loses no bit."""

import numpy as np
import pytest
from tiny_checkpoints import (
    load_theirs,
    our_answers,
    our_logits,
    padded,
    their_answers,
    their_logits,
    write_checkpoint,
)

from rlhf_jax.hf import load_model, load_reward, save_model
from rlhf_jax.models import make_reward_model
from rlhf_jax.policies.language import language_reward, language_trajectory

SIZE = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
GROUPED = SIZE | {"num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 5_000.0, "factor": 2.0}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
QWEN_WINDOW = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
GEMMA = GROUPED | {"head_dim": 10}  # not 32 / 4
GEMMA_2 = GEMMA | {"sliding_window": 8, "query_pre_attn_scalar": 20, "num_hidden_layers": 3}
GPT2 = {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
EXPERTS = {"num_local_experts": 5, "num_experts_per_tok": 2}
CASES = {
    "llama": ("Llama", GROUPED),
    "llama, wide heads": ("Llama", SIZE | {"num_key_value_heads": 1, "head_dim": 12}),
    "llama, tied": ("Llama", GROUPED | {"tie_word_embeddings": True, "rms_norm_eps": 1e-5}),
    "llama, biases": ("Llama", GROUPED | {"attention_bias": True, "mlp_bias": True}),
    "llama 3": ("Llama", GROUPED | {"rope_parameters": LLAMA3}),
    "llama, linear": ("Llama", GROUPED | {"rope_parameters": LINEAR}),
    "llama, dynamic": ("Llama", GROUPED | {"rope_parameters": DYNAMIC}),
    "llama, yarn": ("Llama", GROUPED | {"rope_parameters": YARN}),
    "mistral": ("Mistral", GROUPED | {"sliding_window": None}),
    "mistral, window": ("Mistral", GROUPED | {"sliding_window": 8}),
    "mixtral": ("Mixtral", GROUPED | EXPERTS | {"sliding_window": 8}),
    "qwen 2": ("Qwen2", GROUPED),
    "qwen 2, window": ("Qwen2", GROUPED | QWEN_WINDOW),
    "qwen 3": ("Qwen3", GROUPED | {"head_dim": 10}),
    "qwen 3 moe": (
        "Qwen3Moe",
        GROUPED | {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 12},
    ),
    "gemma": ("Gemma", GEMMA),
    "gemma 2": ("Gemma2", GEMMA_2),
    "gemma 3": ("Gemma3Text", GEMMA_2 | {"sliding_window_pattern": 2}),
    "gemma 3, scaled": (
        "Gemma3Text",
        GEMMA_2 | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    ),
    "olmo 2": ("Olmo2", GROUPED),
    "gpt 2": ("GPT2", GPT2),
    "gpt 2, narrow mlp": ("GPT2", GPT2 | {"n_inner": 20, "tie_word_embeddings": False}),
}
FIRST = "llama"
PROMPTS = [[5, 17, 3, 98, 40], [7], [61, 61, 2, 9, 33, 80, 12, 44]]


def marked(cases):
    """The first case in the first tier, the others slow."""
    return [
        pytest.param(*case, id=name, marks=[] if name == FIRST else pytest.mark.slow)
        for name, case in cases.items()
    ]


@pytest.mark.parametrize(("family", "settings"), marked(CASES))
def test_a_family_is_that_of_transformers(tmp_path, family, settings):
    theirs = write_checkpoint(tmp_path / "theirs", family, **settings)
    ours = load_model(tmp_path / "theirs")
    ids, mask = padded(PROMPTS)
    found = our_logits(ours.config, ours.params, ids, mask)
    wanted = their_logits(theirs, ids, mask)
    assert np.abs(found - wanted)[mask].max() < 2e-5
    # One row stops early, at one of two ids.
    stop_ids = (their_answers(theirs, ids, mask, length=9)[0][-1], 98)
    options = {"length": 64, "stop_ids": stop_ids}
    answers = our_answers(ours.config, ours.params, ids, mask, **options)
    assert answers == their_answers(theirs, ids, mask, **options)
    assert len(answers[0]) < 64
    save_model(tmp_path / "ours", ours)
    back = load_theirs(tmp_path / "ours")
    assert type(back) is type(theirs)
    state = back.state_dict()
    assert state.keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        np.testing.assert_array_equal(state[name].numpy(), weight.numpy())
    np.testing.assert_array_equal(their_logits(back, ids, mask), wanted)


REWARDS = {name: CASES[name] for name in (FIRST, "qwen 2", "gemma 3", "gpt 2", "qwen 3 moe")}


@pytest.mark.parametrize(("family", "settings"), marked(REWARDS))
def test_a_reward_model_is_that_of_transformers(tmp_path, family, settings):
    options = settings | {"num_labels": 1, "pad_token_id": 0}
    theirs = write_checkpoint(tmp_path / "theirs", family, head="SequenceClassification", **options)
    ours = load_reward(tmp_path / "theirs")
    ids, mask = padded(PROMPTS)
    scores = language_reward(make_reward_model(ours.config)).scores
    found = scores(
        ours.params, language_trajectory(ids[:, :4], mask[:, :4], ids[:, 4:], mask[:, 4:])
    )
    wanted = their_logits(theirs, ids, mask)[:, 0]
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    save_model(tmp_path / "ours", ours)
    back = load_theirs(tmp_path / "ours", head="SequenceClassification")
    assert type(back) is type(theirs)
    np.testing.assert_array_equal(their_logits(back, ids, mask)[:, 0], wanted)


@pytest.mark.slow
def test_where_padding_is_eos_transformers_skips_the_last_eos(tmp_path):
    """The rule that `read_reward` documents: leave it off the row."""
    family, settings = CASES[FIRST]
    options = settings | {"num_labels": 1, "pad_token_id": 2}
    theirs = write_checkpoint(tmp_path / "theirs", family, head="SequenceClassification", **options)
    ours = load_reward(tmp_path / "theirs")
    scores = language_reward(make_reward_model(ours.config)).scores
    ids, mask = np.array([[5, 17, 3, 2]], np.int32), np.ones((1, 4), bool)
    first, real = ids[:, :1], mask[:, :1]
    (wanted,) = their_logits(theirs, ids, mask)[:, 0]
    whole, cut = (
        float(scores(ours.params, language_trajectory(first, real, ids[:, 1:n], mask[:, 1:n]))[0])
        for n in (4, 3)
    )
    assert abs(cut - wanted) < 2e-5
    assert abs(whole - wanted) > 1e-3
