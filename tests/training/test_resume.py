"""Killed, interrupted, resumed: the same numbers and the same files, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_jax.training.signals import STOPPING

TOY = Path(__file__).parents[1] / "toy_experiments" / "cli.py"
ROOT = Path(__file__).parents[2]


def start(out, *options):
    command = [sys.executable, str(TOY), "run", "toy", "--out", str(out), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_rows(process, out, count):
    """Until metrics.jsonl, as far as it has been flushed, holds `count` rows."""
    path, deadline = out / "metrics.jsonl", time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.005)
    raise AssertionError(f"no {count} rows: {process.communicate()[0]}")


def results(out):
    """What must be equal: every metric row and the numbers of the summary."""
    summary = json.loads((out / "summary.json").read_text())
    digests = {}
    for stage in ("one", "two", "kept"):
        record = json.loads((out / "stages" / stage / "result" / "checkpoint.json").read_text())
        digests[stage] = [(leaf["path"], leaf["sha256"]) for leaf in record["leaves"]]
    return (out / "metrics.jsonl").read_bytes(), summary["numbers"], summary["claims"], digests


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    process = start(out, "--nap", "0.004")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    return results(out)


@pytest.mark.long
def test_sigkill_at_any_moment(tmp_path, uninterrupted):
    out, dice = tmp_path / "run", random.Random()
    for rows in (dice.randint(7, 40), dice.randint(60, 80), dice.randint(90, 110)):
        process = start(out, "--nap", "0.004", "--resume")
        wait_for_rows(process, out, rows)
        time.sleep(dice.uniform(0, 0.15))
        process.kill()
        process.communicate()
    process = start(out, "--nap", "0.004", "--resume")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    assert results(out) == uninterrupted
    assert not list(out.rglob(".tmp-*"))


@pytest.mark.long
def test_sigint_and_sigterm_save_and_leave(tmp_path, uninterrupted):
    out = tmp_path / "run"
    for rows, number in ((20, signal.SIGINT), (85, signal.SIGTERM)):
        process = start(out, "--nap", "0.004", "--resume")
        wait_for_rows(process, out, rows)
        process.send_signal(number)
        text, _ = process.communicate(timeout=60)
        assert process.returncode == 128 + number, text
        assert "Traceback" not in text
        assert STOPPING.decode() in text
        last = text.strip().splitlines()[-1]
        assert last.startswith("stopped ")
        assert f"run toy --out {out} --nap 0.004 --resume" in last
    process = start(out, "--nap", "0.004", "--resume")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    assert results(out) == uninterrupted
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in rows] == [
        (stage, step) for stage in ("one", "two") for step in (*range(61), 60)
    ]
