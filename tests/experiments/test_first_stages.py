"""Every experiment's first stage, at its smallest size: it runs, and leaves finite numbers.

The rest of a run is among the whole runs, which are done where a change reaches them.
"""

import importlib
import signal
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from rlhf_jax.training import Interrupted, open_run

SLUGS = sorted(path.parent.name for path in Path("experiments").glob("[!_]*/config.py"))
NEEDS_A_FILE = {"preferences"}
SMALLER = {
    "one_loss_three_policies": {"num_seeds": 1, "betas": (1.0,), "steps": 60},
    "randomized_pbrl": {"num_seeds": 2, "rounds": 64},
    "regret_preference": {"num_boards": 2, "sizes": (10, 30), "starts": 1, "steps": 10},
    "safe_rl_minimal": {"num_seeds": 2, "iterations": 4, "last": 2},
}


def smallest(slug: str):
    """The toy size of the experiment's own tests, or its quick size, made smaller."""
    tests = importlib.import_module(f"test_{slug}")
    quick = importlib.import_module(f"experiments.{slug}.config").quick
    return replace(getattr(tests, "TOY", None) or quick(), **SMALLER.get(slug, {}))


@pytest.mark.long
@pytest.mark.parametrize("slug", [slug for slug in SLUGS if slug not in NEEDS_A_FILE])
def test_the_first_stage_leaves_finite_numbers(slug, tmp_path):
    run = importlib.import_module(f"experiments.{slug}.run").run
    results = tmp_path / "stages"

    def stop() -> int:
        return signal.SIGTERM if list(results.glob("*/result")) else 0

    config = smallest(slug)
    with pytest.raises(Interrupted), open_run(tmp_path, slug=slug, config=config, stop=stop) as job:
        run(config, job)
    (result,) = results.glob("*/result")  # of numbers that are finite, or the run had stopped
    assert (result / "checkpoint.json").is_file()
    jax.clear_caches()
