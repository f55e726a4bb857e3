"""Sizes of the model and the calls that are timed; no other import than NumPy's."""

from dataclasses import dataclass

import numpy as np

FEWEST_ID = 4  # ids below are left to special tokens


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A Qwen2 with tied embeddings; prompts of `prompt` tokens, answers of `answer`.

    queue, rows: answers of a long-tailed batch, and how many are decoded at a time. stops: of the
    vocabulary, tokens that end an answer there.
    """

    vocab: int = 8192
    width: int = 256
    layers: int = 7
    heads: int = 8
    kv_heads: int = 4
    mlp: int = 1024
    prompt: int = 64
    answer: int = 128
    batch: int = 32
    queue: int = 64
    rows: int = 16
    stops: int = 256

    @property
    def head(self) -> int:
        """Width of a head."""
        return self.width // self.heads

    def cases(self) -> dict[str, "Case"]:
        """Name of a call -> how it draws."""
        sizes = {1, self.batch}
        return {
            f"{name}, batch {rows}": Case(rows, temperature)
            for name, temperature in (("greedy", 0.0), ("sampled", 1.0))
            for rows in sorted(sizes)
        }

    def queues(self) -> dict[str, "Case"]:
        """The long-tailed batch of this library, all at once and with rows that are refilled."""
        return {
            "long tail, all at once": Case(self.queue, 1.0, stops=self.stops),
            f"long tail, {self.rows} rows": Case(self.queue, 1.0, stops=self.stops, rows=self.rows),
        }


@dataclass(frozen=True)
class Case:
    """One call: `batch` prompts; rows: decoded at a time, None for all."""

    batch: int
    temperature: float
    stops: int = 0
    rows: int | None = None


def quick() -> Sizes:
    """For a test: the times mean nothing."""
    shape = {"vocab": 96, "width": 16, "layers": 1, "heads": 2, "kv_heads": 1, "mlp": 32}
    return Sizes(**shape, prompt=4, answer=6, batch=2, queue=5, rows=2, stops=40)


def draw_prompts(sizes: Sizes, rows: int) -> np.ndarray:
    """Random ids [rows, prompt]; fewer rows are the first of more."""
    shape = (rows, sizes.prompt)
    return np.random.default_rng(0).integers(FEWEST_ID, sizes.vocab, shape, dtype=np.int32)
