"""Which whole runs .ci/run does: those whose imports changed, and a fifth of the others in turn."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / ".ci" / "changed.py"))
HOUR = 3600.0


def due(monkeypatch, changed, now=0.0):
    """Test files that are due when these files changed."""
    monkeypatch.setitem(SCRIPT["whole_runs"].__globals__, "changed_files", lambda: changed)
    return set(SCRIPT["whole_runs"](now))


@pytest.fixture(scope="module")
def everything():
    slugs = (path.parent.name for path in ROOT.glob("experiments/[!_]*/config.py"))
    return {f"tests/experiments/test_{slug}.py" for slug in slugs}


def test_without_a_history_everything_is_due(monkeypatch, everything):
    assert due(monkeypatch, None) == everything


def test_five_turns_of_four_hours_do_everything_once(monkeypatch, everything):
    turns = [due(monkeypatch, set(), 4 * HOUR * i) for i in range(5)]
    assert sum(map(len, turns)) == len(everything)
    assert set().union(*turns) == everything


def test_a_change_reaches_the_experiments_that_import_it(monkeypatch):
    """The shop's scorer is read by its two experiments, and by no game on a table."""
    idle = due(monkeypatch, set())
    found = due(monkeypatch, {"rlhf_jax/envs/shop/scorer.py"}) | idle
    assert {"tests/experiments/test_shop.py", "tests/experiments/test_shop_nash.py"} <= found
    assert found - idle <= {"tests/experiments/test_shop.py", "tests/experiments/test_shop_nash.py"}
