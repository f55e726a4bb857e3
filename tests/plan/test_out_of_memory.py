"""A command that runs out of memory says what its step needs and what to change."""

import json
from types import SimpleNamespace

import jax
import pytest
from tiny_config import TINY

from rlhf_jax.cli import main, memory
from rlhf_jax.cli.offline import Preference
from rlhf_jax.cli.options import Model, Optimizer, Output, Rows
from rlhf_jax.cli.unpaired import KTO
from rlhf_jax.plan.chips import CHIPS, local_topology, read_topology


@pytest.fixture
def parts(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    return {
        "model": Model(model=tmp_path, prompt_length=8, answer_length=8, mesh="fsdp=8"),
        "rows": Rows(data=tmp_path / "pairs.jsonl"),
        "output": Output(out=tmp_path / "out"),
    }


def fails(message):
    def run(command, options):
        raise jax.errors.JaxRuntimeError(message)

    return run


def test_a_command_out_of_memory_ends_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rlhf_jax.cli.offline.sft", fails("RESOURCE_EXHAUSTED: 8 GiB"))
    words = ("--model", str(tmp_path), "--data", "a.jsonl", "--out", str(tmp_path / "out"))
    assert main(["sft", *words]) == 1
    assert "error: out of memory: lower --batch-size" in capsys.readouterr().err
    monkeypatch.setattr("rlhf_jax.cli.offline.sft", fails("INTERNAL: bug"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        main(["sft", *words])


def test_the_step_of_a_command_is_planned(parts):
    options = Preference(**parts, loss="simpo", optimizer=Optimizer(batch_size=8, micro_batches=2))
    job = memory.workload("simpo", options)
    assert job is not None
    assert job.pairs is not None
    assert (job.method, job.batch, job.parts) == ("pairs", 8, 2)
    assert (job.prompt_length, job.answer_length) == (8, 8)
    assert not job.pairs.reference
    assert job.config.d_model == 32
    assert memory.workload("kto", KTO(**parts)) is None


@pytest.mark.long
def test_its_table_and_options_are_shown(parts, capsys):
    options = Preference(**parts, optimizer=Optimizer(batch_size=8))
    small = read_topology("h100:8")
    small = small._replace(chip=small.chip._replace(hbm=1000.0))
    plan = memory.local_plan(memory.workload("dpo", options), small, options)
    memory.show(plan, "tiny")
    printed = capsys.readouterr().out
    assert "does not fit: step takes" in printed
    assert "more chips" in printed


def test_local_devices_are_a_topology_if_their_kind_is_known():
    assert local_topology(jax.devices()) is None  # of a CPU
    gpus = [
        SimpleNamespace(
            device_kind="NVIDIA H100 80GB HBM3", memory_stats=lambda: {"bytes_limit": 6e10}
        )
    ] * 4
    found = local_topology(gpus)
    assert found is not None
    assert (found.count, found.chip.hbm, found.chip.flops) == (4, 6e10, CHIPS["h100"].flops)
    tpus = [
        SimpleNamespace(device_kind="TPU v5 lite", coords=[x, y, 0], memory_stats=lambda: None)
        for x in range(2)
        for y in range(4)
    ]
    found = local_topology(tpus)
    assert found is not None
    assert found.shape == (2, 4)
    assert found.chip == CHIPS["v5e"]
