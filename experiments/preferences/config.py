"""Sizes of the preferences experiment."""

from dataclasses import dataclass, field
from pathlib import Path

from rlhf_jax.checks import check_fields
from rlhf_jax.models import TransformerConfig
from rlhf_jax.recipes.ngram_reward import Ngrams


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One fit by AdamW: the rate warms up over a tenth of the steps, then falls on a cosine to 0.

    epochs: passes over the training pairs, > 0. learning_rate: the highest, in (0, 1].
    weight_decay: in [0, 1].
    """

    epochs: float
    learning_rate: float
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, "(0, inf)", "epochs")
        check_fields(self, "(0, 1]", "learning_rate")
        check_fields(self, "[0, 1]", "weight_decay")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    data: the preference file. seed: of the folds, the first weights, the batches and the samples.
    trunk: a Hugging Face folder; its tokenizer, shape and weights take the place of vocab_size,
      d_model, num_layers, num_heads and random weights. fresh: random weights of its shape, the
      control. The n-grams are the same.
    folds: K >= 2 of cross-validation. max_pairs: no more than the first so many pairs are used.
    vocab_size: ids of the tokenizer, 260 to 65,536. prompt_tokens, answer_tokens: P and T.
    d_model, num_layers, num_heads: of the transformer. batch: pairs an update, or answers in SFT.
    beta: DPO's KL weight > 0. sampled: held-out prompts of each fold that are answered, for the
    KL; kept: how many of these answers are written to answers.jsonl.
    """

    data: Path | None = None
    trunk: Path | None = None
    fresh: bool = False
    seed: int = 0
    folds: int = 5
    max_pairs: int = 5000
    vocab_size: int = 1024
    prompt_tokens: int = 96
    answer_tokens: int = 64
    d_model: int = 64
    num_layers: int = 2
    num_heads: int = 2
    batch: int = 32
    beta: float = 0.1
    sft: Fit = Fit(epochs=4, learning_rate=3e-3)
    reward: Fit = Fit(epochs=2, learning_rate=1e-3)
    dpo: Fit = Fit(epochs=1, learning_rate=3e-4, weight_decay=0.0)
    ngrams: Ngrams = field(default=Ngrams())
    sampled: int = 64
    kept: int = 4

    def __post_init__(self) -> None:
        check_fields(self, "[260, 65536]", "vocab_size")
        check_fields(self, "[0, inf)", "kept")
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "folds", "sampled")
        check_fields(self, "[1, inf)", "max_pairs", "prompt_tokens", "answer_tokens", "batch")
        check_fields(self, "[1, inf)", "d_model", "num_layers", "num_heads")
        if self.d_model % (2 * self.num_heads):
            raise ValueError(
                f"d_model must be a multiple of 2 num_heads = {2 * self.num_heads}, "
                f"got {self.d_model}"
            )
        check_fields(self, "(0, inf)", "beta")
        if self.fresh and self.trunk is None:
            raise ValueError("fresh must be False without a trunk: all weights are random then")

    def transformer(self) -> TransformerConfig:
        """The shape of the transformer."""
        return TransformerConfig(
            vocab_size=self.vocab_size,
            d_model=self.d_model,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_heads,
            head_dim=self.d_model // self.num_heads,
            d_ff=2 * self.d_model,
        )


def default() -> Config:
    """Five folds, under a quarter of an hour for 2,000 pairs on two cores."""
    return Config()


def quick() -> Config:
    """Four folds of a smaller model on shorter texts, in a minute and a half."""
    return Config(
        folds=4,
        vocab_size=512,
        prompt_tokens=24,
        answer_tokens=48,
        num_layers=1,
        sft=Fit(epochs=1, learning_rate=3e-3),
        sampled=16,
        kept=2,
    )
