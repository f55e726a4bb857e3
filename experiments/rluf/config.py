"""Sizes of the rluf experiment."""

from dataclasses import dataclass

import numpy as np

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class ShopPanel:
    """The language panel: a model of the shop.

    seeds: of logs, reward models and trainings. logs, tests: messages of each, to fit P[Love] and
      to test it. keep_rate: share of the messages without a heart that both keep. ridge: of the
      standardised logistic regression, chosen within the first log by four folds.
    rows, start_steps, fit_rate: AdamW, of the product's policy on answers of logs.
    weights: of love in the reward, ascending from 0 to 1.
    rl_steps, rl_rate: AdamW. batch_size: prompts of a step. samples: answers to each. kl: weight of
      k3 in the loss. prompts: held out, one answer each.
    """

    seeds: int = 3
    logs: int = 24_000
    tests: int = 9000
    keep_rate: float = 0.1
    ridge: float = 0.03
    rows: int = 32
    start_steps: int = 150
    fit_rate: float = 5e-4
    weights: tuple[float, ...] = (0.0, 0.3, 1.0)
    rl_steps: int = 30
    rl_rate: float = 1e-3
    batch_size: int = 8
    samples: int = 8
    kl: float = 0.02
    prompts: int = 256

    def __post_init__(self):
        check_fields(self, "[1, 10]", "seeds")
        check_fields(self, f"[64, {250_000 // self.seeds}]", "logs")  # prompts of the world
        check_fields(self, f"[64, {27_500 // self.seeds}]", "tests")
        check_fields(self, "(0, 1]", "keep_rate")
        check_fields(self, "(0, 1000]", "ridge")
        check_fields(self, "[1, 1000000]", "rows", "start_steps", "rl_steps")
        check_fields(self, "[1, 1000000]", "batch_size")
        check_fields(self, "(0, 1]", "fit_rate", "rl_rate")
        check_fields(self, "[0, 1]", "weights")
        check_fields(self, "[2, 1024]", "samples")
        check_fields(self, "[0, 1000]", "kl")
        check_fields(self, "[2, 50000]", "prompts")
        ends = self.weights[0], self.weights[-1]
        if len(self.weights) < 3 or ends != (0, 1) or np.any(np.diff(self.weights) <= 0):
            raise ValueError(f"weights must ascend from 0 to 1, three or more, got {self.weights}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: products.
    messages, messages_per_user: of the logs. tests: fresh messages that P[Love] is measured on.
    keep_rate: share of the messages without a heart that a fit on fewer messages keeps.
    contexts, candidates: of the policies. candidate_rate: P(closing phrase), and P(unsafe), of a
      candidate.
    weights: of love in the reward, ascending from 0 to 1; claims are about 0.2.
    beta: KL weight. arms: random policies whose live rate P[Love] predicts.
    least_help, most_unsafe: limits of the constrained policy. dual_steps, dual_rate: of its
      multipliers.
    troll_shares: shares of users who love what others do not, ascending from 0; claims are about
      the largest. drop_below: users whose agreement with P[Love] is below this are dropped, and
      P[Love] is fitted again, in so many filter_rounds.
    panel: whether to run the language panel, `shop`.
    """

    seed: int = 0
    num_seeds: int = 10
    messages: int = 300_000
    messages_per_user: int = 100
    tests: int = 200_000
    keep_rate: float = 0.1
    contexts: int = 4000
    candidates: int = 12
    candidate_rate: float = 0.08
    weights: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    beta: float = 0.3
    arms: int = 12
    least_help: float = 1.2
    most_unsafe: float = 0.01
    dual_steps: int = 400
    dual_rate: float = 0.05
    troll_shares: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2)
    drop_below: float = -2.0
    filter_rounds: int = 2
    panel: bool = False
    shop: ShopPanel = ShopPanel()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "messages_per_user", "candidates", "contexts")
        check_fields(self, "[1000, inf)", "messages", "tests")
        check_fields(self, "(0, 1]", "keep_rate", "dual_rate")
        check_fields(self, "(0, 1)", "candidate_rate", "most_unsafe")
        check_fields(self, "[0, 1]", "weights")
        check_fields(self, "(0, inf)", "beta")
        check_fields(self, "[12, inf)", "arms")
        check_fields(self, "(-inf, inf)", "least_help")
        check_fields(self, "[1, inf)", "dual_steps", "filter_rounds")
        check_fields(self, "[0, 1)", "troll_shares")
        check_fields(self, "(-inf, 0)", "drop_below")
        for name in ("weights", "troll_shares"):
            found = getattr(self, name)
            if found[0] != 0 or len(found) < 2 or np.any(np.diff(found) <= 0):
                raise ValueError(f"{name} must ascend from 0, got {found}")
        if self.weights[-1] != 1 or 0.2 not in self.weights:
            raise ValueError(f"weights must have 0.2 and end at 1, got {self.weights}")
        if self.tests % 100:
            raise ValueError(f"tests must be a multiple of 100, got {self.tests}")
        if self.messages % self.messages_per_user:
            raise ValueError(
                f"messages must be a multiple of messages_per_user, got {self.messages} of "
                f"{self.messages_per_user}"
            )


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Three products of fewer messages: the same claims."""
    return Config(num_seeds=3, messages=100_000, tests=50_000)


def shop() -> Config:
    """With the language panel."""
    return Config(panel=True)
