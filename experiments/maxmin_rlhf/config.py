"""Sizes of the maxmin_rlhf experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class ShopPanel:
    """The language panel: the shop's shipped SFT policy.

    seeds: of users, labels and trainings. users: of whom `minority` want other answers.
    pairs: prompts with two answers each, which each seed deals round its users. teacher_beta:
      inverse temperature of their labels, in units of 1 / utility. tie_gap: closer pairs are left
      out.
    reward_steps, reward_rate, restarts: of the linear rewards, all users in each step.
    rl_steps, rl_rate: AdamW. batch_size: prompts of a step. samples: answers to each. kl: weight of
      k3 in the loss. prompts: held out, two answers each.
    """

    seeds: int = 3
    users: int = 16
    minority: int = 4
    pairs: int = 1024
    teacher_beta: float = 20.0
    tie_gap: float = 0.02
    reward_steps: int = 200
    reward_rate: float = 0.01
    restarts: int = 4
    rl_steps: int = 30
    rl_rate: float = 1e-3
    batch_size: int = 8
    samples: int = 8
    kl: float = 0.02
    prompts: int = 128

    def __post_init__(self):
        check_fields(self, "[1, 50]", "seeds")
        check_fields(self, "[4, 10000]", "users")
        check_fields(self, f"[2, {self.users - 2}]", "minority")
        check_fields(self, f"[{self.users}, 200000]", "pairs")
        check_fields(self, "(0, 1000000]", "teacher_beta")
        check_fields(self, "[0, 1]", "tie_gap")
        check_fields(self, "[1, 1000000]", "reward_steps", "rl_steps", "batch_size", "restarts")
        check_fields(self, "(0, 1]", "reward_rate", "rl_rate")
        check_fields(self, "[2, 1024]", "samples")
        check_fields(self, "[2, 100000]", "prompts")
        check_fields(self, "[0, 1000]", "kl")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds.
    contexts, answers, features: of a world; rewards are linear in the features.
    shared, conflict, scale: r_u = scale (shared b +- conflict o) . phi, b and o orthonormal.
    users, comparisons: people, and comparisons of each that are fitted; as many are held out.
    ratios: users of the majority for each of the minority, from equal groups to the last one.
    beta: KL weight; the reference is uniform.
    precision: of the prior of all fitted weights.
    rounds, restarts: of EM.
    eta, dual_steps: of the weights on learned rewards.
    policy_eta, policy_rate, policy_steps: of weights and logits where both move.
    panel: whether to run the language panel, `shop`.
    """

    seed: int = 0
    num_seeds: int = 20
    contexts: int = 20
    answers: int = 8
    features: int = 4
    shared: float = 0.45
    conflict: float = 0.9
    scale: float = 2.2
    users: int = 110
    comparisons: int = 20
    ratios: tuple[float, ...] = (1.0, 6.0, 10.0)
    beta: float = 0.3
    precision: float = 1e-3
    rounds: int = 10
    restarts: int = 5
    eta: float = 0.1
    dual_steps: int = 200
    policy_eta: float = 0.03
    policy_rate: float = 0.1
    policy_steps: int = 600
    panel: bool = False
    shop: ShopPanel = ShopPanel()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "contexts", "answers", "features")
        check_fields(self, "[1, inf)", "comparisons", "rounds", "restarts")
        check_fields(self, "[4, inf)", "users")
        check_fields(self, "[2, inf)", "dual_steps", "policy_steps")
        check_fields(self, "[1, 100]", "ratios")
        check_fields(self, "[0, 100]", "shared")
        check_fields(self, "(0, 100]", "conflict", "scale", "beta")
        check_fields(self, "(0, inf)", "precision")
        check_fields(self, "(0, 10]", "eta", "policy_eta")
        check_fields(self, "(0, 1]", "policy_rate")
        if self.ratios[0] != 1 or list(self.ratios) != sorted(set(self.ratios)):
            raise ValueError(f"ratios must rise from 1, got {self.ratios}")
        if len(self.ratios) < 2:
            raise ValueError(f"ratios must have a majority too, got {self.ratios}")
        if minority(self, self.ratios[-1]) < 2:
            raise ValueError(
                f"ratios must leave a minority of two users of {self.users}, got {self.ratios}"
            )


def minority(config: Config, ratio: float) -> int:
    """Users of the smaller group."""
    return round(config.users / (1.0 + ratio))


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Four worlds, two ratios and fewer rounds: every stage."""
    return Config(
        num_seeds=4,
        ratios=(1.0, 10.0),
        rounds=5,
        restarts=3,
    )


def shop() -> Config:
    """With the language panel."""
    return Config(panel=True)
