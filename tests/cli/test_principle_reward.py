"""`rlhf reward --kind principles`: training on yes and no, numbers, and use as a reward."""

import json

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.principles import (
    PRINCIPLES,
    Principles,
    asked_texts,
    commoner_labels,
    read_principles,
    told_folder,
    told_reward,
)
from rlhf_jax.cli.rewards import absolute_scorer, named_reward
from rlhf_jax.training import UserError

KNOWN = Principles(("a", "b"), "{prompt} principle : {principle}")


def run(*words):
    return main([str(word) for word in words])


def rows_of(numbers):
    """Answers of a or b; the principle says of which."""
    return [
        {"prompt": f"{n}?", "answer": side * 3, "principle": asked, "label": side == asked}
        for n in numbers
        for side in "ab"
        for asked in "ab"
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("principles")
    unseen = [{"prompt": "9?", "answer": "a", "principle": "c", "label": True}]
    files = {"train": rows_of(range(6)), "held": rows_of((7, 8)), "unseen": unseen}
    files["bare"] = [{"prompt": "9?", "answer": "a", "label": True}] * 4
    files["bench"] = [
        {"prompt": "7?", "chosen": side * 3, "rejected": other * 3, "subset": f"likes {side}"}
        for side, other in ("ab", "ba")
    ]
    files["prompts"] = [{"prompt": f"{n}?", "principle": "ab"[n % 2]} for n in range(4)]
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def of_lengths(prompts, answers, principles):
    """A stand-in for a model: the length of the answer, with the sign of the principle."""
    signs = [1.0 if name == "a" else -1.0 for name in principles]
    return np.array([sign * 4 * len(text) for sign, text in zip(signs, answers, strict=True)])


def test_principles_are_chosen_in_the_name_of_the_reward():
    score, column = told_reward("principle_score", ("a",), KNOWN, of_lengths)
    assert column is None
    assert score(["1", "2"], ["x", "xxx"]) == [4.0, 10.0]  # 12 is cut at 10
    score, column = told_reward("principle_score", (), KNOWN, of_lengths)
    assert column == "principle"
    assert score(["1", "2"], ["x", "x"], principle=["a", "b"]) == [4.0, -4.0]
    for kind, expected in (("principle_mean", 0.0), ("principle_min", -4.0)):
        score, column = told_reward(kind, (), KNOWN, of_lengths)
        assert (score(["1"], [""]), column) == ([expected], None)


def test_a_principle_never_seen_is_named():
    for given in (("c",), ("a", "c")):
        with pytest.raises(UserError, match=r"knows no principle 'c'; .* on 2 \('a', 'b'\)"):
            told_reward("principle_min", given, KNOWN, of_lengths)
    with pytest.raises(UserError, match="principle_score has one principle, got a, b"):
        told_reward("principle_score", ("a", "b"), KNOWN, of_lengths)
    score, _ = told_reward("principle_score", (), KNOWN, of_lengths)
    with pytest.raises(UserError, match="knows no principle 'c'"):
        score(["1"], ["x"], principle=["c"])
    assert asked_texts(KNOWN, ["1"], ["b"]) == ["1 principle : b"]


def test_a_damaged_folder_is_named(tmp_path):
    assert read_principles(tmp_path) is None
    (tmp_path / PRINCIPLES).write_text('{"names": ["a"], "template": "{prompt}"}')
    with pytest.raises(UserError, match="expected"):
        read_principles(tmp_path)
    words = {"names": ["a"], "template": KNOWN.template, "words": ["yes", "no"]}
    for change in ({}, {"template": "{prompt}{answer}{principle}", "words": ["yes"]}):
        (tmp_path / PRINCIPLES).write_text(json.dumps(words | change))
        with pytest.raises(UserError, match="of a language model with"):
            read_principles(tmp_path)
    with pytest.raises(UserError, match="rlhf reward --kind principles or entailment makes"):
        told_folder(str(tmp_path / "other"))
    given = {"names": ["be kind", "b"], "template": KNOWN.template}
    (tmp_path / PRINCIPLES).write_text(json.dumps(given))
    folder, names, known = told_folder(f"{tmp_path}#be kind#b")
    assert (folder, names) == (tmp_path, ("be kind", "b"))
    assert known == Principles(("be kind", "b"), KNOWN.template)
    spec = f"principle_min:{tmp_path}#be kind#b"
    assert absolute_scorer(spec) == spec


def test_the_baseline_is_the_commoner_label_of_each_principle():
    train = [*rows_of([0]), {"prompt": "0", "answer": "b", "principle": "a", "label": False}]
    held = [{**row, "prompt": str(i)} for i, row in enumerate(rows_of([1]))]
    # a: two of three no; b: one of two yes, which counts as yes.
    found = commoner_labels(held, train)["commoner label of the principle"]
    assert np.ravel(found)[0] == 0.5


@pytest.mark.long
def test_a_reward_reads_its_principle_and_is_used(tmp_path, model, data):
    out = tmp_path / "out"
    words = ("reward", "--kind", "principles", "--model", model, "--data", data / "train.jsonl")
    words += ("--heldout-data", data / "held.jsonl", "--steps", "20", "--batch-size", "8")
    assert run(*words, "--learning-rate", "0.03", "--out", out) == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    before, after = (np.ravel(numbers["log loss"][when])[0] for when in ("before", "after"))
    assert after < before
    assert np.ravel(numbers["commoner label of the principle"]["after"])[0] == 0.5
    assert "accuracy, another principle" in numbers
    # The folder reads as much of a prompt as the training did: the principle and all before it.
    found = tmp_path / "numbers.json"
    assert run("eval", "--model", out / "model", "--data", data / "held.jsonl", "--out", found) == 0
    for name, known in json.loads(found.read_text()).items():
        assert numbers[name]["after"] == pytest.approx(known, abs=1e-4)
    weight, kind, score, column = named_reward(f"2*principle_score:{out / 'model'}#a")
    assert (weight, kind, column) == (2.0, "principle_score", None)
    given = (["0?"] * 2, ["aaa", "bbb"])
    each = np.array(
        [named_reward(f"principle_score:{out / 'model'}#{name}")[2](*given) for name in ("a", "b")]
    )
    np.testing.assert_allclose(np.array(score(*given)), each[0])
    for kind, expected in (("principle_mean", each.mean(0)), ("principle_min", each.min(0))):
        found = np.array(named_reward(f"{kind}:{out / 'model'}")[2](*given))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(UserError, match="write principle_score:"):
        named_reward(str(out / "model"))
    with pytest.raises(UserError, match="knows no principle 'c'"):
        named_reward(f"principle_min:{out / 'model'}#a#c")
    unseen = ("eval", "--model", out / "model", "--data", data / "unseen.jsonl")
    assert run(*unseen) == 2
    words = ("grpo", "--model", model, "--prompts", data / "prompts.jsonl", "--answer-length", "4")
    words += ("--reward", f"principle_score:{out / 'model'}", "--steps", "1", "--batch-size", "8")
    assert run(*words, "--out", tmp_path / "grpo") == 0


@pytest.mark.long
def test_a_benchmark_is_scored_by_the_mean_principle_or_by_named_ones(
    tmp_path, model, data, capsys
):
    words = ("reward", "--kind", "principles", "--model", model, "--data", data / "train.jsonl")
    words += ("--steps", "2", "--batch-size", "8")
    assert run(*words, "--out", tmp_path / "out") == 0
    folder, found = tmp_path / "out" / "model", tmp_path / "numbers.json"
    words = ("eval", "--model", folder, "--data", data / "bench.jsonl", "--out", found)

    def scored(*options):
        found.unlink(missing_ok=True)
        assert run(*words, *options) == 0
        return {name: np.ravel(x)[0] for name, x in json.loads(found.read_text()).items()}

    def hits(name):
        """By hand: aaa over bbb, then bbb over aaa; a tie counts one half."""
        gap = np.diff(np.array(named_reward(name)[2](["7?"] * 2, ["bbb", "aaa"]), float))[0]
        right = 0.5 + 0.5 * np.sign(gap)
        return {"likes a": right, "likes b": 1 - right, "overall": 0.5}

    assert scored() == hits(f"principle_mean:{folder}")
    for spec in (f"principle_score:{folder}#a", f"principle_min:{folder}#a#b"):
        assert scored("--reward", spec) == hits(spec)
        assert scored("--reward", f"-1*{spec}")["likes a"] == hits(spec)["likes b"] != 0.5
    found.unlink()
    assert run(*words, "--reward", f"principle_score:{folder}") == 2
    assert "reads the field 'principle', which a benchmark lacks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--buckets", "2"), "error: --buckets is not for --kind principles"),
        (("--long-prompts", "truncate_right"), "truncate_right cuts the principle"),
        (("--heldout-data", "unseen"), "knows no principle 'c'"),
        (("--data", "bare"), "has no principle: write it"),
    ],
)
def test_bad_options_and_data_are_named(tmp_path, model, data, capsys, words, message):
    given = ["reward", "--kind", "principles", "--model", model, "--heldout", "0"]
    given += ["--out", tmp_path / "out", "--data", data / "train.jsonl"]
    if words[0] in ("--data", "--heldout-data"):
        words = (words[0], data / f"{words[1]}.jsonl")
    if words[0] == "--data":
        given = given[:-2]
    if words[0] == "--heldout-data":
        given = [each for each in given if each not in ("--heldout", "0")]
    assert run(*given, *words) == 2
    assert message in capsys.readouterr().err
