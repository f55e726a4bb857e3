"""`--kind gap`, `rlhf sft --improve` and `rlhf grpo --improve`: PIT from pairs."""

import json

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.data import read_pairs
from rlhf_jax.cli.gaps import GAPS, gap_margins, gap_quality, gap_table, has_gaps, open_gaps
from rlhf_jax.cli.improvement import course_rows, fitted, read_improvements
from rlhf_jax.cli.online_options import Improvement
from rlhf_jax.cli.options import Model
from rlhf_jax.cli.rewards import heldout_count, named_reward
from rlhf_jax.hf import load_model
from rlhf_jax.recipes import make_lab, read_completions, text_task
from rlhf_jax.training import UserError, read_metrics

PROMPTS = [f"{i}?" for i in range(10)]
FEW = ("--batch-size", "8", "--steps", "2", "--answer-length", "4", "--completions-every", "1")


def run(*words):
    return main([str(word) for word in words])


def pairs_of(prompts):
    return [{"prompt": p, "chosen": "aaa", "rejected": r} for p in prompts for r in ("bb", "ab")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pairs of a over b, the answers of a policy, and one that is too long."""
    folder = tmp_path_factory.mktemp("improvement")
    own = [{"prompt": p, "answer": "b"} for p in PROMPTS]
    long = [*pairs_of(PROMPTS), {"prompt": "x?", "chosen": "aaa", "rejected": "b" * 9}]
    files = {"pairs": pairs_of(PROMPTS), "own": own, "long": long[::-1]}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, mixing, data):
    """The folder of a run of `rlhf reward --kind gap`."""
    out = tmp_path_factory.mktemp("gap") / "out"
    words = ("reward", "--kind", "gap", "--model", mixing, "--data", data / "pairs.jsonl")
    words += ("--heldout", "0.2", "--steps", "60", "--batch-size", "8", "--learning-rate", "0.02")
    assert run(*words, "--out", out) == 0
    return out


@pytest.mark.long
def test_a_gap_model_learns_and_its_folder_has_the_same_numbers(tmp_path, trained, data):
    numbers = json.loads((trained / "summary.json").read_text())["numbers"]
    assert np.ravel(numbers["accuracy"]["after"])[0] > 0.9
    assert np.ravel(numbers["all gaps in order"]["after"])[0] > 0.5
    assert "accuracy minus n-grams" in numbers
    folder, found = trained / "model", tmp_path / "numbers.json"
    assert run("eval", "--model", folder, "--data", data / "pairs.jsonl", "--out", found) == 0
    opened = open_gaps(folder)
    records = read_pairs(data / "pairs.jsonl", None)
    table = gap_table(opened.lab, opened.params, records, batch_size=4)
    for name, value in gap_quality(table, records).items():
        assert json.loads(found.read_text())[name] == pytest.approx(value, abs=1e-4)
    weight, kind, score, column = named_reward(f"2*gap:{folder}")
    assert (weight, kind, column) == (2.0, "gap", "reference")
    row = records[0]
    sides = (row["chosen"], row["rejected"])
    for i, answer in enumerate(sides):
        for j, reference in enumerate(sides):
            (paid,) = score([row["prompt"]], [answer], reference=[reference])
            assert paid == pytest.approx(table[0, i, j] - opened.zero, abs=1e-4)
    assert np.isfinite(np.array(score(["0?"], [""], reference=[""]), float)).all()


@pytest.mark.long
def test_a_model_learns_to_improve_and_goes_on_with_gaps(tmp_path, mixing, trained, data):
    first = tmp_path / "sft"
    words = ("sft", "--improve", "--model", mixing, "--data", data / "pairs.jsonl", "--steps", "20")
    assert run(*words, "--learning-rate", "0.02", "--batch-size", "8", "--out", first) == 0
    numbers = json.loads((first / "summary.json").read_text())["numbers"]["loss"]
    assert np.ravel(numbers["after"])[0] < np.ravel(numbers["before"])[0]
    job = ("--model", first / "model", "--prompts", data / "pairs.jsonl", *FEW, "--improve")
    job += ("--reward", f"gap:{trained / 'model'}", "--own-answers", data / "own.jsonl")
    out = tmp_path / "pit"
    assert run("grpo", *job, "--samples", "2", "--own-share", "0.5", "--out", out) == 0
    rows = [row for row in read_metrics(out) if row["stage"] == "grpo"]
    assert all(np.isfinite(row["named/gap"]) and 0 <= row["named/copied"] <= 1 for row in rows)
    shown: dict[int, set[str]] = {1: set(), 2: set()}
    for row in read_completions(out / "stages" / "grpo"):
        shown[row["step"]].add(row["prompt"].split("answer : ")[1])
    assert shown[1] <= {"aaa better :", "bb better :", "ab better :"}  # of the data
    assert shown[2] == {"b better :"}  # of the policy
    better = tmp_path / "better.jsonl"
    words = ("sample", "--improve", "2", "--model", out / "model", "--answer-length", "4")
    assert run(*words, "--prompts", data / "own.jsonl", "--out", better) == 0
    rows = [json.loads(line) for line in better.read_text().splitlines()]
    assert [row["prompt"] for row in rows] == PROMPTS
    assert {row["answer"] for row in rows} != {"b"}
    after = json.loads((out / "summary.json").read_text())["numbers"]
    assert {"reward", "finished"} <= set(after)


def test_records_of_sft_show_the_rejected_answer(data):
    rows = read_improvements(data / "pairs.jsonl", None)
    assert rows[0]["prompt"] == "0? answer : bb better :"
    assert rows[0]["answer"] == "aaa"


def test_parts_of_the_training():
    task = text_task(PROMPTS, lambda p, a: {}, objective={}, heldout=2)
    splits = {"data": range(5), "own": range(5, 8)}
    staged = task._replace(splits={**task.splits, **splits})
    order = {"batch_size": 3, "seed": 0}
    rows = course_rows(staged, Improvement(improve=True, own_share=0.25), steps=4, **order)
    for step in range(6):
        assert set(rows[step]) <= set(splits["own" if step >= 3 else "data"])
    plain = course_rows(task, Improvement(), steps=4, **order)
    assert {int(n) for step in range(4) for n in plain[step]} == set(range(8))
    assert [heldout_count(0.1, n) for n in (1, 2, 20)] == [1, 1, 2]


def test_answers_that_do_not_fit_are_counted_or_named(model, capsys):
    base = load_model(model)
    lab = make_lab(base.config, base.vocabulary, prompt_length=40, answer_length=4)
    rows = [{"prompt": "0?", "reference": text} for text in ("aaa", "b" * 9, "")]
    options = Model(model=model)
    assert [row["reference"] for row in fitted(options, lab, "data", rows)] == ["aaa"]
    assert "answers to improve, data: 2 of 3 are longer" in capsys.readouterr().out
    with pytest.raises(UserError, match="answers to improve, own: the reference answer 'bbb"):
        fitted(Model(model=model, long_answers="error"), lab, "own", rows)


def test_margins_by_hand():
    gaps = np.array([[[0.5, 2.0], [-1.0, 0.0]], [[0.0, 1.0], [2.0, 0.0]]])
    np.testing.assert_allclose(gap_margins(gaps), [1.5, -0.5])
    rows = [{"prompt": "a", "chosen": "bb", "rejected": "b"}] * 2
    found = gap_quality(gaps, rows)
    assert np.ravel(found["all gaps in order"])[0] == 0.5
    assert found["gap of no change"] == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--own-answers", "x.jsonl"), "--own-answers are improved: give --improve too"),
        (("--improve", "--own-share", "0"), "--own-share must be in (0, 1]"),
        (("--improve", "--judge", "my:judge"), "--improve excludes --judge"),
        (("--improve", "--directions", "a", "b"), "--improve excludes --directions"),
        (("--improve",), "no format of pairs has these columns"),
    ],
)
def test_bad_options_are_named(tmp_path, model, files, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my.py").write_text("def judge(prompts, first, second):\n    return [0.5]\n")
    rewards = ("regex:a", "regex:b") if "--directions" in words else ("regex:a",)
    given = ("grpo", "--model", model, "--prompts", files / "prompts.txt", "--reward", *rewards)
    assert run(*given, "--out", tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err


def test_what_sample_cannot_improve_is_named(tmp_path, model, files, capsys):
    words, prompts = ("sample", "--model", model, "--improve", "1"), files / "prompts.txt"
    for given, message in (
        (("--prompt", "0?"), "--improve is of the answers in --prompts"),
        (
            ("--prompts", files / "prompts.txt"),
            "has no answer to improve: it needs a field 'answer'",
        ),
        (("--prompts", prompts, "--improve", "-1"), "--improve must be in [0, inf)"),
    ):
        assert run(*words, *given) == 2
        assert message in capsys.readouterr().err


def test_other_folders_are_refused(tmp_path, model):
    with pytest.raises(UserError, match=f"has no file {GAPS}: .*rlhf reward --kind gap"):
        named_reward(f"gap:{model}")
    (tmp_path / GAPS).write_text("{}")
    assert has_gaps(tmp_path)
    with pytest.raises(UserError, match="write gap:"):
        named_reward(str(tmp_path))
    with pytest.raises(UserError, match="cannot be read"):
        open_gaps(tmp_path)
