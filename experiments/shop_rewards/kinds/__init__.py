"""Kinds of reward model by name: a function of a part, and the forms of the pairs it is run on.

A new kind is a file here with one function `(job, tools, part) -> Fitted` and an entry of `OTHERS`;
`users` is trained on pairs of its own and is not among them.
"""

from typing import NamedTuple

from experiments.shop_rewards.kinds.curated import fit_curated
from experiments.shop_rewards.kinds.ensembles import fit_separate, fit_shared
from experiments.shop_rewards.kinds.features import fit_features
from experiments.shop_rewards.kinds.heads import fit_scalar
from experiments.shop_rewards.kinds.implicit import fit_implicit
from experiments.shop_rewards.kinds.repaired import fit_repaired
from experiments.shop_rewards.kinds.scoring import FitKind


class Kind(NamedTuple):
    """fit: trains it. forms: of the pairs; fewer for what takes long."""

    fit: FitKind
    forms: tuple[str, ...]


# What policies are trained on, and what is compared with it.
KINDS = {
    "scalar": Kind(fit_scalar, ("clean", "flipped", "spurious")),
    "separate": Kind(fit_separate, ("flipped",)),
    "repaired": Kind(fit_repaired, ("flipped",)),
    "shared": Kind(fit_shared, ("flipped", "spurious")),
    "implicit": Kind(fit_implicit, ("clean", "flipped", "spurious")),
    "curated": Kind(fit_curated, ("spurious",)),
}
# What is compared in scores alone; they come last, so that a finished run takes another one.
OTHERS: dict[str, Kind] = {
    "features": Kind(fit_features, ("clean", "flipped")),
}
