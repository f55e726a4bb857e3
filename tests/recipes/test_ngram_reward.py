"""The reward over n-grams against its minimum, found by hand."""

import numpy as np
import pytest

from rlhf_jax.data.records import Pair
from rlhf_jax.recipes.ngram_reward import Ngrams, make_ngram_fit, ngram_logits, ngram_margins


def test_the_fit_reaches_the_minimum_of_the_penalised_loss():
    """One word a side: minimising softplus(-2 w) + l2 w^2 over w = -w', solved by hand."""
    config = Ngrams(features=4, max_n=1, l2=0.1, steps=400, learning_rate=0.05)
    pairs = [Pair("p", "good", "bad")] * 3
    margins = ngram_margins(
        make_ngram_fit(config), pairs, [*pairs, Pair("p", "bad", "so")], config, 5
    )
    # Gradient 0: sigmoid(-2 w) = l2 w. With l2 = 0.1 the root is w = 1.0640.
    assert margins == pytest.approx([2.1280] * 3 + [-1.0640], abs=2e-3)


def test_logits_of_labelled_texts_have_an_intercept():
    config = Ngrams(features=8, max_n=1, l2=1e-4, steps=300)
    texts, labels = ["good day", "good"] * 4 + ["bad day", "bad"] * 2, np.arange(12) < 8
    test = ["good", "bad", "day", "new"]
    fit = make_ngram_fit(config)
    good, bad, day, new = ngram_logits(fit, texts, labels, test, config, len(texts))
    assert good > 2 > -2 > bad
    # What is in both kinds, or in none, is as the labels are: two thirds True.
    assert 0 < day < good
    assert 0 < new < good
    # The other way round, and more rows than texts, which do not count.
    other = ngram_logits(make_ngram_fit(config), texts, ~labels, test, config, 20)
    np.testing.assert_allclose(other, -np.array([good, bad, day, new]), rtol=1e-3, atol=1e-3)
