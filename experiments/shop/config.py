"""Sizes of the shop job. Each size is a function; every field is an option on the command line."""

from dataclasses import dataclass, field

from rlhf_jax.checks import check_fields
from rlhf_jax.labs.size import Size
from rlhf_jax.labs.train_shop import Schedule


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """train: prompts of the pairs to train on, whose answers are drawn at `temperature`. heldout:
    prompts of the pairs to judge by, drawn at 1. teacher_beta: inverse temperature of the
    Bradley-Terry teacher that labels by gold score. tie_gap: answers closer than this in gold score
    are a tie to the teacher, and dropped; in [0, 1), as gold scores lie in [0, 1]."""

    train: int = 20_000
    temperature: float = 0.85
    heldout: int = 2048
    teacher_beta: float = 20.0
    tie_gap: float = 0.1

    def __post_init__(self):
        check_fields(self, "[2, inf)", "heldout")
        check_fields(self, "(0, inf)", "teacher_beta", "temperature")
        check_fields(self, "[2, 250000]", "train")  # those of the RL prompts follow
        check_fields(self, "[0, 1)", "tie_gap")


@dataclass(frozen=True, kw_only=True)
class Head:
    """A Bradley-Terry model with a scalar head. batch_size: pairs."""

    steps: int = 240
    batch_size: int = 32
    learning_rate: float = 0.0005

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps", "batch_size")
        check_fields(self, "(0, 1]", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class Direct:
    """A direct preference method. batch_size: pairs."""

    beta: float = 1.0
    steps: int = 240
    batch_size: int = 32
    learning_rate: float = 0.0003

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps", "batch_size")
        check_fields(self, "(0, inf)", "beta")
        check_fields(self, "(0, 1]", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class Reward:
    """The reward model, log pi_DPO - ref_weight log pi_SFT.

    ref_weight: 1 is the reward that DPO implies; with less, an answer that SFT finds likely is
    worth more.
    """

    ref_weight: float = 0.5

    def __post_init__(self):
        check_fields(self, "[0, 1]", "ref_weight")


@dataclass(frozen=True, kw_only=True)
class OnlineDPO:
    """batch_size: prompts, with `samples` answers each, the best and the worst of which are a
    pair."""

    beta: float = 0.3
    samples: int = 4
    steps: int = 110
    batch_size: int = 32
    learning_rate: float = 0.0002

    def __post_init__(self):
        check_fields(self, "[2, inf)", "samples")
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

    beta: float = 0.3
    clip_eps: float = 0.2
    gae_lambda: float = 0.95
    steps: int = 100
    free_steps: int = 32
    batch_size: int = 64
    epochs: int = 2
    minibatches: int = 1
    learning_rate: float = 0.0005

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps", "free_steps", "batch_size", "epochs", "minibatches")
        check_fields(self, "(0, inf)", "beta", "clip_eps")
        check_fields(self, "[0, 1]", "gae_lambda")
        check_fields(self, "(0, 1]", "learning_rate")
        if self.batch_size % self.minibatches:
            raise ValueError(f"minibatches must divide batch_size, got {self.minibatches}")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """gate_prompts: held out, for the gates. prompts: the first of them, for table and claims.
    greedy_prompts: the first held-out ones, for greedy answers, whose gold differs least.
    curve_prompts: the first of `prompts`, measured `curve_points` times along each training.
    best_of: n of best-of-n, which is measured on the first `best_prompts`."""

    gate_prompts: int = 4096
    prompts: int = 4096
    greedy_prompts: int = 8192
    best_prompts: int = 512
    curve_prompts: int = 256
    curve_points: int = 4
    best_of: int = 16

    def __post_init__(self):
        # Those of the held-out pairs follow.
        check_fields(self, "[2, 100000]", "gate_prompts", "greedy_prompts")
        check_fields(self, f"[2, {self.gate_prompts}]", "prompts")
        check_fields(self, "[1, inf)", "curve_points", "best_of")
        check_fields(self, f"[2, {self.prompts}]", "curve_prompts", "best_prompts")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole run. seed: of the world, the models and every draw. model_parallel: devices over
    which each copy of the parameters is split; the others share out the batch.

    from_scratch: trains base model and SFT policy by `pretraining` first, in place of the shipped
      ones, which only have the default size.
    bound: PPO on the gold score too, to compare PPO on the reward model with.
    """

    seed: int = 0
    model_parallel: int = 1
    from_scratch: bool = False
    bound: bool = False
    size: Size = field(default_factory=Size)
    pretraining: Schedule = field(default_factory=Schedule)
    pairs: Pairs = field(default_factory=Pairs)
    dpo: Direct = field(default_factory=Direct)
    ipo: Direct = field(default_factory=lambda: Direct(beta=0.5))
    head: Head = field(default_factory=Head)
    reward: Reward = field(default_factory=Reward)
    online_dpo: OnlineDPO = field(default_factory=OnlineDPO)
    ppo: PPO = field(default_factory=PPO)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[1, inf)", "model_parallel")


def default() -> Config:
    """About 372,000 parameters from the shipped policy: minutes on two CPU cores."""
    return Config()


def quick() -> Config:
    """Every stage, in less than two minutes: the gates, and a check that all of it works."""
    return Config(
        pairs=Pairs(train=1024, heldout=128),
        dpo=Direct(steps=20, batch_size=16),
        ipo=Direct(steps=20, batch_size=16, beta=0.5),
        head=Head(steps=20, batch_size=16),
        online_dpo=OnlineDPO(steps=5, batch_size=16),
        ppo=PPO(steps=4, free_steps=4, batch_size=32),
        evaluation=Evaluation(
            gate_prompts=2048,
            prompts=128,
            greedy_prompts=128,
            best_prompts=128,
            curve_prompts=128,
            curve_points=1,
            best_of=4,
        ),
    )


def laptop() -> Config:
    """About 3 million parameters from random weights, for a laptop left alone; not timed yet."""
    return Config(
        from_scratch=True,
        size=Size(d_model=256, num_layers=4, num_heads=8, num_kv_heads=4, d_ff=704),
        pretraining=Schedule(batch_size=32, learning_rate=0.001),
        pairs=Pairs(train=30_000),
        dpo=Direct(steps=1000, learning_rate=1e-4),
        ipo=Direct(steps=1000, learning_rate=1e-4, beta=0.5),
        head=Head(steps=1000),
        online_dpo=OnlineDPO(steps=600, learning_rate=1e-4),
        ppo=PPO(steps=400, free_steps=600, batch_size=128, minibatches=2, learning_rate=2e-4),
        evaluation=Evaluation(
            gate_prompts=4096,
            prompts=2048,
            best_prompts=2048,
            curve_prompts=512,
            curve_points=16,
            best_of=64,
        ),
    )


def pod() -> Config:
    """About 280 million parameters in bfloat16, each copy split over 4 devices; not run yet."""
    return Config(
        model_parallel=4,
        from_scratch=True,
        size=Size(
            d_model=1024,
            num_layers=24,
            num_heads=16,
            num_kv_heads=8,
            d_ff=2816,
            remat="nothing",
            dtype="bfloat16",
        ),
        pretraining=Schedule(
            batch_size=256,
            base_rows=300_000,
            ideal_rows=300_000,
            sft_rows=300_000,
            learning_rate=3e-4,
        ),
        pairs=Pairs(train=200_000, heldout=8192),
        dpo=Direct(steps=1500, batch_size=512, learning_rate=3e-6),
        ipo=Direct(steps=1500, batch_size=512, learning_rate=3e-6, beta=0.5),
        head=Head(steps=1500, batch_size=512, learning_rate=1e-4),
        online_dpo=OnlineDPO(steps=1000, batch_size=512, learning_rate=3e-6),
        ppo=PPO(steps=800, free_steps=1200, batch_size=1024, minibatches=4, learning_rate=3e-5),
        evaluation=Evaluation(
            gate_prompts=8192,
            prompts=8192,
            best_prompts=8192,
            curve_prompts=1024,
            curve_points=16,
            best_of=64,
        ),
    )
