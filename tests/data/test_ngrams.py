"""Bag-of-n-grams features against numbers worked out by hand."""

import math

import numpy as np
import pytest

from rlhf_jax.data.ngrams import NgramVocabulary, fit_ngrams, ngram_features


def test_vocabulary_by_hand():
    vocabulary = fit_ngrams(["A b!", "a b c", "a"], max_features=3)
    # In 3, 2 and 2 texts; "a b" before "b" by the alphabet; "!" and "c" in one text only.
    assert vocabulary.ngrams == ("a", "a b", "b")
    assert vocabulary.idf == pytest.approx((1.0, math.log(4 / 3) + 1, math.log(4 / 3) + 1))


def test_features_by_hand():
    vocabulary = NgramVocabulary(ngrams=("a", "a a", "b"), idf=(1.0, 2.0, 3.0), max_n=2)
    features = ngram_features(vocabulary, ["a a b", "z"])
    raw = np.array([1 + math.log(2), 2.0, 3.0])
    np.testing.assert_allclose(features[0], raw / np.linalg.norm(raw), rtol=1e-6)
    np.testing.assert_array_equal(features[1], 0)
    assert features.dtype == np.float32


def test_rows_have_unit_length_and_order_of_texts_does_not_matter():
    texts = ["the cat sat", "the dog sat", "the cat ran , the dog ran"]
    vocabulary = fit_ngrams(texts, max_features=50, min_texts=1)
    assert vocabulary == fit_ngrams(reversed(texts), max_features=50, min_texts=1)
    np.testing.assert_allclose(np.linalg.norm(ngram_features(vocabulary, texts), axis=1), 1, 1e-6)


def test_ngram_errors():
    with pytest.raises(ValueError, match="no n-gram occurs in 2 of the 2 texts"):
        fit_ngrams(["a", "b"], max_features=5)
    with pytest.raises(ValueError, match="must be at least 1, got 0, 2, 2"):
        fit_ngrams(["a", "b"], max_features=0)
