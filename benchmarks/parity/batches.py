"""The committed arrays, as the records that the adapters read."""

import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from safetensors.numpy import load_file

DATA = Path(__file__).parent / "data"


@functools.cache
def load(name: str) -> SimpleNamespace:
    """weights, pairs, groups or steps: NumPy arrays under the names `draw.py` gave them."""
    return SimpleNamespace(**load_file(DATA / f"{name}.safetensors"))


def sequence(prompt_ids: np.ndarray, answer_ids: np.ndarray) -> np.ndarray:
    """[B, P + T] prompt, then answer."""
    return np.concatenate([prompt_ids, answer_ids], axis=-1)


def states(prompt_ids: np.ndarray, answer_ids: np.ndarray) -> np.ndarray:
    """[B, T] the token before each token of the answer, which is all a table reads."""
    return sequence(prompt_ids, answer_ids)[:, prompt_ids.shape[-1] - 1 : -1]
