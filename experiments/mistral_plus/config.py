"""Sizes of the mistral_plus experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class ShopPanel:
    """The language panel: shipped models of the shop.

    pairs: answers of the corpus two to a prompt, which a teacher of inverse temperature
    `teacher_beta` labels by gold. head_steps, head_rate: Bradley-Terry on them, from `base`.
    demos: ideal answers of SFT. sft_steps, sft_rate; rl_steps, rl_rate: AdamW. batch_size: texts,
    pairs or prompts of a step. samples: answers to each prompt. kl: weight of k3 in the loss.
    warm_steps: of SFT before SFT + RL. points: measurements of a training. prompts: held out, for
    reward and gold. corpus, probes, attacks: texts, drills and unsafe requests in a wrapper, for
    what is kept of `base`.
    """

    pairs: int = 1024
    teacher_beta: float = 20.0
    head_steps: int = 100
    head_rate: float = 1e-3
    demos: int = 2048
    sft_steps: int = 120
    sft_rate: float = 1e-3
    warm_steps: int = 30
    rl_steps: int = 60
    rl_rate: float = 1e-3
    batch_size: int = 16
    samples: int = 8
    kl: float = 0.02
    points: int = 6
    prompts: int = 96
    corpus: int = 48
    probes: int = 64
    attacks: int = 48

    def __post_init__(self):
        check_fields(self, "[2, 200000]", "pairs", "demos")
        check_fields(self, "(0, inf)", "teacher_beta")
        check_fields(self, "[1, inf)", "head_steps", "sft_steps", "warm_steps", "rl_steps")
        check_fields(self, "(0, 1]", "head_rate", "sft_rate", "rl_rate")
        check_fields(self, "[1, inf)", "batch_size", "points")
        check_fields(self, "[2, inf)", "samples", "prompts")
        check_fields(self, "[1, 1000]", "corpus", "probes", "attacks")
        check_fields(self, "[0, inf)", "kl")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds, all in one vmap; with 36 a share of 1 has an interval
      above 0.9.
    features, answers, general, chats: of a world. shift: length of what chat contexts have in
      common. good, toxic: answers of these kinds; good_share, toxic_share: their probabilities in
      chats before any training.
    pretrain_steps, pretrain_rate; steps, rate: of SGD.
    samples: answers to each context in a step of RL. beta: its KL weight.
    target: chat reward at which all methods are compared; warm: the one at which SFT + RL turns to
      RL. kl: of the other stop rule.
    cold_shares: rewarded shares of the cold start, without toxic answers; cold_steps: updates;
      cold_seeds: worlds of each.
    shop: the language panel, with `panel`.
    """

    seed: int = 0
    num_seeds: int = 36
    features: int = 40
    answers: int = 24
    general: int = 150
    chats: int = 60
    shift: float = 0.3
    good: int = 6
    toxic: int = 4
    good_share: float = 0.3
    toxic_share: float = 0.2
    pretrain_steps: int = 3000
    pretrain_rate: float = 20.0
    samples: int = 8
    beta: float = 0.05
    steps: int = 1200
    rate: float = 1.0
    target: float = 0.75
    warm: float = 0.4
    kl: float = 0.9
    cold_shares: tuple[float, ...] = (0.3, 0.2, 0.1)
    cold_steps: int = 1500
    cold_seeds: int = 10
    panel: bool = False
    shop: ShopPanel = ShopPanel()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "features", "general", "chats", "samples")
        check_fields(self, "[2, inf)", "cold_seeds")
        check_fields(self, "[1, inf)", "good", "toxic", "pretrain_steps", "steps", "cold_steps")
        check_fields(self, f"[{self.good + self.toxic + 1}, inf)", "answers")
        check_fields(self, "[0, inf)", "shift", "beta")
        check_fields(self, "(0, 1/2)", "good_share", "toxic_share", "cold_shares")
        check_fields(self, "(0, 100]", "pretrain_rate")
        check_fields(self, "(0, 10]", "rate")
        check_fields(self, "(0, 1)", "target")
        check_fields(self, f"(0, {self.target})", "warm")
        check_fields(self, "(0, inf)", "kl")
        if len(self.cold_shares) < 2:
            raise ValueError(f"cold_shares must be at least two, got {self.cold_shares}")


def default() -> Config:
    """The published run, without the language panel."""
    return Config()


def quick() -> Config:
    """Fewer worlds, and two cold starts."""
    return Config(
        num_seeds=4, cold_seeds=4, cold_shares=(0.3, 0.1), cold_steps=900, pretrain_steps=1500
    )


def shop() -> Config:
    """With the language panel."""
    return Config(panel=True)
