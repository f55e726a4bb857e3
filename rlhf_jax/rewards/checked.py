"""A wrapper for judges: an error, or an output that is not a probability, names its prompt."""

from importlib.util import find_spec

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.types import Judge, Trajectory

ROUNDING = 1e-6  # sums of float32 probabilities may leave [0, 1] by this much


class JudgeError(ValueError):
    """A judge raised, or its output is not a probability. The message names the prompts."""


def checked_judge(judge: Judge, *, may_abstain: bool = False) -> Judge:
    """The same judge with its output checked.

    Args:
      may_abstain: whether a list may have None for a comparison without a verdict, which becomes
        NaN; else None is refused as NaN is.
    Returns:
      A judge with prefs [N] of JAX's default float type. Numbers up to 1e-6 outside [0, 1] are
      clipped, as rounding errors. It raises JudgeError (chained) if the judge raises, or if it
      returns another shape, a NaN, or a number outside [0, 1]; the message names the first such
      row.
    """

    def ask(indices: np.ndarray, first: Trajectory, second: Trajectory) -> Float[Array, "N"]:
        indices = np.asarray(indices)
        try:
            found = judge(indices, first, second)
            prefs = np.asarray(found, np.float64)
        except JudgeError:  # already names its prompt
            raise
        # Any other exception: a judge is the user's code or a service, and its author needs to know
        # the prompts to find the fault.
        except Exception as error:
            raise judge_failure(f"asked about {_named(indices)}", error) from error
        if prefs.shape != indices.shape:
            raise JudgeError(
                f"the judge, asked about {_named(indices)}, returned shape {prefs.shape}; "
                f"expected {indices.shape}, one probability per comparison"
            )
        wrong = ~((prefs >= -ROUNDING) & (prefs <= 1.0 + ROUNDING))  # True for NaN
        if may_abstain and isinstance(found, list):
            wrong &= np.array([pref is not None for pref in found], bool)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise JudgeError(
                f"the judge returned {prefs[row]} for prompt {indices[row]} (row {row} of "
                f"{len(indices)}); expected P(first beats second), a number in [0, 1]"
            )
        return jnp.asarray(np.clip(prefs, 0.0, 1.0), float)

    return ask


def judge_failure(doing: str, error: Exception) -> JudgeError:
    """The JudgeError, in one line, for an exception inside a judge."""
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return JudgeError(f"the judge failed, {doing}: {reason}")


def need_package(name: str, *, extra: str) -> None:
    """Raises ValueError with the command that installs a package which is absent."""
    if find_spec(name) is None:
        raise ValueError(f"{name} is not installed: pip install 'rlhf-jax[{extra}]'")


def _named(indices: np.ndarray) -> str:
    """The prompt indices in words, at most the first eight."""
    numbers = list(dict.fromkeys(np.asarray(indices).ravel().tolist()))
    shown = ", ".join(map(str, numbers[:8]))
    return f"prompt{'s' * (len(numbers) != 1)} {shown}" + (
        f", ... ({len(numbers)} prompts)" if len(numbers) > 8 else ""
    )
