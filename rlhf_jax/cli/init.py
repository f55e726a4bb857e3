"""A model folder with random weights, so that every command can also train from scratch."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import jax

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.data import texts_in
from rlhf_jax.data.formats import read_rows
from rlhf_jax.data.tokenizer import standard_vocabulary, train_bpe_tokenizer
from rlhf_jax.hf import Pretrained, random_model, read_config, save_model
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Size:
    """The shape of a new model, a Llama."""

    width: int = 64
    """Of the residual stream; a multiple of twice the heads."""
    layers: int = 4
    """Blocks of attention and MLP."""
    heads: int = 4
    """Attention heads."""
    context: int = 1024
    """Longest document in tokens, for other libraries: rotary positions have no end here."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "width", "layers", "heads", "context")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"--width must be a multiple of twice the heads, {2 * self.heads}, got {self.width}"
            )


@dataclass(frozen=True, kw_only=True)
class Init:
    """A new model with random weights, to train from scratch.

    Its tokenizer, byte-pair encoding of bytes, is trained on the texts of --data. --like takes the
    shape of another model, and its tokenizer unless there is --data.
    """

    out: Path
    """New folder."""
    data: Path | None = None
    """Texts for the tokenizer, in any format of the other commands. Give the training rows only."""
    vocab_size: int = 1024
    """Tokens of a new tokenizer, at most."""
    like: Path | None = None
    """Hugging Face folder with the shape; its weights are not read."""
    size: Size = field(default=Size())
    seed: int = 0
    """Of the weights."""

    def __post_init__(self) -> None:
        check_fields(self, "[260, inf)", "vocab_size")
        check_fields(self, "[0, 4294967295]", "seed")


def init(command: str, options: Init) -> None:
    """Draws the weights and writes the folder."""
    with reading_input():
        model = _like(options) if options.like is not None else _sized(options)
        save_model(options.out, model)
    count = sum(x.size for x in jax.tree.leaves(model.params))
    print(f"model: {options.out}, {count} parameters, {model.config.vocab_size} tokens")


def _sized(options: Init) -> Pretrained:
    """A Llama of the given size."""
    if options.data is None:
        raise UserError("rlhf init needs --data FILE for a tokenizer, or --like FOLDER")
    size, vocabulary = options.size, new_vocabulary(options.data, options.vocab_size)
    config = TransformerConfig(
        vocab_size=vocabulary.size,
        d_model=size.width,
        num_layers=size.layers,
        num_heads=size.heads,
        num_kv_heads=size.heads,
        head_dim=size.width // size.heads,
        d_ff=-(-8 * size.width // 24) * 8,  # 8/3 of the width, as in Llama
        max_positions=size.context,
    )
    return _drawn(config, vocabulary, options.seed)


def _like(options: Init) -> Pretrained:
    """The shape of another folder."""
    assert options.like is not None
    if options.size != Size():
        raise UserError("--like has the shape: leave out --width, --layers, --heads and --context")
    if options.data is None:
        return random_model(options.like, seed=options.seed)
    vocabulary = new_vocabulary(options.data, options.vocab_size)
    config = replace(read_config(options.like), vocab_size=vocabulary.size)
    return _drawn(config, vocabulary, options.seed)


def _drawn(config: TransformerConfig, vocabulary: Vocabulary, seed: int) -> Pretrained:
    params = make_transformer(config).init(jax.random.key(seed))
    return Pretrained(config, params, vocabulary)


def new_vocabulary(path: Path, vocab_size: int) -> Vocabulary:
    """Byte-pair encoding of the texts of a file; a text that comes several times counts once.

    Raises:
      ValueError: a file that cannot be read.
    """
    found = read_rows(path)
    print(f"{path}: {found.note()}")
    texts = dict.fromkeys(texts_in(found.records))
    return standard_vocabulary(train_bpe_tokenizer(texts, vocab_size=vocab_size))
