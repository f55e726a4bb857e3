"""rlhf reward-programs from an empty folder to a second round, and programs as --reward."""

import json
from pathlib import Path

import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.rewards import absolute_scorer
from rlhf_jax.labelling import LabelSession, LabelTask, open_labels, read_items
from rlhf_jax.labelling.session import judge, show_next
from rlhf_jax.recipes import read_completions
from rlhf_jax.rewards.programs import load_text_program, weighted_terms


def run(*words):
    return main([str(word) for word in words])


def label_by_length(folder: Path) -> None:
    """A person who prefers the shorter answer, on the page's own functions."""
    items = read_items(folder / "compare.jsonl", "pairs")
    with open_labels(folder / "labels.jsonl", "pairs") as labels:
        session = LabelSession(LabelTask("pairs"), items.by_key, labels, "ann")
        while (item := show_next(session, {})["item"]) is not None:
            left, right = (len(text) for text in item["answers"])
            choice = "left" if left < right else "right"
            judge(session, {"key": item["key"], "choice": choice, "seconds": 1})


def answer(folder: Path, lengths) -> None:
    """Answers of so many words to two prompts, one file for each program."""
    for n, size in enumerate(lengths, 1):
        rows = [{"prompt": f"{q}?", "answer": f"{n} " + "word " * size + q} for q in "xy"]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"program_{n}.jsonl").write_text(text)


def test_a_search_goes_on_where_the_folder_stands(tmp_path, capsys):
    words = ("reward-programs", "--out", tmp_path, "--number", "3", "--seed", "4")
    first, second = tmp_path / "round_1", tmp_path / "round_2"
    assert run(*words) == 0
    said = capsys.readouterr().out
    assert f"--reward program:{first / 'program_1.py'}" in said
    assert f"--out {first / 'program_1.jsonl'}" in said
    before = [load_text_program(first / f"program_{n}.py") for n in (1, 2, 3)]
    assert len(set(before)) == 3
    assert run(*words) == 0  # nothing is drawn again
    assert "3 of the round's programs need the answers" in capsys.readouterr().out
    assert [load_text_program(first / f"program_{n}.py") for n in (1, 2, 3)] == before

    answer(first, (5, 1, 9))
    assert run(*words) == 0
    assert f"rlhf label --data {first / 'compare.jsonl'}" in capsys.readouterr().out
    assert not second.exists()
    label_by_length(first)
    assert run(*words) == 0
    assert "best program_2, worst program_3, 6 comparisons" in capsys.readouterr().out
    ranking = json.loads((first / "ranking.json").read_text())
    assert ranking["won"] == {"program_1": 0.5, "program_2": 1.0, "program_3": 0.0}

    kept = {term for _, term in weighted_terms(before[1])}
    children = [load_text_program(second / f"program_{n}.py") for n in (1, 2, 3)]
    for child in children:
        found = {term for _, term in weighted_terms(child)}
        assert len(found ^ kept) <= 1


def test_bad_folders_and_options_are_named(tmp_path, capsys):
    (tmp_path / "round_1").mkdir()
    assert run("reward-programs", "--out", tmp_path) == 2
    assert "has no program_1.py" in capsys.readouterr().err
    (tmp_path / "round_1" / "program_1.py").write_text("import os")
    assert run("reward-programs", "--out", tmp_path) == 2
    assert "program_1.py: line 1: a program imports nothing" in capsys.readouterr().err
    assert run("reward-programs", "--out", tmp_path / "new", "--number", "1") == 2
    assert "number must be in [2, 100]" in capsys.readouterr().err
    assert run("reward-programs", "--out", tmp_path / "new", "--proposer", "gpt") == 2
    assert "'gpt': expected http://ADDRESS/v1#MODEL" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


GRPO = ("grpo", "--samples", "2", "--batch-size", "8", "--answer-length", "3", "--steps", "1")


@pytest.mark.long
def test_grpo_trains_on_a_program(tmp_path, model, files):
    path = tmp_path / "brief.py"
    path.write_text("def reward(characters):\n    return 1 - characters / 10")
    words = ("--model", model, "--prompts", files / "prompts.txt", "--out", tmp_path / "run")
    spec = f"program:{path}"
    assert run(*GRPO, *words, "--reward", f"2*{spec}", "--completions-every", "1") == 0
    rows = read_completions(tmp_path / "run" / "stages" / "grpo")
    assert rows
    for row in rows:
        assert row["scores"]["brief"] == pytest.approx(1 - len(row["answer"]) / 10, abs=1e-6)
        assert row["score"] == pytest.approx(2 * row["scores"]["brief"], abs=1e-6)


def test_a_program_that_is_refused_ends_the_command_before_training(tmp_path, model, files, capsys):
    path = tmp_path / "bad.py"
    path.write_text("def reward(words):\n    while True: words = 1\n    return words")
    words = ("--model", model, "--prompts", files / "prompts.txt", "--out", tmp_path / "run")
    assert run(*GRPO, *words, "--reward", f"program:{path}") == 2
    assert "bad.py: line 2: a program has no loops" in capsys.readouterr().err


def test_the_path_of_a_program_is_made_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_scorer("program:a.py") == f"program:{tmp_path / 'a.py'}"
