"""Bag-of-n-grams features for a linear baseline.

With the linear reward r(x) = features(x) @ params and the Bradley-Terry loss they make the
classical preference model that a transformer has to beat.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class NgramVocabulary:
    """The n-grams that are counted, and their weights.

    ngrams: d n-grams, words joined by a space; column j of the features is `ngrams[j]`.
    idf: d weights ln((1 + D) / (1 + df)) + 1, where df of the D training texts contain the n-gram.
    max_n: longest n-gram, in words.
    """

    ngrams: tuple[str, ...]
    idf: tuple[float, ...]
    max_n: int


def fit_ngrams(
    texts: Iterable[str], *, max_features: int, max_n: int = 2, min_texts: int = 2
) -> NgramVocabulary:
    """The `max_features` n-grams that occur in most texts; ties in alphabetical order.

    Fit on training texts only: a vocabulary fitted to test texts leaks information about them.

    Args:
      texts: training texts. Words are lower-cased; each punctuation mark is a word.
      max_features: largest d, >= 1.
      max_n: longest n-gram, >= 1 (2: single words and pairs of neighbours).
      min_texts: n-grams that occur in fewer texts are left out.
    Raises:
      ValueError: an argument < 1, or no n-gram is left.
    """
    if min(max_features, max_n, min_texts) < 1:
        raise ValueError(
            "max_features, max_n and min_texts must be at least 1, "
            f"got {max_features}, {max_n}, {min_texts}"
        )
    document_counts: Counter[str] = Counter()
    total = 0
    for text in texts:
        document_counts.update(set(_ngrams(text, max_n)))
        total += 1
    frequent = [(ngram, df) for ngram, df in document_counts.items() if df >= min_texts]
    if not frequent:
        raise ValueError(
            f"no n-gram occurs in {min_texts} of the {total} texts; lower min_texts or give more"
        )
    kept = sorted(frequent, key=lambda item: (-item[1], item[0]))[:max_features]
    idf = np.log((1 + total) / (1 + np.array([df for _, df in kept]))) + 1
    return NgramVocabulary(
        ngrams=tuple(ngram for ngram, _ in kept), idf=tuple(idf.tolist()), max_n=max_n
    )


def ngram_features(vocabulary: NgramVocabulary, texts: Sequence[str]) -> Float32[np.ndarray, "N d"]:
    """Log-scaled TF-IDF: (1 + ln count) * idf, each row scaled to Euclidean length 1.

    A text without a known n-gram gets a row of zeros. Dense, 4 N d bytes.

    Args:
      vocabulary: from `fit_ngrams`.
      texts: N texts.
    """
    column = {ngram: j for j, ngram in enumerate(vocabulary.ngrams)}
    idf = np.array(vocabulary.idf)
    features = np.zeros((len(texts), len(column)), np.float32)
    for i, text in enumerate(texts):
        counts = Counter(
            column[ngram] for ngram in _ngrams(text, vocabulary.max_n) if ngram in column
        )
        if not counts:
            continue
        columns = np.fromiter(counts.keys(), np.int64)
        weights = (1 + np.log(np.fromiter(counts.values(), np.float64))) * idf[columns]
        features[i, columns] = weights / np.linalg.norm(weights)
    return features


def _ngrams(text: str, max_n: int) -> Iterator[str]:
    """All n-grams of 1 to max_n words, with repeats."""
    words = _WORD.findall(text.lower())
    for n in range(1, max_n + 1):
        for start in range(len(words) - n + 1):
            yield " ".join(words[start : start + n])
