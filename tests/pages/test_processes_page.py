"""docs/processes.md: its code runs, and its commands and options are ours."""

import dataclasses
import re
import shlex
from pathlib import Path

from rlhf_jax.cli.arguments import parse
from rlhf_jax.cli.commands import COMMANDS
from rlhf_jax.cli.offline import SFT, Preference
from rlhf_jax.cli.processes import Processes

PAGE = (Path(__file__).parents[2] / "docs" / "processes.md").read_text()


def test_the_code_prints_the_parts(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "docs/processes.md", "exec"), {})
    assert capsys.readouterr().out == "[[0, 12]]\n"


def test_the_commands_are_known():
    lines = [line for line in PAGE.splitlines() if line.startswith("rlhf ")]
    assert len(lines) == 3
    for line in lines:
        command, *flags = shlex.split(line.rstrip(" &"))[1:]
        kind = {"dpo": Preference, "sft": SFT}[command]
        assert parse(kind, [*COMMANDS[command].preset, *flags], command).output.out.name


def test_the_options_of_the_page_exist():
    known = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Processes)}
    named = {*re.findall(r"`(--[a-z-]+)`", PAGE)} - {"--out", "--resume", "--mesh", "--save-every"}
    assert named <= known
    assert {"--heartbeat", "--join-timeout"} <= named
