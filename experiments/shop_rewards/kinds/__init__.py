"""Kinds of reward model by name: a function of a part, and the forms of the pairs it is run on.

A new kind is a file here with one function `(job, tools, part) -> Fitted` and an entry of `KINDS`;
`users` is trained on pairs of its own and is not among them.
"""

from typing import NamedTuple

from experiments.shop_rewards.kinds.corrections import fit_corrections
from experiments.shop_rewards.kinds.curated import fit_curated
from experiments.shop_rewards.kinds.ensembles import fit_separate, fit_shared
from experiments.shop_rewards.kinds.features import fit_features
from experiments.shop_rewards.kinds.heads import fit_scalar
from experiments.shop_rewards.kinds.implicit import fit_implicit
from experiments.shop_rewards.kinds.judge import fit_judge
from experiments.shop_rewards.kinds.pairwise import fit_pairwise
from experiments.shop_rewards.kinds.principles import fit_principles
from experiments.shop_rewards.kinds.repaired import fit_repaired
from experiments.shop_rewards.kinds.scoring import FitKind
from experiments.shop_rewards.kinds.spans import fit_spans


class Kind(NamedTuple):
    """fit: trains it. forms: of the pairs; fewer for what takes long."""

    fit: FitKind
    forms: tuple[str, ...]


# In the order in which they run, within a form.
KINDS = {
    "scalar": Kind(fit_scalar, ("clean", "flipped", "spurious")),
    "features": Kind(fit_features, ("clean", "flipped")),
    "separate": Kind(fit_separate, ("flipped",)),
    "shared": Kind(fit_shared, ("flipped",)),
    "corrections": Kind(fit_corrections, ("flipped",)),
    "spans": Kind(fit_spans, ("flipped",)),
    "principles": Kind(fit_principles, ("flipped",)),
    "pairwise": Kind(fit_pairwise, ("flipped",)),
    "judge": Kind(fit_judge, ("flipped",)),
    "implicit": Kind(fit_implicit, ("flipped",)),
    "repaired": Kind(fit_repaired, ("flipped",)),
    "curated": Kind(fit_curated, ("spurious",)),
}
