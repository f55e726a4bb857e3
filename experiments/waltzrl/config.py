"""Sizes of the waltzrl experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class ShopPanel:
    """The language panel: a model of the shop.

    seeds: of trainings. dialogues: that both agents are fitted to first, from the shipped SFT
      policy, of which bad_drafts have a wrong draft and random_feedback any of the three labels.
    sft_steps, sft_rate; rate: of AdamW. gate: share of feedback that must be readable after SFT;
      below it nothing is trained any further.
    batch_size: dialogues, or prompts, of a step. samples: episodes of each prompt. first_stage,
      second_stage: steps.
    prompts, heldout: to train on and to measure by, half of them attacks.
    episode_length: tokens of a dialogue after its prompt.
    """

    seeds: int = 3
    dialogues: int = 2560
    bad_drafts: float = 0.5
    random_feedback: float = 0.25
    sft_steps: int = 240
    sft_rate: float = 2e-3
    gate: float = 0.9
    rate: float = 5e-4
    batch_size: int = 16
    samples: int = 2
    first_stage: int = 12
    second_stage: int = 18
    prompts: int = 2048
    heldout: int = 192
    episode_length: int = 168

    def __post_init__(self):
        check_fields(self, "[1, 50]", "seeds")
        check_fields(self, "[4, 20000]", "dialogues", "prompts", "heldout")
        check_fields(self, "[0, 1]", "bad_drafts", "random_feedback", "gate")
        check_fields(self, "(0, 1]", "sft_rate", "rate")
        check_fields(self, "[1, 1000]", "batch_size", "samples")
        check_fields(self, "[1, 1000000]", "sft_steps", "first_stage", "second_stage")
        check_fields(self, "[168, 2000]", "episode_length")  # three answers and what is asked


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: trainings of each method, all in one vmap.
    sees_first, sees_second: P(an agent's view of a prompt is right), of the conversation agent and
      of the feedback agent, independent.
    batch: episodes of a step. rate: of plain gradient steps. clip_eps: of the ratio.
    first_stage, second_stage: steps with the conversation agent frozen, and steps of both.
    every: steps between measurements; it divides both stages.
    improvement_weight, label_weight: alpha, and lambda of the first stage.
    panel: whether to run the language panel, `shop`.
    """

    seed: int = 0
    num_seeds: int = 10
    sees_first: float = 0.78
    sees_second: float = 0.85
    batch: int = 512
    rate: float = 8.0
    clip_eps: float = 0.2
    first_stage: int = 400
    second_stage: int = 800
    every: int = 20
    improvement_weight: float = 1.0
    label_weight: float = 1.0
    panel: bool = False
    shop: ShopPanel = ShopPanel()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "batch")
        check_fields(self, "(1/2, 1)", "sees_first", "sees_second")
        check_fields(self, "(0, 100]", "rate", "improvement_weight", "label_weight")
        check_fields(self, "(0, inf)", "clip_eps")
        check_fields(self, "[1, inf)", "first_stage", "second_stage", "every")
        for name in ("first_stage", "second_stage"):
            if getattr(self, name) % self.every:
                raise ValueError(
                    f"{name} must be a multiple of every {self.every}, got {getattr(self, name)}"
                )

    def steps(self) -> int:
        """Of both stages."""
        return self.first_stage + self.second_stage


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Three seeds and half of the steps."""
    return Config(num_seeds=3, first_stage=200, second_stage=400)


def shop() -> Config:
    """With the language panel."""
    return Config(panel=True)
