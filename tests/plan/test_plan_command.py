"""`rlhf plan`: its table, files and complaints."""

import json

import pytest
from tiny_config import TINY

from rlhf_jax.cli import main


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    return str(tmp_path)


def run(folder, method, *more):
    sizes = ("--batch", "8", "--length", "16", "--dtype", "float32")
    return main(["plan", method, "--model", folder, "--topology", "h100:8", *sizes, *more])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dpoo",), "rlhf plan has no method 'dpoo': did you mean dpo?"),
        (("sft", "--topology", "v5e:3"), "--topology v5e:3 is not known; choose from v5e:1x1"),
        (("sft", "--mesh", "model=8"), "kv_heads) does not divide over 8 devices"),
        (("sft", "--mesh", "fsdp=3"), "--mesh: fsdp=3 does not divide 8 devices"),
        (("sft", "--mesh", "tensor=8"), "--mesh: a mesh is written like fsdp=8,model=4"),
        (("sft", "--batch", "12"), "a batch of 12 does not divide over 8 devices"),
        (("sft", "--micro-batches", "3"), "--batch 8 must be a multiple of --micro-batches 3"),
        (("dpo", "--loss-options", "gama", "1"), "has no setting gama"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, words, message):
    assert run(folder, *words) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_model_names_the_nearest(capsys):
    assert main(["plan", "sft", "--model", "llama-9b", "--topology", "h100:8"]) == 2
    assert "is no folder and no published model: did you mean llama-8b?" in capsys.readouterr().err


@pytest.mark.long
def test_a_plan_is_printed_and_written(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(folder, "dpo", "--mesh", "fsdp=4,model=2", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    assert "fits: step takes" in printed
    assert "MFU at most" in printed
    (plan,) = json.loads((out / "plan.json").read_text())["plans"]
    assert plan["fits"]
    assert plan["mesh"] == {"fsdp": 4, "model": 2}
    step = plan["programs"]["step"]
    assert step["memory"] == sum(step["parts"].values())
    assert {(link["kind"], link["axes"]) for link in step["network"]} >= {("all-gather", "fsdp")}
    assert step["seconds"] == max(step["times"].values())
    assert "fits: step takes" in (out / "plan.html").read_text()
