"""The reward over n-grams against its minimum, found by hand."""

import pytest

from rlhf_jax.data.records import Pair
from rlhf_jax.recipes.ngram_reward import Ngrams, make_ngram_fit, ngram_margins


def test_the_fit_reaches_the_minimum_of_the_penalised_loss():
    """One word a side: minimising softplus(-2 w) + l2 w^2 over w = -w', solved by hand."""
    config = Ngrams(features=4, max_n=1, l2=0.1, steps=400, learning_rate=0.05)
    pairs = [Pair("p", "good", "bad")] * 3
    margins = ngram_margins(
        make_ngram_fit(config), pairs, [*pairs, Pair("p", "bad", "so")], config, 5
    )
    # Gradient 0: sigmoid(-2 w) = l2 w. With l2 = 0.1 the root is w = 1.0640.
    assert margins == pytest.approx([2.1280] * 3 + [-1.0640], abs=2e-3)
