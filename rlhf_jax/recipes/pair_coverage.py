"""How well the pairs of a file cover one another, by the words in which their answers differ."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from rlhf_jax.data.audit import Finding
from rlhf_jax.data.audit.findings import once
from rlhf_jax.data.audit.rows import JudgedPair, plain_text
from rlhf_jax.data.ngrams import fit_ngrams, ngram_features
from rlhf_jax.ops.coverage import design_matrix, effective_dimension
from rlhf_jax.ops.elliptical import elliptical_norms
from rlhf_jax.ops.linear_systems import invert

WORDS = 256  # the most frequent ones
FEWEST = 50  # pairs; fewer say nothing


def thin_coverage(kind: str, pairs: Sequence[JudgedPair], *, most: int, seed: int = 0) -> Finding:
    """Pairs that lie where a random half of the others says less than they themselves would.

    ||x||_{A^-1} > 1, x the difference of the answers' word features, A = ridge I + sum x x^T over
    the half of the file without the pair, ridge the mean of |x|^2 / d. A reward fitted to the file
    is hardly known there, and no offline guarantee reaches it (`ops.coverage`). The effective
    dimension is in how many of d directions the file says more than the ridge.

    Args:
      kind: of the file's records.
      most: pairs that are read; of more, so many are drawn.
    """
    if len(pairs) < FEWEST:
        why = f"fewer than {FEWEST} pairs" if pairs else f"{kind} without judgements"
        return Finding("thin coverage", inapplicable=why)
    draws = np.random.Generator(np.random.Philox(seed))
    read = [pairs[i] for i in np.sort(draws.permutation(len(pairs))[:most])]
    sides = [[plain_text(getattr(x.pair, side)) for x in read] for side in ("chosen", "rejected")]
    try:
        vocabulary = fit_ngrams(sides[0] + sides[1], max_features=WORDS, max_n=1)
    except ValueError as error:
        return Finding("thin coverage", inapplicable=str(error))
    x = jnp.asarray(np.subtract(*(ngram_features(vocabulary, side) for side in sides)))
    ridge = float(jnp.mean(x**2))
    if ridge == 0.0:
        return Finding("thin coverage", inapplicable="answers that differ in no frequent word")
    second = draws.permutation(len(read)) % 2 == 1
    norms = np.empty(len(read))
    for half in (second, ~second):
        design = design_matrix(x[~half]) + ridge * jnp.eye(x.shape[1])
        norms[half] = elliptical_norms(x[half], invert(design))
    thin = norms > 1.0
    return Finding(
        "thin coverage",
        int(thin.sum()),
        len(read),
        "pairs",
        places=once(read[i].place for i in np.argsort(-norms, kind="stable") if thin[i]),
        details={
            "words": x.shape[1],
            "effective dimension": float(effective_dimension(design_matrix(x), ridge=ridge)),
        },
    )
