"""The benchmark of first steps: its rows are what the commands read, and a goal can be missed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import compile as first_steps
from rlhf_jax.data.formats import read_rows

ROOT = Path(__file__).parents[2]


def test_the_rows_are_pairs_and_the_cache_is_the_child_s_own(tmp_path, monkeypatch):
    first_steps.write_rows(tmp_path / "rows.jsonl")
    rows = read_rows(tmp_path / "rows.jsonl").records
    assert len(rows) == first_steps.ROWS - 2  # 0 * 0 and 1 * 1 have two equal answers
    assert (rows[8].chosen, rows[8].rejected) == (" It is 3.", " It is 10.")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    found = first_steps.environment(tmp_path)
    assert found["XDG_CACHE_HOME"] == str(tmp_path)
    assert "JAX_COMPILATION_CACHE_DIR" not in found


@pytest.mark.slow
def test_the_command_of_first_steps():
    command = [sys.executable, "-m", "benchmarks.compile", "--turns", "1"]
    settings = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, env=settings
    )
    assert done.returncode == (3 if "MISSED" in done.stdout else 0), done.stderr[-2000:]
    assert done.stdout.count("goal: ") == 4
