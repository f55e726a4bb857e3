"""Several processes share a batch: each reads its rows, and the run is that of one process."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from host_program import trained
from real_processes import run_processes
from word_lab import word_lab

from rlhf_jax.data.loader import WHOLE
from rlhf_jax.recipes import read_completions
from rlhf_jax.recipes.hosts import host_batches, host_share, join_hosts
from rlhf_jax.recipes.lab import device_mesh
from rlhf_jax.sharding import make_mesh
from rlhf_jax.training import read_metrics

PROGRAM = Path(__file__).with_name("host_program.py")
METHODS = ["packed", "sft", "dpo", "ppo", "grpo"]


def run_hosts(out, methods, count, *, devices=1, options=None):
    """The program in `count` processes; `options`: process -> what is different there."""
    base = {"out": str(out), "methods": methods, "coordinator": "ADDRESS", "count": count}
    told = [base | {"index": i} | (options or {}).get(i, {}) for i in range(count)]
    return run_processes([[str(PROGRAM), json.dumps(each)] for each in told], devices=devices)


def assert_close(found, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), found, wanted)


def params_of(ended):
    """What all processes printed, which is the same."""
    assert [code for code, *_ in ended] == [0] * len(ended), ended
    printed = [out.splitlines()[-1] for _, out, _ in ended]  # after a line of Gloo's
    assert len(set(printed)) == 1
    return json.loads(printed[0])


@pytest.mark.long
def test_two_processes_resume_after_one_is_killed(tmp_path):
    out = tmp_path / "run"
    survivor, killed = run_hosts(out, ["words"], 2, options={1: {"kill": ["words", 2]}})
    assert killed[0] == -9
    assert survivor[0] == 1
    assert "process 1 (" in survivor[2]
    assert "has not answered for 10 s" in survivor[2]
    assert "start all processes again, with --resume" in survivor[2]
    assert "Traceback" not in survivor[2]
    found = params_of(run_hosts(out, ["words"], 2))
    assert_close(found, trained(tmp_path / "alone", ["words"], mesh=None))
    assert [row["step"] for row in read_metrics(out)] == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The params and completions of one process on one device."""
    out = tmp_path_factory.mktemp("alone") / "run"
    return trained(out, METHODS, mesh=None), read_completions(out / "stages" / "grpo")


@pytest.mark.slow
def test_two_processes_of_two_devices_train_as_one(tmp_path, alone):
    out = tmp_path / "run"
    killed = run_hosts(out, METHODS, 2, devices=2, options={1: {"kill": ["ppo", 2]}})
    assert [code for code, *_ in killed] == [1, -9]
    assert_close(params_of(run_hosts(out, METHODS, 2, devices=2)), alone[0])
    rows = read_completions(out / "stages" / "grpo")
    assert [row["answer"] for row in rows] == [row["answer"] for row in alone[1]]


@pytest.mark.slow
def test_a_notice_of_preemption_stops_four_processes_and_one_goes_on(tmp_path, alone):
    out = tmp_path / "run"
    ended = run_hosts(out, METHODS, 4, options={2: {"signal": ["dpo", 1]}})
    assert [code for code, *_ in ended] == [143] * 4
    stops = {text[text.index("stopped ") :].splitlines()[0] for *_, text in ended}
    assert len(stops) == 1
    assert_close(trained(out, METHODS, mesh=make_mesh(devices=jax.devices()[:2])), alone[0])


@pytest.mark.slow
def test_a_process_with_other_methods_is_named(tmp_path):
    ended = run_hosts(tmp_path / "run", ["words"], 3, options={1: {"methods": ["sft"]}})
    for code, _, text in ended:
        assert code == 2
        assert "process 1 (" in text
        assert "differs in its run: config.methods is ['sft'], and ['words'] on process 0" in text


def test_one_process_reads_whole_batches():
    mesh = device_mesh()
    assert host_share(mesh) == host_share(None) == WHOLE
    batch = {"ids": np.arange(8)}
    assert join_hosts(batch, mesh) is batch
    rows = host_batches(word_lab(), ["a", "b"], sorted, batch_size=2)
    assert rows[0] == rows[1] == ["a", "b"]
