"""The parity pack: that it can fail, that its data is what its script draws, and that it passes."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.parity import draw, report
from benchmarks.parity.batches import load
from benchmarks.parity.compare import Objective, Row, Run, compare, descend, deviation
from benchmarks.parity.table_policy import pair, pair_answers
from rlhf_jax.losses.preference import dpo_loss

ROOT = Path(__file__).parents[2]
TUNIX_PYTHON = os.environ.get("RLHF_JAX_TUNIX_PYTHON")
ABSENT = [name for name in ("trl", "torch", "rlax") if importlib.util.find_spec(name) is None]


def dpo(params: jax.Array, beta: float = 0.8) -> jax.Array:
    return jnp.mean(dpo_loss(*pair(params).logps, beta=beta))


def objective(peer, ours) -> Objective:
    policy = load("weights").policy
    return Objective("DPO", "test", lambda: descend(peer, policy), ours, policy)


@pytest.mark.long
def test_the_same_loss_passes_and_moves_the_weights():
    found = compare(objective(dpo, dpo))
    assert (found.value, found.gradient, found.path) == (0.0, 0.0, 0.0)
    assert found.passed
    policy = load("weights").policy
    run = descend(dpo, policy)
    largest = np.abs(run.path[0] - policy).max()
    np.testing.assert_allclose(largest, 0.1, rtol=1e-4)  # FIRST_STEP


@pytest.mark.long
@pytest.mark.parametrize(
    ("wrong", "columns"),
    [
        (lambda params: dpo(params, beta=0.8001), ("value", "gradient", "path")),
        (lambda params: dpo(params) + 1e-3, ("value",)),  # a wrong constant: the value only
        (
            lambda params: (
                dpo(params)
                - jax.lax.stop_gradient(pair_answers(params, "gold").logps[0])
                + pair_answers(params, "gold").logps[0]
            ),
            ("gradient", "path"),  # the right value with a gradient that should not flow
        ),
    ],
)
def test_a_wrong_loss_fails(wrong, columns):
    found = compare(objective(dpo, wrong))
    assert not found.passed
    first = {"value": found.value, "gradient": found.gradient, "path": found.path}
    for column in columns:
        assert np.asarray(first[column]) > 1e-5, column


def test_nan_fails_and_estimators_have_one_column():
    estimator = Objective("x", "test", lambda: Run(np.array([1.0, 2.0])), lambda: jnp.ones(2))
    found = compare(estimator)
    assert (found.value, found.gradient, found.path) == (0.5, None, None)
    assert not Row("x", "test", float("nan"), None, None, "").passed
    assert "| FAIL    |" in report.table([found])


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shapes differ"):
        deviation(np.ones(2), np.ones((2, 1)))


def test_committed_data_is_what_the_script_draws():
    rng = np.random.default_rng(draw.SEED)
    for make in (draw.weights, draw.pairs, draw.groups, draw.steps):
        drawn, committed = make(rng), load_file(draw.DATA / f"{make.__name__}.safetensors")
        assert drawn.keys() == committed.keys()
        for name in drawn:
            np.testing.assert_array_equal(drawn[name], committed[name], strict=True)


def test_answers_of_the_table_policy():
    pairs, table = load("pairs"), load("weights").policy.astype(np.float64)
    found = pair_answers(load("weights").policy, "chosen")
    for row in range(draw.PAIRS):
        words = pairs.chosen_ids[row][pairs.chosen_mask[row]]
        before = [pairs.prompt_ids[row, -1], *words[:-1]]
        by_hand = sum(
            table[s, a] - np.log(np.exp(table[s]).sum()) for s, a in zip(before, words, strict=True)
        )
        np.testing.assert_allclose(found.logps[row], by_hand, rtol=1e-5)
        np.testing.assert_allclose(found.means[row], by_hand / len(words), rtol=1e-5)


def run_pack(folder: Path) -> tuple[int, str]:
    """Exit code and page of the whole command."""
    page = folder / "parity.md"
    command = [sys.executable, "-m", "benchmarks.parity", "--out", str(page)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr[-2000:]
    return done.returncode, page.read_text()


@pytest.mark.slow
@pytest.mark.skipif(bool(ABSENT), reason=f"not installed (extra `parity`): {', '.join(ABSENT)}")
def test_every_objective_agrees_with_its_peer(tmp_path):
    code, page = run_pack(tmp_path)
    failed = [line for line in page.splitlines() if "| FAIL" in line]
    assert (code, failed) == (0, [])
    count = {peer: page.count(f"| {peer}") for peer in ("TRL", "rlax", "Tunix")}
    assert count["TRL"] >= 70
    assert count["rlax"] == 8
    if TUNIX_PYTHON is None:
        assert "tunix: skipped" in page
    else:
        assert count["Tunix"] == 14
