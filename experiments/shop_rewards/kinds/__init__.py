"""Kinds of reward model by name: a function of a part, and the forms of the pairs it is run on.

A new kind is a file here with one function `(job, tools, part) -> Fitted` and an entry of `WAVES`;
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


# In the order in which they run: after each wave policies are trained on its rewards.
WAVES = (
    {
        "scalar": Kind(fit_scalar, ("clean", "flipped", "spurious")),
        "separate": Kind(fit_separate, ("flipped",)),
        "shared": Kind(fit_shared, ("flipped", "spurious")),
        "curated": Kind(fit_curated, ("spurious",)),
        "features": Kind(fit_features, ("clean", "flipped")),
    },
    {
        "implicit": Kind(fit_implicit, ("flipped", "spurious")),
        "repaired": Kind(fit_repaired, ("flipped",)),
    },
)
KINDS = {name: kind for wave in WAVES for name, kind in wave.items()}
