"""Pairs of texts as arrays, fold by fold: nothing of a test fold reaches its tokenizer."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from experiments.preferences.config import Config
from rlhf_jax.data.padding import PaddedRows, pad_left, pad_right
from rlhf_jax.data.preference_files import Pair, PreferencePairs, read_preferences
from rlhf_jax.data.splits import Fold, dialogue_groups, kfold
from rlhf_jax.data.tokenizer import (
    encode_completions,
    encode_prompts,
    first_words,
    last_words,
    standard_vocabulary,
    train_bpe_tokenizer,
)
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import PyTree, Vocabulary

ROOM = 1000  # characters a token: what lies beyond P or T of them is not looked at
NEEDS_DATA = (
    "preferences needs --data FILE: JSON lines, plain or gzip, each with prompt, chosen and "
    "rejected, or with two whole dialogues chosen and rejected (hh-rlhf), or QA-feedback rows"
)


class Source(NamedTuple):
    """A preference file, read and divided.

    file: what was read, with the counts of what was dropped.
    pairs: the N that are used, far too long texts cut. groups: [N] number of each pair's dialogue.
    folds: K of them; no dialogue is on both sides of one.
    digest: SHA-256 of the file.
    """

    file: PreferencePairs
    pairs: tuple[Pair, ...]
    groups: np.ndarray
    folds: list[Fold]
    digest: str


class PairRows(NamedTuple):
    """N pairs as arrays. prompts [N, P] padded left; chosen and rejected [N, T] padded right."""

    prompts: PaddedRows
    chosen: PaddedRows
    rejected: PaddedRows


def read_source(config: Config) -> Source:
    """Reads and divides the file that the user named.

    Raises:
      UserError: no file was named, a row is bad, or there are fewer prompts than folds.
    """
    if config.data is None:
        raise UserError(NEEDS_DATA)
    with reading_input():
        file = read_preferences(config.data)
        pairs = file.pairs[: config.max_pairs]
        groups = numbered(dialogue_groups([pair.prompt for pair in pairs], folds=config.folds))
        folds = kfold(groups.tolist(), folds=config.folds, seed=config.seed)
    digest = hashlib.sha256(Path(config.data).read_bytes()).hexdigest()
    return Source(file, tuple(readable(pair, config) for pair in pairs), groups, folds, digest)


def numbered(names: Sequence[str]) -> np.ndarray:
    """[N] the number of each name, in order of appearance. (np.unique pads to the longest.)"""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def readable(pair: Pair, config: Config) -> Pair:
    """The pair, and of a text far longer than the model reads the part that it reads."""
    prompt = last_words(pair.prompt, ROOM * config.prompt_tokens)
    size = ROOM * config.answer_tokens
    return Pair(prompt, first_words(pair.chosen, size), first_words(pair.rejected, size))


def train_vocabulary(pairs: Sequence[Pair], config: Config) -> Vocabulary:
    """Byte-pair encoding of these pairs' texts; a prompt that comes several times counts once."""
    prompts = dict.fromkeys(pair.prompt for pair in pairs)
    answers = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    texts = [*prompts, *answers]
    return standard_vocabulary(train_bpe_tokenizer(texts, vocab_size=config.vocab_size))


def pair_rows(vocabulary: Vocabulary, pairs: Sequence[Pair], config: Config) -> PairRows:
    """Prompts keep their last tokens and answers their first ones, up to the config's lengths.

    Raises:
      UserError: an answer has zero supervised tokens.
    """
    with reading_input():
        before, after = config.prompt_tokens, config.answer_tokens
        prompts = encode_prompts(vocabulary, [pair.prompt for pair in pairs], keep=before)
        chosen = encode_completions(vocabulary, [pair.chosen for pair in pairs], keep=after)
        rejected = encode_completions(vocabulary, [pair.rejected for pair in pairs], keep=after)
        pad = vocabulary.pad_id
        return PairRows(
            pad_left(prompts, before, pad_id=pad),
            pad_right(chosen, after, pad_id=pad),
            pad_right(rejected, after, pad_id=pad),
        )


def lost_by_cutting(
    rows: PairRows, prompts: Sequence[str], vocabulary: Vocabulary
) -> dict[str, np.ndarray]:
    """What the lengths P and T cost each of N pairs.

    Args:
      rows: of the pairs, in ids of the vocabulary; prompts: their texts.
    Returns:
      "prompts": [N] whether the prompt was cut; "answers": [N] how many of the two answers were;
      "equal": [N] whether the answers are one after cutting; "merged": [N] whether the prompt is
      then that of another pair, although their texts differ.
    """
    stop, first = vocabulary.stop_ids[0], vocabulary.bos_id
    cut = [
        ~((answers.ids == stop) & answers.mask).any(-1) for answers in (rows.chosen, rows.rejected)
    ]
    kept = np.unique(rows.prompts.ids, axis=0, return_inverse=True)[1].reshape(-1)
    texts_of = np.bincount(np.unique(np.stack([kept, numbered(prompts)]), axis=1)[0])
    return {
        "prompts": ~((rows.prompts.ids == first) & rows.prompts.mask).any(-1),
        "answers": np.sum(cut, axis=0),
        "equal": (rows.chosen.ids == rows.rejected.ids).all(-1),
        "merged": texts_of[kept] > 1,
    }


def take(rows: PyTree, index: np.ndarray | slice) -> PyTree:
    """These rows of every array."""
    return jax.tree.map(lambda x: x[index], rows)


def even_batches(total: int, size: int) -> list[np.ndarray]:
    """Row numbers 0 .. total - 1 in batches of exactly `size`, filled up with row 0."""
    numbers = np.zeros(-(-total // size) * size, np.int64)
    numbers[:total] = np.arange(total)
    return list(numbers.reshape(-1, size))


def first_of_each(groups: np.ndarray, count: int) -> np.ndarray:
    """The first row of each group, in order of appearance, `count` of them at most."""
    return np.sort(np.unique(groups, return_index=True)[1])[:count]
