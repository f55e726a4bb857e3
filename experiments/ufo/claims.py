"""What ufo claims, from the evaluations of its trainings; seeds are the units."""

from collections.abc import Mapping

import numpy as np

from experiments.ufo.config import Config
from experiments.ufo.shop import POLICIES
from rlhf_jax.reports.claims import Claim, behind_gates
from rlhf_jax.reports.intervals import mean_claim

Arrays = Mapping[str, np.ndarray]
ABSTRACT = {"kind": "paper", "source": "abstract and Fig. 1; threshold of this design"}


def solved(stages: Mapping[str, Arrays], name: str) -> np.ndarray:
    """[N] Succ@T."""
    return stages[name]["succ"][:, -1]


def leads(stages: Mapping[str, Arrays], name: str) -> np.ndarray:
    """[N] Succ@T above single-turn training's, and above Pass@T before training."""
    single, before = solved(stages, "single turn"), stages["before"]["pass"][:, -1]
    return solved(stages, name) - np.maximum(single, before)


def all_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """In the order of the page."""
    return [
        *repetition_claims(config, stages),
        *success_claims(config, stages),
        *term_claims(config, stages),
    ]


def repetition_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """Different answers after a wrong one."""
    unique = {name: stages[name]["unique"] for name in stages}
    shown = f"{config.turns} tries, first one wrong: unique answers"
    return [
        mean_claim(
            f"{shown} before training minus those of single-turn training",
            unique["before"] - unique["single turn"],
            ">",
            0.3,
            baseline=("feedback hidden", (unique["before"] - unique["feedback hidden"]).mean()),
            **ABSTRACT,
        ),
        mean_claim(
            f"{shown} of UFO on {config.turns} turns",
            unique["UFO"],
            ">",
            0.95,
            baseline=("single turn", unique["single turn"].mean()),
            **ABSTRACT,
        ),
    ]


def success_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """Succ@T against single-turn training and sampling, and longer training."""
    tries, lead, hidden = config.turns, leads(stages, "UFO"), leads(stages, "feedback hidden")
    above = (
        f"UFO on {tries} turns: Succ@{tries} above single-turn training's, and above Pass@{tries} "
        "before training"
    )
    longer = {
        name: solved(stages, name) - solved(stages, "UFO, long")
        for name in ("UFO", "feedback hidden")
    }
    return [
        mean_claim(
            above, lead, ">=", 0.15, baseline=("feedback hidden", hidden.mean()), **ABSTRACT
        ),
        Claim(
            f"{above}: share of {len(lead)} seeds in which by 0.15",
            np.mean(lead >= 0.15),
            ">=",
            1.0,
            kind="ours",
            source="all seeds of a NumPy run of this design",
            baseline=("feedback hidden", np.mean(hidden >= 0.15)),
        ),
        mean_claim(
            f"Succ@{tries} of UFO on {tries} turns minus that of UFO on {config.long_turns}",
            longer["UFO"],
            ">=",
            0.0,
            kind="paper",
            source="training on 10 turns gives no further gain",
            baseline=("feedback hidden", longer["feedback hidden"].mean()),
        ),
    ]


def term_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """Decay saves tries at little cost, and the repetition term takes the cost back."""
    turns = {name: stages[name]["turns"] for name in stages}
    success = {name: solved(stages, name) for name in stages}
    about, tries = f"UFO on {config.turns} turns, decay {config.decay:g}", config.turns
    both = success["decay and repetition"] - success["decay"]
    return [
        mean_claim(
            f"{about}: tries minus those without decay",
            turns["decay"] - turns["UFO"],
            "<",
            0.0,
            kind="paper",
            source="reward decay: about 10% fewer actions",
            baseline=("UFO, long", (turns["UFO, long"] - turns["UFO"]).mean()),
        ),
        mean_claim(
            f"{about}: Succ@{tries} lost by it",
            success["UFO"] - success["decay"],
            "<=",
            0.03,
            kind="ours",
            source="acceptance of this design",
            baseline=("UFO, long", (success["UFO"] - success["UFO, long"]).mean()),
        ),
        mean_claim(
            f"{about}: Succ@{tries} gained by repetition {config.repetition:g}",
            both,
            ">",
            0.0,
            kind="paper",
            source="the repetition penalty keeps answers different",
            baseline=("UFO, long", (success["UFO, long"] - success["decay"]).mean()),
        ),
    ]


def shop_claims(config: Config, shop: Mapping[str, np.ndarray]) -> list[Claim]:
    """The language panel, from the arrays of `shop.shop_study`; seeds are the units."""
    sizes = config.shop
    size = f"look-ups by the shop's base model, {sizes.rl_steps} steps of GRPO, {sizes.seeds} seeds"
    before, single, ufo = np.moveaxis(shop["succ"], 1, 0)
    unique = dict(zip(POLICIES, shop["unique"].T, strict=True))
    gates = [
        mean_claim(
            f"Shop: Succ@1 of single-turn training minus before, {size}",
            single[:, 0] - before[:, 0],
            ">",
            0.05,
            kind="ours",
            source="a gate: a rival that learned nothing is no rival",
            baseline=("before, drawn again", float((shop["again"] - before[:, 0]).mean())),
        ),
    ]
    claims = [
        mean_claim(
            f"Shop: unique answers of UFO minus those of single-turn training, {size}",
            unique["UFO"] - unique["single turn"],
            ">",
            0.0,
            kind="paper",
            source="single-turn training repeats its answers",
            baseline=(
                "single turn minus before",
                float((unique["single turn"] - unique["before"]).mean()),
            ),
        ),
        mean_claim(
            f"Shop: Succ@{sizes.turns} of UFO minus that of single-turn training, {size}",
            ufo[:, -1] - single[:, -1],
            ">",
            0.0,
            kind="paper",
            source="multi-turn training solves more within its tries",
            baseline=("before minus single turn", float((before - single)[:, -1].mean())),
        ),
    ]
    return behind_gates(gates, claims)
