"""The nlhf experiment at its quick size: the claims of the paper, and methods that break them."""

from pathlib import Path

import numpy as np
import pytest

from experiments.nlhf import config as nlhf_config
from experiments.nlhf import run as nlhf_run
from experiments.nlhf.mixture import NAMES
from experiments.nlhf.tables import GAMES
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import open_run

TOY = nlhf_config.Config(
    num_seeds=4, steps=4000, fixed_steps=2500, mixture_steps=3000, batch=32, points=40
)
SLOPES = {(f"{game}: slope of log KL", "<=", -1.0) for game in GAMES}
ASKED = SLOPES | {
    ("beta = 0.1: largest KL over the bound", "<=", 1.0),
    ("beta = 0.01: largest KL over the bound", "<=", 1.0),
    ("Hedge: exploitability of the last policy", ">=", 0.2),
    ("Hedge: exploitability of the average", "<=", 0.01),
    ("Hedge: largest average over its regret bound", "<=", 1.0),
    ("five times the step: least growth of Nash-MD's KL", ">=", 15),
    ("five times the step: most growth", "<=", 40),
    ("constant step: KL of mirror descent", "<", 1e-12),
    ("self-play, b = 0: gap", "<=", 0.01),
    ("mixture, b = 0.5: gap", ">=", 0.1),
    ("mixture: least growth of the gap from b to b", ">", 0.0),
    ("mixture: largest factor between gap and expectation", "<=", 2.0),
    ("moving average: gap", ">=", 0.1),
    ("three types: distance of Nash from its formula", "<=", 1e-8),
    ("three types: change of Nash across eps = 0", "<=", 0.01),
    ("three types: share of Bradley-Terry optima that flip at 0", "==", 1.0),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("nlhf")
    with open_run(out, slug="nlhf", config=TOY) as job:
        return out, nlhf_run.run(TOY, job)


def test_the_claims_are_those_of_the_paper_and_hold(whole):
    _, outcome = whole
    assert {(claim.statement, claim.op, claim.threshold) for claim in outcome.claims} == ASKED
    assert [claim.statement for claim in outcome.claims if not claim.holds] == []


def test_every_number_is_finite(whole):
    _, outcome = whole
    numbers = outcome.numbers
    for kind in ("mixture gaps", "mixture gaps, exact gradient"):
        assert list(numbers[kind]) == list(NAMES)
        assert np.isfinite(list(numbers[kind].values())).all()
    assert np.isfinite(numbers["bound"]).all()
    assert np.isfinite([float(claim.value) for claim in outcome.claims]).all()
    assert [row[0] for row in outcome.table.rows] == list(GAMES)


def test_the_report_is_one_self_contained_page_with_its_data(whole):
    out, _ = whole
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "http://" not in page
    assert "https://" not in page
    kept = {path.stem for path in (out / "data").glob("*.npz")}
    assert kept == {"decaying", "fixed", "hedge", "mixture", "judges"}


def held(claims) -> dict[str, bool]:
    return {claim.statement: claim.holds for claim in claims}


def test_a_policy_that_stays_where_it_is_fails_the_rate(whole):
    out, _ = whole
    arrays = dict(np.load(out / "data" / "decaying.npz"))
    arrays["Nash-MD/kl"] = np.broadcast_to(
        arrays["Nash-MD/kl"][..., :1], arrays["Nash-MD/kl"].shape
    )
    assert all(rate.high > -1 for rate in nlhf_run.nash_md_rates(arrays).values())


def test_nash_md_in_the_place_of_mirror_descent_fails_the_floor(whole):
    out, _ = whole
    arrays = dict(np.load(out / "data" / "fixed.npz"))
    swapped = {"Nash-MD": arrays["Nash-MD"], "OMD": arrays["Nash-MD"]}
    assert not held(nlhf_run.floor_claims(swapped))["constant step: KL of mirror descent"]
    same = arrays["Nash-MD"][:1].repeat(2, 0)
    grown = held(nlhf_run.floor_claims({"Nash-MD": same, "OMD": arrays["OMD"]}))
    assert not grown["five times the step: least growth of Nash-MD's KL"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"betas": (0.0,)}, "betas must be > 0"),
        ({"fixed_etas": (0.5, 0.1)}, "fixed_etas must rise"),
        ({"rate": 0.0}, "rate must be > 0"),
        ({"num_seeds": 1}, "num_seeds must be at least 2"),
        ({"steps": 1000}, "steps must be at least 2000"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        nlhf_config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(nlhf_config, name)(), nlhf_config.Config)
