"""All that a run has measured, and which rewards are good enough to be compared."""

from typing import NamedTuple

import numpy as np

from experiments.shop_rewards.curve import Curve
from experiments.shop_rewards.measure import Numbers
from experiments.shop_rewards.policies import Path

GATE = 0.6  # accuracy on held-out pairs with clean labels
WRONG, UNNORMALISED = "wrong features", "corrections, unnormalised"
CONTROLS = (WRONG, UNNORMALISED)  # what is expected to fail, and has no gate
SINGLE, OTHER = "scalar", "another scalar"


class Findings(NamedTuple):
    """All that is measured; a kind that was left out is missing.

    numbers: (form, reading) -> S. errors: "separate" and "shared" -> S correlations of two members'
    errors, and "halves": of the first members less that of the last, trunks of their own.
    policies: reading -> S paths. users: S of model -> group -> accuracy.
    seconds: reading -> of all its trainings on each part. density: S of arm -> [steps] mean return.
    curves: S of accuracy against the number of pairs.
    """

    numbers: dict[tuple[str, str], list[Numbers]]
    errors: dict[str, list[float]]
    policies: dict[str, list[Path]]
    users: list[dict[str, dict[str, float]]]
    seconds: dict[str, list[float]]
    density: list[dict[str, np.ndarray]]
    curves: list[Curve]

    def each(self, form: str, reading: str, name: str) -> np.ndarray:
        """[S] or [S, M] one of the numbers."""
        return np.array([getattr(one, name) for one in self.numbers[form, reading]])


def gate_form(found: Findings, reading: str) -> str:
    """The form in which a reading is compared, hence judged."""
    return next(
        form for form in ("flipped", "spurious", "clean") if (form, reading) in found.numbers
    )


def competent(found: Findings, form: str, *readings: str) -> bool:
    """Whether all of them were trained on this form and pass the gate there."""
    return all(
        (form, reading) in found.numbers and found.each(form, reading, "accuracy").mean() >= GATE
        for reading in readings
    )
