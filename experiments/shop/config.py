"""Sizes of the shop job. Each size is a function; every field is an option on the command line."""

from dataclasses import dataclass, field

from rlhf_jax.checks import check_fields
from rlhf_jax.labs.size import Size


@dataclass(frozen=True, kw_only=True)
class SFT:
    """rows: base-corpus answers, to the prompts before those of the pairs.

    steps, batch_size (answers), learning_rate (at most 1): of AdamW, as in every stage.
    """

    rows: int = 8000
    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 0.004

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps", "batch_size")
        check_fields(self, "[1, 600000]", "rows")
        check_fields(self, "(0, 1]", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """pairs: to train on; heldout_pairs: to judge by. teacher_beta: inverse temperature of the
    Bradley-Terry teacher that labels by gold score. tie_gap: answers closer than this in gold score
    are a tie to the teacher, and dropped; in [0, 1), as gold scores lie in [0, 1]. batch_size:
    pairs."""

    pairs: int = 8000
    heldout_pairs: int = 1024
    teacher_beta: float = 20.0
    tie_gap: float = 0.1
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 0.002

    def __post_init__(self):
        check_fields(self, "[2, inf)", "heldout_pairs")
        check_fields(self, "[1, inf)", "steps", "batch_size")
        check_fields(self, "(0, inf)", "teacher_beta")
        check_fields(self, "[2, 250000]", "pairs")  # those of the RL prompts follow
        check_fields(self, "[0, 1)", "tie_gap")
        check_fields(self, "(0, 1]", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class Direct:
    """A direct preference method on the reward model's pairs. batch_size: pairs."""

    beta: float = 0.1
    steps: int = 120
    batch_size: int = 32
    learning_rate: float = 0.0005

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps", "batch_size")
        check_fields(self, "(0, inf)", "beta")
        check_fields(self, "(0, 1]", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class PPO:
    """steps: rollouts, of batch_size answers each, reused for `epochs` passes in `minibatches`.

    beta: weight of the per-token KL penalty, for rewards of unit variance on SFT answers.
    clip_eps: of the ratio and, in value units, of the critic's move.
    free_steps: length of the run without KL penalty, the one that is expected to over-optimise.
    """

    beta: float = 0.05
    clip_eps: float = 0.2
    gae_lambda: float = 0.95
    steps: int = 60
    free_steps: int = 64
    batch_size: int = 64
    epochs: int = 2
    minibatches: int = 1
    learning_rate: float = 0.0007

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps", "free_steps", "batch_size", "epochs", "minibatches")
        check_fields(self, "(0, inf)", "beta", "clip_eps")
        check_fields(self, "[0, 1]", "gae_lambda")
        check_fields(self, "(0, 1]", "learning_rate")
        if self.batch_size % self.minibatches:
            raise ValueError(f"minibatches must divide batch_size, got {self.minibatches}")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """prompts: held out, for the table and the claims. curve_prompts: the first of them, measured
    `curve_points` times along each training. best_of: n of best-of-n."""

    prompts: int = 512
    curve_prompts: int = 128
    curve_points: int = 8
    best_of: int = 16

    def __post_init__(self):
        check_fields(self, "[2, 100000]", "prompts")  # those of the held-out pairs follow
        check_fields(self, "[1, inf)", "curve_points", "best_of")
        check_fields(self, f"[2, {self.prompts}]", "curve_prompts")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole run. seed: of the world, the models and every draw. model_parallel: devices over
    which each copy of the parameters is split; the others share out the batch."""

    seed: int = 0
    model_parallel: int = 1
    size: Size = field(default_factory=Size)
    sft: SFT = field(default_factory=SFT)
    reward: RewardModel = field(default_factory=RewardModel)
    dpo: Direct = field(default_factory=Direct)
    ipo: Direct = field(default_factory=lambda: Direct(beta=0.05))
    online_dpo: Direct = field(default_factory=lambda: Direct(steps=100))
    ppo: PPO = field(default_factory=PPO)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[1, inf)", "model_parallel")


def tiny() -> Config:
    """About 116,000 parameters: minutes on two CPU cores."""
    return Config()


def default() -> Config:
    """What runs when no size is named."""
    return tiny()


def quick() -> Config:
    """Every stage, in about a minute: a check that all of it works."""
    return Config(
        sft=SFT(rows=2000, steps=250, batch_size=16, learning_rate=0.006),
        reward=RewardModel(pairs=512, heldout_pairs=128, steps=50, batch_size=16),
        dpo=Direct(steps=20, batch_size=16),
        ipo=Direct(steps=20, batch_size=16, beta=0.05),
        online_dpo=Direct(steps=30, batch_size=16),
        ppo=PPO(steps=8, free_steps=8, batch_size=32),
        evaluation=Evaluation(prompts=128, curve_prompts=128, curve_points=1, best_of=16),
    )


def laptop() -> Config:
    """About 3 million parameters, for a laptop left alone; not timed yet."""
    return Config(
        size=Size(d_model=256, num_layers=4, num_heads=8, num_kv_heads=4, d_ff=704),
        sft=SFT(rows=50_000, steps=6000, batch_size=32, learning_rate=0.001),
        reward=RewardModel(pairs=20_000, heldout_pairs=2048, steps=1200, learning_rate=5e-4),
        dpo=Direct(steps=1000, learning_rate=2e-4),
        ipo=Direct(steps=1000, learning_rate=2e-4, beta=0.05),
        online_dpo=Direct(steps=600, learning_rate=2e-4),
        ppo=PPO(steps=400, free_steps=600, batch_size=128, minibatches=2, learning_rate=2e-4),
        evaluation=Evaluation(prompts=2048, curve_prompts=512, curve_points=16, best_of=64),
    )


def pod() -> Config:
    """About 280 million parameters in bfloat16, each copy split over 4 devices; not run yet."""
    return Config(
        model_parallel=4,
        size=Size(
            d_model=1024,
            num_layers=24,
            num_heads=16,
            num_kv_heads=8,
            d_ff=2816,
            remat="nothing",
            dtype="bfloat16",
        ),
        sft=SFT(rows=500_000, steps=4000, batch_size=512, learning_rate=3e-4),
        reward=RewardModel(
            pairs=200_000, heldout_pairs=8192, steps=2000, batch_size=512, learning_rate=1e-4
        ),
        dpo=Direct(steps=1500, batch_size=512, learning_rate=3e-5),
        ipo=Direct(steps=1500, batch_size=512, learning_rate=3e-5, beta=0.05),
        online_dpo=Direct(steps=1000, batch_size=512, learning_rate=3e-5),
        ppo=PPO(steps=800, free_steps=1200, batch_size=1024, minibatches=4, learning_rate=3e-5),
        evaluation=Evaluation(prompts=8192, curve_prompts=1024, curve_points=16, best_of=64),
    )
