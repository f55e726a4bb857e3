"""Vectors of answers: the last hidden state of a language model that has read prompt and answer."""

from collections.abc import Sequence
from functools import cache

import jax
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.policies.language import language_embedding
from rlhf_jax.recipes.buckets import by_length
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.rows import Records, answer_batch, halves, in_chunks, pair_batch
from rlhf_jax.types import Params, Trajectory

embedding_of = cache(language_embedding)  # one function of a model, so that it compiles once
_embed = jax.jit(lambda embed, params, trajectory: embed(params, trajectory), static_argnums=0)


def vectors_of(lab: LanguageLab, params: Params, trajectory: Trajectory) -> Float[Array, "*B d"]:
    """The vector of each answer, by the lab's policy."""
    return _embed(embedding_of(lab.model), params, trajectory)


def answer_vectors(
    lab: LanguageLab, params: Params, records: Sequence[dict], *, batch_size: int
) -> np.ndarray:
    """[N, d] of records of a prompt and an answer."""

    def chunk(rows: list[dict]) -> Array:
        return vectors_of(lab, params, answer_batch(lab, rows))

    return in_chunks(chunk, records, size=batch_size)


def pair_vectors(
    lab: LanguageLab, params: Params, records: Records, *, batch_size: int
) -> np.ndarray:
    """[N, 2, d] of the chosen and of the rejected answer."""

    def work(narrow: LanguageLab, part: Sequence[dict]) -> np.ndarray:
        def chunk(rows: list[dict]) -> Array:
            return vectors_of(narrow, params, halves(pair_batch(narrow, rows)))

        return in_chunks(chunk, part, size=batch_size)

    return by_length(work, lab, records, batch_size=batch_size)
