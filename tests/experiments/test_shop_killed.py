"""The shop job from the command line, killed twice with SIGKILL and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONS = """
--size.d-model 16 --size.num-layers 1 --size.num-heads 2 --size.num-kv-heads 1 --size.d-ff 16
--from-scratch --pretraining.base-rows 60 --pretraining.base-steps 2 --pretraining.ideal-rows 60
--pretraining.ideal-steps 3 --pretraining.sft-rows 60 --pretraining.sft-steps 2
--pretraining.batch-size 8
--pairs.train 48 --pairs.heldout 24 --pairs.tie-gap 0 --head.steps 30
--head.batch-size 8 --dpo.steps 3 --dpo.batch-size 8 --ipo.steps 3 --ipo.batch-size 8
--online-dpo.steps 3 --online-dpo.batch-size 8 --ppo.steps 40 --ppo.free-steps 3
--ppo.batch-size 8 --evaluation.gate-prompts 16 --evaluation.prompts 12 --evaluation.best-prompts 12
--evaluation.curve-prompts 6 --evaluation.curve-points 2 --evaluation.best-of 4
"""


def start(out: Path, *options: str) -> subprocess.Popen:
    """`python -m experiments run shop` at toy size, its output kept in a file beside `out`."""
    command = [sys.executable, "-m", "experiments", "run", "shop", "--quick", "--out", str(out)]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax")}
    with open(out.with_suffix(".log"), "a") as log:
        return subprocess.Popen(
            [*command, *OPTIONS.split(), *options],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )


def kill_once(process: subprocess.Popen, out: Path, stage: str) -> None:
    """SIGKILL as soon as metrics.jsonl has a row of the stage."""
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        metrics = out / "metrics.jsonl"
        if metrics.exists() and f'"stage": "{stage}"' in metrics.read_text():
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, out.with_suffix(".log").read_text()


@pytest.mark.slow
def test_killed_twice_ends_with_the_same_numbers(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait() == 3, whole.with_suffix(".log").read_text()
    kill_once(start(killed), killed, "scalar_head")
    kill_once(start(killed, "--resume"), killed, "ppo")
    assert start(killed, "--resume").wait() == 3, killed.with_suffix(".log").read_text()
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    numbers = [json.loads((out / "summary.json").read_text()) for out in (whole, killed)]
    assert numbers[0]["numbers"] == numbers[1]["numbers"]
    assert numbers[0]["claims"] == numbers[1]["claims"]
