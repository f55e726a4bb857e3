"""Calibration of the next token on a lab whose policy is one logit per word."""

import jax.numpy as jnp
import pytest
from unigram_lab import RED, VOCABULARY, unigram_lab

from rlhf_jax.recipes.calibration import TokenCalibration, token_calibration

LAB = unigram_lab()
RECORDS = [{"prompt": "red", "answer": "red red"}, {"prompt": "red", "answer": "blue green"}]


def test_a_confident_model_by_hand():
    # P(red) = e^5 / (e^5 + V - 1) at every token; of 6 tokens, with two stop tokens, 2 are red.
    params = jnp.zeros(VOCABULARY.size).at[RED].set(5.0)
    found = token_calibration(LAB, params, RECORDS, batch_size=2)
    confidence = float(jnp.exp(5.0) / (jnp.exp(5.0) + VOCABULARY.size - 1))
    assert found.tokens == 6
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.confidence == pytest.approx(confidence, rel=1e-5)
    assert found.error == pytest.approx(confidence - 1 / 3, rel=1e-4)


def test_chunks_do_not_matter():
    params = jnp.arange(float(VOCABULARY.size))
    whole, parts = (token_calibration(LAB, params, RECORDS, batch_size=size) for size in (2, 1))
    assert isinstance(whole, TokenCalibration)
    assert whole == pytest.approx(parts)
    with pytest.raises(ValueError, match="records must be in"):
        token_calibration(LAB, params, [], batch_size=2)
