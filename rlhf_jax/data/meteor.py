"""METEOR of two texts, and how alike the answers to different prompts are: a sign of collapse.

On the host, in plain Python. Words are matched as they are written: stems and synonyms of the
original need files of a language.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from rlhf_jax.checks import check_range

ALPHA, PENALTY, POWER = 0.9, 0.5, 3.0  # of the original, for English


def meteor(words: Sequence[str], reference: Sequence[str]) -> float:
    """METEOR of a text against a reference, from exact matches of words.

    F (1 - 0.5 (chunks / m)^3),   F = P R / (0.9 P + 0.1 R),   P = m / |words|, R = m / |reference|,

    where m words are matched one to one, as many as possible, and lie in `chunks` runs that are
    contiguous and in the same order in both texts.

    Args:
      words, reference: lower-cased words, e.g. of `text.lower().split()`.
    Returns:
      A number in [0, 1), not symmetric; 0 where no word is shared, and of an empty text.
    Reference: Banerjee and Lavie 2005, "METEOR: an automatic metric for MT evaluation".
    Departs: exact matches only. The alignment is found from left to right, a word taking the place
      that begins the longest run; chunks may be one more than the fewest possible.
    """
    places = aligned_words(words, reference)
    matched = [(i, j) for i, j in enumerate(places) if j >= 0]
    if not matched:
        return 0.0
    chunks = 1 + sum((i + 1, j + 1) != after for (i, j), after in pairwise(matched))
    precision, recall = len(matched) / len(words), len(matched) / len(reference)
    f_mean = precision * recall / (ALPHA * precision + (1.0 - ALPHA) * recall)
    return f_mean * (1.0 - PENALTY * (chunks / len(matched)) ** POWER)


def aligned_words(words: Sequence[str], reference: Sequence[str]) -> list[int]:
    """The place in the reference that each word is matched to, -1 for none; no place twice."""
    free = defaultdict(list)
    for j, word in enumerate(reference):
        free[word].append(j)
    taken, places = [False] * len(reference), [-1] * len(words)
    i = 0
    while i < len(words):
        starts = [j for j in free[words[i]] if not taken[j]]
        lengths = [_run(words, reference, taken, i, j) for j in starts]
        if not starts:
            i += 1
            continue
        longest = max(lengths)
        start = starts[lengths.index(longest)]
        for step in range(longest):
            places[i + step], taken[start + step] = start + step, True
        i += longest
    return places


def _run(
    words: Sequence[str], reference: Sequence[str], taken: Sequence[bool], i: int, j: int
) -> int:
    """Words from place i on that are the same as from place j on, until one is taken."""
    length = 0
    while (
        i + length < len(words)
        and j + length < len(reference)
        and not taken[j + length]
        and words[i + length] == reference[j + length]
    ):
        length += 1
    return length


def prompt_similarity(
    answers: Sequence[Sequence[str]], *, pairs: int = 200, seed: int = 0
) -> float:
    """Mean METEOR of answers to different prompts: low for varied answers, high after a collapse.

    Args:
      answers: for each prompt, the texts that answer it. Empty texts count, with METEOR 0.
      pairs: drawn at random, with replacement; the paper's 200.
      seed: of the pairs, which depend on nothing else and on the numbers of answers.
    Returns:
      A number in [0, 1); NaN with fewer than two prompts that have an answer.
    Reference: Mukobi et al. 2023, arXiv:2310.16763 (METEOR similarity, 200 pairs a data set).
    """
    check_range("[1, inf)", pairs=pairs)
    given = [[text.lower().split() for text in texts] for texts in answers if texts]
    if len(given) < 2:
        return float("nan")
    draw = random.Random(f"meteor {seed}")
    total = 0.0
    for _ in range(pairs):
        first, second = draw.sample(range(len(given)), 2)
        total += meteor(draw.choice(given[first]), draw.choice(given[second]))
    return total / pairs
