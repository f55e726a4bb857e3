"""`rlhf` in several processes."""

import json

import numpy as np
import pytest
from real_processes import run_processes
from safetensors.numpy import load_file

from rlhf_jax.cli.arguments import BadArguments, parse
from rlhf_jax.cli.offline import SFT
from rlhf_jax.cli.processes import Processes, joining
from rlhf_jax.training.processes import process

RLHF = ["-c", "import sys; from rlhf_jax.cli.main import main; sys.exit(main())"]


def sft_flags(model, files, out):
    return [
        *("sft", "--model", str(model), "--data", str(files / "text.txt"), "--out", str(out)),
        *("--steps", "3", "--batch-size", "4", "--heldout", "0.25", "--learning-rate", "0.01"),
        *("--prompt-length", "4", "--answer-length", "12", "--save-every", "1"),
    ]


def test_options_of_processes_go_together(model, files, tmp_path):
    flags = sft_flags(model, files, tmp_path / "run")[1:]
    options = parse(SFT, [*flags, "--distributed", "--heartbeat", "20"], "sft")
    assert options.output.hosts == Processes(distributed=True, heartbeat=20)
    with pytest.raises(BadArguments, match="--coordinator, --processes and --process go together"):
        parse(SFT, [*flags, "--coordinator", "a:1"], "sft")


def test_other_commands_join_nobody():
    with joining(object()):
        assert process() == 0
    with joining(Processes()):
        assert process() == 0


@pytest.mark.slow
def test_two_processes_write_the_model_of_one(model, files, tmp_path):
    together = ["--coordinator", "ADDRESS", "--processes", "2", "--heartbeat", "20", "--process"]
    two, one = (
        run_processes([[*RLHF, *sft_flags(model, files, tmp_path / name), *more] for more in each])
        for name, each in (("two", [[*together, "0"], [*together, "1"]]), ("one", [[]]))
    )
    assert [code for code, *_ in (*two, *one)] == [0, 0, 0], (two, one)
    assert "report:" in two[0][1]
    assert two[1][1].strip() in ("", *two[1][1].splitlines()[:1])  # but a line of Gloo's
    first, second = (
        load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two")
    )
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        np.testing.assert_allclose(second[name], tensor, rtol=2e-4, atol=2e-6)
    summaries = [
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")
    ]
    assert summaries[0]["options"] == summaries[1]["options"]
    losses = [found["numbers"]["loss"]["after"] for found in summaries]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.slow
def test_a_process_with_other_rows_is_named(model, files, tmp_path):
    (tmp_path / "other.txt").write_text("\n\n".join(f"story {i}" for i in range(9)))
    commands = []
    for number in range(2):
        words = sft_flags(model, files, tmp_path / "run")
        words += ["--coordinator", "ADDRESS", "--processes", "2", "--process", str(number)]
        commands.append([*RLHF, *words])
    commands[1] = [
        word.replace(str(files / "text.txt"), str(tmp_path / "other.txt")) for word in commands[1]
    ]
    for code, _, text in run_processes(commands):
        assert code == 2
        assert "process 1 (" in text
        assert "differs in its data or mesh" in text
