"""Sizes of the craft_gui experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


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
