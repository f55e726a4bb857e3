"""The toy's options."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Adam:
    """The optimiser."""

    rate: float = 0.05

    def __post_init__(self):
        if self.rate <= 0:
            raise ValueError(f"rate must be > 0, got {self.rate}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """nap: seconds slept in each step. below: threshold of the claim. crash: what goes wrong.
    seed: of nothing."""

    adam: Adam = Adam()
    steps: int = 60
    nap: float = 0.0
    below: float = 1e9
    crash: str = ""
    seed: int = 0

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be >= 1, got {self.steps}")


def default() -> Config:
    """Sixty steps in each stage."""
    return Config()


def quick() -> Config:
    """Ten."""
    return Config(steps=10)
