"""The benchmark of training steps: counts by hand, turns of processes, and what its table says."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import step
from benchmarks.train import __main__ as command
from benchmarks.train import library
from benchmarks.train.child import Work
from benchmarks.train.sides import Measured, Side, disagreement, in_turns, write_work
from benchmarks.train.sizes import Sizes, draw_arrays, quick

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("work")
    write_work(found, quick())
    return found


def test_counts_of_a_step_by_hand():
    sizes = quick()
    # Weights of a layer: 16 * (2 * 8 * (2 + 1) + 3 * 32) = 2304; 55 pairs of 10 tokens attend.
    # A row: 2 * 2304 * 10 + 4 * 16 * 55 + 2 * 16 * 96 * 6 = 46080 + 3520 + 18432; 4 rows, 3 passes.
    assert sizes.flops == 3 * 4 * 68032
    assert sizes.tokens == {"dpo": 40, "sft": 40, "grpo": 16, "ppo": 16}
    assert Sizes().tokens["dpo"] == 64 * 128
    arrays = draw_arrays(sizes)
    assert {name: x.shape for name, x in arrays.items()} == {
        "prompt": (2, 4),
        "chosen": (2, 6),
        "rejected": (2, 6),
        "group_prompt": (4, 4),
        "group_answer": (4, 4),
        "advantages": (4,),
    }
    np.testing.assert_array_equal(arrays["group_prompt"][0], arrays["group_prompt"][1])


def test_the_parts_of_a_step_add_up_to_it():
    sizes = quick()
    parts = (step.layer_weights(sizes), step.head(sizes), step.attention(sizes))
    assert sum(flops for _, flops in parts) == sizes.flops
    lines = step.report({"step": 4.0, "weights": 1.0, "optimizer": 0.5}, {"weights": 50e9}, 200.0)
    assert lines[0] == "roof: 200 GFLOP/s"
    assert lines[3].split() == ["weights", "1.000", "25%", "50", "25%"]
    assert lines[-1].split() == ["rest", "2.500", "62%"]
    # A part that is faster than the square product is the roof.
    assert step.report({"step": 2.0, "weights": 1.0}, {"weights": 90e9}, 30.0)[0].endswith(
        " 90 GFLOP/s"
    )


@pytest.mark.long
@pytest.mark.parametrize("make", [step.layer_weights, step.head, step.attention, step.optimizer])
def test_a_part_of_a_step_computes_numbers(make):
    call, _ = make(quick())
    call()
    found = jax.tree.leaves(call())
    assert all(jnp.all(jnp.isfinite(x)) for x in found)
    assert any(jnp.any(x != 0) for x in found)


@pytest.mark.long
def test_the_last_slope_of_the_products_has_the_shape_of_the_last_weight():
    """Of down, the last weight of a layer, in all layers."""
    sizes = quick()
    call, _ = step.layer_weights(sizes)
    slope = cast(Any, call())[-1][-1]
    assert slope.shape == (sizes.layers, sizes.mlp, sizes.width)


def test_sides_take_turns(folder):
    sides = [Side(name, sys.executable, "tests.benchmarks.fake_side") for name in ("a", "b")]
    found = in_turns(sides, "dpo", folder, 2)
    assert found["a"].losses == found["b"].losses == [1.0, 0.5, 0.25]
    assert disagreement(found) == 0.0
    assert found["a"].roof == 64
    assert found["a"].seconds > 0
    assert found["a"].peak > 1e6 or np.isnan(found["a"].peak)
    with pytest.raises(RuntimeError, match=r"fake_side sft ended(?s:.*)no such job here"):
        in_turns(sides[:1], "sft", folder, 1)


def test_the_table_has_shares_and_goals(capsys):
    losses = [0.7, 0.6, 0.5]
    found = {
        "rlhf_jax": Measured(losses, 2.0, 2e9, 100.0),
        "TRL": Measured([0.7, 0.6, 0.51], 3.0, 1e9, 90.0),
    }
    goals = command.report("dpo", Sizes(), found, 100.0)
    assert [goal.met for goal in goals] == [False, True, False]
    # 3 passes of 64 rows: 2 * 6.88e6 * 128 + attention 59e6 + head 403e6 is 2.22 GFLOP a row.
    assert goals[1].value == pytest.approx(Sizes().flops / 2e11)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["dpo", "rlhf_jax", "2.00", "4096", "213%", "2.00", "1.00"]
    assert lines[1].split() == ["dpo", "TRL", "3.00", "2731", "142%", "1.00", "1.50"]
    ahead = command.report("grpo", Sizes(), found, 100.0)[1]
    assert (ahead.value, ahead.met) == (1.5, False)
    found["rlhf_jax"] = found["rlhf_jax"]._replace(sample=0.5)
    (_, rate) = command.report("ppo", Sizes(), found, 100.0)
    assert (rate.value, rate.met) == (2048.0, True)
    assert "sample 0.50 s" in capsys.readouterr().out


def test_a_peer_without_an_interpreter_is_left_out():
    options = argparse.Namespace(trl_python=None, tunix_python="python")
    assert [side.name for side in command.sides_of("dpo", options)] == ["rlhf_jax", "Tunix"]
    assert [side.name for side in command.sides_of("grpo", options)] == ["rlhf_jax"]


class Enough(Exception):
    """Ends a job."""


@pytest.mark.long
@pytest.mark.parametrize("job", ["dpo", "sft", "grpo", "ppo"])
def test_a_job_of_the_library_learns_its_batch(folder, job):
    """Three steps on one batch lower its loss; DPO begins at log 2."""
    seen = []

    def turn(**found):
        seen.append(found)
        if len(seen) == 4:
            raise Enough

    work = Work(folder / "model", quick(), draw_arrays(quick()))
    with pytest.raises(Enough):
        library.JOBS[job](work, turn)
    losses = [found["loss"] for found in seen if "loss" in found]
    assert losses == sorted(losses, reverse=True)
    if job == "dpo":
        assert losses[0] == pytest.approx(float(jnp.log(2.0)), rel=1e-5)
    assert {"grpo": 3, "ppo": 0}.get(job, 4) == len(losses)


@pytest.mark.slow
def test_the_command_of_training_steps():
    line = [sys.executable, "-m", "benchmarks.train", "--quick", "--turns", "1", "--jobs", "dpo"]
    settings = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(line, check=False, cwd=ROOT, capture_output=True, text=True, env=settings)
    assert done.returncode == (3 if "MISSED" in done.stdout else 0), done.stderr[-2000:]
    assert "dpo   rlhf_jax" in done.stdout
    assert "TRL is left out" in done.stdout or "dpo   TRL" in done.stdout
