"""`--directions`: prompts that show a direction between two rewards, and what is refused."""

import re

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.directions import direction_texts, longest_prompts
from rlhf_jax.cli.online_options import Directions
from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.recipes import read_completions, read_direction
from rlhf_jax.training import read_metrics

MODULE = """
def letters(prompts, answers):
    return [sum(map(ord, a)) % 7 / 7 for a in answers]

def short(prompts, answers):
    return [1 - len(a) / 10 for a in answers]

def longer(prompts, first, second):
    return [0.5 + 0.5 * (len(a) > len(b)) for a, b in zip(first, second)]
"""
NAMES = ("letters", "short")
WANTED = ("--reward", "my_directed:letters", "my_directed:short", "--directions", *NAMES)
FEW = ("--batch-size", "8", "--answer-length", "3", "--completions-every", "1", "--steps", "2")


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def words(tmp_path, monkeypatch, model, files):
    """A command up to its rewards, with a module of them in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_directed.py").write_text(MODULE)
    return ("--model", model, "--prompts", files / "prompts.txt", "--out", tmp_path / "run", *FEW)


@pytest.mark.long
def test_answers_are_worth_what_their_prompts_ask_for(tmp_path, words):
    options = ("--samples", "2", "--direction-count", "3", "--direction-angle", "60")
    assert run("best-of-n", *words, *WANTED, *options) == 0
    rows = [row for row in read_metrics(tmp_path / "run") if row["stage"] == "best-of-n"]
    assert {"named/letters", "named/short", "named/directed"} <= set(rows[0])
    table = read_completions(tmp_path / "run" / "stages" / "best-of-n")
    assert len(table) == 2 * 8 * 2
    for row in table:
        direction = read_direction(row["prompt"], NAMES)
        rewards = [row["scores"][name] for name in NAMES]
        assert row["score"] == pytest.approx(float(direction @ np.array(rewards)), abs=1e-5)
    shown = {re.sub(".*weights", "weights", row["prompt"]) for row in table}
    assert shown <= {
        "weights : letters 50 short -87",
        "weights : letters 100 short 0",
        "weights : letters 50 short 87",
    }
    assert len(shown) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--samples", "1"), r"samples must be in \[2, inf\)"),
        (("--direction-angle", "91"), r"direction.angle must be in \(0, 90\]"),
        (("--direction-count", "1"), r"direction.count must be in \[2, 180\]"),
        (("--judge", "my_directed:longer"), "--directions excludes --judge"),
        (("--directions", "letters"), "two names for two --reward, got 1 for 2"),
        (("--reward", "my_directed:short"), "two names for two --reward, got 2 for 1"),
        (("--long-prompts", "truncate_right"), "leave out --long-prompts truncate_right"),
        (("--directions", "very short", "letters"), "different names of one word"),
    ],
)
def test_what_is_no_direction_is_refused(words, capsys, options, message):
    assert run("best-of-n", *words, *WANTED, *options) == 2
    assert re.search(message, capsys.readouterr().err)


def test_the_longest_prompt_is_that_of_its_tokens():
    options = Directions(directions=NAMES, direction_count=3, direction_angle=90.0)
    texts = direction_texts(options)
    assert texts == ["letters 0 short -100", "letters 100 short 0", "letters 0 short 100"]
    vocabulary = standard_vocabulary(train_word_tokenizer(" ".join(texts).split()))
    (shown,) = longest_prompts(options, [{"prompt": "a", "answer": "b"}], vocabulary)
    assert shown["prompt"].startswith("a weights : letters")
    assert shown["record"] == {"prompt": "a", "answer": "b"}
    plain = longest_prompts(Directions(), [{"prompt": "a"}], vocabulary)
    assert plain == [{"prompt": "a", "record": {"prompt": "a"}}]
