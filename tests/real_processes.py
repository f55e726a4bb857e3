"""Several Python processes at once, which meet at an address of this machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def run_processes(commands, *, devices=1, timeout=600):
    """(exit code, standard output, standard error) of each; the word ADDRESS is where they meet.

    Args:
      commands: words after `python`. devices: simulated ones of each process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, [TESTS.parent, TESTS, TESTS / "recipes"])),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    started = [
        subprocess.Popen(
            [sys.executable, *(word.replace("ADDRESS", address) for word in words)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words in commands
    ]
    try:
        printed = [each.communicate(timeout=timeout) for each in started]
    finally:
        for each in started:
            each.kill()
            each.communicate()
    return [(each.returncode, *texts) for each, texts in zip(started, printed, strict=True)]
