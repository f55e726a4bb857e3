"""The wheel that is built has the command and the library, and nothing else."""

import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import EntryPoint
from pathlib import Path
from zipfile import ZipFile

import pytest

from rlhf_jax.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_wheel_has_the_command(tmp_path):
    pytest.importorskip("hatchling")
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT]
    subprocess.run([sys.executable, "-m", "pip", *map(str, words)], check=True)
    (path,) = tmp_path.glob("*.whl")
    with ZipFile(path) as wheel:
        names = wheel.namelist()
        (points,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        found = ConfigParser()
        found.read_string(wheel.read(points).decode())
    assert dict(found["console_scripts"]) == {"rlhf": "rlhf_jax.cli:main"}
    assert EntryPoint("rlhf", found["console_scripts"]["rlhf"], "console_scripts").load() is main
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"rlhf_jax", points.partition("/")[0]}
