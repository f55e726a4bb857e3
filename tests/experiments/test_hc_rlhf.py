"""The hc_rlhf experiment in its quick size, and a claim that fails when nothing was learnt."""

import numpy as np
import pytest

from experiments.hc_rlhf import config, run
from rlhf_jax.training import open_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The quick run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("hc_rlhf")
    with open_run(out, slug="hc_rlhf", config=config.quick()) as job:
        return out, run.run(config.quick(), job)


def test_the_claims_hold(finished):
    _, outcome = finished
    assert [(claim.op, claim.threshold) for claim in outcome.claims] == [("<=", 0.01)]
    assert all(claim.holds for claim in outcome.claims)


def test_the_page_has_its_figure(finished):
    assert (finished[0] / "report.html").read_text().count("data:image/png;base64,") == 1


def test_a_policy_that_never_moved_fails():
    distances = np.full((3, 5), 0.4) + 0.01 * np.arange(3)[:, None]
    assert run.distance_claim(distances).verdict == "fails"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.0}, r"beta must be in \(0, inf\)"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)
