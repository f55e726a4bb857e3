"""The files of launch/ start one command, which the command line knows."""

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from rlhf_jax.cli.arguments import parse
from rlhf_jax.cli.commands import COMMANDS
from rlhf_jax.cli.offline import Preference

LAUNCH = Path(__file__).parents[1] / "launch"


def words_of(script):
    """The words of the first rlhf command in a shell script."""
    lines = script.replace("\\\n", " ").splitlines()
    words = next(shlex.split(line) for line in lines if " rlhf " in line)
    return words[words.index("rlhf") :]


def commands():
    """The command of each file."""
    jobset = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    (job,) = jobset["spec"]["replicatedJobs"]
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    sky = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    return {
        "jobset.yaml": container["command"],
        "slurm.sh": words_of((LAUNCH / "slurm.sh").read_text()),
        "sky.yaml": words_of(sky["run"]),
    }


@pytest.mark.parametrize("name", ["jobset.yaml", "slurm.sh", "sky.yaml"])
def test_the_command_is_one_of_ours(name):
    program, command, *flags = commands()[name]
    assert (program, command) == ("rlhf", "dpo")
    options = parse(Preference, [*COMMANDS["dpo"].preset, *flags], command)
    assert options.output.resume
    assert options.output.hosts.distributed
    assert options.output.out == Path("/shared/runs/dpo")


def test_all_files_start_the_same_command():
    first, *others = commands().values()
    assert all(other == first for other in others)


def test_a_restart_follows_the_exit_code_of_a_preemption():
    jobset = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    rules = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"]["values"] == [143]
    sky = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    assert sky["resources"]["job_recovery"]["recover_on_exit_codes"] == [143]
    assert '"$code" -eq 143' in (LAUNCH / "slurm.sh").read_text()


def test_the_shell_reads_the_scripts():
    sky = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    for script in ((LAUNCH / "slurm.sh").read_text(), sky["setup"], sky["run"]):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
