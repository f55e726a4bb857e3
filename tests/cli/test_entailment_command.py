"""`rlhf reward --kind entailment`, and `rlhf principles`, which makes its rows of comments."""

import json

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.principles import read_principles
from rlhf_jax.cli.rewards import named_reward
from rlhf_jax.recipes import extraction
from rlhf_jax.recipes.entailment import QUESTION
from rlhf_jax.training import UserError

WORDS = ("--yes-no", "y", "n")  # the tiny tokenizer has tokens of letters


def run(*words):
    return main([str(word) for word in words])


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def rows_of(numbers):
    """Three of four answers follow their principle: all under a, and a under b."""
    return [
        {"prompt": f"{n}?", "answer": side, "principle": asked, "label": "a" in (side, asked)}
        for n in numbers
        for side in "ab"
        for asked in "ab"
    ]


@pytest.mark.long
def test_a_model_is_taught_to_say_yes_or_no_and_used_as_a_reward(tmp_path, mixing, capsys):
    out, held = tmp_path / "out", write(tmp_path / "held.jsonl", rows_of((7, 8)))
    train = write(tmp_path / "train.jsonl", rows_of(range(6)))
    words = ("reward", "--kind", "entailment", "--model", mixing, "--data", train, *WORDS)
    words += ("--heldout-data", held, "--steps", "80", "--batch-size", "8")
    assert run(*words, "--learning-rate", "0.02", "--out", out) == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    before, after = (np.ravel(numbers["log loss"][when])[0] for when in ("before", "after"))
    assert after < before
    assert np.ravel(numbers["commoner label of the principle"]["after"])[0] == 0.75
    known = read_principles(out / "model")
    assert known == (("a", "b"), QUESTION, ("y", "n"))
    found = tmp_path / "numbers.json"
    assert run("eval", "--model", out / "model", "--data", held, "--out", found) == 0
    for name, number in json.loads(found.read_text()).items():
        assert numbers[name]["after"] == pytest.approx(number, abs=1e-4)
    given = (["0?"] * 2, ["a", "b"])
    each = [
        np.array(named_reward(f"principle_score:{out / 'model'}#{name}")[2](*given))
        for name in ("a", "b")
    ]
    lowest = np.array(named_reward(f"principle_min:{out / 'model'}")[2](*given))
    np.testing.assert_allclose(lowest, np.min(each, 0), rtol=1e-4)
    with pytest.raises(UserError, match=r"knows no principle 'c'; .* on 2"):
        named_reward(f"principle_score:{out / 'model'}#c")
    with pytest.raises(UserError, match="write principle_score:"):
        named_reward(str(out / "model"))
    unseen = [{"prompt": "9?", "answer": "a", "principle": "c", "label": True}]
    assert run("eval", "--model", out / "model", "--data", write(tmp_path / "c", unseen)) == 2
    assert "knows no principle 'c'" in capsys.readouterr().err
    prompts = (out / "model" / "judge_prompts.jsonl").read_text().splitlines()
    assert len(prompts) == 24
    assert json.loads(prompts[3])["label"] is False
    assert json.loads(prompts[3])["prompt"].endswith("answer : b principle : b yes or no :")
    weight, name, rule, column = named_reward(f"2*entailment:{out / 'model'}")
    assert (weight, name, column) == (2.0, "entailment", "label")
    assert rule(["q"] * 3, ["y", "hm n", "y n"], label=[True, False, True]) == [1.0, 1.0, 0.0]
    bench = [{"prompt": "7?", "chosen": "a", "rejected": "b", "subset": "s"}]
    assert run("eval", "--model", out / "model", "--data", write(tmp_path / "bench", bench)) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--buckets", "2"), "--buckets is not for --kind entailment"),
        (("--yes-no", "yes yes yes", "n"), "the verdict 'yes yes yes' must be one token"),
        (("--yes-no", "y", "y"), "the verdicts 'y' and 'y' are the same token"),
        (("--long-prompts", "truncate_right"), "truncate_right cuts the principle"),
        (("--prompt-length", "4", "--long-prompts", "error"), "questions about the training rows"),
    ],
)
def test_bad_options_are_named(tmp_path, model, capsys, words, message):
    train = write(tmp_path / "train.jsonl", rows_of(range(2)))
    given = ("reward", "--kind", "entailment", "--model", model, "--data", train, "--heldout", "0")
    assert run(*given, *WORDS, "--out", tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err


COMMENTS = [
    {"prompt": "p", "answer": "a", "comments": ["nice , short", "nice"]},
    {"prompt": "p", "answer": "b", "comments": ["rude", "rude"]},
]
REPLIES = {
    "nice , short": "Well:\npolite | yes | nice\nshort | yes | short",
    "nice": "polite | yes | nice\nprice | no | it costs a fortune",
    "rude": "polite | no | rude",
}


def replies(model, texts):
    return [REPLIES[text.split("<comment>\n")[1].split("\n")[0]] for text in texts]


def test_comments_become_labelled_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(extraction, "ask_chat", replies)
    data, out = write(tmp_path / "comments.jsonl", COMMENTS), tmp_path / "labelled.jsonl"
    words = ("principles", "--data", data, "--extractor", "http://localhost:1/v1#m")
    assert run(*words, "--out", out) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows == [
        {"prompt": "p", "answer": "a", "principle": "polite", "label": True},
        {"prompt": "p", "answer": "b", "principle": "polite", "label": False},
    ]
    said = capsys.readouterr().out
    assert "extracted: kept 6; quoted: kept 5, span not found 1" in said
    assert "agreed: kept 4, not agreed 1; merged: kept 2, merged 2" in said
    assert run(*words, "--out", out) == 2  # it is there
    assert run(*words, "--annotators", "1", "--out", tmp_path / "more") == 0
    assert len((tmp_path / "more").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--extractor", "gpt"), "expected http://ADDRESS/v1#MODEL or the folder"),
        (("--extractor", "http://localhost:1/v1"), "name the model behind the address"),
        (("--annotators", "0"), "annotators must be in [1, inf)"),
        (("--data", "bare"), "needs comments, a list of texts"),
    ],
)
def test_bad_extractions_are_named(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.setattr(extraction, "ask_chat", replies)
    bare = write(tmp_path / "bare", [{"prompt": "p", "answer": "a"}])
    data = write(tmp_path / "comments.jsonl", COMMENTS)
    given = {"--data": data, "--extractor": "http://localhost:1/v1#m", "--out": tmp_path / "out"}
    given |= {words[0]: bare if words[1] == "bare" else words[1]}
    assert run("principles", *(each for pair in given.items() for each in pair)) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_says_nothing_of_use_is_counted(tmp_path, model, capsys):
    data = write(tmp_path / "comments.jsonl", COMMENTS[1:])
    words = ("principles", "--data", data, "--extractor", model, "--out", tmp_path / "out")
    assert run(*words) == 2
    assert "no principle is left of 2 comments: extracted: kept 0" in capsys.readouterr().err
