"""Sizes of the model and of the batches, and the FLOPs of a step; no other import than NumPy's."""

from dataclasses import dataclass, replace

import numpy as np

RATE, DECAY, BETA, KL = 1e-4, 0.01, 0.1, 0.04  # AdamW; of DPO; of GRPO
# A ratio is an exponential: at a higher rate it makes rounding large in the compared losses.
ONLINE_RATE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A Qwen2 with tied embeddings, and batches of full rows.

    pairs: of a DPO step; an SFT step has twice as many rows. prompt, answer: tokens of a row.
    prompts, samples: of a GRPO or PPO iteration, with rows of online_prompt and online_answer.
    """

    vocab: int = 8192
    width: int = 256
    layers: int = 7
    heads: int = 8
    kv_heads: int = 4
    mlp: int = 1024
    pairs: int = 32
    prompt: int = 32
    answer: int = 96
    prompts: int = 8
    samples: int = 8
    online_prompt: int = 64
    online_answer: int = 64

    @property
    def head(self) -> int:
        """Width of a head."""
        return self.width // self.heads

    @property
    def tokens(self) -> dict[str, int]:
        """Job -> tokens that its rate counts: all of a row, or those that were sampled."""
        rows = 2 * self.pairs * (self.prompt + self.answer)
        sampled = self.prompts * self.samples * self.online_answer
        return {"dpo": rows, "sft": rows, "grpo": sampled, "ppo": sampled}

    @property
    def flops(self) -> float:
        """Matrix products of a DPO or SFT step: forward and twice that backward."""
        length = self.prompt + self.answer
        heads = 2 * self.head * (self.heads + self.kv_heads)
        weights = self.layers * self.width * (heads + 3 * self.mlp)
        pairs = self.layers * length * (length + 1) // 2
        attention = 4 * self.width * pairs
        row = 2 * weights * length + attention + 2 * self.width * self.vocab * self.answer
        return 3.0 * 2 * self.pairs * row


def quick() -> Sizes:
    """For a test: the times mean nothing."""
    shape = Sizes(vocab=96, width=16, layers=1, heads=2, kv_heads=1, mlp=32)
    rows = replace(shape, pairs=2, prompt=4, answer=6, prompts=2, samples=2)
    return replace(rows, online_prompt=4, online_answer=4)


def draw_arrays(sizes: Sizes, seed: int = 0) -> dict[str, np.ndarray]:
    """The tokens of every job; ids below 4 are left to special tokens."""
    rng = np.random.default_rng(seed)

    def ids(rows: int, length: int) -> np.ndarray:
        return rng.integers(4, sizes.vocab, (rows, length), dtype=np.int32)

    groups = sizes.prompts * sizes.samples
    prompts = np.repeat(ids(sizes.prompts, sizes.online_prompt), sizes.samples, axis=0)
    return {
        "prompt": ids(sizes.pairs, sizes.prompt),
        "chosen": ids(sizes.pairs, sizes.answer),
        "rejected": ids(sizes.pairs, sizes.answer),
        "group_prompt": prompts,
        "group_answer": ids(groups, sizes.online_answer),
        "advantages": rng.standard_normal(groups).astype(np.float32),
    }
