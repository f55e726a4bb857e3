"""The benchmark of decoding: what its table says, and its own side's answers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.sample import __main__ as command
from benchmarks.sample import library
from benchmarks.sample.sides import Timed, write_work
from benchmarks.sample.sizes import Case, Sizes, draw_prompts, quick

ROOT = Path(__file__).parents[2]


def test_cases_of_the_whole_size_and_prompts_that_share_their_first_rows():
    assert list(Sizes().cases()) == [
        "greedy, batch 1",
        "greedy, batch 32",
        "sampled, batch 1",
        "sampled, batch 32",
    ]
    assert Sizes().queues()["long tail, 16 rows"] == Case(64, 1.0, stops=256, rows=16)
    ids = draw_prompts(quick(), 3)
    assert ids.shape == (3, 4)
    assert ids.min() >= 4
    np.testing.assert_array_equal(draw_prompts(quick(), 1), ids[:1])


def test_shares_and_goals_of_a_table(capsys):
    sizes = Sizes()
    # 128 steps in 1 s; 16 reads take 0.1 s, so a step's read is 1/160 s: 128 / 160 = 80% of them.
    # transformers takes 2, 2 and 3 times as long.
    seconds = {"rlhf_jax": [1.0, 1.0, 2.0], "transformers": [2.0, 2.0, 6.0], "read": [0.1] * 3}
    tokens = {"rlhf_jax": 4096, "transformers": 4096}
    timed = Timed(seconds, {"rlhf_jax": 1.5, "transformers": 3.5}, tokens)
    shares = command.print_case("greedy, batch 32", timed, sizes, peak=100.0)
    assert shares["rlhf_jax"] == pytest.approx(0.8)
    # 32 rows of 192 tokens: 2 x 6.88M weights each, 7 x 18,528 pairs at 4 x 256, and 2 x 256 x
    # 8,192 for each of 128 answers: 106 GFLOP, for which 100 GFLOP/s would take 1.06 s.
    first, second = (line.split()[3:] for line in capsys.readouterr().out.splitlines())
    assert first == ["rlhf_jax", "1.000", "4096", "1.50", "80%", "106%", "1.00"]
    assert second == ["transformers", "2.000", "2048", "3.50", "40%", "53%", "2.00"]
    (goal,) = command.goals_of("greedy, batch 32", timed, 0.8, sizes)
    assert str(goal) == "goal: greedy, batch 32, times transformers >= 2.5: 2, MISSED"
    (goal,) = command.goals_of("greedy, batch 1", timed, 0.81, sizes)
    assert (goal.met, goal.value) == (True, 0.81)


@pytest.mark.long
def test_the_library_s_rows_say_the_same_one_by_one_and_at_once(tmp_path):
    sizes = quick()
    assert write_work(tmp_path, sizes) > 0
    make = library.open_side(tmp_path / "model", sizes)
    at_once, refilled = (make(case)() for case in sizes.queues().values())
    assert [len(answer) for answer in at_once] != [sizes.answer] * sizes.queue
    for a, b in zip(at_once, refilled, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_the_command_at_tiny_sizes():
    settings = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sample", "--quick", "--turns", "1"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=settings,
    )
    assert done.returncode == (3 if "MISSED" in done.stdout else 0), done.stderr[-2000:]
    assert "tunix is left out: --tunix-python" in done.stdout
    assert "goal: greedy, batch 1, share of the read bandwidth" in done.stdout
