"""Which long tests .ci/run does: those whose imports changed, and a fifth of the others in turn."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / ".ci" / "changed.py"))
HOUR = 3600.0


def due(monkeypatch, changed, now=0.0):
    """Test files that are due when these files changed."""
    monkeypatch.setitem(SCRIPT["long_runs"].__globals__, "changed_files", lambda: changed)
    return set(SCRIPT["long_runs"](now))


@pytest.fixture(scope="module")
def everything():
    return {str(path.relative_to(ROOT)) for path in SCRIPT["long_tests"]()}


def test_files_with_long_tests_are_found(everything):
    assert {"tests/experiments/test_shop.py", "tests/test_certify.py"} <= everything
    assert "tests/test_checks.py" not in everything


@pytest.mark.long
@pytest.mark.parametrize("changed", [None, {"tests/conftest.py"}])
def test_without_a_history_or_after_a_change_to_all_tests_everything_is_due(
    monkeypatch, everything, changed
):
    assert due(monkeypatch, changed) == everything


@pytest.mark.long
def test_five_turns_of_four_hours_do_everything_once(monkeypatch, everything):
    turns = [due(monkeypatch, {"README.md"}, 4 * HOUR * i) for i in range(5)]
    assert set().union(*turns) == everything
    always = set.intersection(*turns)
    assert always == {x for x in everything if "/pages/" in x or "first_stages" in x}
    assert sum(len(turn - always) for turn in turns) == len(everything - always)


@pytest.mark.long
def test_a_change_reaches_the_tests_that_import_it(monkeypatch):
    """The shop's scorer is read by two experiments and by its own tests, and by no loss."""
    idle = due(monkeypatch, {"README.md"})
    found = due(monkeypatch, {"rlhf_jax/envs/shop/scorer.py"})
    new = {
        "experiments/test_shop.py",
        "experiments/test_shop_nash.py",
        "envs/shop/test_shop_scorer.py",
    }
    assert {f"tests/{name}" for name in new} <= found
    assert not {name for name in found - idle if name.startswith("tests/losses/")}


def test_a_change_of_a_helper_reaches_the_tests_that_use_it(monkeypatch):
    found = due(monkeypatch, {"tests/recipes/unigram_lab.py"})
    assert {"tests/recipes/test_episodes.py", "tests/recipes/test_online.py"} <= found


def test_the_budget_takes_files_in_their_order_and_what_still_fits():
    """10 + 20 fit into 35, 15 (untimed) does not, 5 does."""
    seconds = {"a": 10.0, "b": 20.0, "d": 5.0}
    assert SCRIPT["within"](["a", "b", "c", "d"], seconds, 35.0) == ["a", "b", "d"]


def test_tests_near_a_change_come_first(monkeypatch):
    """The tests of Elo ratings import `ops.masking` only through other files."""
    monkeypatch.setitem(
        SCRIPT["long_runs"].__globals__, "changed_files", lambda: {"rlhf_jax/ops/masking.py"}
    )
    order = SCRIPT["long_runs"](0.0)
    near = order.index("tests/ops/test_masking.py")
    assert near < order.index("tests/experiments/test_shop.py")


def test_seconds_of_a_file_are_those_of_its_cases(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="tests.test_checks" name="a" time="1.25"/>'
        '<testcase classname="tests.test_checks.TestAll" name="b" time="0.5"/>'
        '<testcase classname="tests.ops.test_kl" name="c" time="0.1"/></testsuite></testsuites>'
    )
    assert SCRIPT["file_seconds"](report) == {"tests/test_checks.py": 1.8}
