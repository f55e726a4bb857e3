"""`rlhf reward --kind reactions`, `scaled_of:`, and both as parts of a reward."""

import json
from typing import Any, cast

import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.frame import Opened
from rlhf_jax.cli.reactions import reacted_records, reaction_quality, reaction_training
from rlhf_jax.cli.reward_folders import scaled_name, scaled_score
from rlhf_jax.cli.rewards import absolute_scorer, named_reward
from rlhf_jax.cli.session import Start
from rlhf_jax.recipes import LanguageLab
from rlhf_jax.training import UserError

NOTHING = cast(Any, None)
LAB = LanguageLab(**dict.fromkeys(LanguageLab._fields, NOTHING))  # of which nothing is read


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Hearts for every answer of a, and for no answer of b."""
    folder = tmp_path_factory.mktemp("reactions")
    rows = [
        {"prompt": f"{n}?", "answer": side * 3, "label": side == "a"}
        for n in range(8)
        for side in "ab"
    ]
    (folder / "hearts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    # Without labels: read as answers, labelled ones are those with a heart alone.
    answers = [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    return folder


@pytest.mark.long
def test_hearts_are_learned_measured_and_paid_for(tmp_path, model, files, data):
    """Trained by hearts it ranks them above the others; with weights it is a part of a reward."""
    out = tmp_path / "love"
    given = ("--model", model, "--data", data / "hearts.jsonl", "--heldout", "0.25")
    sizes = ("--steps", "60", "--batch-size", "8", "--learning-rate", "3e-3")
    assert run("reward", "--kind", "reactions", *given, *sizes, "--out", out) == 0
    summary = (out / "summary.json").read_text()
    assert all(f'"{name}"' in summary for name in ("area under the ROC curve", "mean P"))
    weight, name, score, _ = named_reward(f"0.3*scaled_of:{data / 'answers.jsonl'},{out / 'model'}")
    assert (weight, name) == (0.3, "love")
    loved, other = map(float, score(["1?", "1?"], ["aaa", "bbb"]))
    # Half of the answers of the file are of a: scores are 1 and -1 in its unit.
    assert loved > 0.5 > -0.5 > other
    _, _, probs, _ = named_reward(f"sigmoid_of:{out / 'model'}")
    love, hate = map(float, probs(["1?", "1?"], ["aaa", "bbb"]))
    assert 1 > love > 0.7 > 0.3 > hate > 0
    reward = ("0.7*regex:b", f"0.3*scaled_of:{data / 'answers.jsonl'},{out / 'model'}")
    few = ("--batch-size", "8", "--samples", "2", "--answer-length", "3", "--steps", "1")
    words = ("--model", model, "--prompts", files / "prompts.txt", "--out", tmp_path / "run")
    assert run("grpo", *words, "--reward", *reward, *few) == 0


@pytest.mark.parametrize("label", ["heart", 0.5, None])
def test_a_label_that_is_no_reaction_is_named(label):
    with pytest.raises(UserError, match=r"'9\?'.* must be true or false, whether there was a reac"):
        reacted_records([{"prompt": "9?", "answer": "a", "label": label}])


def test_labels_are_bools_and_nothing_held_out_is_no_number():
    found = reacted_records([{"prompt": "9?", "answer": "a", "label": 1}])
    assert found == [{"prompt": "9?", "answer": "a", "label": True}]
    assert reaction_quality(LAB, [], {}, batch_size=2) == {}


def test_answers_without_a_heart_are_refused():
    rows = [{"prompt": f"{n}?", "answer": "a", "label": False} for n in range(3)]
    opened = Opened(NOTHING, LAB, rows, [])
    with pytest.raises(UserError, match="all 3 training rows have the label False"):
        reaction_training(opened, Start(LAB, {}, dict), batch_size=2)


def test_a_scaled_reward_has_the_name_of_its_run(tmp_path):
    assert scaled_name("sft.jsonl,runs/love/model") == "love"
    assert scaled_name("sft.jsonl,love") == "love"
    assert absolute_scorer("scaled_of:sft.jsonl,/x/model") == "scaled_of:sft.jsonl,/x/model"
    with pytest.raises(UserError, match="must be scaled_of:ANSWERS,FOLDER"):
        scaled_score("runs/love/model")
