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
class Start:
    """SFT on voice answers, which every method starts from and has as its reference.

    rows: answers. shares: of the three voices in them; equal shares would be the equilibrium.
    """

    rows: int = 8000
    shares: tuple[float, ...] = (0.6, 0.2, 0.2)
    fit: Fit = field(default_factory=lambda: Fit(steps=1000, batch_size=32, rate=0.003))

    def __post_init__(self):
        check_fields(self, "[1, 600000]", "rows")  # prompts of the game follow
        for share in self.shares:
            check_range("(0, 1)", shares=share)
        if len(self.shares) != 3 or abs(sum(self.shares) - 1.0) > 1e-9:
            raise ValueError(f"shares must be of three voices and sum to 1, got {self.shares}")


@dataclass(frozen=True, kw_only=True)
class Game:
    """What all methods share.

    bits: labels of one judge about one pair that each method may ask for. rounds: in which a game
    method asks for them, equally many in each. prompts: the fixed list that is played on.
    judge_beta: rationality of each judge, in units of 1 / utility.
    low_beta: KL weight of almost unregularised play; beta: of regularised play; in win rates per
    nat to SFT, the papers' tau.
    low_rate, rate: of Adam without momentum, which drives a game outwards, in both kinds of play;
    the latter falls. regression_rate: of methods that solve a regression in each round.
    eta: step of the regressions, in nats per win rate; ONE OVER INPO's own. prox_eta: of Nash-MP.
    steps: gradient steps on a round's pairs where a round is a regression.
    inner_steps: gradient steps of each half round of Nash-MP.
    mixture_weight: of the reference in Nash-MD's opponent.
    pair_temperature: of EGPO's pairs, in place of uniform ones.
    samples: answers per prompt of SPO. points: of the curves, and policies in an average.
    """

    bits: int = 9216
    rounds: int = 96
    prompts: int = 96
    judge_beta: float = 10.0
    low_beta: float = 0.005
    beta: float = 0.05
    low_rate: float = 0.0008
    rate: float = 0.0008
    regression_rate: float = 0.0001
    eta: float = 2.0
    prox_eta: float = 2.0
    steps: int = 2
    inner_steps: int = 1
    mixture_weight: float = 0.05
    pair_temperature: float = 1.3
    samples: int = 4
    points: int = 12

    def __post_init__(self):
        check_fields(self, "[1, inf)", "bits", "rounds", "steps", "inner_steps", "points")
        check_fields(self, "[2, 100000]", "prompts")
        check_fields(self, "[2, inf)", "samples")
        check_fields(self, "[0, 1]", "mixture_weight")
        check_fields(self, "(0, 1]", "low_rate", "rate", "regression_rate")
        check_fields(self, "(0, inf)", "judge_beta", "low_beta", "beta", "eta", "prox_eta")
        check_fields(self, "(0, inf)", "pair_temperature")
        check_range("(0, 1]", **{"eta * beta": self.eta * self.beta})
        check_range("(0, 1]", **{"prox_eta * beta": self.prox_eta * self.beta})
        if self.bits % self.rounds or self.rounds % self.points:
            raise ValueError(
                f"rounds must divide bits, and points rounds: got {self.bits} bits, "
                f"{self.rounds} rounds, {self.points} points"
            )


@dataclass(frozen=True, kw_only=True)
class Control:
    """What the methods are compared with, at the same bits.

    phases: of online RLHF; each labels pairs of the newest policy, fits the Bradley-Terry model to
    all labels so far and improves the policy for `steps` steps of `batch_size` prompts, `samples`
    answers each. beta: KL weight for rewards of unit variance. rate: of Adam.
    dpo_betas: KL weights of iterative DPO; dpo_rate: of its Adam.
    ppo_steps, ppo_batch, epochs, ppo_beta, ppo_rate: of PPO on a Bradley-Terry model of SFT's
    answers.
    model: fit of a reward model or pairwise model.
    """

    phases: int = 4
    steps: int = 20
    batch_size: int = 24
    samples: int = 4
    beta: float = 0.02
    rate: float = 0.002
    dpo_betas: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    dpo_rate: float = 0.001
    ppo_steps: int = 60
    ppo_batch: int = 96
    epochs: int = 2
    ppo_beta: float = 0.1
    ppo_rate: float = 0.0005
    model: Fit = field(default_factory=lambda: Fit(steps=200, batch_size=32, rate=0.002))

    def __post_init__(self):
        check_fields(self, "[1, inf)", "phases", "steps", "batch_size", "ppo_steps", "ppo_batch")
        check_fields(self, "[1, inf)", "epochs")
        check_fields(self, "[2, inf)", "samples")
        check_fields(self, "[0, inf)", "beta", "ppo_beta")
        check_fields(self, "(0, 1]", "rate", "dpo_rate", "ppo_rate")
        if not self.dpo_betas:
            raise ValueError("dpo_betas must name a KL weight")
        for beta in self.dpo_betas:
            check_range("(0, inf)", dpo_betas=beta)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """gate_prompts: held out, for the gate, one answer each. prompts: held out too, with
    `samples` answers of each policy.

    pairs: of answers in two voices, for the accuracy of the models.
    exploiter_rounds, exploiter_prompts: of the policy gradient against a frozen policy.
    duels: answers of each side to a prompt of the game in an exploiter's win rate.
    """

    gate_prompts: int = 2048
    prompts: int = 256
    samples: int = 4
    pairs: int = 1024
    exploiter_rounds: int = 40
    exploiter_prompts: int = 96
    duels: int = 48

    def __post_init__(self):
        check_fields(self, "[1, inf)", "samples", "exploiter_rounds", "exploiter_prompts", "duels")
        check_fields(self, "[2, 100000]", "gate_prompts", "prompts")
        check_fields(self, "[2, 250000]", "pairs")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole run.

    seed: of the world, the models and every draw. seeds: training runs of Bradley-Terry RLHF, SPO,
    Nash-MP and Nash-MD; all others have one. from_scratch: SFT on voices begins at random weights,
    in place of the shipped policy, which only has the default size.
    """

    seed: int = 0
    seeds: int = 3
    from_scratch: bool = False
    size: Size = field(default_factory=Size)
    start: Start = field(default_factory=Start)
    game: Game = field(default_factory=Game)
    control: Control = field(default_factory=Control)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[1, inf)", "seeds")
        if self.game.bits % self.control.phases:
            raise ValueError(
                f"control.phases must divide game.bits, got {self.control.phases} phases and "
                f"{self.game.bits} bits"
            )


def default() -> Config:
    """Three seeds of the main methods: within 45 minutes on two CPU cores."""
    return Config()


def quick() -> Config:
    """Every stage at its smallest: a check that all of it works."""
    return Config(
        seeds=1,
        start=Start(rows=6400, fit=Fit(steps=200, batch_size=32, rate=0.003)),
        game=Game(bits=192, rounds=2, prompts=16, points=2),
        control=Control(
            phases=2,
            steps=2,
            batch_size=16,
            dpo_betas=(0.1,),
            ppo_steps=2,
            ppo_batch=16,
            model=Fit(steps=10, batch_size=16, rate=0.002),
        ),
        evaluation=Evaluation(
            gate_prompts=256,
            prompts=32,
            samples=2,
            pairs=64,
            exploiter_rounds=2,
            exploiter_prompts=16,
            duels=2,
        ),
    )
