"""Sizes of the rlhs experiment."""

from dataclasses import dataclass

import numpy as np

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class ShopPanel:
    """The language panel: the shop's shipped SFT policy.

    worlds: seeds of prompts, one training on each kind of labels in each. pairs: tempting prompts
      with two sales answers. rationality: inverse temperature of their labels. accuracy: of the
      world model, about hidden features.
    beta, steps, rate, batch_size: of DPO, AdamW.
    prompts: held out, tempting; samples: answers to each.
    """

    worlds: int = 3
    pairs: int = 640
    rationality: float = 5.0
    accuracy: float = 0.75
    beta: float = 0.1
    steps: int = 40
    rate: float = 6e-4
    batch_size: int = 16
    prompts: int = 128
    samples: int = 1

    def __post_init__(self):
        check_fields(self, "[1, 100]", "worlds")
        check_fields(self, "[2, 5000]", "pairs", "prompts")
        check_fields(self, "(0, 1000000]", "rationality", "beta")
        check_fields(self, "[0.5, 1]", "accuracy")
        check_fields(self, "[1, 1000000]", "steps", "batch_size")
        check_fields(self, "[1, 1024]", "samples")
        check_fields(self, "(0, 1]", "rate")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: data sets, all in one vmap.
    accuracies: q of the world models that simulate outcomes, ascending from 1/2 to 1.
    pairs, rationality: labelled pairs of the reference's messages, and the inverse temperature of
      their Bradley-Terry labels.
    beta: KL weight of DPO and PPO. steps, rate: of Adam, for DPO and for reward models.
    iterations, prompts, epochs, ppo_rate: of PPO, prompts of an iteration, passes over them, Adam.
    chains, states, gamma: random Markov reward processes, their states, the discount.
    chain_pairs: pairs of starting states of a chain, labelled after `horizons` observed steps.
    panel: whether to run the language panel, `shop`.
    """

    seed: int = 0
    num_seeds: int = 10
    accuracies: tuple[float, ...] = (0.5, 0.6, 0.75, 0.9, 1.0)
    pairs: int = 4000
    rationality: float = 5.0
    beta: float = 0.1
    steps: int = 300
    rate: float = 0.05
    iterations: int = 100
    prompts: int = 256
    epochs: int = 4
    ppo_rate: float = 0.05
    chains: int = 10
    states: int = 20
    gamma: float = 0.8
    chain_pairs: int = 4000
    horizons: tuple[int, ...] = (0, 1, 3, 7, 17)
    panel: bool = False
    shop: ShopPanel = ShopPanel()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "chains", "states")
        check_fields(self, "[100, inf)", "pairs", "chain_pairs")
        check_fields(self, "[0.5, 1]", "accuracies")
        check_fields(self, "(0, inf)", "rationality", "beta")
        check_fields(self, "[1, inf)", "steps", "iterations", "epochs")
        check_fields(self, "[2, inf)", "prompts")
        check_fields(self, "(0, 1]", "rate", "ppo_rate")
        check_fields(self, "(0, 1)", "gamma")
        check_fields(self, "[0, inf)", "horizons")
        if self.accuracies[0] != 0.5 or self.accuracies[-1] != 1.0 or 0.75 not in self.accuracies:
            raise ValueError(f"accuracies must have 0.5, 0.75 and 1, got {self.accuracies}")
        if np.any(np.diff(self.accuracies) <= 0):
            raise ValueError(f"accuracies must ascend, got {self.accuracies}")
        if self.horizons[0] != 0 or len(self.horizons) < 3 or np.any(np.diff(self.horizons) <= 0):
            raise ValueError(f"horizons must ascend from 0 in 3 or more, got {self.horizons}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Four data sets and chains: the same claims."""
    return Config(num_seeds=4, chains=4)


def shop() -> Config:
    """With the language panel."""
    return Config(panel=True)
