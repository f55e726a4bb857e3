"""Several reward models as one: `--kind ensemble`, and `--reward worst_of:...` of folders."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.ensembles import (
    ANNOTATORS,
    HEADS,
    all_heads,
    annotator_quality,
    read_annotators,
    read_members,
    with_heads,
)
from rlhf_jax.cli.reward_folders import model_score, open_reward
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


@pytest.mark.long
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
        (("--members", "3", "--by-annotator"), "--members and --by-annotator exclude each other"),
        (("--kind", "outcome", "--by-annotator"), "--by-annotator is for --kind ensemble"),
        (("--by-annotator",), '--by-annotator: pair 0 has no "annotator"'),
    ):
        assert run(*words, *more, "--out", tmp_path / "out") == 2
        assert message in capsys.readouterr().err


# ---- A member for each annotator.


def opposite(name, side, other, numbers):
    """Pairs of an annotator who likes answers of one letter."""
    pair = {"chosen": side * 3, "rejected": other * 3, "annotator": name}
    return [{"prompt": f"{n}?", **pair} for n in numbers]


def test_members_are_counted_and_one_annotator_is_refused(capsys):
    found = read_members([*opposite("bo", "a", "b", range(3)), *opposite("ann", "b", "a", [7])])
    assert found.names == ("ann", "bo")
    np.testing.assert_array_equal(found.weights.sum(1), [1, 3])
    assert "training pairs of each annotator: ann 1, bo 3" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"--by-annotator: .* all 3 pairs are by 'bo'"):
        read_members(opposite("bo", "a", "b", range(3)))


def test_each_annotators_pairs_are_scored_by_its_own_member(members):
    lab, params = with_heads(*open_reward(members / "both"), members / "both")
    records = [
        *opposite("ann", "a", "b", range(2)),
        *opposite("bo", "b", "a", [5]),
        *opposite("who", "b", "a", [6]),
    ]
    texts = [[row[side] for row in records[:3]] for side in ("chosen", "rejected")]
    prompts = [row["prompt"] for row in records[:3]]
    right = []
    for name in ("one", "two"):
        score = model_score(*open_reward(members / name))
        chosen, rejected = (np.array(score(prompts, side), float) for side in texts)
        right.append(chosen > rejected)
    own = [right[0][0], right[0][1], right[1][2]]
    other = [right[1][0], right[1][1], right[0][2]]
    heads = all_heads(lab, params)
    found = annotator_quality(heads, ("ann", "bo"), records, params, batch_size=2)
    assert found["pairs of annotators without a member"] == 1.0
    assert np.ravel(found["accuracy, own member"])[0] == pytest.approx(np.mean(own))
    assert np.ravel(found["accuracy, other members"])[0] == pytest.approx(np.mean(other))
    unknown = annotator_quality(heads, ("ann", "bo"), records[3:], params, batch_size=2)
    assert unknown == {"pairs of annotators without a member": 1.0}


def test_a_damaged_file_of_annotators_is_named(tmp_path):
    assert read_annotators(tmp_path) == ()
    (tmp_path / ANNOTATORS).write_text("{}")
    with pytest.raises(UserError, match=f"{ANNOTATORS} cannot be read"):
        read_annotators(tmp_path)


@pytest.mark.long
def test_opposite_annotators_have_opposite_members(tmp_path, mixing):
    """Members of unequally many pairs; the folder has the numbers of its training."""
    out, data, held = tmp_path / "heads", tmp_path / "train.jsonl", tmp_path / "held.jsonl"
    for path, numbers in ((data, range(6)), (held, range(7, 9))):
        rows = opposite("ann", "a", "b", numbers) + opposite("bo", "b", "a", list(numbers)[:2])
        path.write_text("\n".join(map(json.dumps, rows)))
    words = ("reward", "--kind", "ensemble", "--by-annotator", "--model", mixing, "--data", data)
    options = ("--heldout-data", held, "--steps", "60", "--batch-size", "8", "--buckets", "2")
    assert run(*words, *options, "--learning-rate", "0.03", "--out", out) == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    assert np.ravel(numbers["accuracy, own member"]["after"])[0] == 1.0
    assert np.ravel(numbers["accuracy, other members"]["after"])[0] == 0.0
    assert read_annotators(out / "model") == ("ann", "bo")
    assert np.load(out / "model" / HEADS).shape == (2, 8)
    found = tmp_path / "numbers.json"
    assert run("eval", "--model", out / "model", "--data", held, "--out", found) == 0
    for name, value in json.loads(found.read_text()).items():
        assert numbers[name]["after"] == pytest.approx(value, abs=1e-4)
