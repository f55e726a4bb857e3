"""Runs the commands of docs/performance.md and puts their output into the page.

    python docs/make_performance.py                  # all of them, for an hour on a quiet machine
    python docs/make_performance.py benchmarks.train # one

A command is an indented line `python -m benchmarks.<name>`; its output replaces the next block
between ``` lines. The peers' interpreters come from RLHF_JAX_TRL_PYTHON and RLHF_JAX_TUNIX_PYTHON.
All sides have large pages, where the system has them.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "performance.md"
COMMAND = re.compile(r"    python -m (benchmarks\S*)(.*)")


def run(module: str, options: str) -> str:
    """Output of one command; a missed goal (exit code 3) is output too."""
    line = [sys.executable, "-m", module, *shlex.split(options)]
    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    output: dict[str, Any] = {"capture_output": True, "text": True}
    done = subprocess.run(line, cwd=PAGE.parents[1], env=environment, check=False, **output)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{shlex.join(line)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout.rstrip()


def renewed(page: str, output: Callable[[str, str], str], only: str | None = None) -> str:
    """The page with new blocks.

    Args:
      output: `(module, options) -> text`.
      only: the module of the commands that are run; None for all.
    """

    lines, found, inside = [], None, False
    for line in page.splitlines():
        command = COMMAND.fullmatch(line)
        if command and only in (None, command[1]):
            found = command
        fence = line.startswith("```")
        if found is None or not (fence or inside):
            lines.append(line)
        elif fence and not inside:
            lines += [line, output(*found.groups())]
            inside = True
        elif fence:
            lines.append(line)
            found, inside = None, False
    return "\n".join(lines) + "\n"


def main() -> None:
    """Rewrites the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("module", nargs="?", help="such as benchmarks.train; all by default")
    PAGE.write_text(renewed(PAGE.read_text(), run, parser.parse_args().module))


if __name__ == "__main__":
    main()
