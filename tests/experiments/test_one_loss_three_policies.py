"""one_loss_three_policies: who counts as having arrived at the closed form."""

import numpy as np
import pytest

from experiments.one_loss_three_policies import run as one_loss
from experiments.one_loss_three_policies.config import Config

CONFIG = Config(num_seeds=2, betas=(0.5, 1.0))


def distances(start: float, end: float):
    """Every run of every method and policy goes from start to end."""
    run = np.broadcast_to([start, end], (2, 2, 2))
    one = {name: dict.fromkeys(one_loss.METHODS, run) for name in one_loss.THRESHOLDS}
    return {"bandit": one, "contextual": one}


def test_each_method_has_a_claim_on_each_policy():
    claims = one_loss.arrival_claims(CONFIG, distances(0.3, 1e-6))
    about = "largest total variation to its closed form, both tasks, 2 seeds, 2 betas"
    assert {(c.statement, c.threshold) for c in claims} == {
        (f"{method} on a {name}: {about}", threshold)
        for method in ("DPO", "IPO", "PPO")
        for name, threshold in {"table": 1e-5, "log-linear": 1e-4, "transformer": 1e-4}.items()
    }
    assert {c.verdict for c in claims} == {"holds"}


@pytest.mark.parametrize(
    ("start", "end", "verdict"), [(0.3, 0.3, "fails"), (1e-7, 1e-7, "undecided")]
)
def test_a_policy_that_stays_where_it_was_is_no_success(start, end, verdict):
    """Far from the optimum it fails; at the optimum the measurement says nothing."""
    claims = one_loss.arrival_claims(CONFIG, distances(start, end))
    assert {c.verdict for c in claims} == {verdict}
