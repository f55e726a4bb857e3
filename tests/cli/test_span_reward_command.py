"""`rlhf reward --kind spans`: heads of segments, their numbers, and their use as rewards."""

import json
from itertools import product
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.options import Model
from rlhf_jax.cli.reward_folders import open_head, open_reward, open_segments
from rlhf_jax.cli.rewards import named_reward, scored_task
from rlhf_jax.cli.segments import (
    HEADS,
    WEIGHTS,
    ScoredSegments,
    has_segments,
    named_labels,
    scored_segments,
    segment_baselines,
    segment_files,
    with_segment_heads,
)
from rlhf_jax.cli.session import open_lab, open_model
from rlhf_jax.cli.step_rewards import StepSpec, paid_steps, step_specs
from rlhf_jax.data.spans import MarkedSpan, sentences
from rlhf_jax.hf import load_model, save_model
from rlhf_jax.ops import SegmentRewards
from rlhf_jax.recipes import HeadLabels, whole_answer
from rlhf_jax.recipes.rows import answer_batch
from rlhf_jax.training import UserError, read_metrics

LABELS = {
    "clean": HeadLabels(sentences, ("b",)),
    "whole": HeadLabels(whole_answer, ("b", "c"), ("d",)),
}


def run(*words):
    return main([str(word) for word in words])


def marked(answer):
    """The answer, with every "b" marked."""
    spans = [MarkedSpan(i, i + 1, "b") for i, x in enumerate(answer) if x == "b"]
    return {"prompt": "0?", "answer": answer, "spans": spans}


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    """A file of answers of three sentences; those with a "b" are marked."""
    path = tmp_path_factory.mktemp("spans") / "spans.jsonl"
    rows = []
    for number, words in enumerate(product(["a", "b"], repeat=3)):
        row = marked(". ".join(words) + ".") | {"prompt": f"{number}?"}
        rows.append(row | {"spans": [span._asdict() for span in row["spans"]]})
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.long
def test_heads_are_trained_measured_and_read_as_rewards(tmp_path, model, spans):
    out = tmp_path / "heads"
    words = ("reward", "--kind", "spans", "--model", model, "--data", spans, "--out", out)
    words += ("--heads", "clean", "sentences:b", "whole", "answer:b")
    options = ("--heldout-data", spans, "--steps", "40", "--batch-size", "8")
    assert run(*words, *options, "--learning-rate", "0.05") == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    assert numbers["clean: accuracy"]["after"][0] > 0.9
    assert numbers["clean: area under the curve"]["after"] > 0.95
    assert numbers["clean: commoner label"]["after"][0] == 0.5
    # One answer of eight has no "b".
    assert numbers["whole: commoner label"]["after"][0] == 7 / 8
    assert numbers["clean: n-grams"]["after"][0] == 1.0
    # The folder that was written has the same numbers.
    words = ("eval", "--model", out / "model", "--data", spans, "--out", tmp_path / "numbers.json")
    assert run(*words) == 0
    for name, value in json.loads((tmp_path / "numbers.json").read_text()).items():
        assert numbers[name]["after"] == pytest.approx(value, abs=1e-4)
    weight, name, score, column = named_reward(f"0.5*segments:clean,{out / 'model'}")
    assert (weight, name, column) == (0.5, "clean", None)
    found = np.array(score(["0?", "2?", "0?"], ["a. a. a.", "a. b. a.", ""]), float)
    assert found[0] > found[1]
    assert found[2] in (0.0, 1.0, -1.0)  # a space is one sentence at most


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """Two heads on the model's trunk."""
    path, base = tmp_path_factory.mktemp("heads") / "model", load_model(model)
    weights = jnp.stack([jnp.linspace(-1.0, 1.0, 8), jnp.linspace(0.5, -1.0, 8)])
    params = {"trunk": base.params["trunk"]}
    params["head"] = {"weight": weights, "bias": jnp.array([0.1, -0.2])}
    files = {**base.files, **segment_files(LABELS, params)}
    mean = {"weight": weights.mean(0), "bias": jnp.zeros(())}
    save_model(path, base._replace(params={**params, "head": mean}, files=files))
    return path


def test_a_folder_has_its_heads_and_what_each_was_taught(folder, model):
    assert has_segments(folder)
    assert not has_segments(model)
    lab, params, labels = open_segments(folder)
    assert labels == LABELS
    np.testing.assert_allclose(params["head"]["bias"], [0.1, -0.2], rtol=1e-6)
    record = marked("a. b.")
    short = lab._replace(prompt_length=4, answer_length=8)
    found = scored_segments(short, labels, [record, marked("a.")], params, batch_size=2)
    np.testing.assert_array_equal(found["clean"].free, [True, False, True])
    np.testing.assert_array_equal(found["clean"].rows, [0, 0, 1])
    assert isinstance(found["whole"], ScoredSegments)
    np.testing.assert_array_equal(found["whole"].free, [False, True])


@pytest.mark.long
def test_segments_are_paid_at_their_ends_and_other_rewards_with_the_last_token(model, folder):
    specs, records = [f"0.5*segments:clean,{folder}", "2*regex:^a"], [{"prompt": "0?"}] * 2
    assert step_specs(specs) == {"clean": StepSpec(0.5, "segments", str(folder))}
    task = scored_task(specs, records, heldout=0.5)
    options = Model(model=model, prompt_length=4, answer_length=8)
    command = SimpleNamespace(model=options)
    lab, _ = open_lab(command, open_model(options), [("prompts", records)], answers=False)
    reward = paid_steps(step_specs(specs), lab, task)
    assert reward.steps is not None
    # a . space b . <eos>: sentences end at 1 and 4.
    trajectory = answer_batch(lab, [{"prompt": "0?", "answer": "a. b."}])
    other, params, labels = open_segments(folder)
    short = other._replace(prompt_length=4, answer_length=8)
    signs = np.sign(
        scored_segments(short, labels, [marked("a. b.")], params, batch_size=1)["clean"][0]
    )
    one = {"clean": heads_given([1, 4]), "answer": jnp.ones((1, 1))}
    found = reward.steps(reward.params, one, jax.tree.map(lambda x: x[:, None], trajectory))
    expected = np.zeros((1, 1, 8))
    expected[..., [1, 4]] = 0.5 * signs
    expected[..., 5] += 1.0
    np.testing.assert_allclose(found, expected)


def heads_given(ends):
    """What the host gives of one answer whose segments end there."""
    places = jnp.array([[ends]])
    arrays = SegmentRewards(places, jnp.zeros(places.shape), jnp.ones(places.shape, bool))
    return {"clean": arrays}


@pytest.mark.slow
def test_ppo_learns_from_heads_of_segments(tmp_path, model, files, folder):
    out = tmp_path / "ppo"
    words = ("ppo", "--model", model, "--prompts", files / "prompts.txt", "--out", out)
    options = ("--answer-length", "4", "--steps", "2", "--batch-size", "8", "--step-rewards")
    rewards = (f"0.3*segments:clean,{folder}", f"0.5*segments:whole,{folder}")
    assert run(*words, *options, "--reward", *rewards) == 0
    rows = [row for row in read_metrics(out) if row["stage"] == "ppo"]
    assert len(rows) == 2
    assert all(np.isfinite(row["loss"]) for row in rows)


RECORDS = [marked("a. b."), {**marked("a."), "spans": [MarkedSpan(0, 1, "d")]}]


def test_heads_by_name_and_one_for_each_kind_without_them():
    assert [*named_labels({}, RECORDS)] == ["b", "d"]
    found = named_labels({"clean": "sentences:b", "whole": "answer:b,d:d"}, RECORDS)
    assert found == {
        "clean": HeadLabels(sentences, ("b",)),
        "whole": HeadLabels(whole_answer, ("b", "d"), ("d",)),
    }
    for text, message in (
        ("sentences", "expected SEGMENTS:KIND,KIND or"),
        ("words:b", "expected SEGMENTS:KIND,KIND or"),
        ("sentences:b:d:b", "expected SEGMENTS:KIND,KIND or"),
        ("sentences:b,e", "no span of the training rows is of the kind 'e'; there are 'b', 'd'"),
    ):
        with pytest.raises(UserError, match=message):
            named_labels({"one": text}, RECORDS)
    with pytest.raises(UserError, match="no answer in the training rows has a marked span"):
        named_labels({}, [{"spans": ()}])


def test_baselines_by_hand():
    train = [
        {"prompt": f"{i}?", "answer": text, "spans": kinds}
        for i, (text, kinds) in enumerate(
            [("a x.", []), ("b x.", [(0, 1, "b")]), ("b y.", [(0, 1, "b")])] * 2
        )
    ]
    labels = {"clean": HeadLabels(sentences, ("b",))}
    found = segment_baselines(labels, train, train[:2])
    # The commoner label is the error, which one of the two has.
    assert found["clean: commoner label"][0] == 0.5
    assert found["clean: n-grams"][0] == 1.0
    assert found["clean: area under the curve, n-grams"] == 1.0
    assert segment_baselines(labels, train, []) == {}


def test_folders_without_their_parts_are_refused(tmp_path, folder, model):
    params = {"head": {"weight": jnp.zeros(8)}}
    with pytest.raises(UserError, match=f"has no file {HEADS}"):
        with_segment_heads(params, model)
    with pytest.raises(UserError, match="scores the segments of an answer: write segments:NAME"):
        open_reward(folder)
    with pytest.raises(UserError, match="has no head 'other'; its heads are clean, whole"):
        open_head("other", folder)
    with pytest.raises(UserError, match="must be segments:NAME,FOLDER"):
        named_reward(f"segments:{folder}")
    with pytest.raises(UserError, match=r"expected weights \[2, 7\], got \[2, 8\]"):
        with_segment_heads({"head": {"weight": jnp.zeros(7)}}, folder)
    (tmp_path / HEADS).write_text((folder / HEADS).read_text())
    with pytest.raises(UserError, match="its heads of segments cannot be read"):
        with_segment_heads(params, tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"no arrays")
    with pytest.raises(UserError, match="its heads of segments cannot be read"):
        with_segment_heads(params, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lora-rank", "2"), "--lora-rank is not for --kind spans"),
        (("--buckets", "2"), "--buckets is not for --kind spans"),
        (("--kind", "outcome", "--heads", "clean", "sentences:b"), "--heads is for --kind spans"),
        (("--heads", "clean", "words:b"), "expected SEGMENTS:KIND,KIND"),
        (("--long-answers", "truncate_left"), "takes the beginning of an answer"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path, model, spans, capsys, options, message
):
    words = ("reward", "--kind", "spans", "--model", model, "--data", spans)
    assert run(*words, *options, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err


def test_a_span_outside_its_answer_is_named(tmp_path, model, capsys):
    path = tmp_path / "spans.jsonl"
    row = {"prompt": "0?", "answer": "a.", "spans": [{"start": 1, "end": 9, "kind": "b"}]}
    path.write_text(json.dumps(row))
    words = ("reward", "--kind", "spans", "--model", model, "--data", path)
    assert run(*words, "--out", tmp_path / "out") == 2
    assert "row 1: field spans: a span must lie in the 2 characters" in capsys.readouterr().err
