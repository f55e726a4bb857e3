"""A reward model that reads an answer beside a reference answer: how much better is it?

    params = on_trunk(lab, sft, stage_key(lab, "gap"))
    params = gap_model(stage, lab, pair_rows(lab, pairs, batch_size=16), params, fit)
    shift = gap_zero(pair_gap_table(lab, params, pairs, batch_size=16))
    gaps = gap_scores(lab, params, records, batch_size=16) - shift     # of "reference" and "answer"

A row is the prompt, the reference, a separator and the answer: P + 2 T + 1 tokens.
"""

from collections.abc import Sequence
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.algos import gap_model as gap_update
from rlhf_jax.algos.correction_model import Rewrite
from rlhf_jax.algos.gap_model import pair_gaps
from rlhf_jax.losses.gaps import GAP_TERMS, gap_shift
from rlhf_jax.recipes.corrections import rewriting_of
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.offline import Fit, built, fit_rows, step_options
from rlhf_jax.recipes.rows import Records, Rows, in_chunks, pair_batch, side_batch
from rlhf_jax.training import Stage
from rlhf_jax.types import Params, PreferenceBatch, RewardFn, Trajectory


def gap_model(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    terms: Sequence[tuple[str, str]] = GAP_TERMS,
) -> Params:
    """The gap of an answer over a reference from pairs; params from `on_trunk`.

    Args:
      terms: the comparisons of `gap_loss`.
    """
    options = {"terms": tuple(map(tuple, terms))} | step_options(lab, fit, "reward")
    make, rewrite = gap_update.make_update, rewriting_of(lab)
    update = built(make, lab.reward, rewrite, fit.optimizer, **options)
    return fit_rows(stage, lab, update, rows, params, fit, part="reward")


def pair_gap_table(
    lab: LanguageLab, params: Params, pairs: Records, *, batch_size: int
) -> Float[np.ndarray, "N 2 2"]:
    """The gaps of both answers of each pair over both, as `losses.gaps` reads them."""
    gaps, _ = _compiled(lab.reward, rewriting_of(lab))

    def chunk(part: list[dict]) -> Array:
        return gaps(params, pair_batch(lab, part))

    return in_chunks(chunk, pairs, size=batch_size)


def gap_zero(gaps: Float[np.ndarray, "N 2 2"]) -> float:
    """What an answer that is its reference is worth on average: a reward subtracts it."""
    return float(gap_shift(jnp.asarray(gaps)).mean())


def gap_scores(
    lab: LanguageLab, params: Params, records: Records, *, batch_size: int
) -> Float[np.ndarray, " N"]:
    """The gap of the field "answer" of each record over its field "reference"."""
    _, gap = _compiled(lab.reward, rewriting_of(lab))

    def chunk(part: list[dict]) -> Array:
        both = side_batch(lab, part, ("reference", "answer"))
        return gap(params, both["reference"], both["answer"])

    return in_chunks(chunk, records, size=batch_size)


@cache
def _compiled(reward: RewardFn, rewrite: Rewrite):
    """`(params, pairs) -> [B, 2, 2]` and `(params, reference, answer) -> [B]`."""

    def gaps(params: Params, pairs: PreferenceBatch) -> Array:
        return pair_gaps(reward, rewrite, params, pairs)

    def gap(params: Params, reference: Trajectory, answer: Trajectory) -> Array:
        return reward.scores(params, rewrite(reference, answer))

    return jax.jit(gaps), jax.jit(gap)
