"""Which of two sums is larger: comparisons, a teacher's judgements of them, and their tokens.

An answer is a row of digits, worth their sum modulo 4. A comparison shows both answers column by
column, then "=". A judgement writes the two running sums of as many columns as it likes, then one
verdict, which ends it. Verdicts are the difference of the sums, -3 to 3 without 0.

Nothing short decides: before the last column is added, each difference is as likely as any other.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from experiments.think_rm.config import JudgeSizes
from rlhf_jax.data.traces import Keep, select_traces

BASE = 4
START, PAD = BASE, BASE + 1
FIRST = BASE + 2  # the token of the first verdict
VALUES = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
WORDS = FIRST + len(VALUES)
STOPS = tuple(range(FIRST, WORDS))


class Comparisons(NamedTuple):
    """prompts: [N, 2 L + 1] tokens. labels: [N] z*."""

    prompts: Int[np.ndarray, "N P"]
    labels: np.ndarray


class Judgements(NamedTuple):
    """tokens: [N, K, T] with the verdict last, then padding. lengths: [N, K] columns worked.
    verdicts: [N, K]."""

    tokens: Int[np.ndarray, "N K T"]
    lengths: Int[np.ndarray, "N K"]
    verdicts: np.ndarray

    @property
    def mask(self) -> Bool[np.ndarray, "N K T"]:
        """Tokens that count."""
        return self.tokens != PAD


def prompt_length(sizes: JudgeSizes) -> int:
    return 2 * sizes.columns + 1


def answer_length(sizes: JudgeSizes) -> int:
    """Tokens of the longest judgement: both running sums of each column, and the verdict."""
    return 2 * sizes.columns + 1


def draw_comparisons(sizes: JudgeSizes, rng: np.random.Generator, size: int) -> Comparisons:
    """Random digits; the last digit of the second answer is drawn so that the sums differ."""
    digits = rng.integers(BASE, size=(size, sizes.columns, 2))
    short = digits[:, :, 0].sum(1) - digits[:, :-1, 1].sum(1)  # what would make the sums equal
    digits[:, -1, 1] = (short + rng.integers(1, BASE, size=size)) % BASE
    first, second = np.moveaxis(digits.sum(1) % BASE, -1, 0)
    prompts = np.concatenate([digits.reshape(size, -1), np.full((size, 1), START)], axis=1)
    return Comparisons(prompts, (second - first).astype(float))


def teacher_judgements(
    sizes: JudgeSizes, rng: np.random.Generator, asked: Comparisons
) -> Judgements:
    """Judgements that stop after a random number of columns, and then guess.

    After all columns the verdict is the difference of the sums as the teacher has them; after
    fewer, or at equal sums, it is any of the six.
    """
    size, count = len(asked.labels), sizes.traces
    digits = asked.prompts[:, None, :-1].reshape(size, 1, sizes.columns, 2)
    slips = rng.random((size, count, sizes.columns, 2)) < sizes.slip
    wrong = slips * rng.integers(1, BASE, size=slips.shape)
    sums = np.cumsum(digits + wrong, axis=2) % BASE
    lengths = rng.integers(sizes.columns + 1, size=(size, count))
    gaps = (sums[:, :, -1, 1] - sums[:, :, -1, 0]).astype(float)
    guesses = VALUES[rng.integers(len(VALUES), size=(size, count))]
    known = (lengths == sizes.columns) & (gaps != 0)
    verdicts = np.where(known, gaps, guesses)
    tokens = np.full((size, count, answer_length(sizes)), PAD)
    tokens[..., :-1] = sums.reshape(size, count, -1)
    places = np.arange(tokens.shape[-1])
    tokens = np.where(places < 2 * lengths[..., None], tokens, PAD)
    ends = places == 2 * lengths[..., None]
    return Judgements(np.where(ends, token_of(verdicts)[..., None], tokens), lengths, verdicts)


def token_of(verdicts: np.ndarray) -> np.ndarray:
    """The token of each verdict."""
    return FIRST + np.searchsorted(VALUES, verdicts)


class Demonstrations(NamedTuple):
    """prompts: [M, P]. tokens, mask: [M, T]. columns: [M] worked. counts: of `select_traces`."""

    prompts: np.ndarray
    tokens: np.ndarray
    mask: np.ndarray
    columns: np.ndarray
    counts: dict[str, int]


def demonstrations(
    asked: Comparisons, given: Judgements, *, keep: Keep, seed: int
) -> Demonstrations:
    """One right judgement for each comparison that has one."""
    lengths = given.mask.sum(-1)
    found = select_traces(given.verdicts, lengths, asked.labels, keep=keep, seed=seed)
    rows, traces = found.chosen.T
    tokens = given.tokens[rows, traces]
    return Demonstrations(
        asked.prompts[rows], tokens, tokens != PAD, given.lengths[rows, traces], found.counts
    )
