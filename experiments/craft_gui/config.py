"""Sizes of the craft_gui experiment."""

from dataclasses import dataclass, replace

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class LanguagePanel:
    """A small transformer on the text phone.

    seeds: of starts and trainings. d_model, layers: of the transformer.
    longest: horizon of a task; the hard bin is its upper half.
    tasks, heldout: prompts to train on, and on layouts that training never shows.
    base_steps, base_rate, base_batch: AdamW on the solver's episodes of tasks of at most
    `base_longest` actions. gate: least success of it on held-out tasks of one action.
    steps, rate, prompts, samples, kl: of GRPO, each schedule alike. replay: of the curriculum.
    measured: episodes of each held-out task.
    """

    seeds: int = 3
    d_model: int = 64
    layers: int = 2
    longest: int = 4
    tasks: int = 2048
    heldout: int = 192
    base_steps: int = 100
    base_rate: float = 5e-3
    base_batch: int = 64
    base_longest: int = 4
    gate: float = 0.15
    steps: int = 60
    rate: float = 5e-4
    prompts: int = 8
    samples: int = 8
    kl: float = 0.01
    replay: float = 0.2
    measured: int = 2

    def __post_init__(self):
        check_fields(self, "[1, 10]", "seeds")
        check_fields(self, "[8, 1024]", "d_model")
        check_fields(self, "[1, 48]", "layers")
        check_fields(self, "[2, 8]", "longest")
        check_fields(self, f"[1, {self.longest}]", "base_longest")
        check_fields(self, f"[{2 * self.longest}, 100000]", "tasks", "heldout")
        check_fields(self, "[1, 1000000]", "base_steps", "base_batch", "prompts", "measured")
        check_fields(self, "[2, 1000000]", "steps", "samples")
        check_fields(self, "(0, 1]", "base_rate", "rate")
        check_fields(self, "[0, 1]", "gate", "replay")
        check_fields(self, "[0, inf)", "kl")
        if self.d_model % 8:
            raise ValueError(f"d_model must be a multiple of 8, got {self.d_model}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: trainings of each kind.
    skills, actions: a task is a chain of skills, each with one right action.
    easy, medium, hard: shortest and longest chain of each bin.
    samples, prompts: answers to a task, and tasks of an update. rate: of SGD.
    updates, short_updates: of a training, and of one with a small budget.
    dense: share of the fine-grained reward that is paid for single steps.
    replay: share of earlier bins where they are replayed.
    heldout: hard tasks that are measured.
    phone_tasks, phone_episodes: of the text phone, and episodes of random actions on each.
    panel: whether a model is trained on the phone. language: how.
    """

    seed: int = 0
    num_seeds: int = 10
    skills: int = 24
    actions: int = 6
    easy: tuple[int, int] = (1, 2)
    medium: tuple[int, int] = (3, 4)
    hard: tuple[int, int] = (6, 8)
    samples: int = 8
    prompts: int = 12
    rate: float = 4.0
    updates: int = 240
    short_updates: int = 150
    dense: float = 0.2
    replay: float = 0.2
    heldout: int = 200
    phone_tasks: int = 240
    phone_episodes: int = 20
    panel: bool = False
    language: LanguagePanel = LanguagePanel()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "skills", "actions", "samples")
        check_fields(self, "[1, inf)", "easy", "medium", "hard", "prompts", "heldout")
        check_fields(self, "[3, inf)", "updates", "short_updates")
        check_fields(self, "(0, 100]", "rate")
        check_fields(self, "[0, 1]", "dense", "replay")
        check_fields(self, "[8, inf)", "phone_tasks")
        check_fields(self, "[1, inf)", "phone_episodes")
        for name in ("easy", "medium", "hard"):
            if getattr(self, name)[0] > getattr(self, name)[1]:
                raise ValueError(f"{name} must be (shortest, longest), got {getattr(self, name)}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer seeds and tasks of the phone."""
    return Config(num_seeds=4, phone_tasks=40, phone_episodes=5)


def phone() -> Config:
    """The quick size of everything else, with a model trained on the phone."""
    return replace(quick(), panel=True)
