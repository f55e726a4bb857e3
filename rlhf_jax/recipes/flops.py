"""FLOPs that a step needs, from the shapes of its batch: what the metric "speed/mfu" counts.

Padding counts, recomputation does not. 0 where the peak of the device is not known, as of a CPU.
"""

import math

import jax

from rlhf_jax.models.flops import TokenRows, forward_flops, layer_weights
from rlhf_jax.recipes.experts import trajectories
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.training.clock import peak_flops
from rlhf_jax.types import Params, PyTree, Rollout


def fit_flops(lab: LanguageLab, params: Params, batch: PyTree) -> float:
    """A gradient step on the trajectories of a batch: forward and backward."""
    return (1 + _backward(lab, params)) * _forward(lab, batch) if peak_flops() else 0.0


def online_flops(lab: LanguageLab, rollout: Rollout, *, epochs: int) -> float:
    """Answers drawn, read by the reference, and learned from; a reward model and a critic not."""
    return (2 + 3 * epochs) * _forward(lab, rollout) if peak_flops() else 0.0


def _forward(lab: LanguageLab, batch: PyTree) -> float:
    """One pass over the rows of every trajectory."""
    found = 0.0
    for each in trajectories(batch):
        *lead, length = each.inputs.ids.shape
        rows = TokenRows(math.prod(lead), length, each.mask.shape[-1])
        found += forward_flops(lab.model.config, rows)
    return found


def _backward(lab: LanguageLab, params: Params) -> int:
    """Passes: of inputs and weights, or of inputs alone under adapters."""
    trained = sum(x.size for x in jax.tree.leaves(params))
    return 2 if trained > layer_weights(lab.model.config) / 2 else 1
