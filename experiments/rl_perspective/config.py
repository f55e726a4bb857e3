"""Sizes of the rl_perspective experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Compounding:
    """The tightrope.

    horizons: T, rising. slip: rate of slips of every policy that is judged.
    demos: of the expert. smoothing: added to every count of behaviour cloning.
    alpha, rate, clip, updates: of MaxEnt inverse RL: entropy weight, step, bound on the weights.
    pairs, explore, temperature: comparisons, slip rate of their roll-outs, beta of the labels.
    fit_updates, fit_rate, ridge: of the reward model: Adam, weight decay.
    beta: KL weight of RLHF.
    """

    horizons: tuple[int, ...] = (5, 10, 20, 40, 80)
    slip: float = 0.02
    demos: int = 50
    smoothing: float = 0.01
    alpha: float = 0.1
    rate: float = 1.0
    clip: float = 5.0
    updates: int = 100
    pairs: int = 400
    explore: float = 0.1
    temperature: float = 5.0
    fit_updates: int = 300
    fit_rate: float = 0.05
    ridge: float = 1e-2
    beta: float = 0.1

    def __post_init__(self):
        if len(self.horizons) < 3 or list(self.horizons) != sorted(set(self.horizons)):
            raise ValueError(f"horizons must rise and be at least three, got {self.horizons}")
        check_fields(self, "(0, 1)", "slip", "explore")
        check_fields(self, "[1, inf)", "demos", "updates", "pairs", "fit_updates", "horizons")
        check_fields(self, "(0, inf)", "smoothing", "alpha", "clip", "temperature", "beta")
        check_fields(self, "[0, inf)", "ridge")
        check_fields(self, "(0, 1000]", "rate")
        check_fields(self, "(0, 1]", "fit_rate")


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Prompts chosen from logged outcomes.

    dims: of queries and prompts. logged, unseen: prompts that were tried, and that were not.
    queries: logged ones, rising; each was answered under every logged prompt.
    test: new queries. updates, rate, decay: of the reward model: Adam, weight decay.
    """

    dims: int = 8
    logged: int = 6
    unseen: int = 10
    queries: tuple[int, ...] = (50, 200, 1000, 4000)
    test: int = 2000
    updates: int = 120
    rate: float = 0.1
    decay: float = 1e-4

    def __post_init__(self):
        if len(self.queries) < 2 or list(self.queries) != sorted(set(self.queries)):
            raise ValueError(f"queries must rise and be at least two, got {self.queries}")
        check_fields(self, "[1, inf)", "dims", "logged", "unseen", "test", "updates", "queries")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "[0, 1]", "decay")


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A string to be written, rewarded at its end.

    length: T. vocabularies: |V|, rising. noise: sd of the reward.
    iterations, samples: rounds, and strings in each.
    rate: step of REINFORCE and PPO on the mean over strings of the sum over tokens.
    clip_eps, epochs: of PPO.
    q_rate, explore: step and epsilon of Q-learning. replays: of old strings for each new one, of
      Q-learning on prefixes and its control; q_rates: steps that it is tuned over, q_rate among
      them.
    """

    length: int = 8
    vocabularies: tuple[int, ...] = (4, 32, 256)
    noise: float = 0.1
    iterations: int = 400
    samples: int = 64
    rate: float = 1.0
    clip_eps: float = 0.2
    epochs: int = 4
    q_rate: float = 0.3
    q_rates: tuple[float, ...] = (0.1, 0.3, 1.0)
    explore: float = 0.1
    replays: int = 1

    def __post_init__(self):
        if len(self.vocabularies) < 2 or list(self.vocabularies) != sorted(set(self.vocabularies)):
            raise ValueError(f"vocabularies must rise and be at least two, got {self.vocabularies}")
        check_fields(self, "[2, inf)", "vocabularies")
        if self.vocabularies[0] ** max(self.length, 0) > 2**20:
            raise ValueError(
                f"vocabularies[0]^length, the rows of a table, must be at most 2^20, got "
                f"{self.vocabularies[0]}^{self.length}"
            )
        check_fields(self, "[1, inf)", "length", "iterations", "samples", "epochs", "replays")
        check_fields(self, "(0, 1000]", "rate")
        check_fields(self, "(0, inf)", "clip_eps")
        check_fields(self, "[0, inf)", "noise")
        check_fields(self, "(0, 1]", "q_rate", "q_rates")
        if self.q_rate not in self.q_rates or len(set(self.q_rates)) < len(self.q_rates):
            raise ValueError(f"q_rates must differ and hold q_rate, got {self.q_rates}")
        check_fields(self, "[0, 1]", "explore")


@dataclass(frozen=True, kw_only=True)
class Language:
    """The language panel: brackets, each to be closed before the next one opens.

    lengths: brackets of an answer, rising. num_seeds: of weights, demonstrations and draws.
    slip, explore: rates of slips where policies are judged, and in PPO and its rival's
      demonstrations.
    d_model: width of two layers. tokens: of a step; answers are tokens / length.
    start_steps, sft_rate: of the clone that PPO starts from; AdamW, of every clone.
    ppo_steps, ppo_rate: of PPO; the other clones have start_steps + ppo_steps.
    prompts: of a step of PPO. epochs, minibatches: over each batch of it.
    kl: weight of the penalty in PPO. gamma: its discount.
    answers: to held-out prompts in all, on which a cost is measured.
    """

    lengths: tuple[int, ...] = (16, 64, 256)
    num_seeds: int = 3
    slip: float = 0.02
    explore: float = 0.1
    d_model: int = 32
    tokens: int = 2048
    start_steps: int = 40
    sft_rate: float = 1e-2
    ppo_steps: int = 160
    ppo_rate: float = 3e-3
    prompts: int = 4
    epochs: int = 2
    minibatches: int = 2
    kl: float = 0.0
    gamma: float = 0.95
    answers: int = 256

    def __post_init__(self):
        if len(self.lengths) < 3 or list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError(f"lengths must rise and be at least three, got {self.lengths}")
        check_fields(self, "[1, inf)", "lengths", "d_model", "start_steps", "ppo_steps", "prompts")
        check_fields(self, "[2, 100]", "num_seeds")
        check_fields(self, "(0, 1)", "slip", "explore")
        check_fields(self, "(0, 1]", "sft_rate", "ppo_rate")
        check_fields(self, "[1, 100]", "epochs", "minibatches")
        check_fields(self, "[0, inf)", "kl")
        check_fields(self, "[0, 1]", "gamma")
        check_fields(self, "[16, inf)", "answers")
        least = self.prompts * self.lengths[-1] * self.minibatches
        if self.tokens < least or any(self.tokens % (self.prompts * x) for x in self.lengths):
            raise ValueError(
                "tokens must be a multiple of prompts times every length, and at least "
                f"{least} for the minibatches, got {self.tokens}"
            )


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run. num_seeds: of every part, each in one vmap.

    panel: whether to run the language panel, `language`, in the place of the three others.
    """

    seed: int = 0
    num_seeds: int = 30
    compounding: Compounding = Compounding()
    prompts: Prompts = Prompts()
    tokens: Tokens = Tokens()
    panel: bool = False
    language: Language = Language()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Shorter horizons and small vocabularies: every stage in seconds.

    Compilation takes most of it, so ten seeds stay; the share of right tokens needs them.
    """
    return Config(
        num_seeds=10,
        compounding=Compounding(horizons=(5, 10, 20, 40)),
        tokens=Tokens(vocabularies=(4, 16), q_rates=(0.3, 1.0)),
    )


def language() -> Config:
    """The language panel alone."""
    return Config(panel=True)
