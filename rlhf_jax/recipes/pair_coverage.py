"""What the pairs of a file cover, by the words in which their answers differ or by last states.

found = pair_features("pairs", pairs, most=10_000)
findings = thin_coverage(found), vacuous_guarantee(found)
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.data.audit import Finding
from rlhf_jax.data.audit.findings import once
from rlhf_jax.data.audit.rows import JudgedPair, plain_text
from rlhf_jax.data.ngrams import fit_ngrams, ngram_features
from rlhf_jax.losses.links import logistic
from rlhf_jax.ops.coverage import (
    design_matrix,
    effective_dimension,
    logistic_radius,
    offline_guarantee,
)
from rlhf_jax.ops.elliptical import elliptical_norms
from rlhf_jax.ops.linear_systems import invert
from rlhf_jax.ops.newton import newton_minimum
from rlhf_jax.training import UserError

WORDS = 256  # the most frequent ones
FEWEST = 50  # pairs; fewer say nothing
PairStates = Callable[[Sequence[JudgedPair]], np.ndarray]  # [N, 2, d] of chosen and rejected


class PairFeatures(NamedTuple):
    """places: of N pairs. sides: [N, 2, d] of the chosen and of the rejected answer. ridge: the
    mean of |x|^2 / d over pairs, x the difference of the sides. inapplicable: why there are none.
    """

    places: tuple[str, ...] = ()
    sides: np.ndarray = np.zeros((0, 2, 0))
    ridge: float = 0.0
    inapplicable: str = ""

    def differences(self) -> jax.Array:
        """[N, d] x."""
        return jnp.asarray(self.sides[:, 0] - self.sides[:, 1])


def pair_features(
    kind: str,
    pairs: Sequence[JudgedPair],
    *,
    most: int,
    states: PairStates | None = None,
    seed: int = 0,
) -> PairFeatures:
    """Features of the answers of pairs: their WORDS most frequent words, or last hidden states.

    Args:
      kind: of the file's records.
      most: pairs that are read; of more, so many are drawn.
      states: of a language model, in place of words.
    """
    if len(pairs) < FEWEST:
        why = f"fewer than {FEWEST} pairs" if pairs else f"{kind} without judgements"
        return PairFeatures(inapplicable=why)
    draws = np.random.Generator(np.random.Philox(seed))
    read = [pairs[i] for i in np.sort(draws.permutation(len(pairs))[:most])]
    try:
        sides = _word_features(read) if states is None else states(read)
    except (ValueError, UserError) as error:  # texts without words, or that the model cannot read
        return PairFeatures(inapplicable=str(error))
    ridge = float(np.mean((sides[:, 0] - sides[:, 1]) ** 2))
    if ridge == 0.0:
        what = "frequent word" if states is None else "state"
        return PairFeatures(inapplicable=f"answers that differ in no {what}")
    return PairFeatures(tuple(pair.place for pair in read), sides, ridge)


def _word_features(pairs: Sequence[JudgedPair]) -> np.ndarray:
    sides = [[plain_text(getattr(x.pair, side)) for x in pairs] for side in ("chosen", "rejected")]
    vocabulary = fit_ngrams(sides[0] + sides[1], max_features=WORDS, max_n=1)
    return np.stack([ngram_features(vocabulary, side) for side in sides], axis=1)


def thin_coverage(found: PairFeatures, *, seed: int = 0) -> Finding:
    """Pairs that lie where a random half of the others says less than they themselves would.

    ||x||_{A^-1} > 1, x the difference of the answers' features, A = ridge I + sum x x^T over the
    half of the pairs without this one. A reward fitted to the file is hardly known there, and no
    offline guarantee reaches it (`ops.coverage`). The effective dimension is in how many of d
    directions the file says more than the ridge.
    """
    if found.inapplicable:
        return Finding("thin coverage", inapplicable=found.inapplicable)
    x, ridge = found.differences(), found.ridge
    second = np.random.Generator(np.random.Philox([seed, 1])).permutation(len(x)) % 2 == 1
    norms = np.empty(len(x))
    for half in (second, ~second):
        design = design_matrix(x[~half]) + ridge * jnp.eye(x.shape[1])
        norms[half] = elliptical_norms(x[half], invert(design))
    thin = norms > 1.0
    return Finding(
        "thin coverage",
        int(thin.sum()),
        len(x),
        "pairs",
        places=once(found.places[i] for i in np.argsort(-norms, kind="stable") if thin[i]),
        details={
            "features": x.shape[1],
            "effective dimension": float(effective_dimension(design_matrix(x), ridge=ridge)),
        },
    )


def vacuous_guarantee(found: PairFeatures) -> Finding:
    """Pairs for which an offline guarantee says nothing: its bound is no less than rewards span.

    2 c ||x||_{V^-1} >= max r - min r: what `ops.coverage.offline_guarantee` promises, on this
    prompt, against a policy that gives the chosen answer. r is the linear reward that
    Bradley-Terry fits to all pairs with this ridge.

    The largest margin is taken to be that of the fit, and the true weights to be short, which is
    the most that such a promise can rest on: what is vacuous so is vacuous.
    """
    if found.inapplicable:
        return Finding("vacuous guarantee", inapplicable=found.inapplicable)
    x, ridge = found.differences(), found.ridge

    def objective(w: jax.Array) -> jax.Array:
        return logistic(x @ w).sum() + ridge * w @ w / 2

    weights = newton_minimum(objective, jnp.zeros(x.shape[1], x.dtype)).params
    rewards = jnp.asarray(found.sides, x.dtype) @ weights
    span, margin = float(jnp.ptp(rewards)), jnp.abs(x @ weights).max()
    if span == 0.0:
        return Finding("vacuous guarantee", inapplicable="pairs that no linear reward explains")
    slope = jax.nn.sigmoid(margin) * jax.nn.sigmoid(-margin)
    design = design_matrix(x)
    radius = logistic_radius(design, ridge=ridge, slope=slope, bound=0.0)
    inverse = invert(design + ridge / slope * jnp.eye(x.shape[1]))
    promised = offline_guarantee(elliptical_norms(x, inverse), radius=radius, reward_range=span)
    mean = float(promised.bound.mean())
    word = "vacuous" if mean >= span else "not vacuous"
    return Finding(
        "vacuous guarantee",
        int(promised.vacuous.sum()),
        len(x),
        "pairs",
        details={"mean bound": mean, "range of rewards": span},
        examples=(
            f"A guarantee for an offline method on these pairs is {word}: it bounds the loss by "
            f"{mean:.3g}, and fitted rewards span {span:.3g}.",
        ),
    )
