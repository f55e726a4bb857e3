"""Sizes of the rlhf_workflow experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of bandits, draws and labels. num_seeds: bandits, all in one vmap. few_seeds: of them for
      the variants, where labels without noise make Newton's method slow.
    prompts: of a bandit. common, rare: answers to each with features in the first or the last five
      of ten coordinates; rare_mass: probability of the rare ones under the reference together.
    common_norm, rare_norm: length of the reward's weights on the two blocks.
    eta: KL weight, the beta of DPO; soft_eta: a second one, for the table.
    rounds: of `pairs` labelled pairs each. answers: n of best-of-n and of the enhancer's choice.
    ridge: of DPO's fit and of the enhancer's norms.
    sizes: numbers of pairs of the reference for the offline guarantee, in guarantee_seeds bandits
      with weights that are multiplied by guarantee_scale: its constant grows as exp(margin).
    """

    seed: int = 0
    num_seeds: int = 250
    few_seeds: int = 20
    prompts: int = 300
    common: int = 48
    rare: int = 16
    rare_mass: float = 0.05
    common_norm: float = 1.5
    rare_norm: float = 3.0
    eta: float = 0.5
    soft_eta: float = 1.0
    rounds: int = 8
    pairs: int = 60
    answers: int = 8
    ridge: float = 0.1
    sizes: tuple[int, ...] = (480, 5000, 50_000)
    guarantee_seeds: int = 20
    guarantee_scale: float = 0.2

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, 100000]", "num_seeds", "few_seeds", "guarantee_seeds")
        check_fields(self, "[1, 100000]", "prompts", "common", "rare", "pairs")
        check_fields(self, "[3, 1000]", "rounds", "answers")
        check_fields(self, "(0, 1)", "rare_mass")
        check_fields(self, "[0, 1000]", "common_norm", "rare_norm", "guarantee_scale")
        check_fields(self, "[0.01, 1000]", "eta", "soft_eta", "ridge")
        check_fields(self, "[1, 10000000]", "sizes")
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"sizes must ascend, got {self.sizes}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Few bandits, small samples."""
    return Config(num_seeds=20, few_seeds=5, prompts=60, sizes=(480, 4000), guarantee_seeds=4)
