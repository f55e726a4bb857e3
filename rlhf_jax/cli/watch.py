"""`--watch-corpus`: the loss on texts that are not trained on, along a training."""

from functools import partial
from typing import Any

from rlhf_jax.cli.data import read_answers
from rlhf_jax.cli.measures import Numbers, Quality, answer_loss
from rlhf_jax.cli.session import open_lab
from rlhf_jax.hf import Pretrained
from rlhf_jax.recipes import LanguageLab
from rlhf_jax.types import Params

WATCHED = 256  # rows


def corpus_quality(options: Any, base: Pretrained, lab: LanguageLab) -> Quality:
    """ "corpus loss" in nats a token and "corpus perplexity"; {} without the option.

    Args:
      options: with parts `model`, `optimizer`, `output` and `watch`.
      lab: of the params that are measured.
    """
    path = options.watch.watch_corpus
    if path is None:
        return lambda params: {}
    rows = read_answers(path, base.chat, options.output.out)
    kept = [rows[i] for i in range(min(WATCHED, len(rows)))]
    # Its own columns: a training would pad every batch to the longest text of the corpus.
    wide, (records,) = open_lab(options, base, [(path, kept)])
    lab = lab._replace(prompt_length=wide.prompt_length, answer_length=wide.answer_length)
    loss = partial(answer_loss, lab, records, batch_size=options.optimizer.batch_size)

    def quality(params: Params) -> Numbers:
        return {f"corpus {name}": value for name, value in loss(params).items()}

    return quality


def watched(quality: Quality, corpus: Quality) -> Quality:
    """Both."""
    return lambda params: quality(params) | corpus(params)
