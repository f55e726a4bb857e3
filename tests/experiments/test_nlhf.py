"""The nlhf experiment at its quick size: the claims of the paper, and methods that break them."""

from pathlib import Path

import numpy as np
import pytest

from experiments.nlhf import claims as nlhf_claims
from experiments.nlhf import config as nlhf_config
from experiments.nlhf import run as nlhf_run
from experiments.nlhf.mixture import NAMES
from experiments.nlhf.tables import GAMES
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import open_run

TOY = nlhf_config.Config(
    num_seeds=4, steps=4000, fixed_steps=2500, mixture_steps=3000, batch=32, points=40
)
SLOPES = {(f"Nash-MD, {game}, beta = 0.1: slope of log KL in log t", "<=", -1.0) for game in GAMES}
BOUNDS = {
    (f"Nash-MD, beta = {beta}: largest KL over the bound, all games, seeds and t", "<=", 1.0)
    for beta in (0.1, 0.01)
}
RIVAL = "Nash-MD, beta = 0.1: log10 of KL after 2500 calls over that of"
END = "last policy at its best step, worst game"
ASKED = (
    SLOPES
    | BOUNDS
    | {
        ("Hedge: exploitability of the last policy, mean over random starts", ">=", 0.2),
        ("Hedge: largest exploitability of the average over its regret bound", "<=", 1.0),
        ("Nash-MD, five times the step: KL grows at least", ">=", 15),
        ("Nash-MD, five times the step: KL grows at most", "<=", 40),
        ("mirror descent, constant step: largest last KL", "<", 1e-12),
        ("Nash-MD-PG, b = 0: regularised gap", "<=", 0.01),
        ("Nash-MD-PG, b = 0.5: regularised gap", ">=", 0.1),
        ("Nash-MD-PG, b to 0.5: least growth of the gap from b to b", ">", 0.0),
        ("moving average 0.999: regularised gap", ">=", 0.1),
        ("Nash-MD-PG: largest factor between a gap and an earlier run's", "<=", 2.0),
        (f"{RIVAL} Hedge's {END}", "<", 0.0),
        (f"{RIVAL} OMD's {END}", "<", 0.0),
        ("three types of judge: change of the Nash policy across eps = 0", "<=", 0.01),
    }
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("nlhf")
    with open_run(out, slug="nlhf", config=TOY) as job:
        return out, nlhf_run.run(TOY, job)


def test_the_claims_are_those_of_the_paper_and_hold(whole):
    _, outcome = whole
    assert {(claim.statement, claim.op, claim.threshold) for claim in outcome.claims} == ASKED
    verdicts = {claim.statement: claim.verdict for claim in outcome.claims}
    # Mirror descent in a regularised game converges at a linear rate, Nash-MD as 1 / t^2.
    failed = [name for name, verdict in verdicts.items() if verdict == "fails"]
    assert failed == [f"{RIVAL} OMD's {END}"]
    # In 4,000 updates the bound at beta = 0.01 is not yet below where Hedge goes round.
    assert [verdicts[name] for name, _, _ in sorted(BOUNDS)] == ["undecided", "holds"]
    assert {verdicts[name] for name, _, _ in SLOPES} == {"holds"}


def test_the_nash_policy_of_three_types_is_its_formula(whole):
    out, _ = whole
    arrays = np.load(out / "data" / "judges.npz")
    np.testing.assert_allclose(arrays["nash"], arrays["formula"], atol=1e-8)


def test_hedge_in_the_place_of_nash_md_breaks_the_bound(whole):
    out, _ = whole
    arrays = dict(np.load(out / "data" / "decaying.npz"))
    arrays["Nash-MD/bound"] = arrays["Hedge/bound"]
    assert nlhf_claims.bound_claims(TOY, arrays)[0].verdict == "fails"


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
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    kept = {path.stem for path in (out / "data").glob("*.npz")}
    assert kept == {"decaying", "fixed", "rivals", "hedge", "mixture", "judges"}


def held(claims) -> dict[str, bool]:
    return {claim.statement: claim.holds for claim in claims}


def test_a_rival_is_judged_at_the_best_step_of_each_game():
    kls = np.array([[1e-2, 1e-6], [1e-4, 1e-3]])  # [etas, games]
    arrays = {"OMD": np.repeat(kls[..., None], 3, -1), "Nash-MD": np.full((2, 3), 1e-5)}
    assert nlhf_claims.best_steps(arrays, "OMD").tolist() == [1, 0]
    np.testing.assert_allclose(nlhf_claims.lead(arrays, "Nash-MD", "OMD")[:, 0], [-1, 1])
    arrays |= {"Hedge": arrays["OMD"], "reference": np.ones((2, 3))}
    claims = nlhf_claims.rival_claims(TOY, arrays)
    assert [claim.verdict for claim in claims] == ["fails", "fails"]
    better = arrays | {"Nash-MD": np.full((2, 3), 1e-7)}
    assert [claim.verdict for claim in nlhf_claims.rival_claims(TOY, better)] == ["holds"] * 2
    # A KL of rounding counts as the least, whatever its sign.
    assert nlhf_claims.log_kl(np.array([-1e-18, 0.0])).tolist() == [-16.0, -16.0]


def test_a_policy_that_stays_where_it_is_fails_the_rate(whole):
    out, _ = whole
    arrays = dict(np.load(out / "data" / "decaying.npz"))
    arrays["Nash-MD/kl"] = np.broadcast_to(
        arrays["Nash-MD/kl"][..., :1], arrays["Nash-MD/kl"].shape
    )
    assert all(rate.high > -1 for rate in nlhf_claims.nash_md_rates(arrays).values())


def test_nash_md_in_the_place_of_mirror_descent_fails_the_floor(whole):
    out, _ = whole
    arrays = dict(np.load(out / "data" / "fixed.npz"))
    swapped = {"Nash-MD": arrays["Nash-MD"], "OMD": arrays["Nash-MD"]}
    assert not held(nlhf_claims.floor_claims(swapped))[
        "mirror descent, constant step: largest last KL"
    ]
    same = arrays["Nash-MD"][:1].repeat(2, 0)
    grown = held(nlhf_claims.floor_claims({"Nash-MD": same, "OMD": arrays["OMD"]}))
    assert not grown["Nash-MD, five times the step: KL grows at least"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"betas": (0.0,)}, r"betas must be in \(0, inf\)"),
        ({"fixed_etas": (0.5, 0.1)}, "fixed_etas must rise"),
        ({"rival_etas": (0.1, 20.0)}, "rival_etas must rise to at most 1 / beta"),
        ({"rate": 0.0}, r"rate must be in \(0, 1000\]"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"steps": 1000}, r"steps must be in \[2000, inf\)"),
        ({"batch": 0}, r"batch must be in \[1, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        nlhf_config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(nlhf_config, name)(), nlhf_config.Config)
