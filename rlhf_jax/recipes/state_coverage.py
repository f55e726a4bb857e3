"""What pairs of text cover of a language model's answers, by its last hidden states.

    pairs = pair_vectors(lab, ref_params, records, batch_size=16)
    answers = {
        name: answer_vectors(lab, ref_params, drawn, batch_size=16)    # by one model
        for name, drawn in {"policy": of_policy, "reference": of_reference}.items()
    }
    found = state_coverage(pairs, answers, origin=answers["reference"].mean(0))

Pairs know a reward up to a constant, so answers count by their distance to an origin, as in
`ops.coverage.lower_rewards`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rlhf_jax.ops.coverage import design_matrix, effective_dimension, relative_condition, spectrum
from rlhf_jax.ops.elliptical import elliptical_norms
from rlhf_jax.ops.linear_systems import invert


class StateCoverage(NamedTuple):
    """spectrum: [d] of the design of N pairs, over N. dimension: directions that they know of.

    conditions: by policy, how much more its answers vary than the N pairs do, at worst.
    norms: by policy, the mean of ||x||_{A^-1}, which a confidence set's radius multiplies.
    """

    spectrum: np.ndarray
    dimension: float
    conditions: dict[str, float]
    norms: dict[str, float]


def state_coverage(
    pairs: np.ndarray, answers: Mapping[str, np.ndarray], *, origin: np.ndarray
) -> StateCoverage:
    """Spectrum of the pairs' differences, and how they cover the answers of each policy.

    A = sum x x^T + ridge I, the ridge the mean of |x|^2 / d over pairs, as in `pair_coverage`.

    Args:
      pairs: [N, 2, d] of `pair_vectors`.
      answers: policy -> [M, d] of `answer_vectors`.
      origin: [d], e.g. the mean of the reference's answers.
    Raises:
      ValueError: the two sides of all pairs have one vector.
    """
    x = jnp.asarray(pairs[:, 0] - pairs[:, 1])
    ridge = float(jnp.mean(x**2))
    if ridge == 0.0:
        raise ValueError("the two answers of all pairs have the same vector: they cover nothing")
    design = design_matrix(x)
    inverse = invert(design + ridge * jnp.eye(x.shape[-1]))
    moved = {name: jnp.asarray(each - origin) for name, each in answers.items()}
    return StateCoverage(
        np.asarray(spectrum(design)) / len(x),
        float(effective_dimension(design, ridge=ridge)),
        {
            name: float(len(x) * relative_condition(design_matrix(y) / len(y), design, ridge=ridge))
            for name, y in moved.items()
        },
        {name: float(elliptical_norms(y, inverse).mean()) for name, y in moved.items()},
    )
