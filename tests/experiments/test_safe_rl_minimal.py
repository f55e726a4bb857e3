"""The safe_rl_minimal experiment: claims on made-up records, and a whole quick run (slow)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.safe_rl_minimal import claims as safe_claims
from experiments.safe_rl_minimal import config as safe_config
from experiments.safe_rl_minimal import robot as safe_robot
from experiments.safe_rl_minimal import run as safe_run
from experiments.safe_rl_minimal.agents import Cell, cells
from experiments.safe_rl_minimal.report import write_report
from rlhf_jax.algos.planning.safe_set import Replay
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
    claims = safe_claims.make_claims(CONFIG, found)
    return [claim.statement for claim in claims if not claim.holds]


def test_the_sweep_has_every_factor_and_the_other_rhos():
    assert len(CELLS) == 4 * 2 * 2 + 3 + 1
    assert CELLS[0] == Cell(1, 0, 2, 0)
    assert {cell.rho for cell in CELLS[-4:-1]} == {0, 1, 3}
    assert all((cell.demos, cell.walks, cell.keep) == (1, 30, 0) for cell in CELLS[-4:-1])
    assert CELLS[-1] == Cell(1, 0, 2, 0, steady=1)


STEADY = "(c) everything kept: successes with 1 demonstration without slips, 0 walks"
DEAD = "(d) everything kept: dead ends with 1 demonstration, less those without slips in it"
FORGETTING = (
    "(e) grid, optimistic forgetting, 1 demonstration and 0 walks: mean final length with the best "
    "6 kept over that with everything kept"
)
NOTHING_FAILS = [STEADY, DEAD, FORGETTING]  # then slips explain nothing, and nothing is gained
LENGTHS = (
    "(a) no walks: mean final length with 30 demonstrations over that with 1",
    "(b) mean final length with 1 demonstration and 30 walks over that with 10 and 0",
)


def test_the_safe_set_claims_are_those_that_were_asked():
    claims = safe_claims.make_claims(CONFIG, made_up())
    assert [(c.op, c.threshold) for c in claims] == [
        ("<=", 0.85), ("<=", 1.05), *[("<=", 0.05), (">=", 0.95), (">=", 0.95)] * 2, (">=", 0.95),
        (">", 0.02), ("<=", 0.95),
    ]  # fmt: skip
    assert tuple(claim.statement for claim in claims[:2]) == LENGTHS
    assert failed(made_up()) == NOTHING_FAILS


def test_agents_that_break_a_claim_fail_it():
    slow = made_up()
    slow["length"][CELLS.index(Cell(30, 0, 2, 0))] = 27.0
    assert failed(slow) == [LENGTHS[0], *NOTHING_FAILS]
    useless = made_up()
    useless["length"][CELLS.index(Cell(1, 30, 2, 0))] = 30.0
    # Walks that double the length of one demonstration also make (a)'s baseline pass.
    assert failed(useless) == [*LENGTHS, *NOTHING_FAILS]
    rash = made_up()
    rash["violation"][3, :, 0] = True
    rash["success"][3, :, 0] = False
    assert failed(rash) == [
        "(c) everything kept: violations, worst cell (30 demonstrations, 0 walks)",
        "(c) everything kept: successes, worst cell but the next (30 demonstrations, 0 walks)",
        *NOTHING_FAILS,
    ]
    stuck = made_up()
    stuck["success"][0, :, :3] = False
    assert failed(stuck) == [
        "(c) everything kept: successes with 1 demonstration, 0 walks",
        FORGETTING,
    ]


def test_baselines_that_do_as_well_leave_lengths_undecided():
    """Walks that leave demonstrations as much to add; ten demonstrations no better than one."""
    found = made_up()
    found["length"][CELLS.index(Cell(30, 30, 2, 0))] = 15.0
    found["length"][CELLS.index(Cell(10, 0, 2, 0))] = 30.0
    assert failed(found) == [*LENGTHS, *NOTHING_FAILS]


def test_forgetting_that_helps_holds_unless_it_helps_ten_demonstrations_as_much():
    found = made_up()
    found["length"][CELLS.index(Cell(1, 0, 2, 6))] = 25.0
    assert failed(found) == NOTHING_FAILS[:2]
    found["length"][CELLS.index(Cell(10, 0, 2, 6))] = 20.0
    assert failed(found) == NOTHING_FAILS


def test_slips_that_cost_violations_are_no_dead_ends():
    found = made_up()
    found["success"][0, :, :1] = False
    assert DEAD not in failed(found)
    found["violation"][0, :, :1] = True
    assert DEAD in failed(found)


def test_agents_no_safer_than_the_walks_prove_nothing():
    idle = made_up()
    idle["walk violation"][:] = False
    idle["walk success"][:] = True
    assert len(failed(idle)) == 9


# ---- The point robot.


def made_up_robot() -> dict[str, np.ndarray]:
    """Lengths 60, 50, 60 for everything, the best and random ones; the reckless arm violates."""
    size = CONFIG.robot
    shape = (4, 3, size.iterations, size.episodes)
    lengths = np.array([60.0, 50.0, 60.0, 100.0])
    reckless = np.zeros(shape, bool)
    reckless[safe_claims.RECKLESS] = True
    return {
        "length": np.broadcast_to(lengths[:, None, None, None], shape).copy(),
        "success": ~reckless,
        "violation": reckless,
        "demo length": np.full((3, size.demos), 76),
        "demo success": np.ones((3, size.demos), bool),
        "walk success": np.zeros((3, size.walks), bool),
        "walk violation": np.zeros((3, size.walks), bool),
    }


def robot_verdicts(**changes) -> list[str]:
    claims = safe_claims.robot_claims(CONFIG, made_up_robot() | changes)
    assert [(c.op, c.threshold) for c in claims] == [
        ("<=", 0.05), (">=", 0.95), ("<=", 0.05), ("<=", 0.95),
    ]  # fmt: skip
    return [claim.verdict for claim in claims]


def test_the_claims_of_the_robot_fail_where_it_does_and_where_a_baseline_does_as_well():
    assert robot_verdicts() == ["holds"] * 4
    found = made_up_robot()
    lost = found["success"].copy()
    lost[safe_claims.BEST, :, ::4] = False
    assert robot_verdicts(success=lost) == ["holds", "fails", "fails", "holds"]
    stuck = found["violation"].copy()
    stuck[safe_claims.BEST, :, ::4] = True
    assert robot_verdicts(success=lost, violation=stuck) == ["fails", "fails", "holds", "holds"]
    careful = np.zeros_like(found["violation"])
    assert robot_verdicts(violation=careful)[0] == "undecided"
    as_few = found["length"].copy()
    as_few[safe_claims.LUCKY] = 50.0
    assert robot_verdicts(length=as_few)[3] == "undecided"


def straight(start, push, steps: int, *, success: bool, violation: bool = False) -> Replay:
    """One row of a hundred steps: from a place by the same push."""
    times = np.minimum(np.arange(101), steps)[:, None]
    mask = np.arange(100) < steps
    pushes = np.where(mask[:, None], np.asarray(push, float), 0.0)
    return Replay(np.asarray(start) + times * np.asarray(push), pushes, mask, success, violation)


def fitted() -> tuple[Replay, safe_robot.Fits]:
    """A success below the wall that ends in the goal, and a walk into the wall."""
    rows = [
        straight((30.0, 75.0), (3.0, 0.0), 40, success=True),
        straight((60.0, 90.0), (2.0, 0.0), 9, success=False, violation=True),
    ]
    record = jax.tree.map(lambda *each: jnp.stack([jnp.asarray(x) for x in each]), *rows)
    kept = jnp.array([True, False])
    return record, safe_robot.fit(CONFIG, record, kept, safe_robot.distances())


def at(table: jax.Array, *position: float) -> float:
    return float(table[safe_robot.cell_of(jnp.array(position))])


@pytest.mark.long
def test_the_fits_of_the_robot_know_its_moves_what_is_safe_and_what_it_is_worth():
    _, fits = fitted()
    np.testing.assert_allclose(fits.moves[0], [1.0, 0.0], atol=1e-2)
    assert at(fits.safe, 90.0, 75.0) > 0.85  # on the success
    assert at(fits.safe, 90.0, 130.0) < 0.3
    values = [at(fits.values, x, 75.0) for x in (35.0, 75.0, 115.0, 145.0)]
    assert np.all(np.diff(values) > 5)
    assert at(fits.values, 20.0, 10.0) < -90  # nobody was there
    assert at(fits.unsafe, 78.0, 90.0)
    assert not at(fits.unsafe, 66.0, 90.0)
    assert not at(fits.unsafe, 90.0, 75.0)


@pytest.mark.long
def test_the_robot_plans_along_what_is_safe_and_not_into_the_wall():
    _, fits = fitted()
    push = jax.jit(
        lambda key, position, cautious: safe_robot.cross_entropy_push(
            CONFIG, fits, key, position, cautious=cautious
        )
    )
    keys = jax.random.split(jax.random.key(0), 20)
    along = jax.vmap(push, (0, None, None))(keys, jnp.array([60.0, 75.0]), jnp.asarray(True))
    assert float(along[:, 0].mean()) > 1.5
    ahead = jnp.tile(jnp.array([3.0, 0.0]), (1, CONFIG.robot.horizon, 1))
    place = jnp.array([70.0, 90.0])
    _, safe = safe_robot.scores(CONFIG, fits, place, ahead, cautious=jnp.asarray(True))
    assert safe[0] == 0
    _, free = safe_robot.scores(CONFIG, fits, place, ahead, cautious=jnp.asarray(False))
    assert free[0] == 1


@pytest.mark.long
def test_what_an_arm_remembers():
    size = CONFIG.robot
    rows = size.demos + size.walks + 8
    success = jnp.arange(rows) % 2 == 0
    steps = jnp.where(jnp.arange(rows) < 60, 50, 100 - jnp.arange(rows))
    mask = jnp.arange(100) < steps[:, None]
    record = Replay(jnp.zeros((rows, 101, 2)), jnp.zeros((rows, 100, 2)), mask, success, ~success)
    kept = [
        safe_robot.kept_rows(CONFIG, jnp.asarray(arm), record, jax.random.key(0))
        for arm in range(len(safe_robot.ARMS))
    ]
    assert kept[safe_claims.ALL].sum() == size.demos + 8  # the walks are no behaviour
    assert [int(kept[arm].sum()) for arm in (safe_claims.BEST, safe_claims.LUCKY)] == [6, 6]
    assert not (kept[safe_claims.LUCKY] & ~success).any()
    assert set(np.flatnonzero(kept[safe_claims.BEST])) >= {60, 62}
    np.testing.assert_array_equal(kept[safe_claims.ALL], kept[safe_claims.RECKLESS])


@pytest.mark.long
def test_the_safe_set_page_is_self_contained_and_says_what_it_is_not(tmp_path):
    found = made_up()
    with open_run(tmp_path, slug="safe_rl_minimal", config=CONFIG) as job:
        table = safe_run.cells_table(CONFIG, found)
        write_report(job, CONFIG, (found, made_up_robot()), [], table)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http://" not in page
    assert "not the paper's algorithm" in page.replace("&#x27;", "'")
    assert [path.stem for path in sorted((tmp_path / "data").glob("*.npz"))] == ["agents", "robot"]
    assert np.isfinite(jax.tree.leaves(safe_run.summary(CONFIG, found))).all()
    told = safe_run.robot_summary(CONFIG, made_up_robot())
    assert np.isfinite(jax.tree.leaves(told)).all()


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
    robot = np.load(tmp_path / "data" / "robot.npz")
    assert robot["demo success"].mean() > 0.9
    assert robot["walk violation"].mean() > 0.1
    assert not (robot["success"] & robot["violation"]).any()
    assert robot["success"][safe_claims.BEST].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"demo_speed": 0.0}, r"demo_speed must be in \(0, 3\]"),
        ({"last": 9}, r"last must be in \[1, 8\]"),
        ({"elites": 200}, r"elites must be in \[1, 128\]"),
        ({"horizon": 0}, r"horizon must be in \[1, inf\)"),
    ],
)
def test_values_of_the_robot_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        safe_config.Robot(**change)


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
