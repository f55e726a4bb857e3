"""Draw the weights and batches of the pack, once: `python -m benchmarks.parity.draw`.

The files it writes are committed, so that every machine and every version compares the same
numbers. Token 0 pads, 1 ends an answer, 2 is never used, the others are words.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

DATA = Path(__file__).parent / "data"
SEED = 20261133  # here the clips and the hinge are on in some rows and off in others, KTO's KL > 0
PAD, EOS, FIRST_WORD, VOCABULARY = 0, 1, 3, 11
PAIRS, PROMPTS, GROUP, PROMPT_LENGTH, LENGTH = 6, 4, 4, 3, 7

Arrays = dict[str, np.ndarray]


def weights(rng: np.random.Generator) -> Arrays:
    """Tables [V, V], row = previous token: the policy, its two anchors, and a reward model."""
    shape = (VOCABULARY, VOCABULARY)
    policy = rng.normal(size=shape)
    tables = {
        "policy": policy,
        "reference": policy + 0.4 * rng.normal(size=shape),
        "old": policy + 0.3 * rng.normal(size=shape),
        "reward": rng.normal(size=shape),
    }
    return {name: table.astype(np.float32) for name, table in tables.items()}


def words(rng: np.random.Generator, count: int) -> np.ndarray:
    """`count` words."""
    return rng.integers(FIRST_WORD, VOCABULARY, size=count)


def prompts(rng: np.random.Generator, rows: int) -> Arrays:
    """Prompts of 1 to P words, padded on the left."""
    ids = np.full((rows, PROMPT_LENGTH), PAD)
    for row, length in enumerate(rng.integers(1, PROMPT_LENGTH + 1, size=rows)):
        ids[row, PROMPT_LENGTH - length :] = words(rng, length)
    return {"prompt_ids": ids.astype(np.int32), "prompt_mask": ids != PAD}


def answers(rng: np.random.Generator, name: str, lengths: np.ndarray) -> Arrays:
    """Answers of the given lengths, end of sequence included, padded on the right.

    An answer of the full length T is one that was cut: it has no end.
    """
    ids = np.full((len(lengths), LENGTH), PAD)
    for row, length in enumerate(lengths):
        ids[row, :length] = words(rng, length)
        if length < LENGTH:
            ids[row, length - 1] = EOS
    return {f"{name}_ids": ids.astype(np.int32), f"{name}_mask": ids != PAD}


def pairs(rng: np.random.Generator) -> Arrays:
    """Two answers to each prompt, a third written by hand, gaps of a rater and binary labels."""
    drawn = prompts(rng, PAIRS)
    for name in ("chosen", "rejected", "gold"):
        drawn |= answers(rng, name, rng.integers(2, LENGTH, size=PAIRS))
    gaps = rng.uniform(0.0, 2.0, size=PAIRS).astype(np.float32)
    return drawn | {"gaps": gaps, "desirable": np.array([True, True, False, True, False, False])}


def groups(rng: np.random.Generator) -> Arrays:
    """G answers to each prompt with their scores; the last group's scores are all the same."""
    drawn = prompts(rng, PROMPTS)
    lengths = rng.integers(2, LENGTH + 1, size=PROMPTS * GROUP)
    lengths[5] = LENGTH
    drawn |= answers(rng, "completion", lengths)
    scores = rng.normal(size=(PROMPTS, GROUP))
    scores[-1] = 0.5
    gaps = 0.3 * rng.normal(size=drawn["completion_ids"].shape)
    return drawn | {"scores": scores.astype(np.float32), "sampler_gaps": gaps.astype(np.float32)}


def steps(rng: np.random.Generator) -> Arrays:
    """One trajectory of T steps through states of the table: what control estimators read."""
    rewards, values = rng.normal(size=LENGTH), rng.normal(size=LENGTH + 1)
    discounts = np.where(np.arange(LENGTH) == 3, 0.0, 0.9)  # an episode ends in the middle
    floats = {"rewards": rewards, "values": values, "discounts": discounts}
    states, actions = rng.integers(0, VOCABULARY, size=(2, LENGTH)).astype(np.int32)
    drawn = {name: x.astype(np.float32) for name, x in floats.items()}
    advantages = rng.normal(size=LENGTH).astype(np.float32)
    return drawn | {"states": states, "actions": actions, "advantages": advantages}


def main() -> None:
    """Write the four files."""
    rng = np.random.default_rng(SEED)
    DATA.mkdir(exist_ok=True)
    for name, draw in {
        "weights": weights,
        "pairs": pairs,
        "groups": groups,
        "steps": steps,
    }.items():
        save_file(draw(rng), DATA / f"{name}.safetensors")


if __name__ == "__main__":
    main()
