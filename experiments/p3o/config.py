"""Sizes of the p3o experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Strings:
    """A transformer that writes strings.

    num_seeds: worlds and first weights. symbols, length: a prompt is one of the symbols, an answer
      has `length` of them; its reward is the number of neighbours that are the prompt's own pair.
    iterations, batch: prompts of an iteration, with two answers each. epochs, rate: passes over
      them, Adam's step.
    beta: KL weight. width, layers: of the transformer.
    """

    num_seeds: int = 4
    symbols: int = 6
    length: int = 6
    iterations: int = 100
    batch: int = 16
    epochs: int = 2
    rate: float = 3e-3
    beta: float = 0.1
    width: int = 32
    layers: int = 2

    def __post_init__(self):
        check_fields(self, "[2, inf)", "num_seeds", "symbols", "length", "width")
        check_fields(self, "[10, inf)", "iterations")
        check_fields(self, "[1, inf)", "batch", "epochs", "layers")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "[0, inf)", "beta")
        if self.width % 2:
            raise ValueError(f"width must be even, for two heads, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds.
    prompts, answers: of the bandit. ref_spread: deviation of the reference logits.
    beta: KL weight. betas: others, for the frontier.
    shift: deviation s of a prompt's shift delta(x) that claims are about. shifts: others but 0.
    iterations: of 2 answers to each prompt. epochs: passes over the answers of an iteration.
    clip_eps: of every method. rate: of SGD on the sum over prompts. adam: Adam with this step
      instead.
    groups: other numbers of answers to a prompt, with as many answers in all.
    bandits: of six arms, for the gradients. strings: the transformer.
    """

    seed: int = 0
    num_seeds: int = 5
    prompts: int = 64
    answers: int = 10
    ref_spread: float = 0.5
    beta: float = 0.1
    betas: tuple[float, ...] = (0.05, 0.2)
    shift: float = 5.0
    shifts: tuple[float, ...] = (1.0, 2.0, 10.0)
    iterations: int = 400
    epochs: int = 4
    clip_eps: float = 0.2
    rate: float = 0.08
    adam: bool = False
    groups: tuple[int, ...] = (4, 8)
    bandits: int = 20
    strings: Strings = Strings()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "prompts", "answers", "groups")
        check_fields(self, "[0, inf)", "ref_spread")
        check_fields(self, "(0, inf)", "beta", "betas", "shift", "shifts", "clip_eps")
        check_fields(self, "[1, inf)", "iterations", "epochs", "bandits")
        check_fields(self, "(0, 1]", "rate")
        for size in self.groups:
            if size % 2 or (2 * self.prompts) % size:
                raise ValueError(
                    f"groups must be even numbers that divide 2 prompts = {2 * self.prompts}, "
                    f"got {size}"
                )

    def settings(self) -> list[tuple[float, float]]:
        """(shift, beta) of every run."""
        shifts = [0.0, self.shift, *self.shifts]
        return [(s, self.beta) for s in shifts] + [
            (s, beta) for s in (0.0, self.shift) for beta in self.betas
        ]


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer worlds, settings and iterations, smaller strings and a smaller transformer."""
    return Config(
        num_seeds=3,
        iterations=200,
        betas=(0.2,),
        shifts=(1.0,),
        groups=(4,),
        bandits=5,
        strings=Strings(num_seeds=2, length=4, iterations=12, batch=8, width=16, layers=1),
    )
