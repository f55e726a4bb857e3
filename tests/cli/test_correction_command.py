"""`rlhf reward --kind correction`: training on pairs, numbers, and use as a reward of tokens."""

import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.corrections import (
    CORRECTIONS,
    check_positions,
    correction_quality,
    has_corrections,
    open_corrections,
    scoring_lab,
)
from rlhf_jax.cli.options import Model
from rlhf_jax.cli.reward_folders import open_stepwise
from rlhf_jax.cli.rewards import named_reward, scored_task
from rlhf_jax.cli.session import open_lab, open_model
from rlhf_jax.cli.step_rewards import paid_steps, step_specs
from rlhf_jax.hf import load_model, save_model
from rlhf_jax.recipes.corrections import correction_token_rewards, map_losses
from rlhf_jax.recipes.rows import answer_batch, pair_batch
from rlhf_jax.training import UserError, read_metrics

REJECTED = ("bb", "aa", "ba", "b", "a")
PROMPTS = [f"{n}?" for n in range(8)]


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The answer ab is right to every prompt."""
    folder = tmp_path_factory.mktemp("corrections")
    for name, prompts in (("train", PROMPTS[:6]), ("held", PROMPTS[6:])):
        rows = [{"prompt": p, "chosen": "ab", "rejected": r} for p in prompts for r in REJECTED]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    return folder


@pytest.fixture(scope="module")
def rewriter(tmp_path_factory, mixing):
    """A folder that rewrites answers, with the random weights."""
    folder, base = tmp_path_factory.mktemp("rewriters") / "random", load_model(mixing)
    save_model(folder, base._replace(files={**base.files, CORRECTIONS: b'{"identity_weight": 1}'}))
    return folder


@pytest.mark.long
def test_a_model_learns_to_correct_and_its_rewards_are_read(tmp_path, mixing, data):
    out = tmp_path / "out"
    words = ("reward", "--kind", "correction", "--model", mixing, "--data", data / "train.jsonl")
    words += ("--heldout-data", data / "held.jsonl", "--steps", "120", "--batch-size", "16")
    assert run(*words, "--learning-rate", "0.03", "--out", out) == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    assert np.ravel(numbers["accuracy"]["after"])[0] == 1.0
    for name in ("correction loss", "identity loss"):
        assert np.ravel(numbers[name]["before"])[0] > 1.0
        assert np.ravel(numbers[name]["after"])[0] < 0.2
    assert "accuracy minus n-grams" in numbers
    assert json.loads((out / "model" / CORRECTIONS).read_text()) == {"identity_weight": 1.0}
    # The folder that was written has the same numbers.
    found = tmp_path / "numbers.json"
    assert run("eval", "--model", out / "model", "--data", data / "held.jsonl", "--out", found) == 0
    for name, value in json.loads(found.read_text()).items():
        assert numbers[name]["after"] == pytest.approx(value, abs=1e-4)
    # a, b and <eos> are paid a third each, or 1.
    given = (["7?"] * 2, ["ab", "bb"])
    for name, unit in (("correction", 1 / 3), ("correction_sum", 1.0)):
        weight, kind, score, column = named_reward(f"2*{name}:{out / 'model'}")
        assert (weight, kind, column) == (2.0, name, None)
        right, wrong = np.array(score(*given), float) / unit
        assert right == pytest.approx(3.0)
        # The first b is fined, so nothing is paid.
        assert round(wrong, 4) in (-1.0, -2.0, -3.0)


@pytest.mark.long
def test_a_benchmark_is_scored_by_rewards_of_corrections(tmp_path, data, rewriter):
    """Of the model, and of the reward that is named: each pair as the scores say."""
    pairs = [("ab", "bb"), ("ba", "ab"), ("b", "aab")]
    rows = [{"prompt": "7?", "chosen": a, "rejected": b, "subset": a} for a, b in pairs]
    bench, found = tmp_path / "bench.jsonl", tmp_path / "numbers.json"
    bench.write_text("\n".join(map(json.dumps, rows)))
    words = ("eval", "--model", rewriter, "--data", bench, "--out", found)
    for name, options in (
        ("correction", ()),
        ("correction_sum", ("--reward", f"2*correction_sum:{rewriter}")),
    ):
        score = named_reward(f"{name}:{rewriter}")[2]
        gaps = [-np.diff(np.array(score(["7?"] * 2, pair), float))[0] for pair in pairs]
        found.unlink(missing_ok=True)
        assert run(*words, *options) == 0
        numbers = json.loads(found.read_text())
        credits = [0.5 + 0.5 * np.sign(gap) for gap in gaps]
        assert [np.ravel(numbers[a])[0] for a, _ in pairs] == credits
        assert numbers["overall"] == pytest.approx(np.mean(credits))


@pytest.mark.long
def test_ppo_pays_tokens_and_grpo_answers(tmp_path, mixing, data, rewriter):
    job = ("--model", mixing, "--prompts", data / "prompts.txt", "--answer-length", "4")
    job += ("--steps", "2", "--batch-size", "8", "--learning-rate", "1e-3")
    spec = f"correction:{rewriter}"
    for command, options in (("ppo", ("--step-rewards",)), ("grpo", ("--samples", "2"))):
        out = tmp_path / command
        assert run(command, *job, *options, "--reward", spec, "--out", out) == 0
        rows = [row for row in read_metrics(out) if row["stage"] == command]
        assert len(rows) == 2
        assert all(-1 <= row["scores/mean"] <= 1 and np.isfinite(row["loss"]) for row in rows)


@pytest.mark.long
def test_adapters_learn_to_correct(tmp_path, mixing, data):
    out = tmp_path / "lora"
    words = ("reward", "--kind", "correction", "--model", mixing, "--data", data / "train.jsonl")
    words += ("--lora-rank", "2", "--lora-targets", "*/query", "*/value", "*/up", "*/down")
    words += ("--heldout", "0.2", "--identity-weight", "0.5", "--steps", "30")
    assert run(*words, "--learning-rate", "0.03", "--out", out) == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    losses = [np.ravel(numbers["correction loss"][when])[0] for when in ("before", "after")]
    assert losses[1] < losses[0]
    # The merged model is the one that was measured.
    lab, reward = open_corrections(out / "model")
    assert lab.policy.init is not None
    assert has_corrections(out / "model")
    assert jax.tree.structure(reward.params) == jax.tree.structure(load_model(mixing).params)


def lab_of(mixing, records, **lengths):
    options = Model(model=mixing, **lengths)
    command = SimpleNamespace(model=options)
    return open_lab(command, open_model(options), [("prompts", records)], answers=False)[0]


@pytest.mark.long
def test_tokens_are_paid_and_other_rewards_with_the_last_token(mixing, rewriter):
    specs, records = [f"0.5*correction:{rewriter}", r"2*regex:^a"], [{"prompt": "0?"}] * 2
    lab = lab_of(mixing, records, prompt_length=4, answer_length=4)
    reward = paid_steps(step_specs(specs), lab, scored_task(specs, records, heldout=0.5))
    assert reward.steps is not None
    trajectory = answer_batch(lab, [{"prompt": "0?", "answer": "ab"}])  # a, b, <eos>
    given = {"correction": (), "answer": jnp.ones(1)}
    found = reward.steps(reward.params, given, trajectory)
    alone, whole = open_corrections(rewriter)
    each = correction_token_rewards(alone)(whole.params, trajectory)
    np.testing.assert_allclose(found, 0.5 * each + np.array([[0, 0, 1, 0]]), rtol=1e-6)
    # Its score is their sum, by either rule.
    for name, scale in (("correction", 1.0), ("correction_sum", 3.0)):
        other, paid = open_stepwise(rewriter, name)
        expected = scale * each.sum(-1)
        np.testing.assert_allclose(other.scores(paid.params, trajectory), expected, rtol=1e-6)


@pytest.mark.long
def test_losses_are_those_of_both_maps(rewriter):
    """The chosen answer as a continuation of `prompt answer <bos>`."""
    lab, reward = open_corrections(rewriter)
    lab, params = lab._replace(prompt_length=4, answer_length=4), reward.params
    records = [{"prompt": "0?", "chosen": "ab", "rejected": r} for r in ("b", "bb")]
    found = map_losses(lab)(params, pair_batch(lab, records))
    np.testing.assert_array_equal(found[:, 2], 3)
    prompts = answer_batch(lab, [{"prompt": "0?", "answer": r} for r in ("b", "bb", "ab")])
    bos, eos = lab.vocabulary.bos_id, lab.vocabulary.stop_ids[0]
    inputs = prompts.inputs
    for row, expected in zip(range(3), (found[0, 0], found[1, 0], found[0, 1]), strict=True):
        real = np.asarray(inputs.ids[row])[np.asarray(inputs.segments[row]) > 0]
        assert real[-1] == eos
        ids = jnp.asarray([*real, bos, *np.asarray(prompts.actions[2])[:3]])[None]
        steps = jnp.arange(ids.shape[1])[None]
        hidden = lab.model.hidden(params, ids, steps, jnp.ones_like(steps))
        logps = jax.nn.log_softmax(lab.model.unembed(params, hidden)[0, -4:-1])
        nats = -sum(logps[i, ids[0, i - 3]] for i in range(3))
        np.testing.assert_allclose(expected, nats, rtol=1e-4)
    quality = correction_quality(scoring_lab(lab), map_losses(lab), records, params, batch_size=2)
    # (sum over both pairs) / 6 tokens
    np.testing.assert_allclose(quality["correction loss"][0], found[:, 0].sum() / 6, rtol=1e-5)
    np.testing.assert_allclose(quality["identity loss"][0], found[:, 1].sum() / 6, rtol=1e-5)
    assert correction_quality(scoring_lab(lab), map_losses(lab), [], params, batch_size=2) == {}


def test_other_folders_are_named(mixing, rewriter):
    for spec in (f"correction:{mixing}", "correction_sum:nowhere", "correction:"):
        with pytest.raises(UserError, match="rlhf reward --kind correction makes a model that"):
            named_reward(spec)
    with pytest.raises(UserError, match="rewrites answers: write correction:"):
        named_reward(str(rewriter))
    with pytest.raises(UserError, match="correction:FOLDER, correction_sum:FOLDER, implicit"):
        step_specs(["exact"])


def test_too_few_positions_are_named(rewriter):
    lab = open_corrections(rewriter)[0]._replace(prompt_length=4, answer_length=8)
    config = replace(lab.model.config, positions="learned", max_positions=21)
    check_positions(config, lab)  # 4 + 8 + 1 + 8
    with pytest.raises(UserError, match="up to 21 tokens, and the model that rewrites has 20 pos"):
        check_positions(replace(config, max_positions=20), lab)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--identity-weight", "-1"), "--identity-weight must be in [0, inf)"),
        (("--repair", "flip"), "--repair is for --kind outcome"),
        (("--contrast", "simcse"), "--contrast is for --kind outcome"),
    ],
)
def test_bad_options_are_named(tmp_path, model, files, capsys, words, message):
    given = ("reward", "--kind", "correction", "--model", model, "--data", files / "pairs.jsonl")
    assert run(*given, "--out", tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err
