"""Near-equal texts among many: MinHash signatures, banded, and every candidate compared exactly.

A text is the set S of its shingles, three words in a row; its signature is the minimum over S of K
random hash functions. Two sets agree in one of them with probability J = |A & B| / |A | B|, their
Jaccard similarity. Rows that agree in all four hashes of a band are candidates: at J = 0.8, 16
bands miss one pair in 5,000.

Reference: Broder 1997, "On the resemblance and containment of documents".
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import UInt32, UInt64

WORDS = 3  # of a shingle
BANDS, HASHES = 16, 4
NEIGHBOURS = 3  # each row is compared with so many others of its bucket

Words = dict[str, int]  # numbers of words, in order of appearance
Texts = tuple[str, ...]  # of one row, each of which must be near
Signatures = UInt32[np.ndarray, "N K"]


def near_pairs(rows: Sequence[Texts], similarity: float) -> list[tuple[int, int]]:
    """Pairs i < j of rows with Jaccard similarity >= `similarity` in every text.

    A row is its texts in order, one at least; only rows with as many texts are compared. Of many
    rows that are all alike, a chain is found and not every pair.
    """
    words: Words = {}
    asked = _signatures(words, [texts[0] for texts in rows])
    given = _signatures(words, [" ".join(texts[1:]) for texts in rows])
    return [
        (i, j)
        for i, j in _candidates(asked, given, similarity)
        if _all_near(words, rows[i], rows[j], similarity)
    ]


def shingle_hashes(words: Words, text: str) -> UInt64[np.ndarray, " n"]:
    """Distinct hashes of the shingles of a text; of fewer than three words, one of all of them."""
    ids = [words.setdefault(word, len(words) + 1) for word in text.split()]
    numbers = np.array(ids + [0] * (WORDS - len(ids)), np.uint64)
    size = len(numbers) - WORDS + 1
    mixed = np.zeros(size, np.uint64)
    for i in range(WORDS):
        mixed = _mix(mixed + numbers[i : size + i])
    return np.unique(mixed)


def _signatures(words: Words, texts: Sequence[str]) -> Signatures:
    """One row for each text; equal texts, as prompts often are, are hashed once."""
    known: dict[str, int] = {}
    numbers = [known.setdefault(text, len(known)) for text in texts]
    odd, shift = _hash_functions()
    found = np.empty((len(known), BANDS * HASHES), np.uint32)
    for row, text in enumerate(known):
        hashed = shingle_hashes(words, text)[:, None] * odd + shift
        found[row] = hashed.min(axis=0) >> np.uint64(32)
    return found[numbers]


def _candidates(asked: Signatures, given: Signatures, similarity: float) -> list[tuple[int, int]]:
    """Pairs of rows that share a band, half of it in each signature, and agree in enough hashes."""
    found: set[tuple[int, int]] = set()
    for band in range(BANDS):
        columns = slice(band * HASHES, band * HASHES + HASHES // 2)
        keys = np.zeros(len(asked), np.uint64)
        for column in (*asked[:, columns].T, *given[:, columns].T):
            keys = _mix(keys + column)
        order = np.argsort(keys, kind="stable")
        for step in range(1, NEIGHBOURS + 1):
            first, second = order[:-step], order[step:]
            same = keys[first] == keys[second]
            first, second = first[same], second[same]
            for each in (asked, given):
                # A share of 64 hashes is within 0.25 of J but for one pair in 10,000.
                near = (each[first] == each[second]).mean(axis=1) >= similarity - 0.25
                first, second = first[near], second[near]
            found.update(zip(first.tolist(), second.tolist(), strict=True))
    return sorted(found)


def _all_near(words: Words, first: Texts, second: Texts, similarity: float) -> bool:
    """Whether there are as many texts, and each is near its counterpart."""
    return len(first) == len(second) and all(
        a == b or _jaccard(shingle_hashes(words, a), shingle_hashes(words, b)) >= similarity
        for a, b in zip(first, second, strict=True)
    )


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """|A & B| / |A | B| of two arrays of distinct numbers."""
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


@cache
def _hash_functions() -> tuple[np.ndarray, np.ndarray]:
    """Odd factors and summands [K] of x -> a x + b modulo 2^64."""
    draws = np.random.Philox(0).random_raw(2 * BANDS * HASHES).reshape(2, -1)
    return draws[0] | np.uint64(1), draws[1]


def _mix(x: np.ndarray) -> np.ndarray:
    """A bijection of 64 bits that spreads near numbers, the last steps of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
