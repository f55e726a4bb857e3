"""What shop claims: a policy that can read, a reward model that is right, methods that come nearer
to ideal answers and lie no more, and a proxy that can be won at the cost of gold.

Held-out prompts and pairs are the units; everything is trained once.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from experiments.shop.table import Method
from rlhf_jax.envs import shop
from rlhf_jax.labs.shop_models import GATES
from rlhf_jax.ops.statistics import wins
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim

SHARE, LOSS, FALL = 0.2, -0.03, 0.05
MEANING = {
    "listed": "share of recommendations that name listed products only",
    "gold": "gold score",
    "helpful": "helpful",
    "honest": "honest",
}


def gate_claims(
    sft: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray], size: int
) -> list[Claim]:
    """The gates of `labs.shop_models`, which a model without an assistant must miss.

    Args:
      sft, base: `competence` of both models, without what it left out.
      size: held-out prompts of `sft`.
    """
    return [
        mean_claim(
            f"SFT policy: {MEANING[name]} on {size} held-out prompts",
            sft[name],
            ">=",
            gate,
            kind="ours",
            source="the gate: a policy that cannot read its prompt proves nothing",
            baseline=("the base model, which saw no assistant", float(base[name].mean())),
        )
        for name, gate in GATES.items()
    ]


def accuracy_claim(margins: ArrayLike, head: ArrayLike) -> Claim:
    """From [N] score of the chosen answer less that of the other; a tie counts 1/2.

    Args:
      head: [N] the same of the scalar head.
    """
    return mean_claim(
        f"reward model: accuracy on {np.size(margins)} held-out pairs",
        _hits(margins),
        ">=",
        0.75,
        kind="ours",
        source="half way from a coin to the teacher's labels",
        baseline=("a scalar head on the same pairs", float(_hits(head).mean())),
    )


def way_claims(
    methods: Mapping[str, Method], names: tuple[str, ...], again: ArrayLike, ideal: ArrayLike
) -> list[Claim]:
    """How much of the way from SFT to ideal answers each method goes; SFT drawn again must not.

    Args:
      names: of the methods that claim it.
      again, ideal: gold scores of another answer of SFT and of the ideal answer to each prompt, or
        to the first of them.
    """
    sft, again, ideal = methods["SFT"].gold, np.asarray(again), np.asarray(ideal)
    chance = share_of_way(again, sft[: again.size], ideal[: again.size])
    sizes = {name: methods[name].gold.size for name in names}
    return [
        bootstrap_claim(
            f"{name}: share of the way from SFT to ideal answers on the gold score, "
            f"{sizes[name]} held-out prompts, one training run",
            share_of_way,
            [methods[name].gold, sft[: sizes[name]], ideal[: sizes[name]]],
            ">=",
            SHARE,
            kind="ours",
            source="a fifth of what there is to win",
            baseline=("other answers of SFT", chance),
        )
        for name in names
    ]


def axis_claims(
    methods: Mapping[str, Method], names: tuple[str, ...], weak: Mapping[str, tuple[str, ArrayLike]]
) -> list[Claim]:
    """No method wins by being less helpful or less honest than SFT.

    Args:
      weak: axis -> (who, [N] its scores there), answers that must fail the claim of that axis.
    """
    found = []
    for axis, (who, scores) in weak.items():
        column = shop.AXES.index(axis)
        sft = methods["SFT"].axes[:, column]
        for name in names:
            own = methods[name].axes[:, column]
            found.append(
                mean_claim(
                    f"{name}: {axis} less that of SFT, {len(own)} held-out prompts, one training "
                    "run",
                    own - sft[: len(own)],
                    ">=",
                    LOSS,
                    kind="ours",
                    source="gold must not be won by saying less, or by lying",
                    baseline=(who, float(np.mean(np.asarray(scores) - sft))),
                )
            )
    return found


def greedy_claims(
    methods: Mapping[str, Method], names: tuple[str, ...], cooler: Method
) -> list[Claim]:
    """What is learned is more than what a lower temperature gives SFT without training.

    Args:
      names: of the methods that have a policy.
      cooler: SFT at a lower temperature, which must fail: its greedy answers are SFT's own.
    """
    sft = methods["SFT"].greedy
    return [
        mean_claim(
            f"{name}: gold of greedy answers less that of SFT's, {len(sft)} held-out prompts, one "
            "training run",
            methods[name].greedy - sft,
            ">",
            0.0,
            kind="ours",
            source="sampled answers also gain by a sharper policy, greedy ones only by a better",
            baseline=("SFT at a lower temperature", float((cooler.greedy - sft).mean())),
        )
        for name in names
    ]


def fall_claim(free: np.ndarray, penalised: np.ndarray) -> Claim:
    """Gold of PPO without a KL penalty falls from its peak; with the penalty it must not.

    Args:
      free, penalised: [points, N] gold of the same prompts along both trainings, SFT first.
    """
    return mean_claim(
        "PPO without a KL penalty on the reward that DPO implies: fall of gold from its peak to "
        f"the end, {free.shape[1]} held-out prompts, one training run",
        falls(free),
        ">=",
        FALL,
        kind="paper",
        source="Gao et al. 2022, Figure 1: gold peaks and falls while the proxy rises",
        baseline=("PPO with the penalty, on the reward model", float(falls(penalised).mean())),
    )


def share_of_way(gold: np.ndarray, sft: np.ndarray, ideal: np.ndarray) -> float:
    """(mean gold - mean SFT) / (mean ideal - mean SFT)."""
    return float((gold.mean() - sft.mean()) / (ideal.mean() - sft.mean()))


def falls(path: np.ndarray) -> np.ndarray:
    """How far gold is at the end below its peak, [N] for [points, N].

    The peak is where the other half of the prompts has it: a maximum over points of the same
    prompts would be a fall by chance alone.
    """
    even = np.arange(path.shape[1]) % 2 == 0
    peaks = [path[:, half].mean(1).argmax() for half in (~even, even)]
    at = np.where(even, *peaks)
    return path[at, np.arange(path.shape[1])] - path[-1]


def _hits(margins: ArrayLike) -> np.ndarray:
    found = jnp.asarray(margins, jnp.float32)
    return np.asarray(wins(found, jnp.zeros_like(found)))
