"""The demo_reg_rl experiment: what it claims, on made-up numbers and, slowly, at its quick size."""

from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.demo_reg_rl import claims as demo_claims
from experiments.demo_reg_rl import config as demo_config
from experiments.demo_reg_rl import run as demo_run
from rlhf_jax.reports.claims import Claim, Outcome
from rlhf_jax.training import open_run

QUICK = demo_config.quick()
ASKED = {
    ("cloning: slope of KL(expert || clone) in N, at least", ">=", -1.05),
    ("cloning: slope of KL(expert || clone) in N, at most", "<=", -0.85),
    ("fast rate, beta = 0.5: slope of the regularised gap, upper bound's policy", "<=", -0.8),
    ("fast rate, beta = 0.1: slope of the regularised gap, upper bound's policy", "<=", -0.8),
    ("fast rate: slope at beta = 0.5 less that at 0.1", "<=", 0.0),
    *(
        (f"lock, {policy}: mean gap with N = 300 over that without demonstrations", "<=", 0.2)
        for policy in (
            "soft greedy in the upper bound (the theory's)",
            "soft greedy in the empirical model",
        )
    ),
    *(
        (
            f"feedback, {count} pairs: mean gap at beta = 0.5 over the lesser of beta = 0 and the "
            "clone",
            "<=",
            0.75,
        )
        for count in (30, 100, 300, 1000)
    ),
}


def made_up(config: demo_config.Config) -> dict[str, dict[str, np.ndarray]]:
    """Stages as the theory would have them, two seeds, no noise."""
    demos = np.asarray(config.demos)
    episodes = config.episodes // 32 * np.arange(1, 33)
    slopes = 0.9 + 0.2 * np.asarray(config.betas)
    fast = (1.0 / episodes ** slopes[:, None])[:, None].repeat(2, 1)
    times, refs = config.lock_times[-1], 2 + len(config.lock_demos)
    gaps = np.linspace(0.4, 0.02, refs)[:, None] * np.ones((2, refs, times))
    beta = np.full((2, refs), 0.5) * (np.arange(refs) > 0)
    pairs, penalties = len(config.pairs), len(config.penalties)
    learned = np.full((2, pairs, penalties), 0.2)
    learned[..., config.penalties.index(0.5)] = 0.1
    return {
        "cloning": {
            "kl": np.stack([30.0 / demos, 35.0 / demos]),
            "kl, constant share": np.stack([0.5 + 30.0 / demos, 0.5 + 35.0 / demos]),
            "limit": np.full(2, 31.5),
        },
        "fast": {
            "episodes": episodes,
            "soft optimistic": fast,
            "soft regret": fast,
            "aimless": fast[::-1] ** 0.5,
        },
        "lock": {
            **{"regret": gaps, "optimistic": gaps, "soft regret": gaps, "soft optimistic": gaps},
            **{"beta": beta, "kl": np.ones((2, refs)), "clone": np.full((2, refs), 0.2)},
            "expert": np.zeros(2),
        },
        "feedback": {
            "gap": learned,
            "gap, uniform": np.full_like(learned, 0.2),
            "clone": np.full(2, 0.15),
        },
    }


def claims_of(config: demo_config.Config, found: dict) -> list[Claim]:
    return [
        *demo_claims.clone_claims(config, found["cloning"]),
        *demo_claims.fast_claims(found["fast"], config.betas),
        *demo_claims.lock_claims(config, found["lock"]),
        *demo_claims.feedback_claims(config, found["feedback"]),
    ]


@pytest.mark.parametrize("size", ["default", "quick"])
def test_the_claims_are_those_of_the_paper(size):
    config = getattr(demo_config, size)()
    claims = claims_of(config, made_up(config))
    assert {(claim.statement, claim.op, claim.threshold) for claim in claims} == ASKED
    assert [claim.statement for claim in claims if not claim.holds] == []


def test_numbers_that_are_not_as_claimed_fail():
    found = made_up(QUICK)
    found["cloning"]["kl"] = found["cloning"]["kl"] ** 0.5
    found["fast"]["soft optimistic"] = found["fast"]["soft optimistic"][::-1] ** 0.5
    for name in ("regret", "optimistic"):
        found["lock"][name] = found["lock"][name][:, ::-1]
    found["feedback"]["gap"] = found["feedback"]["gap"] + 0.05
    failed = {claim.statement for claim in claims_of(QUICK, found) if not claim.holds}
    assert failed == {name for name, _, _ in ASKED} - {
        "cloning: slope of KL(expert || clone) in N, at least"
    }
    found["cloning"]["kl"] = found["cloning"]["kl"] ** 4
    assert not demo_claims.clone_claims(QUICK, found["cloning"])[0].holds


def test_baselines_that_do_as_well_leave_the_claims_undecided():
    found = made_up(QUICK)
    found["cloning"]["kl, constant share"] = found["cloning"]["kl"]
    found["fast"]["aimless"] = found["fast"]["soft optimistic"]
    found["lock"]["clone"] = np.full_like(found["lock"]["clone"], 0.02)
    found["feedback"]["gap, uniform"] = found["feedback"]["gap"]
    verdicts = {claim.statement: claim.verdict for claim in claims_of(QUICK, found)}
    least = "cloning: slope of KL(expert || clone) in N, at least"
    assert verdicts.pop(least) == "holds"
    assert set(verdicts.values()) == {"undecided"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("demo_reg_rl")
    with open_run(out, slug="demo_reg_rl", config=QUICK) as job:
        return out, demo_run.run(QUICK, job)


def check_the_guarantee(arrays: dict) -> None:
    """V* - V <= V* - V(expert) + beta KL(expert || ref) + the gap of the regularised problem."""
    paid = arrays["beta"] * arrays["kl"] + arrays["expert"][:, None]
    for name in ("regret", "optimistic"):
        bound = paid[..., None] + arrays[f"soft {name}"]
        assert (arrays[name][:, 1:] <= bound[:, 1:] * (1 + 1e-9)).all()


@pytest.mark.long
def test_a_quick_run_says_what_was_asked_in_finite_numbers(whole):
    out, outcome = whole
    assert {(claim.statement, claim.op, claim.threshold) for claim in outcome.claims} == ASKED
    # Few seeds have wide intervals, and the theory's policy does not profit within the lock's
    # episodes; the borderline claims are for the published size.
    verdicts = {claim.statement: claim.verdict for claim in outcome.claims}
    assert {verdicts[name] for name in verdicts if name.startswith("cloning")} == {"holds"}
    (empirical,) = (verdicts[name] for name in verdicts if "empirical" in name)
    assert empirical != "fails"
    check_the_guarantee(dict(np.load(out / "data" / "lock.npz")))
    assert np.isfinite([float(claim.value) for claim in outcome.claims]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(dict(outcome.numbers)))
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http://" not in page
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    kept = {path.stem for path in (out / "data").glob("*.npz")}
    assert kept == {"cloning", "linear", "fast", "lsvi", "lock", "feedback"}


@pytest.mark.long
def test_other_methods_in_the_place_of_the_claimed_ones_fail(whole):
    """The optimistic policy on the lock, no penalty in planning with learned rewards."""
    out, _ = whole
    lock, feedback = (dict(np.load(out / "data" / f"{n}.npz")) for n in ("lock", "feedback"))
    lock["regret"] = lock["optimistic"]
    assert not demo_claims.lock_claims(QUICK, lock)[1].holds
    feedback["gap"][..., QUICK.penalties.index(0.5)] = feedback["gap"][..., 0]
    assert not any(claim.holds for claim in demo_claims.feedback_claims(QUICK, feedback))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"clone_sets": 0}, r"clone_sets must be in \[1, inf\)"),
        ({"demos": (16, 8, 32)}, "demos must rise"),
        ({"pairs": (0, 30)}, r"pairs must be in \[1, inf\)"),
        ({"demos": (16, 32)}, "demos must be three at least"),
        ({"betas": (0.5,)}, "betas must have 0.5 and 0.1"),
        ({"episodes": 100}, "episodes must be a multiple of 32"),
        ({"epsilon": 0.0}, r"epsilon must be in \(0, inf\)"),
        ({"penalties": (0.1, 0.5)}, "penalties must begin with 0"),
        ({"bonus": -0.1}, r"bonus must be in \[0, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        demo_config.Config(**change)
