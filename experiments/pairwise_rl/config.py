"""Sizes of the pairwise_rl experiment."""

from dataclasses import dataclass

import numpy as np

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Tables fitted to the labels of annotators who like the answer that they read first.

    pairs: labelled. steps, rate: of Adam, on all pairs. consistency: weight of the penalty on what
      the order adds.
    """

    pairs: int = 10_000
    steps: int = 150
    rate: float = 0.05
    consistency: float = 1.0

    def __post_init__(self):
        check_fields(self, "[1, inf)", "pairs", "steps")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "[0, inf)", "consistency")


@dataclass(frozen=True, kw_only=True)
class Strings:
    """Transformers that judge strings.

    num_seeds: worlds and first weights. prompts, symbols, length: a prompt is one of so many
      tokens, its gold string has `length` of `symbols`.
    sizes: training pairs. steps, batch, rate: of Adam. width, layers: of the transformer.
    test_pairs: held out, without ties and without noise.
    """

    num_seeds: int = 5
    prompts: int = 8
    symbols: int = 6
    length: int = 6
    sizes: tuple[int, ...] = (1_000, 10_000)
    steps: int = 300
    batch: int = 64
    rate: float = 3e-3
    width: int = 32
    layers: int = 2
    test_pairs: int = 2_000

    def __post_init__(self):
        check_fields(self, "[2, inf)", "num_seeds", "prompts", "symbols", "width")
        check_fields(self, "[1, inf)", "length", "steps", "batch", "layers", "test_pairs")
        check_fields(self, "(0, 1]", "rate")
        if not self.sizes or min(self.sizes) < self.batch:
            raise ValueError(f"sizes must be at least batch = {self.batch}, got {self.sizes}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds.
    prompts, answers: of the bandit. spread, ref_spread: deviations of true scores, and of the
      reference logits.
    bias: deviation of a prompt's liking for the first answer. shift, log_scale: of a pointwise
      reward's zero and log unit, by prompt.
    iterations, batch, epochs, clip_eps, rate: PPO, Adam's step. group: answers to a prompt where
      the baseline is the mean of the others.
    lowest, highest, betas: KL weights, in units of the reward's spread within prompts.
    budget: KL to the reference, in nats, at which policies are compared.
    """

    seed: int = 0
    num_seeds: int = 10
    prompts: int = 64
    answers: int = 10
    spread: float = 1.5
    ref_spread: float = 0.5
    bias: float = 1.5
    shift: float = 3.0
    log_scale: float = 0.7
    iterations: int = 400
    batch: int = 64
    epochs: int = 2
    clip_eps: float = 0.2
    rate: float = 0.05
    group: int = 4
    lowest: float = 0.1
    highest: float = 2.0
    betas: int = 8
    budget: float = 1.0
    judges: Judges = Judges()
    strings: Strings = Strings()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "prompts", "answers", "group", "betas")
        check_fields(self, "(0, inf)", "spread", "clip_eps", "lowest", "highest", "budget")
        check_fields(self, "[0, inf)", "ref_spread", "bias", "shift", "log_scale")
        check_fields(self, "[1, inf)", "iterations", "epochs")
        check_fields(self, "(0, 1]", "rate")
        if self.batch < self.group or self.batch % self.group:
            raise ValueError(f"batch must be a multiple of group = {self.group}, got {self.batch}")

    def multiples(self) -> np.ndarray:
        """KL weights in units of the spread within prompts."""
        return np.geomspace(self.lowest, self.highest, self.betas)


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer worlds, weights and strings."""
    return Config(
        num_seeds=3,
        betas=6,
        judges=Judges(pairs=5_000, steps=100),
        strings=Strings(num_seeds=2, sizes=(500,), steps=40, layers=1, test_pairs=500),
    )
