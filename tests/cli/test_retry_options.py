"""`rlhf grpo --turns` and `--difficulty`: several tries, and stages, on a tiny transformer."""

import json

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.curricula import difficulties, staged_rows
from rlhf_jax.cli.data import read_prompts
from rlhf_jax.cli.online_options import Curriculum, Retries
from rlhf_jax.cli.retries import retried
from rlhf_jax.recipes import text_task
from rlhf_jax.training import UserError, read_metrics

MODULE = """
def first_letter(prompts, answers):
    return [float(sum(map(ord, answer)) % 3 == 0) for answer in answers]
"""
FEW = ("--batch-size", "8", "--answer-length", "3", "--prompt-length", "24", "--steps", "2")


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def words(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "retry_rewards.py").write_text(MODULE)
    rows = [{"prompt": f"{i} ", "level": i // 4} for i in range(8)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = ("--model", model, "--prompts", tmp_path / "prompts.jsonl", *FEW)
    return *given, "--out", tmp_path / "out", "--reward", "retry_rewards:first_letter"


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [
        ("grpo", "--samples", "4", "--filter", "widest", "--difficulty", "level", "--stages", "2"),
        ("ppo", "--samples", "2"),
    ],
)
def test_a_run_of_several_tries(tmp_path, words, capsys, command):
    options = ("--turns", "3", "--feedback", " no ", "--repetition", "0.25")
    assert run(*command, *words, *options) == 0
    assert ("unused columns: level" in capsys.readouterr().out) is ("--difficulty" not in command)
    rows = [row for row in read_metrics(tmp_path / "out") if row["stage"] == command[0]]
    assert len(rows) == 2
    assert np.isfinite([row["loss"] for row in rows]).all()
    # An answer that does not end ends its episode, and few answers of random weights end.
    turns = [row["episodes/turns"] for row in rows]
    assert all(1 <= mean <= 3 for mean in turns)
    assert max(turns) > 1
    assert all(-0.5 < row["named/return"] <= 1 for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--turns", "0"), "turns must be in [1, inf), got 0"),
        (("--turns", "2", "--turn-decay", "1.5"), "turn-decay must be in [0, 1]"),
        (("--turns", "2", "--repetition", "-1"), "repetition must be in [0, inf)"),
        (("--turns", "2", "--malformed", "0.5"), "malformed must be in (-inf, 0]"),
        (("--turns", "2", "--overlap"), "--turns excludes --overlap: an answer is read"),
        (("--turns", "2", "--feedback", ""), "--feedback must be a text"),
        (("--difficulty", "size"), "--difficulty size: prompt 0 has None, not a number"),
        (("--difficulty", "prompt"), "--difficulty prompt: prompt 0 has '0 ', not a number"),
        (("--stages", "0"), "stages must be in [1, inf), got 0"),
        (("--replay", "1.5"), "replay must be in [0, 1]"),
    ],
)
def test_options_it_cannot_use_are_named(words, capsys, options, message):
    assert run("grpo", *words, "--samples", "2", *options) == 2
    assert message in capsys.readouterr().err


def test_terms_are_of_training_and_not_of_measuring():
    task = text_task(
        ["a", "b"], lambda p, a: {"ok": [float(x == "7") for x in a]}, objective="ok", heldout=1
    )
    assert retried(Retries(), task, terms=True) is task
    trained, asked = (retried(Retries(turns=2), task, terms=terms) for terms in (True, False))
    history = (("5", "no"),)
    assert trained.step is not None
    assert asked.step is not None
    assert trained.step(0, history, "7")[1:] == (0.5, True)
    assert asked.step(0, history, "7")[1:] == (1.0, True)
    assert trained.step(0, history, "5")[1] == -0.25
    assert asked.step(0, history, "5")[1] == 0.0


def test_a_field_that_an_option_reads_is_not_called_unused(tmp_path, capsys):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "a", "level": 2, "source": "b"}))
    for used, note in ((), "level, source"), (("level",), "source"):
        assert read_prompts(path, None, used=used)[0]["level"] == 2
        assert capsys.readouterr().out.endswith(f"; unused columns: {note}\n")


def test_stages_of_the_field_or_all_prompts():
    task = text_task(["a", "b", "c"], lambda p, a: {"ok": [0] * len(a)}, objective="ok", heldout=1)
    options = Curriculum(difficulty="level", stages=2, replay=0.0)
    records = [{"level": level} for level in (3, 1, 2)]
    found = difficulties(options, records)
    assert found == [3.0, 1.0, 2.0]
    rows = staged_rows(options, task, found, steps=4, batch_size=3, seed=0)
    assert [set(np.asarray(rows[i])) for i in (0, 3)] == [{1}, {0}]
    assert difficulties(Curriculum(), records) == []
    plain = staged_rows(Curriculum(), task, [], steps=4, batch_size=2, seed=0)
    assert set(np.asarray(plain[0])) == {0, 1}
    with pytest.raises(UserError, match="prompt 1 has nan"):
        difficulties(options, [{"level": 1}, {"level": float("nan")}])
