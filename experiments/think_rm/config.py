"""Sizes of the think_rm experiment."""

from dataclasses import dataclass, field

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class BanditSizes:
    """Answers compared by a noisy judge.

    num_seeds: bandits; 36 without a miss are the fewest with an exact 95% interval above 0.9.
    arms: answers, of gold reward N(0, 1). groups, group: prompts in a step and answers to each.
    wide_groups: of pointwise methods where the calls of the judge are equal.
    steps, rate: of gradient descent. beta: KL weight to the uniform policy.
    slope, noise: a comparison is slope (r_i - r_j) + noise N(0, 1), cut to a verdict.
    lost: share of judgements without a verdict, where there are some.
    length: characters of a judgement, where verdicts are divided by them.
    """

    num_seeds: int = 40
    arms: int = 12
    groups: int = 16
    group: int = 4
    wide_groups: int = 24
    steps: int = 300
    rate: float = 0.5
    beta: float = 1e-3
    slope: float = 1.5
    noise: float = 0.7
    lost: float = 0.3
    length: float = 8000.0

    def __post_init__(self):
        check_fields(self, "[2, inf)", "num_seeds", "arms", "group")
        check_fields(self, "[1, inf)", "groups", "wide_groups", "steps", "length")
        check_fields(self, "(0, inf)", "slope")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "[0, inf)", "beta", "noise")
        check_fields(self, "[0, 1)", "lost")
        if self.wide_groups < self.groups:
            raise ValueError(f"wide_groups must be at least groups, got {self.wide_groups}")


@dataclass(frozen=True, kw_only=True)
class JudgeSizes:
    """A transformer that judges which of two sums is larger.

    num_seeds: data sets with judges of their own.
    columns, base: digits of an answer; its worth is their sum modulo the base.
    pairs, traces: comparisons and judgements of each by the teacher. slip: its errors per column.
    width, layers, heads: of the transformer.
    steps, batch, rate: of supervised fine-tuning, with Adam.
    rl_steps, rl_pairs, samples, rl_rate: of GRPO; judgements of each comparison.
    beta: KL weight to the fine-tuned judge, in the loss.
    test, votes: comparisons measured, and judgements of each.
    """

    num_seeds: int = 6
    columns: int = 3
    base: int = 4
    pairs: int = 1024
    traces: int = 8
    slip: float = 0.01
    width: int = 64
    layers: int = 1
    heads: int = 4
    steps: int = 400
    batch: int = 64
    rate: float = 5e-3
    rl_steps: int = 40
    rl_pairs: int = 16
    samples: int = 8
    rl_rate: float = 1e-3
    beta: float = 1e-4
    test: int = 256
    votes: int = 4

    def __post_init__(self):
        check_fields(self, "[2, inf)", "num_seeds", "samples")
        check_fields(self, "[1, inf)", "columns", "pairs", "traces", "layers", "heads", "votes")
        check_fields(self, "[4, 4]", "base")  # differences 1, 2 and 3 are the graded verdicts
        check_fields(self, "[1, inf)", "steps", "batch", "rl_steps", "rl_pairs", "test")
        check_fields(self, "(0, 1]", "rate", "rl_rate")
        check_fields(self, "[0, 1)", "slip")
        check_fields(self, "[0, inf)", "beta")
        if self.width % (2 * self.heads):
            raise ValueError(f"width must be a multiple of 2 heads, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run. seed: of everything."""

    seed: int = 0
    bandit: BanditSizes = field(default=BanditSizes())
    judge: JudgeSizes = field(default=JudgeSizes())

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Every stage, small."""
    return Config(
        bandit=BanditSizes(num_seeds=4, steps=60),
        judge=JudgeSizes(
            num_seeds=2,
            columns=2,
            pairs=256,
            width=16,
            layers=1,
            heads=2,
            steps=60,
            rl_steps=5,
            rl_pairs=8,
            samples=4,
            test=64,
        ),
    )
