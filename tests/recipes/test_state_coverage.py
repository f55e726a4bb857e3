"""Coverage of a language model's answers by pairs, through its last hidden states."""

import numpy as np
import pytest
from random_params import random_params

from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.recipes import make_lab
from rlhf_jax.recipes.state_coverage import state_coverage
from rlhf_jax.recipes.vectors import answer_vectors, pair_vectors


def test_coverage_by_hand():
    """Pairs move along the first axis alone, by 2: A = 4 N e e^T + 2 I with ridge 2."""
    pairs = np.zeros((5, 2, 2))
    pairs[:, 0, 0], pairs[:, 1, 0] = 1.0, -1.0
    answers = {"along": np.array([[3.0, 1.0], [1.0, 1.0]]), "across": np.array([[2.0, 2.0]])}
    found = state_coverage(pairs, answers, origin=np.array([2.0, 1.0]))
    np.testing.assert_allclose(found.spectrum, [4.0, 0.0], atol=1e-6)
    assert found.dimension == pytest.approx(20 / 22)
    # E y y^T is e e^T along the pairs, and f f^T across them.
    assert found.conditions == pytest.approx({"along": 5 / 22, "across": 5 / 2})
    assert found.norms == pytest.approx({"along": 22**-0.5, "across": 2**-0.5})
    with pytest.raises(ValueError, match="same vector"):
        state_coverage(np.ones((5, 2, 2)), answers, origin=np.zeros(2))


def test_a_policy_that_answers_as_the_pairs_do_is_covered_and_another_one_is_not():
    """Answers of the pairs' own words, and answers of words that no pair has."""
    words = [f"w{i}" for i in range(12)]
    vocabulary = standard_vocabulary(train_word_tokenizer(["say " + " ".join(words)]))
    sizes = {"d_model": 8, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "d_ff": 8}
    sizes["head_dim"] = 4
    config = TransformerConfig(vocab_size=vocabulary.size, **sizes)
    lab = make_lab(config, vocabulary, prompt_length=2, answer_length=3)
    params = random_params(lab.policy.init)
    rng = np.random.default_rng(0)

    def text(part):
        return " ".join(rng.choice(part, 2))

    seen, other = words[:3], words[3:]
    pairs = [{"prompt": "say", "chosen": text(seen), "rejected": text(seen)} for _ in range(40)]
    states = pair_vectors(lab, params, pairs, batch_size=8)
    assert states.shape == (40, 2, 8)
    drawn = {
        name: [{"prompt": "say", "answer": text(part)} for _ in range(24)]
        for name, part in {"reference": seen, "policy": other}.items()
    }
    answers = {
        name: answer_vectors(lab, params, each, batch_size=8) for name, each in drawn.items()
    }
    row = {"prompt": "say", "answer": pairs[0]["chosen"]}
    first = answer_vectors(lab, params, [row], batch_size=8)
    np.testing.assert_allclose(first[0], states[0, 0], rtol=1e-5, atol=1e-6)
    found = state_coverage(states, answers, origin=answers["reference"].mean(0))
    assert found.norms["policy"] > 1.5 * found.norms["reference"]
    assert found.conditions["policy"] > 1.5 * found.conditions["reference"]
