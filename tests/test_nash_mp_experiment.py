"""The nash_mp experiment at a small size: the claims of the paper, and methods that break them."""

from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.nash_mp import config as nash_mp_config
from experiments.nash_mp import run as nash_mp_run
from experiments.nash_mp.curves import GAMES, bound_share
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import open_run

TOY = nash_mp_config.Config(
    betas=(0.1, 0.05, 0.02),
    queries=200,
    coarse=4,
    fine=30,
    most_updates=4_000,
    random_games=27,
    random_updates=200,
    points=20,
)
ASKED = {
    *((f"{game}: largest share of the bound", "<=", 1.0) for game in GAMES),
    *((f"random games of {sizes} answers: share", "<=", 1.0) for sizes in ("3 to 10", "11 to 20")),
    ("random games of 21 to 29 answers: share", "<=", 1.0),
    ("probabilities of EGPO and Nash-MP: difference", "<=", 1e-12),
    ("updates of Nash-MP, beta = 0.1", "==", 20),
    ("updates of Nash-MP, beta = 0.05", "==", 30),
    ("updates of Nash-MP, beta = 0.02", "==", 43),
    ("Nash-MP: slope of updates in 1 / beta, upper end", "<=", 0.5),
    ("OMD: slope of updates in 1 / beta, lower end", ">=", 1.8),
    ("m = 100, eta = 2 beta: gap", "<=", 1e-8),
    ("eta = 1, m = 100: gap", ">=", 0.5),
    ("eta = 4, m = 100: gap", ">=", 0.5),
    ("m = 100: largest gap at eta = 2 beta over least at 1 and 4, all seeds", "<", 1.0),
    ("inner steps: factor to the known gaps", "<=", 1.2),
    ("sampled steps: factor to the known", "<=", 2.0),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("nash_mp")
    with open_run(out, slug="nash_mp", config=TOY) as job:
        return out, nash_mp_run.run(TOY, job)


def test_the_claims_are_those_of_the_paper_and_hold(whole):
    _, outcome = whole
    assert {(claim.statement, claim.op, claim.threshold) for claim in outcome.claims} == ASKED
    assert [claim.statement for claim in outcome.claims if not claim.holds] == []
    assert nash_mp_run.UPDATES == {0.1: 20, 0.05: 30, 0.02: 43, 0.01: 51, 0.005: 58}


def test_every_number_is_finite(whole):
    _, outcome = whole
    assert np.isfinite([float(claim.value) for claim in outcome.claims]).all()
    leaves = jax.tree.leaves(dict(outcome.numbers))
    assert len(leaves) == 3 * 3 + 1 + 3 * 3 + 12 + 12 + 3
    assert np.isfinite(leaves).all()


def test_the_report_is_one_self_contained_page_with_its_data(whole):
    out, _ = whole
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http://" not in page
    assert "https://" not in page
    kept = {path.stem for path in (out / "data").glob("*.npz")}
    assert kept == {"curves", "random", "updates", "exact", "sampled"}


def test_mirror_descent_in_the_place_of_nash_mp_fails_the_bound_and_the_slope(whole):
    out, _ = whole
    curves, counts = (dict(np.load(out / "data" / f"{n}.npz")) for n in ("curves", "updates"))
    betas = np.asarray(TOY.betas)[:, None, None]
    # About every tenth call is recorded, which for Nash-MP would be five updates.
    shares = bound_share(curves["start"], curves["OMD/kl"], 5 * betas)
    assert shares[1:, 0].max() > 1.0
    rate = nash_mp_run.update_rate(TOY, counts["OMD"])
    claims = nash_mp_run.update_claims(
        TOY, {"Nash-MP": counts["OMD"]}, {"Nash-MP": rate, "OMD": rate}
    )
    assert not any(claim.holds for claim in claims[:-1])


def test_a_larger_eta_in_the_place_of_the_allowed_one_fails(whole):
    out, _ = whole
    exact, sampled = (dict(np.load(out / "data" / f"{n}.npz")) for n in ("exact", "sampled"))
    exact["m = 100"] = exact["eta = 1, m = 100"]
    failed = {c.statement for c in nash_mp_run.inner_claims(exact, sampled) if not c.holds}
    assert "m = 100, eta = 2 beta: gap" in failed
    assert "inner steps: factor to the known gaps" in failed
    assert any("all seeds" in name for name in failed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"betas": (0.1, 0.05)}, "betas must be > 0 and at least three"),
        ({"betas": (0.1, 0.2, 0.05)}, "betas must fall"),
        ({"num_seeds": 1}, "num_seeds must be at least 2"),
        ({"queries": 3}, "queries must be even"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        nash_mp_config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(nash_mp_config, name)(), nash_mp_config.Config)
