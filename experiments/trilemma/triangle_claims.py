"""What is claimed of four systems at one number of labels; errors are of the worst-off group."""

from collections.abc import Mapping

import numpy as np

from experiments.trilemma.config import Config
from experiments.trilemma.world import SYSTEMS
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

Arrays = Mapping[str, np.ndarray]
SPEC = "acceptance of this design, from a NumPy run of it"


def triangle(config: Config, arrays: Arrays, system: str) -> np.ndarray:
    """Errors [bits, mix, attack, N] of a system."""
    return arrays["errors"][..., SYSTEMS.index(system)]


def triangle_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """Each system lacks one corner; no attack. Errors are [bits, kind of values, N]."""
    errors = {name: triangle(config, arrays, name)[:, :, 0] for name in SYSTEMS}
    return [
        pooled_claim(config, errors),
        *table_claims(config, errors),
        *linear_claims(config, errors),
        corner_claim(config, errors),
    ]


def about_triangle(config: Config) -> tuple[str, str, dict[str, str]]:
    """Its bits in words, those of 8 and more, and the source of its thresholds."""
    bits = config.triangle_bits
    every, large = (", ".join(map(str, x)) for x in (bits, [d for d in bits if d >= 8]))
    return every, large, {"kind": "ours", "source": f"{SPEC}, 4,000 labels"}


def pooled_claim(config: Config, errors: Arrays) -> Claim:
    """Not representative: nobody knows whose label it is."""
    every, _, about = about_triangle(config)
    pooled = np.concatenate([cases(errors[name]) for name in ("pooled linear", "pooled table")])
    return mean_claim(
        f"{config.labels} labels, without group ids, linear and table, both kinds of values, d in "
        f"{every}: error of the worst-off group where it is least",
        lowest(pooled),
        ">=",
        0.3,
        baseline=("group linear on linear values", highest(errors["group linear"][:, 0]).mean()),
        **about,
    )


def table_claims(config: Config, errors: Arrays) -> list[Claim]:
    """Not tractable: a table for each group is right at few bits and wrong at more."""
    _, large, about = about_triangle(config)
    table, few = errors["group table"], config.triangle_bits[0]
    many = table[np.array(config.triangle_bits) >= 8]
    return [
        mean_claim(
            f"{config.labels} labels, group table, d = {few}, both kinds of values: error of the "
            "worst-off group where it is greatest",
            highest(table[0]),
            "<=",
            0.06,
            baseline=("pooled table", errors["pooled table"][0].mean()),
            **about,
        ),
        mean_claim(
            f"{config.labels} labels, group table, d in {large}, both kinds of values: error of "
            "the worst-off group where it is least",
            lowest(cases(many)),
            ">=",
            0.25,
            baseline=(f"d = {few}", table[0].mean()),
            **about,
        ),
    ]


def linear_claims(config: Config, errors: Arrays) -> list[Claim]:
    """Both, if values are what the features say, and neither if they are not."""
    every, _, about = about_triangle(config)
    known, unknown = (errors["group linear"][:, i] for i in (0, 1))
    known, unknown = highest(known), lowest(unknown)
    return [
        mean_claim(
            f"{config.labels} labels, group linear, linear values, d in {every}: error of the "
            "worst-off group where it is greatest",
            known,
            "<=",
            0.06,
            baseline=("values without structure", unknown.mean()),
            **about,
        ),
        mean_claim(
            f"{config.labels} labels, group linear, values without structure, d in {every}: error "
            "of the worst-off group where it is least",
            unknown,
            ">=",
            0.35,
            baseline=("linear values", known.mean()),
            **about,
        ),
    ]


def corner_claim(config: Config, errors: Arrays) -> Claim:
    """Without structure nobody is right at many bits."""
    _, large, about = about_triangle(config)
    many = np.array(config.triangle_bits) >= 8
    return mean_claim(
        f"{config.labels} labels, all four systems, values without structure, d in {large}: error "
        "of the worst-off group where it is least",
        lowest(np.concatenate([x[many, 1] for x in errors.values()])),
        ">",
        0.1,
        baseline=(
            f"group table, d = {config.triangle_bits[0]}",
            errors["group table"][0, 1].mean(),
        ),
        **about,
    )


def cases(errors: np.ndarray) -> np.ndarray:
    """[bits, kind, N] as cases [C, N]."""
    return errors.reshape(-1, errors.shape[-1])


def lowest(errors: np.ndarray) -> np.ndarray:
    """Of cases [C, N] the one with the lowest mean."""
    return errors[errors.mean(1).argmin()]


def highest(errors: np.ndarray) -> np.ndarray:
    """Of cases [C, N] the one with the highest mean."""
    return errors[errors.mean(1).argmax()]
