"""The safe_rl_minimal experiment: claims on made-up records, and a whole quick run (slow)."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.safe_rl_minimal import config as safe_config
from experiments.safe_rl_minimal import robot as safe_robot
from experiments.safe_rl_minimal import run as safe_run
from experiments.safe_rl_minimal.cells import (
    BEST,
    LATEST,
    RANDOM,
    Cell,
    fewest,
    grid_cells,
    kept_rows,
    name_of,
    plain,
    robot_cells,
    warned,
)
from experiments.safe_rl_minimal.claims import (
    Sweep,
    safe_set_claim,
    slip_claim,
    wall_claims,
    world_claims,
)
from experiments.safe_rl_minimal.report import write_report
from rlhf_jax.algos.planning.safe_set import Replay
from rlhf_jax.envs import point_robot
from rlhf_jax.training import open_run

ROBOT = safe_config.RobotConfig(num_seeds=3, windows=(6,))
CONFIG = safe_config.Config(num_seeds=3, robot=ROBOT)
ALONE = {1: 30.0, 3: 28.0, 10: 24.0, 30: 23.0}  # length by demonstrations without walks


def length(cell: Cell, usual: int) -> float:
    """22 with walks, 21 of the usual rho; 1 less with the best kept."""
    walked = 21.0 if cell.rho == usual else 22.0
    return (walked if cell.walks else ALONE[cell.demos]) - (cell.memory == BEST)


def made_up(world: str) -> Sweep:
    """Nothing ever fails, but where it should: slips, no safe set, the wall unknown."""
    config = CONFIG if world == "grid" else ROBOT
    cells = grid_cells(config) if world == "grid" else robot_cells(config)
    shape = (len(cells), 3, config.iterations, config.episodes)
    lengths = np.array([length(cell, config.rhos.index(config.rho)) for cell in cells])
    walks = len(config.rhos) + (world == "robot")
    found = {
        "length": np.broadcast_to(lengths[:, None, None, None], shape).copy(),
        "success": np.ones(shape, bool),
        "violation": np.zeros(shape, bool),
        "safe cells": np.full(shape[:-1], 50),
        "demo length": np.full((3, 30), 35),
        "demo success": np.ones((3, 30), bool),
        "walk success": np.zeros((3, walks, 30), bool),
        "walk violation": np.tile(np.arange(30) < 15, (3, walks, 1)),
    }
    sweep = Sweep(world, config, cells, found)
    if world == "robot":
        lose(sweep, fewest(config)._replace(free=1), 10)
    return sweep


def lose(sweep: Sweep, cell: Cell, rounds: int, *, violation: bool = False) -> None:
    """The first episode of these rounds fails."""
    i = sweep.cells.index(cell)
    sweep.found["success"][i, :, :rounds, 0] = False
    sweep.found["violation"][i, :, :rounds, 0] = violation


def failed(sweep: Sweep) -> set[str]:
    """Letters of the claims of a world that do not hold, (c) with what it is the rate of."""
    told = [claim.statement for claim in world_claims(sweep) if not claim.holds]
    rates = [words.partition("rate of ")[2].partition(",")[0] for words in told]
    return {words.partition("(")[2][0] + rate for words, rate in zip(told, rates, strict=True)}


def test_the_sweeps_have_every_factor_and_their_controls():
    assert len(grid_cells(CONFIG)) == 4 * 2 * 2 + 1 + 1 + 3 + 1
    assert len(robot_cells(ROBOT)) == 3 * 2 * 2 + 1 + 1 + 2 + 1 + 1 + 5
    assert len(set(robot_cells(ROBOT))) == len(robot_cells(ROBOT))
    assert plain(CONFIG, 1, 0) == fewest(CONFIG) == Cell(1, 0, 2)
    assert name_of(ROBOT, warned(ROBOT, 30)) == "30 demonstrations, 30 walks into the wall"
    assert name_of(ROBOT, fewest(ROBOT, RANDOM)) == "1 demonstration, 0 walks, random 6 kept"
    assert name_of(ROBOT, robot_cells(ROBOT)[-1]).endswith("all successes kept")
    slow = grid_cells(CONFIG)[-1]
    assert name_of(CONFIG, slow) == "1 demonstration without slips, 0 walks"


def test_what_is_kept():
    """Rows 0, 1, 3 succeed in 3, 1, 2 steps; row 2 fails; row 4 is empty."""
    steps = np.array([3, 1, 2, 2, 0])
    wins = jnp.array([True, True, False, True, False])
    replay = Replay(
        jnp.zeros((5, 5), int), jnp.zeros((5, 4), int), jnp.arange(4) < steps[:, None], wins, ~wins
    )
    kept = {
        memory: np.flatnonzero(kept_rows(replay, Cell(1, 0, 0, memory, 2), jax.random.key(0)))
        for memory in range(4)
    }
    np.testing.assert_array_equal(kept[0], [0, 1, 2, 3])
    np.testing.assert_array_equal(kept[BEST], [1, 3])
    np.testing.assert_array_equal(kept[LATEST], [1, 3])
    assert set(kept[RANDOM]) < {0, 1, 3}
    assert len(kept[RANDOM]) == 2


@pytest.mark.parametrize("world", ["grid", "robot"])
def test_each_claim_is_broken_by_what_should_break_it(world):
    assert failed(made_up(world)) == set()
    slow = made_up(world)
    slow.found["length"][slow.cells.index(plain(slow.config, 30, 0))] = 27.0
    assert failed(slow) == {"a"}
    useless = made_up(world)
    useless.found["length"][useless.cells.index(plain(useless.config, 1, 30))] = 30.0
    assert failed(useless) == {"a", "b", "e"}  # the walks no longer replace demonstrations
    forgetful = made_up(world)
    forgetful.found["length"][forgetful.cells.index(fewest(forgetful.config, BEST))] = 31.0
    assert failed(forgetful) == {"d"}
    lucky = made_up(world)
    lucky.found["length"][lucky.cells.index(fewest(lucky.config, RANDOM))] = 20.0
    assert failed(lucky) == {"d"}  # any six would do
    rash = made_up(world)
    lose(rash, plain(rash.config, 10, 0), 3, violation=True)
    assert failed(rash) == {"cviolation", "csuccess"}
    stuck = made_up(world)
    lose(stuck, fewest(stuck.config), 3)
    assert failed(stuck) == {"cdead end", "csuccess"}
    idle = made_up(world)
    idle.found["walk violation"][:] = False
    idle.found["walk success"][:] = True
    assert failed(idle) == {"cviolation", "cdead end", "csuccess"}


def test_causes_are_claims_of_their_own():
    grid, robot = made_up("grid"), made_up("robot")
    assert not slip_claim(grid).holds  # where nothing ever fails, slips explain nothing
    lose(grid, fewest(CONFIG), 3)
    assert slip_claim(grid).holds
    assert safe_set_claim(robot).holds
    assert [claim.holds for claim in wall_claims(robot)] == [False, True]  # nor does the wall
    lose(robot, plain(ROBOT, 30, 0), 3, violation=True)
    assert [claim.holds for claim in wall_claims(robot)] == [True, True]
    lose(robot, warned(ROBOT, 30), 3, violation=True)
    slow = warned(ROBOT, 1)._replace(memory=BEST, keep=6)
    robot.found["length"][robot.cells.index(slow)] = 31.0
    assert [claim.holds for claim in wall_claims(robot)] == [False, False]


@pytest.mark.long
def test_the_robot_s_data_are_what_they_are_called():
    """Demonstrations arrive, late; most of what is meant to end in the wall does."""
    config = replace(ROBOT, steps=100)
    keys = jax.random.split(jax.random.key(0), 2)
    demos, walks = jax.jit(jax.vmap(lambda key: safe_robot.offline(config, key)))(keys)
    assert demos.successes.mean() > 0.95
    assert not demos.violations.any()
    assert 50 < demos.mask.sum(-1).mean() < 90
    assert walks.violations.shape == (2, 4, 30)
    assert walks.violations[:, -1].mean() > 0.6
    assert not walks.successes[:, -1].any()
    last = np.asarray(demos.mask.sum(-1))
    ends = np.take_along_axis(np.asarray(demos.states), last[..., None, None], axis=2)[:, :, 0]
    inside = np.asarray(point_robot.in_goal(jnp.asarray(ends), radius=config.goal_radius))
    np.testing.assert_array_equal(inside, demos.successes)


@pytest.mark.long
def test_the_safe_set_page_is_self_contained_and_says_what_it_is_not(tmp_path):
    sweeps = [made_up("grid"), made_up("robot")]
    with open_run(tmp_path, slug="safe_rl_minimal", config=CONFIG) as job:
        write_report(job, sweeps, [], safe_run.cells_table(sweeps))
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "http://" not in page
    assert "not the paper's algorithm" in page.replace("&#x27;", "'")
    assert {path.stem for path in (tmp_path / "data").glob("*.npz")} == {"grid", "robot"}
    for sweep in sweeps:
        assert np.isfinite(jax.tree.leaves(safe_run.summary(sweep))).all()


@pytest.mark.long
def test_a_whole_quick_run_of_safe_sets_is_sound(tmp_path):
    config = safe_config.quick()
    with open_run(tmp_path, slug="safe_rl_minimal", config=config) as job:
        outcome = safe_run.run(config, job)
    assert len(outcome.claims) == 2 * 14 + 4
    assert np.isfinite(jax.tree.leaves(dict(outcome.numbers))).all()
    for world, sizes in (("grid", config), ("robot", config.robot)):
        kept = np.load(tmp_path / "data" / f"{world}.npz")
        assert (kept["length"] >= 1).all()
        assert (kept["length"] <= sizes.steps).all()
        assert not (kept["success"] & kept["violation"]).any()


@pytest.mark.parametrize("kind", [safe_config.Config, safe_config.RobotConfig])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"demos": (1, 10)}, "demos must hold 1, 10 and 30"),
        ({"demos": (30, 10, 1)}, "demos must rise"),
        ({"walks": (5, 30)}, "walks must be 0 and a number above it"),
        ({"rho": 0.5}, "rho must be one of rhos"),
        ({"last": 20}, r"last must be in \[1, 1[02]\]"),
        ({"episodes": 0}, r"episodes must be in \[1, inf\)"),
    ],
)
def test_safe_rl_values_out_of_range_are_named(kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(**change)
