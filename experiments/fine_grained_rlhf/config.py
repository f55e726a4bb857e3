"""Sizes of the fine_grained_rlhf experiment."""

from dataclasses import dataclass
from pathlib import Path

from rlhf_jax.checks import check_fields

CLAIMED = (0.1, 0.3, 2.0)  # weights of relevance that claims are about


@dataclass(frozen=True, kw_only=True)
class Density:
    """Answers of L segments, one token each, half of the tokens bad.

    lengths: L, rising. tokens: vocabulary, an even number. batch: answers of an update.
    updates, rate: updates of a run and Adam's step. goal, window: learnt is a mean share of good
      segments of at least `goal` over `window` updates.
    """

    lengths: tuple[int, ...] = (4, 16, 64)
    tokens: int = 6
    batch: int = 32
    updates: int = 150
    rate: float = 0.1
    goal: float = 0.9
    window: int = 5

    def __post_init__(self):
        check_fields(self, "[1, inf)", "lengths", "batch", "updates", "window")
        check_fields(self, "[2, inf)", "tokens")
        check_fields(self, "(0, 1]", "rate", "goal")
        if list(self.lengths) != sorted(set(self.lengths)) or len(self.lengths) < 2:
            raise ValueError(f"lengths must rise and be at least two, got {self.lengths}")
        if self.tokens % 2:
            raise ValueError(f"tokens must be even, half of them good, got {self.tokens}")
        if self.window > self.updates:
            raise ValueError(f"window must be at most updates, {self.updates}, got {self.window}")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Answers that state facts, under three heads.

    relevance, factuality, completeness: weights w1, w2, w3 of the full reward.
    sweep: values of w1, rising; 0.1, 0.3 and 2 are among them.
    beta: KL weight. updates, batch, rate: of a run. last: updates that count as its end.
    """

    relevance: float = 0.3
    factuality: float = 0.5
    completeness: float = 0.3
    sweep: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
    beta: float = 0.05
    updates: int = 300
    batch: int = 64
    rate: float = 0.1
    last: int = 20

    def __post_init__(self):
        check_fields(self, "(0, inf)", "relevance", "factuality", "completeness", "sweep")
        check_fields(self, "[0, inf)", "beta")
        check_fields(self, "[1, inf)", "updates", "batch", "last")
        check_fields(self, "(0, 1]", "rate")
        if list(self.sweep) != sorted(set(self.sweep)) or not set(CLAIMED) <= set(self.sweep):
            raise ValueError(f"sweep must rise and hold {CLAIMED}, got {self.sweep}")
        if self.last > self.updates:
            raise ValueError(f"last must be at most updates, {self.updates}, got {self.last}")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Heads on marked answers of people, from scratch, cross-validated.

    folds: K; a question is on one side of each. vocab_size: ids of each fold's tokenizer.
    prompt_tokens: of the question, the last. answer_tokens: of the answer, the first.
    d_model, num_layers: of the transformer. epochs, batch, rate: of AdamW.
    """

    folds: int = 3
    vocab_size: int = 1024
    prompt_tokens: int = 32
    answer_tokens: int = 192
    d_model: int = 32
    num_layers: int = 1
    epochs: int = 6
    batch: int = 16
    rate: float = 3e-3

    def __post_init__(self):
        check_fields(self, "[2, inf)", "folds")
        check_fields(self, "[260, 65536]", "vocab_size")
        check_fields(self, "[1, inf)", "prompt_tokens", "answer_tokens", "num_layers")
        check_fields(self, "[1, inf)", "epochs", "batch")
        check_fields(self, "(0, 1]", "rate")
        if self.d_model < 4 or self.d_model % 4:
            raise ValueError(f"d_model must be a multiple of 4, got {self.d_model}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    qa_feedback: a file of the paper's data, e.g. dev_feedback.json; None leaves that part out.
    seed: of everything. num_seeds: runs of each setting of the tables.
    """

    qa_feedback: Path | None = None
    seed: int = 0
    num_seeds: int = 10
    density: Density = Density()
    facts: Facts = Facts()
    answers: Answers = Answers()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Four seeds and fewer updates of the facts; two folds of marked answers."""
    answers = Answers(folds=2, epochs=2)
    return Config(num_seeds=4, facts=Facts(sweep=CLAIMED, updates=120), answers=answers)
