"""docs/mdp.md: what it names is there, no solver is missing, and its code runs."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "mdp.md").read_text()
ROOMS = "types|ops|losses|algos|policies|envs|exact|feedback|sampling"
NAMED = set(re.findall(rf"`((?:{ROOMS})\.\w+(?:\.\w+)*)`", PAGE))
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SOLVERS = ("finite_mdp", "discounted_mdp", "value_iteration", "linear_mdp")


def lookup(name):
    """The module, function or class `a.b.c` of rlhf_jax."""
    path, _, last = f"rlhf_jax.{name}".rpartition(".")
    try:
        return importlib.import_module(f"{path}.{last}")
    except ModuleNotFoundError:
        return getattr(importlib.import_module(path), last)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_name_on_the_page_is_there(name):
    assert lookup(name) is not None


def test_every_solver_is_on_the_page():
    for module in SOLVERS:
        home = importlib.import_module(f"rlhf_jax.exact.{module}")
        for name, thing in inspect.getmembers(home, inspect.isfunction):
            if thing.__module__ == home.__name__ and not name.startswith("_"):
                assert f"`exact.{module}.{name}`" in PAGE


def test_every_test_file_and_experiment_on_the_page_is_there():
    files = re.findall(r"`(\w+/test_\w+\.py)`", PAGE)
    assert len(files) > 15
    assert [name for name in files if not (ROOT / "tests" / name).is_file()] == []
    slugs = {row.split("|")[4].strip(" `") for row in PAGE.splitlines() if row.startswith("|")}
    named = {slug for slug in slugs if (ROOT / "experiments" / slug / "run.py").is_file()}
    assert {"demo_reg_rl", "randomized_pbrl", "cpl", "rlif", "heron", "rl_perspective"} <= named


def printed(code, capsys):
    """The numbers that a block of the page prints."""
    exec(compile(code, "docs/mdp.md", "exec"), {})
    return map(float, re.findall(r"\d+\.\d+", capsys.readouterr().out))


@pytest.mark.long
def test_an_mdp_of_numpy_arrays_is_planned_with_rewards_fitted_to_comparisons(capsys):
    regret, uniform = printed(CODE[1], capsys)
    assert 0 <= regret < 0.1 * uniform


@pytest.mark.long
def test_its_code_runs(capsys):
    regret, kl, sampled, exact = printed(CODE[0], capsys)
    assert 0 <= regret < 0.1 * 4
    assert 0 < kl < 4 * 1.1
    assert abs(sampled - exact) < 0.15


@pytest.mark.long
def test_continuous_actions_are_learned_from_comparisons_of_segments(capsys):
    away, before = printed(CODE[2], capsys)
    assert away < 0.15 < 0.4 < before
