"""`rlhf reward`: models of steps, their numbers and their use as rewards; adapters."""

import json
from itertools import product
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from rlhf_jax.cli import main
from rlhf_jax.cli.options import Model
from rlhf_jax.cli.reward_folders import open_process
from rlhf_jax.cli.rewards import named_reward, scored_task
from rlhf_jax.cli.session import open_lab, open_model
from rlhf_jax.cli.step_rewards import paid_steps, step_specs
from rlhf_jax.cli.steps import (
    PROCESS,
    ScoredSteps,
    read_separator,
    scored_steps,
    step_baselines,
    step_quality,
)
from rlhf_jax.data.tokenizer import standard_vocabulary, train_bpe_tokenizer
from rlhf_jax.hf import load_model, load_reward, save_model
from rlhf_jax.recipes.process import joined_steps
from rlhf_jax.recipes.rows import answer_batch
from rlhf_jax.training import UserError, read_metrics

NUMBERS = {"step accuracy", "step log loss", "step calibration error", "first wrong step found"}


def run(*words):
    return main([str(word) for word in words])


def test_numbers_of_steps_and_of_baselines():
    found = ScoredSteps(
        scores=np.array([2.0, -1.0, 1.0, 3.0, 0.5]),
        right=np.array([True, False, True, False, True]),
        answers=np.array([0, 0, 1, 1, 1]),
        numbers=np.array([0, 1, 0, 1, 2]),
        prompts=np.array([0, 0, 1, 1, 1]),
    )
    numbers = step_quality(found)
    assert numbers["step accuracy"][0] == 0.8  # all but the fourth
    # log(1 + e^-2) + 2 log(1 + e^-1) + log(1 + e^3) + log(1 + e^-0.5)
    # = 0.126928 + 0.626523 + 3.048587 + 0.474077 = 4.276115, over five steps.
    assert numbers["step log loss"][0] == pytest.approx(0.855223, abs=1e-6)
    # The first answer's is called wrong, no step of the second is.
    assert numbers["first wrong step found"][0] == 0.5
    # Four of six training labels are right, the second one of an answer is in one of three.
    records = [{"labels": labels} for labels in ([1.0, 0.0], [1.0, 1.0], [0.9, 0.1])]
    baselines = step_baselines(found, records)
    assert baselines["commoner label"][0] == 0.6
    # Right, wrong, and for the third, which no training answer has, right.
    assert baselines["commoner label of the step's number"] == [1.0, 1.0, 1.0]


def test_steps_become_one_answer():
    assert joined_steps(["1 + 1 = 2", " so\nit is 2 "]) == "1 + 1 = 2\nso it is 2"


def test_a_folder_says_whether_it_scores_steps(tmp_path):
    assert read_separator(tmp_path) is None
    with pytest.raises(UserError, match=f"has no file {PROCESS}"):
        open_process(tmp_path)
    (tmp_path / PROCESS).write_text('{"separator": "\\n"}')
    assert read_separator(tmp_path) == "\n"
    with pytest.raises(UserError, match="scores the steps of an answer: write step_product:"):
        named_reward(str(tmp_path))
    (tmp_path / PROCESS).write_text('{"separator": 1}')
    with pytest.raises(UserError, match=r'expected \{"separator"'):
        read_separator(tmp_path)


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """A file of steps; those with an "a" are right."""
    path = tmp_path_factory.mktemp("steps") / "steps.jsonl"
    rows = [
        {"prompt": f"{i}?", "completions": list(words), "labels": ["a" in word for word in words]}
        for i, words in enumerate(product(["a", "b"], repeat=3))
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.long
def test_a_model_of_steps_is_trained_measured_and_read_as_a_reward(tmp_path, model, steps):
    out = tmp_path / "steps"
    words = ("reward", "--kind", "process", "--model", model, "--data", steps, "--out", out)
    options = ("--heldout-data", steps, "--steps", "30", "--batch-size", "8")
    assert run(*words, *options, "--learning-rate", "0.05") == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    assert numbers.keys() >= NUMBERS
    assert numbers["step accuracy"]["after"] == [1.0, 1.0, 1.0]
    assert numbers["commoner label"]["after"][0] == 0.5
    assert numbers["step calibration error"]["after"][0] < 0.1
    # The folder that was written has the same numbers.
    words = ("eval", "--model", out / "model", "--data", steps, "--out", tmp_path / "numbers.json")
    assert run(*words) == 0
    for name, value in json.loads((tmp_path / "numbers.json").read_text()).items():
        assert numbers[name]["after"] == pytest.approx(value, abs=1e-4)
    # Its scores of steps, as rewards of answers.
    lab, reward = open_process(out / "model")
    rows = [
        {"prompt": "0?", "steps": list(word), "labels": [1.0] * 3} for word in ("aaa", "aba", "bab")
    ]
    short = lab._replace(prompt_length=4, answer_length=8)
    found = scored_steps(short, reward.params, rows, batch_size=3)
    probs = expit(found.scores).reshape(3, 3)
    given = (["0?"] * 3, ["a\na\na", "a\nb\na", "b\na\nb"])
    for name, combine in (("step_product", np.prod), ("step_minimum", np.min)):
        weight, kind, score, _ = named_reward(f"2*{name}:{out / 'model'}")
        assert (weight, kind) == (2.0, name)
        np.testing.assert_allclose(
            np.array(score(*given), float), combine(probs, axis=1), rtol=1e-4
        )


@pytest.fixture(scope="module")
def scorer(tmp_path_factory, model):
    """A folder that scores steps, of the model's trunk with a new head."""
    folder, base = tmp_path_factory.mktemp("scorers") / "steps", load_model(model)
    head = {"weight": jnp.linspace(-1.0, 1.0, 8), "bias": jnp.zeros(())}
    files = {**base.files, PROCESS: b'{"separator": "\\n"}'}
    params = {"trunk": base.params["trunk"], "head": head}
    save_model(folder, base._replace(params=params, files=files))
    return folder


@pytest.mark.long
def test_steps_are_paid_at_their_ends_and_other_rewards_with_the_last_token(model, scorer):
    specs, records = [f"0.5*step_minimum:{scorer}", r"2*regex:^a"], [{"prompt": "0?"}] * 2
    task = scored_task(specs, records, heldout=0.5)
    options = Model(model=model, prompt_length=4, answer_length=4)
    command = SimpleNamespace(model=options)
    lab, _ = open_lab(command, open_model(options), [("prompts", records)], answers=False)
    reward = paid_steps(step_specs(specs), lab, task)
    assert reward.steps is not None
    trajectory = answer_batch(lab, [{"prompt": "0?", "answer": "a\nb"}])  # a, \n, b, <eos>
    given = {"step_minimum": (), "answer": jnp.ones(1)}
    found = reward.steps(reward.params, given, trajectory)
    other, process = open_process(scorer)
    row = {"prompt": "0?", "steps": ["a", "b"], "labels": [1.0, 1.0]}
    short = other._replace(prompt_length=4, answer_length=4)
    first, second = expit(scored_steps(short, process.params, [row], batch_size=1).scores)
    # Half of each step's score; the other reward, which the test sets to 1, counts once: its
    # weight 2 is in the objective on the host.
    expected = [[0.0, 0.5 * first, 0.0, 0.5 * second + 1.0]]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_step_rewards_need_a_reward_of_steps_with_the_tokens_of_the_model(model, scorer):
    with pytest.raises(
        UserError, match="--step-rewards needs --reward step_product:FOLDER, step_m"
    ):
        step_specs(["exact"])
    specs, records = [f"step_product:{scorer}"], [{"prompt": "0?"}] * 2
    vocabulary = standard_vocabulary(train_bpe_tokenizer(["c d"], vocab_size=261))
    lab = open_process(scorer)[0]._replace(vocabulary=vocabulary)
    with pytest.raises(UserError, match="has another tokenizer than the model"):
        paid_steps(step_specs(specs), lab, scored_task(specs, records, heldout=0.5))


@pytest.mark.slow
def test_ppo_learns_from_scores_of_steps(tmp_path, model, files, scorer):
    out = tmp_path / "ppo"
    words = ("ppo", "--model", model, "--prompts", files / "prompts.txt", "--out", out)
    options = ("--answer-length", "4", "--steps", "2", "--batch-size", "8", "--step-rewards")
    assert run(*words, *options, "--reward", f"step_product:{scorer}") == 0
    rows = [row for row in read_metrics(out) if row["stage"] == "ppo"]
    assert len(rows) == 2
    assert all(0 < row["scores/mean"] < 1 and np.isfinite(row["loss"]) for row in rows)


@pytest.mark.long
def test_adapters_and_a_whole_head_become_a_reward_model(tmp_path, model, files, capsys):
    out = tmp_path / "lora"
    words = ("reward", "--model", model, "--data", files / "pairs.jsonl", "--lora-rank", "2")
    options = ("--steps", "3", "--batch-size", "8", "--learning-rate", "0.1")
    assert run(*words, *options, "--out", out) == 0
    # Rank 2 of query 8 x 8, key and value 8 x 4, out 8 x 8: 112; the head has 8 weights and a bias.
    assert "adapters: 121 parameters" in capsys.readouterr().out
    found, base = load_reward(out / "model").params, load_model(model).params
    same = jax.tree.map(lambda a, b: bool((a == b).all()), found["trunk"], base["trunk"])
    assert same["layers"]["mlp"]["up"]
    assert not same["layers"]["attention"]["out"]
    assert found["head"]["bias"] == 0.0


def test_labels_stay_with_their_steps(tmp_path, model, steps, capsys):
    words = ("reward", "--kind", "process", "--model", model, "--data", steps, "--heldout", "0")
    words += ("--batch-size", "8", "--long-answers", "truncate_left", "--out", tmp_path / "out")
    assert run(*words) == 2
    assert "takes the first steps of an answer" in capsys.readouterr().err
