"""docs/from_trl.md and docs/from_tunix.md: both halves of both pages run."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from tiny_folder import write_folder

from rlhf_jax.cli import main

DOCS = Path(__file__).parents[2] / "docs"
TUNIX_PYTHON = os.environ.get("RLHF_JAX_TUNIX_PYTHON")
ANSWERS = {
    "The sky is": " blue", "Grass is": " green", "Snow is": " white", "Coal is": " black",
    "Blood is": " red", "Gold is": " yellow", "Milk is": " white", "The sea is": " blue",
}  # fmt: skip
WRONG = " a cat"


def blocks(page, kind):
    """The code blocks of a kind: "python", "" for commands, "python FILE" for a file."""
    found = re.findall(r"^```(.*)\n((?:.*\n)*?)```$", (DOCS / page).read_text(), re.MULTILINE)
    return [text for name, text in found if name == kind]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The model and the files of the pages."""
    rows = {
        "answers": [{"prompt": p, "completion": a} for p, a in ANSWERS.items()],
        "pairs": [{"prompt": p, "chosen": a, "rejected": WRONG} for p, a in ANSWERS.items()],
        "labelled": [
            {"prompt": p, "completion": text, "label": text != WRONG}
            for i, (p, a) in enumerate(ANSWERS.items())
            for text in [a if i % 2 else WRONG]
        ],
        "prompts": [{"prompt": p} for p in ANSWERS],
    }
    for name, records in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    write_folder(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(page):
    return [line for block in blocks(page, "") for line in block.splitlines()]


@pytest.mark.long
def test_every_command_of_the_pages_leaves_a_model(folder):
    (folder / "brevity.py").write_text(blocks("from_trl.md", "python brevity.py")[0])
    lines = commands("from_trl.md")
    assert len(lines) == 6
    assert set(commands("from_tunix.md")) <= set(lines)
    for line in lines:
        words = shlex.split(line)
        assert main(words[1:]) == 0, line
        assert (folder / words[words.index("--out") + 1] / "model" / "config.json").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_half_in_trl_runs(folder):
    pytest.importorskip("trl")
    names: dict = {}
    for block in blocks("from_trl.md", "python"):
        exec(compile(block, "docs/from_trl.md", "exec"), names)
    assert names["GRPOTrainer"].__name__ == "GRPOTrainer"
    assert {path.name for path in (folder / "trl").iterdir()} >= {"sft", "reward", "dpo", "grpo"}


@pytest.mark.slow
@pytest.mark.skipif(not TUNIX_PYTHON, reason="needs the environment of Tunix: see .ci/steps.sh")
def test_the_half_in_tunix_runs(folder):
    script = folder / "page.py"
    script.write_text("\n".join(blocks("from_tunix.md", "python")) + '\nprint("done")\n')
    done = subprocess.run([str(TUNIX_PYTHON), str(script)], capture_output=True, text=True)  # noqa: PLW1510
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("done\n")
