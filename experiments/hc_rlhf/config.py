"""Sizes of the hc_rlhf experiment."""

from dataclasses import dataclass, replace

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class ShopPanel:
    """The language panel: the shipped `sft` of the shop and unsafe requests.

    seeds: of the trained policies, each method from the same start.
    demos, comply, sft_steps, sft_rate: answers that the start learns from, the share of them that
      does what was asked, and AdamW. About 0.8 of those are flagged, which puts the start near the
      limit.
    pairs: judged, for the cost model, and as many held out; teacher_beta: of the judges.
      cost_steps, cost_rate: AdamW.
    prompts: unsafe, for training. rl_steps, rl_rate: AdamW. batch_size, samples: texts, pairs or
      prompts of a step, and answers to each prompt. kl: weight in the reward. pay: for an
      answer that does what was asked, beside its fluency; above 1 / 0.39, as 0.39 of the flagged
      answers of the start are harmful, flagged answers are worth more reward. buffer: past costs.
    limit: on the share of flagged answers; first_multiplier; gain, dual_rate: K_p and K_i. At 0.2
      above the limit the integral rises by 0.1 a step: from 1 to pay in half of rl_steps.
    delta: of a safety test. tests, test_size: tests of each policy, and answers of each, all to
      other prompts.
    """

    seeds: int = 3
    demos: int = 1024
    comply: float = 0.6
    sft_steps: int = 64
    sft_rate: float = 1e-3
    pairs: int = 400
    teacher_beta: float = 20.0
    cost_steps: int = 50
    cost_rate: float = 1e-3
    prompts: int = 384
    rl_steps: int = 40
    rl_rate: float = 5e-4
    batch_size: int = 16
    samples: int = 4
    kl: float = 0.05
    pay: float = 3.0
    buffer: int = 128
    limit: float = 0.5
    first_multiplier: float = 1.0
    gain: float = 5.0
    dual_rate: float = 0.5
    delta: float = 0.1
    tests: int = 10
    test_size: int = 100

    def __post_init__(self):
        check_fields(self, "[1, 100]", "seeds")
        check_fields(self, "[1, 10000]", "demos", "pairs", "prompts")
        check_fields(self, "(0, 1)", "comply", "limit")
        check_fields(self, "[1, inf)", "sft_steps", "cost_steps", "rl_steps", "batch_size")
        check_fields(self, "(0, 1]", "sft_rate", "cost_rate", "rl_rate", "dual_rate")
        check_fields(self, "(0, 100]", "gain", "first_multiplier", "pay")
        check_fields(self, "(0, inf)", "teacher_beta")
        check_fields(self, "[2, inf)", "samples")
        check_fields(self, "[0, inf)", "kl")
        check_fields(self, "[2, 1000000]", "buffer")
        check_fields(self, "(0, 1/2]", "delta")
        check_fields(self, "[1, 100]", "tests")
        check_fields(self, "[2, 1000]", "test_size")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. trials: policies trained of each method, each on prompts of its own.
    delta: probability of releasing an unsafe policy. tau: limit on the mean cost.
    sizes: prompts, rising; half of them are for training. sampled_size: with sampled gradients.
    features: of a prompt. beta: KL weight to the uniform policy. rate, steps: of Adam.
    long_steps: of Lagrangian policies that end at their limit, on the most prompts.
    multiplier_rate: of the multiplier, which stays in [e^-range, e^range].
    sampled_steps, batch, samples, buffer: updates, prompts and answers of a step, and past costs.
    worlds: draws of reward and cost, the first on whose limit training ends is taken.
    fresh: prompts that measure a policy.
    rare_tau, rare_train, rare_tests: limit on the share of unsafe answers; prompts of the training
      and, rising, of the safety test.
    tests: simulated tests. test_sizes: costs of each, rising. margin: how far a safe policy is
      below its limit there. looks, look_size, look_gap: tests of one policy, costs in each, and
      standard deviations that its mean is above the limit.
    control_steps: of the policy with two actions. control_gain, control_rate: K_p and K_i.
    shop: the language panel, with `panel`.
    """

    seed: int = 0
    trials: int = 200
    delta: float = 0.1
    tau: float = 0.0
    sizes: tuple[int, ...] = (100, 300, 1000)
    sampled_size: int = 300
    features: int = 6
    beta: float = 0.1
    rate: float = 0.05
    steps: int = 400
    long_steps: int = 2000
    multiplier_rate: float = 0.05
    range: float = 5.0
    sampled_steps: int = 600
    batch: int = 64
    samples: int = 4
    buffer: int = 1024
    worlds: int = 8
    fresh: int = 30_000
    rare_tau: float = 0.05
    rare_train: int = 500
    rare_tests: tuple[int, ...] = (20, 100, 1000)
    tests: int = 10_000
    test_sizes: tuple[int, ...] = (20, 100, 1000)
    margin: float = 0.1
    looks: int = 10
    look_size: int = 100
    look_gap: float = 0.02
    control_steps: int = 3000
    control_gain: float = 1.0
    control_rate: float = 0.05
    panel: bool = False
    shop: ShopPanel = ShopPanel()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, 10000]", "trials")
        check_fields(self, "(0, 1/2]", "delta")
        check_fields(self, "[-1.5, 1.5]", "tau")
        check_fields(self, "[20, 10000]", "sizes", "sampled_size")
        check_fields(self, "[1, 100]", "features")
        check_fields(self, "(0, 100]", "beta")
        check_fields(self, "(0, 1]", "rate", "multiplier_rate", "control_rate")
        check_fields(self, "(0, 20]", "range")
        check_fields(self, "[1, 100000]", "steps", "long_steps")
        check_fields(self, "[2, 100000]", "sampled_steps")
        check_fields(self, "[1, 10000]", "batch", "worlds")
        check_fields(self, "[2, 1000]", "samples")
        check_fields(self, "[2, 1000000]", "buffer")
        check_fields(self, "[100, 1000000]", "fresh")
        check_fields(self, "(0, 1)", "rare_tau", "margin")
        check_fields(self, "[2, 10000]", "rare_train", "rare_tests", "look_size", "test_sizes")
        check_fields(self, "[100, 100000]", "tests")
        check_fields(self, "[2, 100]", "looks")
        check_fields(self, "[0, 1]", "look_gap")
        check_fields(self, "[10, 100000]", "control_steps")
        check_fields(self, "(0, 100]", "control_gain")
        for name in ("sizes", "rare_tests", "test_sizes"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)):
                raise ValueError(f"{name} must rise, got {values}")
        for name in ("sizes", "test_sizes"):
            if len(getattr(self, name)) < 2:
                raise ValueError(f"{name} must be two or more, got {getattr(self, name)}")
        if self.buffer < self.batch * self.samples:
            raise ValueError(f"buffer must hold the costs of one step, got {self.buffer}")


def default() -> Config:
    """The published run, without the language panel."""
    return Config()


def quick() -> Config:
    """Forty policies of each method on fewer prompts: every stage."""
    return Config(
        trials=40,
        sizes=(100, 200),
        steps=200,
        long_steps=600,
        sampled_size=100,
        sampled_steps=200,
        worlds=4,
        fresh=5000,
        rare_train=200,
        rare_tests=(20, 100),
        tests=2000,
        test_sizes=(20, 100),
        control_steps=1500,
    )


def shop() -> Config:
    """The quick sizes, with the language panel."""
    return replace(quick(), panel=True)
