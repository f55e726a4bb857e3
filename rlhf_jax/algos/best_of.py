"""Fine-tuning on the best of K answers, for any sampler, score and policy (RAFT).

    best = best_answers(scores)                          # scores [B, K] of the answers [B, K]
    batch = selected_answers(rollout.trajectory, best)   # [B]
    state, metrics = sft.make_update(policy, optimizer)(state, batch)

Answers may come from another model, since no log-prob of the sampler is read. Local ranking is
`best_answers`, global ranking `top_answers` with `top_rows`, the penalised one `kl_ranking_scores`.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from rlhf_jax.ops.selection import Best, Top
from rlhf_jax.types import PyTree, Trajectory


def selected_answers(answers: Trajectory, best: Best) -> Trajectory:
    """The answer of each prompt that was selected, [*B] of [*B, K]; without any, no step counts."""
    return _counted(best_rows(answers, best), best)


def top_rows(answers: Trajectory, top: Top) -> Trajectory:
    """The answers of a batch that were selected, [M] of [B]; no step counts beyond those kept."""
    return _counted(jax.tree.map(lambda x: jnp.asarray(x)[top.index], answers), top)


def best_rows(tree: PyTree, best: Best) -> PyTree:
    """Of every array [*B, K, ...] the entry of the selected answer, [*B, ...]."""
    axes = best.index.ndim

    def row(x: jax.Array) -> jax.Array:
        x = jnp.asarray(x)
        index = best.index.reshape(*best.index.shape, *(1,) * (x.ndim - axes))
        return jnp.squeeze(jnp.take_along_axis(x, index, axis=axes), axes)

    return jax.tree.map(row, tree)


def _counted(answers: Trajectory, chosen: Best | Top) -> Trajectory:
    """The same, counting only what is kept; what may be attended to stays."""
    valid = answers.mask if answers.valid is None else answers.valid
    return replace(answers, mask=answers.mask & chosen.keep[..., None], valid=valid)
