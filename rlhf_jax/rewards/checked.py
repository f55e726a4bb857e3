"""Wrappers that name the prompt when a judge raises or answers with no probability."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.types import Trajectory

Judge = Callable[[np.ndarray, Trajectory, Trajectory], Any]

ROUNDING = 1e-6  # beyond [0, 1], what sums of probabilities in float32 come to


class JudgeError(ValueError):
    """A judge failed, or answered what is no probability. The message names the prompts."""


def checked_judge(judge: Judge) -> Judge:
    """The same judge; every answer is a probability, or an error that names its prompt.

    Returns:
      A judge whose prefs are [N], of JAX's default float type. Up to 1e-6 outside [0, 1] counts as
      rounding.
      It raises JudgeError where the judge raises anything (chained), or answers with another shape,
      a NaN, or a number outside [0, 1]; of wrong answers the first one is named.
    """

    def ask(indices: np.ndarray, first: Trajectory, second: Trajectory) -> Float[Array, "N"]:
        indices = np.asarray(indices)
        try:
            prefs = np.asarray(judge(indices, first, second), np.float64)
        except JudgeError:  # it has named its prompt
            raise
        # Everything else, because a judge is the user's own code or a service: whatever goes wrong
        # there, the prompts it was asked about are what its author needs to find it.
        except Exception as error:
            raise judge_failure(f"asked about {_named(indices)}", error) from error
        if prefs.shape != indices.shape:
            raise JudgeError(
                f"the judge, asked about {_named(indices)}, returned shape {prefs.shape}; "
                f"expected {indices.shape}, one probability per comparison"
            )
        wrong = ~((prefs >= -ROUNDING) & (prefs <= 1.0 + ROUNDING))  # NaN is neither
        if wrong.any():
            row = int(np.argmax(wrong))
            raise JudgeError(
                f"the judge returned {prefs[row]} for prompt {indices[row]} (row {row} of "
                f"{len(indices)}); expected P(first beats second), a number in [0, 1]"
            )
        return jnp.asarray(np.clip(prefs, 0.0, 1.0), float)

    return ask


def judge_failure(doing: str, error: Exception) -> JudgeError:
    """One line about a failure inside a judge."""
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return JudgeError(f"the judge failed, {doing}: {reason}")


def _named(indices: np.ndarray) -> str:
    """Prompts by number, the first few of many."""
    numbers = list(dict.fromkeys(np.asarray(indices).ravel().tolist()))
    shown = ", ".join(map(str, numbers[:8]))
    return f"prompt{'s' * (len(numbers) != 1)} {shown}" + (
        f", ... ({len(numbers)} prompts)" if len(numbers) > 8 else ""
    )
