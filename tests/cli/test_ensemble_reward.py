"""Several reward models as one: `--kind ensemble`, and `--reward worst_of:...` of folders."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.ensembles import HEADS, with_heads
from rlhf_jax.cli.reward_folders import model_score, open_reward, text_scores
from rlhf_jax.cli.rewards import named_reward
from rlhf_jax.hf import load_model, save_model
from rlhf_jax.training import UserError, read_metrics

ANSWERS = [{"prompt": f"{i}?", "answer": word} for i, word in enumerate("abcd")]
GIVEN = ["0?", "5?", "7?"], ["a", "dd", ""]


@pytest.fixture(scope="module")
def members(tmp_path_factory, model):
    """A file of answers; reward models "one", "two" and "flat", and "both" heads on one trunk."""
    folder, base = tmp_path_factory.mktemp("members"), load_model(model)
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, ANSWERS)))
    # The layers of a fresh model add nothing, so its scores of the last token are all alike.
    leaves, tree = jax.tree.flatten(base.params["trunk"])
    rng = np.random.default_rng(0)
    leaves = [x + 0.3 * rng.standard_normal(x.shape).astype(np.float32) for x in leaves]
    heads = {"one": jnp.linspace(-1.0, 1.0, 8), "two": jnp.linspace(3.0, 1.0, 8) ** 2}
    heads |= {"flat": jnp.zeros(8), "both": (heads["one"] + heads["two"]) / 2}
    for name, weight in heads.items():
        head = {"weight": weight, "bias": jnp.zeros(())}
        params = {"trunk": jax.tree.unflatten(tree, leaves), "head": head}
        save_model(folder / name, base._replace(params=params))
    np.save(folder / "both" / HEADS, np.stack([heads["one"], heads["two"]]))
    return folder


def by_hand(members):
    """The standardised scores [2, 3] of members "one" and "two"."""
    known = [[row[name] for row in ANSWERS] for name in ("prompt", "answer")]
    z = []
    for name in ("one", "two"):
        score = model_score(*open_reward(members / name))
        reference = np.array(score(*known), float)
        z.append((np.array(score(*GIVEN), float) - reference.mean()) / reference.std())
    return np.array(z)


@pytest.mark.parametrize("folders", [("one", "two"), ("both",)])
def test_members_are_standardised_over_the_answers_and_combined(members, folders):
    files, z = ",".join(str(members / x) for x in ("answers.jsonl", *folders)), by_hand(members)
    assert np.abs(z[0] - z[1]).max() > 0.1
    for spec, expected in (
        (f"mean_of:{files}", z.mean(0)),
        (f"worst_of:{files}", z.min(0)),
        (f"penalised_of:0,{files}", z.mean(0)),
        (f"penalised_of:0.5,{files}", z.mean(0) - 0.5 * z.var(0)),
    ):
        weight, name, score, column = named_reward(f"2*{spec}")
        assert (weight, name, column) == (2.0, spec.partition(":")[0], None)
        np.testing.assert_allclose(np.array(score(*GIVEN), float), expected, rtol=1e-3, atol=1e-3)


def test_a_folder_of_heads_is_their_mean_as_one_reward_model(members):
    one, two, both = (
        np.array(model_score(*open_reward(members / name))(*GIVEN))
        for name in ("one", "two", "both")
    )
    np.testing.assert_allclose(both, (one + two) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("worst_of:{}/answers.jsonl,{}/one", "a file of answers and two reward models at least"),
        ("mean_of:", "a file of answers and two reward models at least"),
        ("penalised_of:answers.jsonl,one,two", "needs a number before the answers: LAMBDA,"),
        ("penalised_of:-1,answers.jsonl,one,two", r"lambda of penalised_of must be in \[0, inf\)"),
        ("mean_of:{}/answers.jsonl,{}/one,{}/flat", "member 1 of 2 scores all 4 reference answers"),
    ],
)
def test_a_spec_without_its_parts_is_refused(members, spec, message):
    with pytest.raises(UserError, match=message):
        named_reward(spec.replace("{}", str(members)))


def test_heads_of_another_model_are_refused(members):
    found = np.load(members / "both" / HEADS)
    try:
        np.save(members / "both" / HEADS, found[:, :7])
        with pytest.raises(UserError, match=r"expected finite weights \[N, 8\], got \(2, 7\)"):
            named_reward(f"worst_of:{members / 'answers.jsonl'},{members / 'both'}")
    finally:
        np.save(members / "both" / HEADS, found)


def run(*words):
    return main([str(word) for word in words])


@pytest.mark.long
def test_heads_are_trained_measured_written_and_used(tmp_path, model, files):
    """`rlhf reward --kind ensemble`, then `rlhf grpo` by the worst head."""
    out, pairs = tmp_path / "heads", files / "pairs.jsonl"
    words = ("reward", "--kind", "ensemble", "--members", "3", "--model", model, "--data", pairs)
    options = ("--heldout-data", pairs, "--steps", "30", "--batch-size", "8")
    assert run(*words, *options, "--learning-rate", "0.05", "--out", out) == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    assert numbers["accuracy"]["after"][0] > 0.9
    heads = np.load(out / "model" / HEADS)
    assert heads.shape == (3, 8)
    assert np.std(heads, axis=0).min() > 0
    # The folder as one reward model is their mean.
    _, params = open_reward(out / "model")
    np.testing.assert_allclose(params["head"]["weight"], heads.mean(0), rtol=1e-5)
    policy = tmp_path / "policy"
    words = ("grpo", "--model", model, "--prompts", files / "prompts.txt", "--out", policy)
    options = ("--answer-length", "4", "--steps", "2", "--batch-size", "8")
    text = "\n".join(json.dumps({"prompt": f"{i}?", "answer": "ab"[i % 2]}) for i in range(4))
    (tmp_path / "sft.jsonl").write_text(text)
    spec = f"worst_of:{tmp_path / 'sft.jsonl'},{out / 'model'}"
    assert run(*words, *options, "--reward", spec) == 0
    rows = [row for row in read_metrics(policy) if row["stage"] == "grpo"]
    assert len(rows) == 2
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_options_that_do_not_go_together_are_refused(tmp_path, model, files, capsys):
    words = ("reward", "--kind", "ensemble", "--model", model, "--data", files / "pairs.jsonl")
    for more, message in (
        (("--members", "1"), "members must be in [2, inf)"),
        (("--lora-rank", "2"), "--lora-rank is not for --kind ensemble"),
    ):
        assert run(*words, *more, "--out", tmp_path / "out") == 2
        assert message in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("buckets", ["1", "2"])
def test_each_user_has_a_head(tmp_path, mixing, capsys, buckets):
    """Two users want opposite answers: their heads disagree, and one head of both cannot."""
    sides = {"ann": ("a", "b"), "bo": ("b", "a")}
    rows = [
        {"prompt": f"{n}?", "chosen": sides[user][0], "rejected": sides[user][1], "user": user}
        for n in range(8)
        for user in sides
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("reward", "--kind", "ensemble", "--by-user", "--model", mixing, "--heldout", "0")
    words += ("--data", tmp_path / "pairs.jsonl", "--buckets", buckets, "--learning-rate", "0.05")
    assert run(*words, "--steps", "20", "--batch-size", "8", "--out", tmp_path / "out") == 0
    assert "users: 2, each with a head" in capsys.readouterr().out
    folder = tmp_path / "out" / "model"
    lab, params = with_heads(*open_reward(folder), folder)
    scores = text_scores(lab, params, ["3?", "3?"], ["a", "b"])
    assert scores.shape == (2, 2)
    gaps = scores[0] - scores[1]
    assert gaps[0] > 0 > gaps[1]


@pytest.mark.parametrize(
    ("users", "message"),
    [(["ann"] * 4, "all 4 pairs are by 'ann'"), (["ann", None] * 2, 'pair 1 has no "annotator"')],
)
def test_pairs_of_one_user_are_refused(tmp_path, model, capsys, users, message):
    rows = [{"prompt": "?", "chosen": "a", "rejected": "b", "user": user} for user in users]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("reward", "--kind", "ensemble", "--by-user", "--model", model, "--heldout", "0")
    assert run(*words, "--data", tmp_path / "pairs.jsonl", "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
