"""Whether a language model knows which token comes next: the calibration of its first choice."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlhf_jax.ops.statistics import confidence_error
from rlhf_jax.policies.language import LanguageInputs
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.rows import answer_batch, in_chunks
from rlhf_jax.types import Params


class TokenCalibration(NamedTuple):
    """error: expected calibration error of the most likely token. confidence: its mean probability.
    accuracy: how often it is the token of the text. tokens: how many were counted."""

    error: float
    confidence: float
    accuracy: float
    tokens: int


def token_calibration(
    lab: LanguageLab, params: Params, records: Sequence[dict], *, batch_size: int
) -> TokenCalibration:
    """Of the answers in these records; a model is overconfident where confidence > accuracy.

    The logits of a batch, [B, T, V] float32, are in memory.

    Args:
      records: with the fields prompt and answer, at least one.
    Reference: Mukobi et al. 2023, arXiv:2310.16763, compare it before and after fine-tuning, on
      questions with choices; here every token of a text is a question.
    """
    choose = jax.jit(partial(_first_choice, lab))

    def chunk(part: list[dict]) -> dict[str, Any]:
        batch = answer_batch(lab, part)
        confidence, choice = choose(params, batch.inputs)
        return {"p": confidence, "right": choice == batch.actions, "mask": batch.mask}

    found = in_chunks(chunk, records, size=batch_size)
    mask = found["mask"]
    confidence, right = found["p"][mask], found["right"][mask].astype(float)
    error, _ = confidence_error(jnp.asarray(confidence), jnp.asarray(right, jnp.float32))
    return TokenCalibration(
        float(error), float(confidence.mean()), float(right.mean()), int(mask.sum())
    )


def _first_choice(
    lab: LanguageLab, params: Params, inputs: LanguageInputs
) -> tuple[jax.Array, jax.Array]:
    """Probability and id of the most likely token at each step, [B, T]."""
    logits = lab.policy.logits(params, inputs)
    largest = jnp.max(logits, axis=-1)
    return jnp.exp(largest - jax.nn.logsumexp(logits, axis=-1)), jnp.argmax(logits, axis=-1)
