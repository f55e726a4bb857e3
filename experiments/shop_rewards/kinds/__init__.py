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
    """fit: trains it. forms: of the pairs. once: more of them, with the first seed alone, of what
    takes long."""

    fit: FitKind
    forms: tuple[str, ...]
    once: tuple[str, ...] = ()


ALL, FLIPPED, SPURIOUS = ("clean", "flipped", "spurious"), ("flipped",), ("spurious",)
OTHERS = ("clean", "spurious")

# In the order in which they run, within a form.
KINDS = {
    "scalar": Kind(fit_scalar, ALL),
    "features": Kind(fit_features, ALL),
    "separate": Kind(fit_separate, FLIPPED),
    "shared": Kind(fit_shared, FLIPPED, OTHERS),
    "corrections": Kind(fit_corrections, FLIPPED, SPURIOUS),
    "spans": Kind(fit_spans, FLIPPED, OTHERS),
    "principles": Kind(fit_principles, FLIPPED, SPURIOUS),
    "pairwise": Kind(fit_pairwise, FLIPPED),
    "judge": Kind(fit_judge, FLIPPED),
    "implicit": Kind(fit_implicit, FLIPPED, SPURIOUS),
    "repaired": Kind(fit_repaired, FLIPPED),
    "curated": Kind(fit_curated, SPURIOUS),
}
