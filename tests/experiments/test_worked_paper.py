"""docs/adding_a_paper.md, executed: its loss, rows, tests and experiment."""

import importlib
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from experiment_checks import faults

from experiments import __main__ as cli
from rlhf_jax.losses import preference
from rlhf_jax.losses.preference import pairs

ROOT = Path(__file__).parents[2]
# The last path in `code` before a block is the file that the block belongs to.
BLOCK = re.compile(r"`(\S+\.(?:py|md))`[^`]*\n\n```(python|diff|markdown)\n(.*?)```", re.DOTALL)
PAGE = (ROOT / "docs" / "adding_a_paper.md").read_text()
BLOCKS = {path: SimpleNamespace(kind=kind, text=text) for path, kind, text in BLOCK.findall(PAGE)}
NEW = "experiments/savage_dpo/"


def patched(text: str, diff: str) -> str:
    """The text with every hunk of a diff applied; a hunk has to fit in one place."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(old) == 1, f"found {text.count(old)} times:\n{old}"
        text = text.replace(old, new)
    return text


@pytest.fixture
def loss(monkeypatch):
    """The page's loss, in the modules that the page puts it in."""
    names = dict(vars(pairs))
    exec(BLOCKS["rlhf_jax/losses/preference/pairs.py"].text, names)
    for module in (pairs, preference):
        monkeypatch.setattr(module, "savage_dpo_loss", names["savage_dpo_loss"], raising=False)
    return names["savage_dpo_loss"]


def test_every_block_belongs_to_a_file():
    assert len(BLOCKS) == PAGE.count("\n```") / 2
    assert [path for path, block in BLOCKS.items() if block.kind == "diff"] == [
        "tests/losses/cases_pairs.py",
        f"{NEW}run.py",
        "experiments/README.md",
    ]


def test_the_loss_is_exported(loss):
    names: dict = {}
    exec(BLOCKS["rlhf_jax/losses/preference/__init__.py"].text, names)
    assert names["savage_dpo_loss"] is loss


@pytest.mark.long
def test_the_loss_passes_shared_tests_and_its_own(loss, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "losses"))
    path = "tests/losses/cases_pairs.py"
    rows: dict = {}
    exec(patched((ROOT / path).read_text(), BLOCKS[path].text), rows)
    contract = importlib.import_module("test_contract")
    monkeypatch.setitem(contract.CASES, "savage_dpo", rows["CASES"]["savage_dpo"])
    contract.test_gradient_equals_finite_differences("savage_dpo")
    own: dict = {}
    exec(BLOCKS["tests/losses/test_savage_loss.py"].text, own)
    tests = [test for name, test in own.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


@pytest.mark.long
def test_the_experiment_lacks_nothing_and_its_claim_holds(loss, checkout, capsys):
    assert cli.main(["new", "savage_dpo"]) == 0
    for path, block in BLOCKS.items():
        target = checkout / path
        if block.kind == "diff" and target.exists():
            target.write_text(patched(target.read_text(), block.text))
        elif path.startswith(NEW):
            target.write_text(block.text)
    assert faults("savage_dpo", checkout) == []
    assert cli.main(["run", "savage_dpo", "--quick", "--out", "out"]) == 0
    assert "Savage loss on every pair" in capsys.readouterr().out
