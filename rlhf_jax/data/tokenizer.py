"""Texts to ids and back, by a `Vocabulary`: any tokenizer with its own special ids.

Two kinds of tokenizer can be trained here: whole words for a closed world, and bytes for any text,
both with the special ids of `standard_vocabulary`. `hf.read_vocabulary` reads those of others.

An answer is encoded and decoded as a text that follows its prompt (`readers`): texts of prompts and
answers are joined as they are. A text that spells a special token stays text, and is refused where
the tokenizer can only read it as that token.

`encode_prompts` and `encode_completions` with `keep` cut texts where white space follows a word
before they encode them, because tokens take fifty times the memory of the text.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rlhf_jax.data.readers import reader
from rlhf_jax.types import Vocabulary

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(4)
_BYTES = 256
# Characters read per token that is kept; four times as many each time they are too few.
_CHARACTERS = 8
# Tokens read beyond those kept, since a tokenizer may join characters across the cut.
_MARGIN = 16


def train_word_tokenizer(texts: Iterable[str], *, max_words: int = 30_000) -> Tokenizer:
    """One id per word; words, with their punctuation, are separated by white space.

    Ids follow the special tokens, most frequent word first, ties in alphabetical order, so the
    order of `texts` does not matter, and texts may be single words. Decoding joins words by one
    space, so text with single spaces round-trips.

    Args:
      texts: training texts, or the words themselves.
      max_words: largest number of words, without special tokens; rarer words become `<unk>`.
    Raises:
      ValueError: max_words < 1 or no words in the texts.
    """
    if max_words < 1:
        raise ValueError(f"max_words must be at least 1, got {max_words}")
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(
        vocab_size=max_words + len(SPECIAL_TOKENS),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    return _trained(tokenizer, texts, trainer)


def train_bpe_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Byte-level byte-pair encoding: every text round-trips exactly, and no token is unknown.

    Deterministic: the same multiset of texts gives the same merges, in any order and process.

    Args:
      texts: training texts; use the training split only.
      vocab_size: largest number of ids, including special tokens and the 256 bytes; >= 260.
    Raises:
      ValueError: vocab_size < 260 or empty texts.
    """
    smallest = _BYTES + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ValueError(f"vocab_size must be at least {smallest}, got {vocab_size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    return _trained(tokenizer, texts, trainer)


def save_tokenizer(tokenizer: Tokenizer, path: Path | str) -> None:
    """Writes the tokenizer as one JSON file."""
    tokenizer.save(str(path))


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Reads a file written by `save_tokenizer`.

    Raises:
      ValueError: no such file, not a tokenizer, or special tokens with other ids.
    """
    text = _read(Path(path))
    try:
        tokenizer = Tokenizer.from_str(text)
    # The library raises bare Exception for text that it cannot parse.
    except Exception as error:
        raise ValueError(f"{path}: not a tokenizer file; train it again ({error})") from error
    return _checked(tokenizer, str(path))


def standard_vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """The vocabulary of a tokenizer trained here: `<pad>`, `<bos>` and `<eos>` at 0, 1 and 2."""
    return Vocabulary(_checked(tokenizer, "tokenizer"), PAD_ID, BOS_ID, (EOS_ID,))


def first_words(text: str, size: int) -> str:
    """The first `size` characters and the rest of a word."""
    return text[: _word_end(text, size, 1)]


def last_words(text: str, size: int) -> str:
    """The last `size` characters and the rest of a word."""
    return text[_word_end(text, len(text) - size, -1) :]


def encode_prompts(
    vocabulary: Vocabulary, texts: Sequence[str], *, keep: int | None = None
) -> list[list[int]]:
    """The tokens of each prompt, after `bos_id` if the vocabulary has one.

    Args:
      texts: any number of prompts.
      keep: keep only the last `keep` tokens of each prompt, enough for `pad_left` to that length;
        None keeps all.
    Raises:
      ValueError: a text spells a special token as a word (row number from 0).
    """
    whole = reader(vocabulary.tokenizer).whole
    if keep is None:
        rows = _encode(vocabulary, whole, texts)
    else:
        found = _encode_enough(vocabulary, whole, texts, keep, last_words)
        rows = [ids[-keep:] for ids in found]
    first = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
    return [[*first, *ids] for ids in rows]


def encode_completions(
    vocabulary: Vocabulary, texts: Sequence[str], *, keep: int | None = None
) -> list[list[int]]:
    """The tokens of each answer, as text that follows its prompt, and the first stop id.

    Args:
      texts: any number of answers.
      keep: keep only the first `keep` tokens of each answer, enough for `pad_right` to that length;
        None keeps all.
    Raises:
      ValueError: an answer has no tokens, or spells a special token as a word (row number from 0).
    """
    continuing = reader(vocabulary.tokenizer).continuing
    if keep is None:
        rows = _encode(vocabulary, continuing, texts)
    else:
        found = _encode_enough(vocabulary, continuing, texts, keep, first_words)
        rows = [ids[:keep] for ids in found]
    for i, ids in enumerate(rows):
        if not ids:
            raise ValueError(f"row {i}: zero supervised tokens (empty answer); drop the row")
    return [[*ids, vocabulary.stop_ids[0]] for ids in rows]


def decode_rows(
    vocabulary: Vocabulary, rows: Iterable[Sequence[int]], stops: Sequence[str] = ()
) -> list[str]:
    """The text of each answer up to its first stop id, without other special tokens.

    The first space of an answer is kept: the text of its prompt and this one are the whole text.

    Args:
      stops: the text also ends before the first of these strings.
    """
    decode, texts = reader(vocabulary.tokenizer).continuing.decode, []
    for row in rows:
        ids = [int(i) for i in row]
        end = next((at for at, i in enumerate(ids) if i in vocabulary.stop_ids), None)
        text = decode(ids[:end], skip_special_tokens=True)
        places = [at for stop in stops if (at := text.find(stop)) >= 0]
        texts.append(text[: min(places, default=None)])
    return texts


def _trained(tokenizer: Tokenizer, texts: Iterable[str], trainer: trainers.Trainer) -> Tokenizer:
    """Trains the tokenizer and checks that there was at least one word."""
    seen = 0

    def counted():
        nonlocal seen
        for text in texts:
            seen += bool(text.strip())
            yield text

    tokenizer.train_from_iterator(counted(), trainer)
    if not seen:
        raise ValueError("no words to train a tokenizer on; give at least one text")
    return _checked(tokenizer, "tokenizer")


def _checked(tokenizer: Tokenizer, name: str) -> Tokenizer:
    """The tokenizer, its special ids checked; special tokens in texts are read as plain text."""
    for expected, token in enumerate(SPECIAL_TOKENS):
        if tokenizer.token_to_id(token) != expected:
            raise ValueError(
                f"{name}: {token} must have id {expected}, has {tokenizer.token_to_id(token)}; "
                "train it again"
            )
    # Otherwise "<eos>" typed by a user would end the text. The JSON file does not save this flag.
    tokenizer.encode_special_tokens = True
    return tokenizer


def separator_id(vocabulary: Vocabulary) -> int | None:
    """A token for between two texts, which neither text has: bos_id, or a special token of no use.

    None if every special token ends answers or is padding.
    """
    if vocabulary.bos_id is not None:
        return vocabulary.bos_id
    free = reader(vocabulary.tokenizer).special - {vocabulary.pad_id, *vocabulary.stop_ids}
    return min(free, default=None)


def verdict_ids(vocabulary: Vocabulary, words: tuple[str, str]) -> tuple[int, int]:
    """The ids of two verdicts, one token each, that follow other text.

    Raises:
      ValueError: a word that is no single token or is unknown, or two words with one id.
    """
    known = reader(vocabulary.tokenizer)
    rows = _encode(vocabulary, known.continuing, list(words))
    for word, ids in zip(words, rows, strict=True):
        if known.unknown in ids:
            raise ValueError(f"the verdict {word!r} is unknown to the tokenizer; choose another")
        if len(ids) != 1:
            raise ValueError(f"the verdict {word!r} must be one token, is {len(ids)}")
    if rows[0] == rows[1]:
        raise ValueError(f"the verdicts {words[0]!r} and {words[1]!r} are the same token")
    return rows[0][0], rows[1][0]


def encode_observation(vocabulary: Vocabulary, text: str) -> list[int]:
    """The tokens of a text that a tool or an environment writes after an answer.

    Raises:
      ValueError: the text spells a special token as a word.
    """
    return _encode(vocabulary, reader(vocabulary.tokenizer).continuing, [text])[0]


def _encode(
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    numbers: Sequence[int] | None = None,
) -> list[list[int]]:
    """Ids of each text; ValueError if one is reserved. numbers: row numbers for the error."""
    rows = [e.ids for e in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    special = reader(vocabulary.tokenizer).special
    reserved = {*special, *vocabulary.stop_ids} | {vocabulary.bos_id}
    for i, ids in zip(range(len(rows)) if numbers is None else numbers, rows, strict=True):
        if not reserved.isdisjoint(ids):
            word = tokenizer.id_to_token(next(token for token in ids if token in reserved))
            raise ValueError(f"row {i}: the text has the word {word}, which is reserved; remove it")
    return rows


def _encode_enough(
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    keep: int,
    part: Callable[[str, int], str],
) -> list[list[int]]:
    """Ids of a part of each text: more than `keep` of them, or all of the text."""
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    rows: list[list[int]] = [[] for _ in texts]
    size, short = _CHARACTERS * keep, list(range(len(texts)))
    while short:
        parts = [part(texts[i], size) for i in short]
        for i, ids in zip(short, _encode(vocabulary, tokenizer, parts, short), strict=True):
            rows[i] = ids
        short = [
            i
            for i, text in zip(short, parts, strict=True)
            if len(rows[i]) < keep + _MARGIN and len(text) < len(texts[i])
        ]
        size *= 4
    return rows


def _word_end(text: str, at: int, step: int) -> int:
    """The first position from `at` on where white space follows a word, or an end of the text."""
    while 0 < at < len(text) and not (text[at] in " \n" and not text[at - 1].isspace()):
        at += step
    return min(max(at, 0), len(text))


def _read(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path}: no such tokenizer file; train one first")
    return path.read_text(encoding="utf-8")
