"""The safe_rl_minimal experiment: claims on made-up records, and a whole quick run (slow)."""

import jax
import numpy as np
import pytest

from experiments.safe_rl_minimal import config as safe_config
from experiments.safe_rl_minimal import run as safe_run
from experiments.safe_rl_minimal.agents import Cell, cells
from experiments.safe_rl_minimal.report import write_report
from rlhf_jax.training import open_run

CONFIG = safe_config.Config(num_seeds=3)
CELLS = cells(CONFIG)


def made_up() -> dict[str, np.ndarray]:
    """Lengths 30, 28, 24, 23 without walks, 22 with them; nothing ever fails."""
    shape = (len(CELLS), 3, CONFIG.iterations, CONFIG.episodes)
    alone = dict(zip(CONFIG.demos, (30.0, 28.0, 24.0, 23.0), strict=True))
    lengths = np.array([22.0 if cell.walks else alone[cell.demos] for cell in CELLS])
    return {
        "length": np.broadcast_to(lengths[:, None, None, None], shape).copy(),
        "success": np.ones(shape, bool),
        "violation": np.zeros(shape, bool),
        "safe cells": np.full(shape[:-1], 50),
        "demo length": np.full((3, 30), 35),
        "demo success": np.ones((3, 30), bool),
        "walk success": np.zeros((3, 4, 30), bool),
        "walk violation": np.ones((3, 4, 30), bool),
    }


def failed(found: dict) -> list[str]:
    claims = safe_run.make_claims(CONFIG, found)
    return [claim.statement for claim in claims if not claim.holds]


def test_the_sweep_has_every_factor_and_the_other_rhos():
    assert len(CELLS) == 4 * 2 * 2 + 3 + 1
    assert CELLS[0] == Cell(1, 0, 2, 0)
    assert {cell.rho for cell in CELLS[-4:-1]} == {0, 1, 3}
    assert all((cell.demos, cell.walks, cell.keep) == (1, 30, 0) for cell in CELLS[-4:-1])
    assert CELLS[-1] == Cell(1, 0, 2, 0, steady=1)


STEADY = "(c) everything kept: successes with 1 demonstration without slips, 0 walks"
LENGTHS = (
    "(a) no walks: mean final length with 30 demonstrations over that with 1",
    "(b) mean final length with 1 demonstration and 30 walks over that with 10 and 0",
)


def test_the_safe_set_claims_are_those_that_were_asked():
    claims = safe_run.make_claims(CONFIG, made_up())
    assert [(c.op, c.threshold) for c in claims] == [
        ("<=", 0.85), ("<=", 1.05), *[("<=", 0.05), (">=", 0.95), (">=", 0.95)] * 2, (">=", 0.95),
    ]  # fmt: skip
    assert tuple(claim.statement for claim in claims[:2]) == LENGTHS
    # Nothing is asked of forgetting but to be as safe as the rest.
    assert not any("kept" in name for name in LENGTHS)
    # Where nothing ever fails, slips explain nothing.
    assert failed(made_up()) == [STEADY]


def test_agents_that_break_a_claim_fail_it():
    slow = made_up()
    slow["length"][CELLS.index(Cell(30, 0, 2, 0))] = 27.0
    assert failed(slow) == [LENGTHS[0], STEADY]
    useless = made_up()
    useless["length"][CELLS.index(Cell(1, 30, 2, 0))] = 30.0
    assert failed(useless) == [LENGTHS[1], STEADY]
    rash = made_up()
    rash["violation"][3, :, 0] = True
    rash["success"][3, :, 0] = False
    assert failed(rash) == [
        "(c) everything kept: violations, worst cell (30 demonstrations, 0 walks)",
        "(c) everything kept: successes, worst cell but the next (30 demonstrations, 0 walks)",
        STEADY,
    ]
    stuck = made_up()
    stuck["success"][0, :, :3] = False
    assert failed(stuck) == ["(c) everything kept: successes with 1 demonstration, 0 walks"]


def test_agents_no_safer_than_the_walks_prove_nothing():
    idle = made_up()
    idle["walk violation"][:] = False
    idle["walk success"][:] = True
    assert len(failed(idle)) == 7


@pytest.mark.long
def test_the_safe_set_page_is_self_contained_and_says_what_it_is_not(tmp_path):
    found = made_up()
    with open_run(tmp_path, slug="safe_rl_minimal", config=CONFIG) as job:
        write_report(job, CONFIG, found, [], safe_run.cells_table(CONFIG, found))
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page
    assert "not the paper's algorithm" in page.replace("&#x27;", "'")
    assert [path.stem for path in (tmp_path / "data").glob("*.npz")] == ["agents"]
    assert np.isfinite(jax.tree.leaves(safe_run.summary(CONFIG, found))).all()


@pytest.mark.long
def test_a_whole_quick_run_of_safe_sets_holds_its_lengths(tmp_path):
    config = safe_config.quick()
    with open_run(tmp_path, slug="safe_rl_minimal", config=config) as job:
        outcome = safe_run.run(config, job)
    # Two dozen episodes a cell are too few for the rates, and four seeds to decide on lengths.
    verdicts = {claim.statement: claim.verdict for claim in outcome.claims}
    assert "fails" not in {verdicts[name] for name in LENGTHS}
    assert np.isfinite(jax.tree.leaves(dict(outcome.numbers))).all()
    kept = np.load(tmp_path / "data" / "agents.npz")
    assert (kept["length"] >= 1).all()
    assert (kept["length"] <= config.steps).all()
    assert not (kept["success"] & kept["violation"]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"demos": (1, 10)}, "demos must hold 1, 10 and 30"),
        ({"demos": (30, 10, 1)}, "demos must rise"),
        ({"walks": (5, 30)}, "walks must be 0 and a number above it"),
        ({"rho": 0.5}, "rho must be one of rhos"),
        ({"last": 20}, r"last must be in \[1, 12\]"),
        ({"episodes": 0}, r"episodes must be in \[1, inf\)"),
    ],
)
def test_safe_rl_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        safe_config.Config(**change)
