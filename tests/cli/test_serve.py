"""`rlhf serve` as a command: bad usage, and a real model until Ctrl-C."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_jax.cli.main import main

STORIES = Path(__file__).parents[2].parent / "shared" / "models" / "stories260k"
# llama2.c, doc/stories260K.md: the greedy continuation of "Once upon a time".
PUBLISHED = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball."
)
# A job that a shell starts in the background ignores Ctrl-C.
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from rlhf_jax.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "m", "--host", "0.0.0.0"], "can be reached from other computers"),
        ([], "needs --model FOLDER, --reward FOLDER or both"),
        (["--model", "m", "--port", "70000"], "--port must be in [0, 65535]"),
        (["--model", "m", "--host", "203.0.113.1", "--token", "x"], "cannot listen at"),
        (["--model", "nowhere", "--port", "0"], "nowhere"),
    ],
)
def test_bad_usage_is_one_line(words, message, capsys):
    assert main(["serve", *words]) == 2
    found = capsys.readouterr().err
    assert message in found
    assert len(found.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(not STORIES.exists(), reason="needs shared/models/stories260k")
def test_a_real_model_is_served_until_ctrl_c():
    """The published text, and its log-probs the same whether it was written or is read."""
    openai = pytest.importorskip("openai")
    command = [sys.executable, "-c", RUN, "serve", "--model", str(STORIES)]
    with subprocess.Popen(
        [*command, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            with openai.OpenAI(base_url=address, api_key="none", timeout=600) as client:
                body = {"model": "stories260k", "temperature": 0, "logprobs": 1, "echo": True}
                found = client.completions.create(**body, prompt="Once upon a time", max_tokens=100)
                assert found.choices[0].text.startswith(PUBLISHED)
                written = found.choices[0].logprobs
                again = client.completions.create(
                    **body, prompt=found.choices[0].text, max_tokens=0
                )
                read = again.choices[0].logprobs
                assert read.tokens == written.tokens
                assert read.token_logprobs[1:] == pytest.approx(
                    written.token_logprobs[1:], abs=1e-4
                )
                assert math.isfinite(sum(read.token_logprobs[1:]))
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            assert process.stdout.read().splitlines()[-1] == "stopped"
        finally:
            process.kill()  # a failure must not wait for a server that nobody stops
