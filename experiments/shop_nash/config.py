"""Sizes of the shop_nash experiment. Every field is an option on the command line."""

from dataclasses import dataclass, field

from rlhf_jax.checks import check_fields, check_range
from rlhf_jax.labs.size import Size


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A supervised stage. steps; batch_size: rows or pairs; rate: of AdamW, at most 1."""

    steps: int
    batch_size: int
    rate: float

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps", "batch_size")
        check_fields(self, "(0, 1]", "rate")


@dataclass(frozen=True, kw_only=True)
class Game:
    """What all game methods share.

    answers: that each method may draw in training. rounds: of each; prompts per round follow, so
    that all draw as many answers and move as often. rate: of Adam.
    beta: KL weight to SFT, in win rates per nat; the papers' tau.
    eta: step of the regressions and of Nash-MP, in nats per win rate; ONE OVER INPO's own.
    steps: gradient steps on a round's pairs where a round is a regression.
    inner_steps: gradient steps of each half round of Nash-MP.
    mixture_weight: of the reference in Nash-MD-PG's opponent. ema_decay: of Nash-EMA-PG's.
    ipo_beta: KL weight of EGPO. pair_temperature: of its pairs, in place of uniform ones.
    samples: answers per prompt of SPO.
    """

    answers: int = 8192
    rounds: int = 64
    rate: float = 0.0007
    beta: float = 0.005
    eta: float = 10.0
    steps: int = 2
    inner_steps: int = 2
    mixture_weight: float = 0.125
    ema_decay: float = 0.9
    ipo_beta: float = 0.1
    pair_temperature: float = 1.3
    samples: int = 4

    def __post_init__(self):
        check_fields(self, "[1, inf)", "answers", "rounds", "steps", "inner_steps")
        check_fields(self, "[2, inf)", "samples")
        check_fields(self, "[0, 1]", "mixture_weight", "ema_decay")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "(0, inf)", "beta", "eta", "ipo_beta", "pair_temperature")
        check_range("(0, 1]", **{"eta * beta": self.eta * self.beta})


@dataclass(frozen=True, kw_only=True)
class PPO:
    """PPO on the Bradley-Terry model. steps: rollouts of batch_size answers, each used in `epochs`
    passes. beta: KL weight for rewards of unit variance on SFT answers."""

    beta: float = 0.05
    steps: int = 60
    batch_size: int = 64
    epochs: int = 2
    rate: float = 0.0007

    def __post_init__(self):
        check_fields(self, "[0, inf)", "beta")
        check_fields(self, "[1, inf)", "steps", "batch_size", "epochs")
        check_fields(self, "(0, 1]", "rate")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """prompts: held out. samples: answers of each policy to each of them, at least 2."""

    prompts: int = 256
    samples: int = 4

    def __post_init__(self):
        check_fields(self, "[2, inf)", "samples")
        check_fields(self, "[2, 100000]", "prompts")  # those of the held-out pairs follow


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole run.

    seed: of the world, the models and every draw.
    judge_beta: rationality of each judge, in units of 1 / utility.
    rows: of the base corpus. pairs, heldout_pairs: prompts that two answers are drawn to.
    dpo_beta: KL weight of iterative DPO, which is played at the sizes of `game`.
    """

    seed: int = 0
    judge_beta: float = 10.0
    rows: int = 8000
    pairs: int = 8000
    heldout_pairs: int = 1024
    dpo_beta: float = 0.1
    size: Size = field(default_factory=Size)
    sft: Fit = field(default_factory=lambda: Fit(steps=2000, batch_size=16, rate=0.004))
    reward: Fit = field(default_factory=lambda: Fit(steps=500, batch_size=32, rate=0.002))
    preference: Fit = field(default_factory=lambda: Fit(steps=300, batch_size=32, rate=0.002))
    ppo: PPO = field(default_factory=PPO)
    game: Game = field(default_factory=Game)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self):
        check_fields(self, "[0, inf)", "judge_beta")
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "heldout_pairs")
        check_fields(self, "[1, 600000]", "rows")  # prompts of the pairs follow
        check_fields(self, "[2, 250000]", "pairs")  # those of the games follow
        check_fields(self, "(0, inf)", "dpo_beta")


def default() -> Config:
    """About 116,000 parameters: minutes on two CPU cores."""
    return Config()


def quick() -> Config:
    """Every stage at its smallest: a check that all of it works."""
    return Config(
        rows=500,
        pairs=128,
        heldout_pairs=128,
        size=Size(d_model=32, num_layers=1, num_heads=2, num_kv_heads=1, d_ff=32),
        sft=Fit(steps=60, batch_size=16, rate=0.006),
        reward=Fit(steps=10, batch_size=16, rate=0.002),
        preference=Fit(steps=10, batch_size=16, rate=0.002),
        ppo=PPO(steps=3, batch_size=16),
        game=Game(answers=128, rounds=2, inner_steps=1),
        evaluation=Evaluation(prompts=128, samples=2),
    )
