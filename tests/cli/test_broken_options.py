"""Broken options, prompts, rewards, judges and results, as a command meets them: one line each."""

import json
import shutil
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from refusals import files_below, refused

from rlhf_jax.cli import main
from rlhf_jax.cli.rewards import scored_task
from rlhf_jax.recipes import score_answers
from rlhf_jax.rewards.chat_judges import ChatModel
from rlhf_jax.training import UserError, read_metrics

REWARDS = """
import pathlib

def fine(prompts, answers):
    return [float(len(a)) for a in answers]

def fails(prompts, answers):
    raise RuntimeError("out of paper\\nand ink")

def short(prompts, answers):
    return [1.0]

def words(prompts, answers):
    return ["good" for _ in answers]

def endless(prompts, answers):
    return [float("inf") for _ in answers]

def nobody(answers):
    return [1.0 for _ in answers]

def needy(prompts, answers, solution):
    return [1.0 for _ in answers]

def silent(prompts, answers):
    return [None for _ in answers]

def twice(prompts, answers):
    calls = pathlib.Path("calls")
    count = int(calls.read_text()) if calls.exists() else 0
    calls.write_text(str(count + 1))
    if count == 2:  # after the measurement at the start and the first step
        raise RuntimeError("out of paper")
    return fine(prompts, answers)
"""
SIDES = {
    side: [{"role": "user", "content": "a"}, {"role": "assistant", "content": side}]
    for side in ("chosen", "rejected")
}


@pytest.fixture
def here(tmp_path, monkeypatch, files):
    """The current folder: rewards, pairs.jsonl, prompts.txt and broken files."""
    monkeypatch.chdir(tmp_path)
    texts = {
        "mine.py": REWARDS,
        "raising.py": "1 / 0\n",
        "lost.py": "import no_such_package\n",
        "empty.txt": "\n \n",
        "one.txt": "once\n",
        "one.jsonl": json.dumps({"prompt": "p", "chosen": "a", "rejected": "b"}),
        "chat.jsonl": json.dumps(SIDES),
        "letter.txt": "mine",
        "list.json": "[]",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    for name in ("pairs.jsonl", "prompts.txt"):
        shutil.copy(files / name, tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    return tmp_path


DPO = "dpo --data pairs.jsonl --out out"
GRPO = "grpo --prompts prompts.txt --out out --answer-length 2 --batch-size 8"
NOWHERE = "/proc/nowhere/out"

# name -> (the command without --model, what is said of it)
COMMANDS = {
    # Numbers out of range.
    "learning rate 0": (f"{DPO} --learning-rate 0", "--learning-rate must be in (0, 1], got 0.0"),
    "learning rate NaN": (f"{DPO} --learning-rate nan", "--learning-rate must be in (0, 1], got"),
    "steps 0": (f"{DPO} --steps 0", "--steps must be in [1, inf), got 0"),
    "heldout 1": (f"{DPO} --heldout 1", "--heldout must be in [0, 0.5], got 1.0"),
    "a negative KL": (f"{GRPO} --reward mine.py:fine --kl -1", "--kl must be in [0, inf), got -1"),
    "a group of one": (
        f"{GRPO} --reward mine.py:fine --samples 1",
        "--samples must be in [2, inf)",
    ),
    "lambda 2": (
        f"ppo{GRPO[4:]} --reward mine.py:fine --gae-lambda 2",
        "--gae-lambda must be in [0, 1], got 2.0",
    ),
    "top_p 0": ("sample --prompt a --top-p 0", "--top-p must be in (0, 1], got 0.0"),
    "beta of a loss": (f"{DPO} --loss-options beta -1", "--loss-options: beta must be in"),
    "a batch for no devices": (f"{DPO} --batch-size 4", "batch_size must be a multiple of 8"),
    "parts of a batch": (
        f"{DPO} --batch-size 8 --micro-batches 3",
        "--batch-size 8 must be a multiple of --micro-batches 3",
    ),
    "parts of the devices": (
        f"{DPO} --mesh model=3",
        "--mesh: model=3 does not divide 8 devices",
    ),
    "no mesh": (f"{DPO} --mesh model:2", "a mesh is written like fsdp=8,model=4"),
    "a mesh for another model": (
        f"{DPO} --mesh model=8",
        "does not divide over 8 devices of 'model'; ",
    ),
    "targets that match nothing": (
        f"{DPO} --lora-rank 2 --lora-targets */quary",
        "'*/quary'",
    ),
    "a tracker that is absent": (
        f"{DPO} --log trackio",
        "--log trackio needs the package trackio: pip install trackio",
    ),
    # Prompts and rows.
    "no prompts": (
        "grpo --prompts empty.txt --reward mine.py:fine --out out",
        "empty.txt: no prompts; expected one a line",
    ),
    "one prompt": (
        "grpo --prompts one.txt --reward mine.py:fine --out out --batch-size 8",
        "needs at least 2 prompts, one to train on and one held out, got 1",
    ),
    "one row": (
        "dpo --data one.jsonl --out out --batch-size 8",
        "one.jsonl: 1 rows do not split into training and held-out rows; give more rows, --heldout",
    ),
    "no prompt at all": ("sample", "rlhf sample needs prompts: --prompt TEXT or --prompts FILE"),
    "a file of prompts that is a folder": ("sample --prompts full", "full"),
    # Rewards that cannot be made.
    "no reward": (GRPO, "rlhf grpo needs --reward or --judge"),
    "no module": (f"{GRPO} --reward nowhere:f", "no module 'nowhere' in"),
    "no file of rewards": (f"{GRPO} --reward nowhere.py:f", "no such file"),
    "no function": (f"{GRPO} --reward mine.py:fin", "mine.py has no fin; it has fine"),
    "a module that raises": (
        f"{GRPO} --reward raising.py:f",
        "importing raising.py: ZeroDivisionError: division by zero",
    ),
    "a module that lacks another": (
        f"{GRPO} --reward lost.py:f",
        "importing lost.py: ModuleNotFoundError: No module named 'no_such_package'",
    ),
    "a reward of answers alone": (
        f"{GRPO} --reward mine.py:nobody",
        "must take (prompts, answers, **columns)",
    ),
    "no kind of reward": (f"{GRPO} --reward correct", "file.py:function, http://ADDRESS/v1#MODEL"),
    "a language model as reward": (
        f"{GRPO} --reward MODEL",
        "with 2 labels; a reward model is ...ForSequenceClassification with one label, e.g. OUT",
    ),
    "a weight of NaN": (f"{GRPO} --reward nan*exact", "the weight of 'nan*exact' must be in"),
    "two rewards of one name": (
        f"{GRPO} --reward mine.py:fine 2*mine.py:fine",
        "two rewards are called 'fine'; give one another name",
    ),
    "a verifier without answers": (f"{GRPO} --reward exact", "which prompt 0 lacks"),
    "a judge of one argument": (f"{GRPO} --judge mine.py:nobody", "must take (prompts, first, sec"),
    "a judge without a model": (f"{GRPO} --judge http://127.0.0.1:9/v1", "name the model behind"),
    # Results.
    "out is a file": (
        "dpo --data pairs.jsonl --out letter.txt --batch-size 8",
        "letter.txt is a file: choose another --out",
    ),
    "out has other files": (
        "dpo --data pairs.jsonl --out full --batch-size 8",
        "full is not empty and holds no run: choose another --out",
    ),
    "out cannot be made": (
        f"dpo --data pairs.jsonl --out {NOWHERE} --batch-size 8",
        f"{NOWHERE} cannot hold results",
    ),
    "a file of answers that exists": (
        "sample --prompt a --out letter.txt",
        "letter.txt exists: choose another --out",
    ),
    "a file of answers in no folder": (
        "sample --prompt a --out none/a.jsonl",
        "no such folder none: make it or choose another --out",
    ),
    "a file of numbers that exists": (
        "eval --data pairs.jsonl --out letter.txt",
        "letter.txt exists: choose another --out",
    ),
    "a model over a file": ("convert --out letter.txt", "letter.txt is a file; name a new folder"),
    "a model over files": ("convert --out full", "full: has files already; name a new folder"),
    "a model over itself": ("convert --out MODEL", "has files already; name a new folder"),
    "run of a list": ("run list.json --out out", "list.json is no config of a run: expected"),
    "run of a model's config": ("run MODEL/config.json --out out", "is no config of a run: expect"),
    "run of a text": ("run letter.txt --out out", "letter.txt is no config of a run: expected"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_broken_command_is_one_line_and_loses_nothing(case, model, here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    line, message = COMMANDS[case]
    words = [
        word.replace("MODEL", str(model)) if "#" not in word else word for word in line.split()
    ]
    if words[0] != "run":
        words += ["--model", str(model)]
    if words[0] == "dpo" and "--batch-size" not in words:
        words += ["--batch-size", "8"]
    before = files_below(here) | files_below(model)
    refused(words, message, capsys)
    assert files_below(here) | files_below(model) == before


def templated(model, folder, text):
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "chat.jsonl: messages need a chat template, and the model's folder has none"),
        ("{{ raise_exception('no dogs') }}", "refuses the messages: no dogs; repair its template"),
        ("{% if %}", "the chat template is no valid Jinja: Expected an expression"),
        ("nothing", "the chat template writes no text of the assistant's; repair its template or"),
    ],
)
def test_a_template_that_cannot_write_the_messages(text, message, model, here, capsys):
    folder = model if text is None else templated(model, here / "model", text)
    words = ("dpo", "--model", folder, "--data", "chat.jsonl", "--out", "out", "--batch-size", "8")
    refused(words, message, capsys)


def test_rows_that_are_longer_than_the_model(model, here, capsys):
    """Dynamic rope scaling knows 8 positions; a pair has <bos>, "3?" and an answer with its end."""
    folder = shutil.copytree(model, here / "model")
    entries = json.loads((folder / "config.json").read_text())
    scaled = {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 8}
    (folder / "config.json").write_text(json.dumps(entries | scaled))
    (here / "long.txt").write_text("a story of many words\n\nand another of as many")
    words = ("sft", "--model", folder, "--data", "long.txt", "--out", "out", "--batch-size", "8")
    refused(words, "tokens, and the model has 8 positions: lower --prompt-length or", capsys)
    words = ("sample", "--model", folder, "--prompt", "a", "--answer-length", "8")
    refused(words, "a prompt with its answer has up to 10 tokens, and the model has 8", capsys)


BAD_SCORES = {
    "mine.py:fails": "scoring answers to prompts 0, 1 failed: RuntimeError: out of paper",
    "mine.py:short": "score 'short' has 1 numbers, expected 2, one for each answer to prompts 0, 1",
    "mine.py:words": "score 'words' of an answer to prompt 0 is 'good'; expected a finite number",
    "mine.py:endless": "score 'endless' of an answer to prompt 0 is inf; expected a finite number",
    "mine.py:needy": "reads the column 'solution', and the prompts' records have []",
    "http://ADDRESS/500#m": "answered none of 2 requests; the last: 500",
    "http://ADDRESS/hang#m": "answered none of 2 requests; the last: APITimeoutError",
    "http://ADDRESS/html#m": "answered none of 2 requests; the last: no completion in the reply",
    "http://ADDRESS/gone#m": "refuses a request for the model 'm'",
    "http://127.0.0.1:9/v1#m": "answered none of 2 requests; the last: APIConnectionError",
}


class Nonsense(BaseHTTPRequestHandler):
    """A judge that is broken in the way that its path says."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.path.split("/")[1]
        if kind == "hang":
            time.sleep(1.0)
        body = b"<html>Sign in</html>"
        self.send_response({"500": 500, "gone": 404}.get(kind, 200))
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Nonsense)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("spec", BAD_SCORES)
def test_a_reward_or_a_judge_that_fails_is_named(spec, address, here, monkeypatch):
    pytest.importorskip("openai")
    seconds = 0.3 if "hang" in spec else 10.0  # a busy machine may be slow to answer
    quick = partial(ChatModel, seconds=seconds, retries=0)
    monkeypatch.setattr("rlhf_jax.rewards.specs.ChatModel", quick)
    prompts = [{"prompt": "p"}, {"prompt": "q"}]
    task = scored_task([spec.replace("ADDRESS", address)], prompts, heldout=0.5)
    with pytest.raises(UserError) as caught:
        score_answers(task, np.array([0, 1]), ["a", "b"])
    assert BAD_SCORES[spec] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_a_reward_that_fails_in_the_middle_keeps_the_checkpoint(model, here, capsys):
    words = [*GRPO.split(), "--model", model, "--samples", "2", "--steps", "2", "--save-every", "1"]
    words = [str(word) for word in [*words, "--completions-every", "0"]]
    mine = [*words, "--reward", "mine.py:twice"]
    assert main(mine) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert "failed: RuntimeError: out of paper" in line
    # Neither another command nor other options touch what is there.
    before = files_below(here / "out")
    refused(["rloo", *mine[1:]], "out holds a run of grpo, not rloo: choose another --out", capsys)
    message = "steps = 2, this one has 3: choose another --out or delete it"
    refused([*mine, "--steps", "3", "--resume"], message, capsys)
    assert files_below(here / "out") == before
    assert main([*mine, "--resume"]) == 0
    steps = [row["step"] for row in read_metrics(here / "out") if row["stage"] == "grpo"]
    assert steps == [1, 2]


@pytest.mark.long
def test_rewards_without_any_number_end_the_run(model, here, capsys):
    words = [*GRPO.split(), "--model", model, "--samples", "2", "--reward", "mine.py:silent"]
    assert main([str(word) for word in words]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the reward has no number for any of 2")
