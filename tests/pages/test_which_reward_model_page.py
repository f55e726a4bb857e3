"""docs/which_reward_model.md: commands parse, rewards and recipes exist, links lead somewhere."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from rlhf_jax.cli.arguments import BadArguments, parse
from rlhf_jax.cli.commands import COMMANDS
from rlhf_jax.cli.rewards import named_reward
from rlhf_jax.training import UserError

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "which_reward_model.md").read_text()
LINES = re.findall(r"`rlhf ([^`]+)`", PAGE)
REWARDS = re.findall(r"--reward ([^`\s]+)", PAGE)
# What a command of the page leaves out, since every command needs it.
NEEDED = {
    "reward": "--model M --data D --out O",
    "ask": "--model M --data D --out O",
    "curate": "--data D --out O",
    "eval": "--model M",
    "principles": "--data D --extractor E --out O",
    "grpo": "--model M --prompts P --out O",
    "ppo": "--model M --prompts P --out O",
}
# Of the eleven papers on reward models, what its row says.
PAPERS = {
    "secrets_rm": "[repaired](",
    "rm_ensembles": "[ensemble](",
    "domain_rm": "[features](",
    "think_rm": "[judge](",
    "seq2seq_rm": "[corrections](",
    "skywork_reward_v2": "Skywork-Reward-V2",
    "rlbff": "RLBFF",
    "fine_grained_rlhf": "[segments](",
    "pairwise_rl": "[pairwise](",
    "vpl": "VPL",
    "alignment_ceiling": "[alignment ceiling](",
}


def parsed(line):
    """The options of a command of the page."""
    name, *flags = shlex.split(line)
    found = COMMANDS[name]
    kind = getattr(importlib.import_module(found.module), found.options)
    return parse(kind, [*found.preset, *flags, *NEEDED.get(name, "").split()], name)


@pytest.mark.parametrize("line", sorted({*LINES}))
def test_commands_parse(line):
    parsed(line)


def test_a_command_that_does_not_parse_is_found():
    assert len(LINES) > 15
    with pytest.raises(BadArguments):
        parsed("reward --kind nothing")


def complaint(spec):
    """Why a reward cannot be made; "" if it can."""
    try:
        named_reward(spec)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("spec", sorted({*REWARDS}))
def test_rewards_are_known(spec, tmp_path, monkeypatch):
    """They are there, or want the files of the page."""
    monkeypatch.chdir(tmp_path)
    parsed(f"grpo --reward {spec}")
    found = complaint(spec)
    assert not found or "FOLDER" in found or "ANSWERS" in found
    assert "expected exact, math" not in found
    assert "expected exact, math" in complaint("nothing")


def test_judges_parse():
    (spec,) = re.findall(r"`--judge ([^`\s]+)`", PAGE)
    assert parsed(f"grpo --judge {spec}").job.scoring.judge == spec


@pytest.mark.parametrize("name", re.findall(r"`(recipes\.[\w.]+)`", PAGE))
def test_recipes_exist(name):
    module, _, function = f"rlhf_jax.{name}".rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))


def anchors(path):
    """Of the headings of a page, as mkdocs makes them."""
    lines = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in lines}


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([\w./]+)(?:#([\w-]+))?\)", PAGE)
    assert len(links) > 15
    for target, anchor in links:
        path = DOCS / target
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), (target, anchor)


def test_every_paper_has_its_row_of_four_cells():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    assert {line.count(" | ") for line in rows} == {3}
    for paper, said in PAPERS.items():
        assert any(said in row for row in rows), paper
        assert (DOCS.parent / "experiments" / paper).is_dir(), paper
