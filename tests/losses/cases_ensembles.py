"""Combinations of an ensemble's scores as the shared test sees them, members last in its inputs."""

from functools import partial

import jax.numpy as jnp
from loss_cases import Case, Sweep, real

from rlhf_jax.ops.ensembles import (
    mean_scores,
    member_variances,
    uncertainty_penalised_scores,
    worst_case_scores,
)


def of_members(combine, scores, **options):
    """`combine` of scores [*B, N]."""
    return combine(jnp.moveaxis(scores, -1, 0), **options)


MEMBERS = (real(3),)
penalised = partial(of_members, uncertainty_penalised_scores)

CASES = {
    "mean_scores": Case(partial(of_members, mean_scores), MEMBERS, (0,)),
    "worst_case_scores": Case(partial(of_members, worst_case_scores), MEMBERS, (0,)),
    "uncertainty_penalised_scores": Case(partial(penalised, penalty=0.5), MEMBERS, (0,)),
    "member_variances": Case(partial(of_members, member_variances), MEMBERS, (0,)),
}
SWEPT = {"uncertainty_penalised_scores": Sweep(penalised, "penalty", MEMBERS, (0.0, 0.5, 2.0))}
