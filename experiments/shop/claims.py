"""What shop claims: a reward model that is right, and methods that beat SFT on the gold score.

Held-out pairs and prompts are the units; everything is trained once.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from experiments.shop.report import Method
from rlhf_jax.ops.statistics import wins
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim


def accuracy_claim(margins: ArrayLike) -> Claim:
    """From [N] score of the chosen answer less that of the other; a tie counts 1/2."""
    found = jnp.asarray(margins)
    hits = np.asarray(wins(found, jnp.zeros_like(found)))
    return mean_claim(
        f"reward model: accuracy on {hits.size} held-out pairs",
        hits,
        ">=",
        0.75,
        kind="ours",
        source="half way from a coin to the teacher's labels",
    )


def win_claims(
    methods: Mapping[str, Method], names: tuple[str, ...], again: ArrayLike
) -> list[Claim]:
    """Win rates against SFT on the gold score; other answers of SFT must not have them.

    Args:
      names: of the methods that claim it.
      again: [N] gold scores of another answer of SFT to each prompt.
    """
    sft = jnp.asarray(methods["SFT"].gold)
    chance = float(wins(jnp.asarray(again), sft).mean())
    return [
        mean_claim(
            f"{name}: win rate against SFT on the gold score, {sft.size} held-out prompts, one "
            "training run",
            np.asarray(wins(jnp.asarray(methods[name].gold), sft)),
            ">=",
            0.6,
            kind="ours",
            source="three wins for two losses",
            baseline=("other answers of SFT", chance),
        )
        for name in names
    ]
