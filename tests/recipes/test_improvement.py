"""PIT's recipes: prompts that show an answer, references that fit, the curriculum, rounds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import PROMPTS, TASK, keyed, unigram_lab
from word_lab import transformer_lab

from rlhf_jax.losses.gaps import GAP_TERMS
from rlhf_jax.recipes import (
    Fit,
    StagedRows,
    answer_rows,
    fitting_references,
    gap_model,
    gap_scores,
    gap_zero,
    grpo,
    improve,
    improve_prompt,
    improvement_records,
    improving_task,
    on_trunk,
    online,
    pair_gap_table,
    pair_rows,
    prompt_rows,
    reference_records,
    sample_texts,
    score_answers,
    supervised,
    task_reward,
    text_task,
)
from rlhf_jax.recipes.corrections import rewriting_of
from rlhf_jax.recipes.lab import decode_texts
from rlhf_jax.recipes.texts import sample_rollouts
from rlhf_jax.recipes.tokens import answer_text
from rlhf_jax.training import Stage, UserError, open_run, read_metrics

SHORT = "{prompt} {principle}"  # the tiny vocabularies have no word for "better"
LAB = transformer_lab(prompt_length=7)
START = LAB.policy.init(jax.random.key(0))
ASKED = ["red", "blue", "green", "grey"] * 2
MORE, LESS = ("red", "red red", "red red", "red red"), ("{}", "{} {}", "red", "red {}")
PAIRS = [
    {"prompt": p, "chosen": more, "rejected": less.format(w, w)}
    for p, w in zip(ASKED, ("blue", "green", "grey", "blue") * 2, strict=True)
    for more, less in zip(MORE, LESS, strict=True)
]


def test_a_prompt_shows_the_answer_to_improve():
    assert improve_prompt("a {b}", "{c}") == "a {b} answer : {c} better :"
    chat = [{"role": "user", "content": "a"}]
    said = [{"role": "assistant", "content": "b"}, {"role": "assistant", "content": "c"}]
    assert improve_prompt(chat, said, template=SHORT) == ({"role": "user", "content": "a b\nc"},)
    pairs = [{"prompt": "a", "chosen": "w", "rejected": "l", "user": 3}]
    assert improvement_records(pairs, template=SHORT) == [
        {"prompt": "a l", "answer": "w", "user": 3}
    ]


def test_answers_are_read_as_texts_in_rows_of_two():
    said = [{"role": "assistant", "content": "b"}, {"role": "tool", "content": None}]
    assert [answer_text(x) for x in ("a", said)] == ["a", "b\n"]
    assert rewriting_of(LAB) is rewriting_of(LAB)  # one function, so that updates compile once


def test_every_answer_of_a_record_is_a_reference():
    rows = [{"prompt": "a", "chosen": "w", "rejected": "l"}, {"prompt": "b", "chosen": "w"}]
    found = reference_records(rows, ("chosen", "rejected"))
    assert [(row["prompt"], row["reference"]) for row in found] == [
        ("a", "w"),
        ("a", "l"),
        ("b", "w"),
    ]
    assert found[0]["rejected"] == "l"
    with pytest.raises(UserError, match=r"prompt 'b' has no answer to improve: .* 'rejected'"):
        reference_records(rows, ("rejected",))


def test_a_reference_longer_than_the_window_is_counted_or_named():
    """P = 7 with <bos>, T = 4 with <eos>."""
    texts = ["red", "red red red", "red red red red", "", " "]
    rows = [{"prompt": "blue", "reference": text} for text in texts]
    found = fitting_references(LAB, rows, template=SHORT)
    assert [row["reference"] for row in found.records] == texts[:2]
    assert found.dropped == 3
    long = [{"prompt": "blue " * 4, "reference": "red red red"}]  # 1 + 4 + 3 tokens
    assert fitting_references(LAB, [*rows, *long], template=SHORT).dropped == 4
    for broken, message in (
        (rows[:3], r"'red red red red' has 5 tokens, 6 with its prompt; 1 to answer_length 4"),
        (rows[3:], "'' has 0 tokens"),
        (long, r"'red red red' has 4 tokens, 8 with its prompt"),
    ):
        with pytest.raises(UserError, match=message):
            fitting_references(LAB, broken, long="error", template=SHORT)
    for none in (long, []):
        with pytest.raises(UserError, match=f"none of {len(none)} reference answers fits"):
            fitting_references(LAB, none, template=SHORT)
    with pytest.raises(ValueError, match="long must be 'error' or 'drop', got 'cut'"):
        fitting_references(LAB, rows, long="cut")


def test_an_improving_task_scores_answers_as_before_and_copies():
    references = ["red"] * len(PROMPTS)
    task = improving_task(TASK, references, template=SHORT)
    assert task.texts(np.array([1, 4])) == ["red green red", "green red red"]
    found = score_answers(task, np.array([0, 1, 2]), ["red", "red red", " red"])
    np.testing.assert_array_equal(found["red"], [1, 2, 1])
    np.testing.assert_array_equal(found["copied"], [1, 0, 1])
    with pytest.raises(UserError, match="prompt 3 has no reference: give one for each of 32"):
        improving_task(TASK, references[:3])
    turns = text_task(PROMPTS, None, objective="return", heldout=1, step=lambda *_: None)
    with pytest.raises(UserError, match="improving_task draws single answers"):
        improving_task(turns, references)


def test_parts_of_a_curriculum_follow_one_another():
    rows = StagedRows([([10, 11, 12], 2), ([20], 1), ([30, 31, 32], 1)])
    assert [rows[i] for i in range(6)] == [10, 11, 20, 30, 31, 32]


def test_texts_do_not_depend_on_the_other_prompts():
    lab = unigram_lab()
    params = lab.policy.init(jax.random.key(0))
    found = sample_texts(lab, params, PROMPTS[:4], keyed(lab), samples=2)
    assert [len(texts) for texts in found] == [2] * 4
    assert sample_texts(lab, params, PROMPTS[2:4], keyed(lab), samples=2) == found[2:]
    (rollout,) = sample_rollouts(lab, params, PROMPTS[:4], keyed(lab), samples=2)
    columns = [decode_texts(lab, np.asarray(rollout.trajectory.actions)[:, k]) for k in range(2)]
    assert [list(texts) for texts in zip(*columns, strict=True)][:4] == found
    assert sample_texts(lab, params, [], keyed(lab), samples=2) == []


def test_rounds_keep_what_does_not_fit():
    lab = unigram_lab()._replace(prompt_length=4)  # <bos>, one word, two of a reference
    params = jnp.where(jnp.arange(lab.vocabulary.size) == lab.vocabulary.stop_ids[0], 0.5, 0.0)
    prompts, first = ["red", "blue", "grey"], ["green", "green green green", ""]
    found = improve(lab, params, prompts, first, keyed(lab), rounds=3, template=SHORT)
    assert found.texts[0] == first
    assert found.kept[0] == 2
    for before, after, kept in zip(found.texts[:-1], found.texts[1:], found.kept, strict=True):
        assert after[1:] == first[1:]
        assert sum(len(y.split()) in (0, 3) for y in before) == kept
    assert len({texts[0] for texts in found.texts}) > 1
    again = improve(lab, params, prompts, first, keyed(lab), rounds=1, template=SHORT)
    assert again.texts == found.texts[:2]
    # Each round draws anew: the second is not the first from where that ended.
    asked, words = (
        ["red", "blue", "green", "grey"] * 4,
        sorted(["red", "blue", "green", "grey"] * 4),
    )
    twice = improve(lab, params, asked, words, keyed(lab), rounds=2, template=SHORT).texts
    once = improve(lab, params, asked, twice[1], keyed(lab), rounds=1, template=SHORT).texts
    assert once[1] != twice[2]
    with pytest.raises(ValueError, match=r"rounds must be in \[1, inf\)"):
        improve(lab, params, prompts, first, keyed(lab), rounds=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A gap model that prefers red, and what its training logged."""
    out = tmp_path_factory.mktemp("gap")
    with open_run(out, slug="recipes", config={}) as run:
        rows, fit = pair_rows(LAB, PAIRS, batch_size=16), Fit(optax.adam(0.02), steps=60)
        first = on_trunk(LAB, START, jax.random.key(1))
        params = gap_model(Stage(run, "gap"), LAB, rows, first, fit, terms=GAP_TERMS)
    return params, read_metrics(out)


@pytest.mark.long
def test_a_gap_model_orders_answers_beside_a_reference(trained):
    params, rows = trained
    assert rows[-1]["gaps/accuracy"] > 0.9
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    table = pair_gap_table(LAB, params, PAIRS[:3], batch_size=2)
    assert table.shape == (3, 2, 2)
    named = ("chosen", "rejected")
    for i, side in enumerate(named):
        for j, other in enumerate(named):
            records = [
                {"prompt": x["prompt"], "answer": x[side], "reference": x[other]} for x in PAIRS[:3]
            ]
            scores = gap_scores(LAB, params, records, batch_size=2)
            np.testing.assert_allclose(scores, table[:, i, j], atol=1e-5)
    zero = np.mean([table[:, 0, 0], table[:, 1, 1]])
    assert gap_zero(table) == pytest.approx(zero, abs=1e-6)


@pytest.mark.long
def test_an_improver_learns_from_pairs_and_then_from_gaps(trained, tmp_path):
    """SFT on (x, y_l -> y_w), then GRPO on the gap over references of the data, then own ones."""
    gap, _ = trained
    zero = gap_zero(pair_gap_table(LAB, gap, PAIRS, batch_size=16))
    key = jax.random.key(3)
    with open_run(tmp_path / "run", slug="recipes", config={}) as run:
        rows = answer_rows(LAB, improvement_records(PAIRS, template=SHORT), batch_size=16)
        fit = Fit(optax.adam(0.02), steps=20)
        first = supervised(Stage(run, "sft"), LAB, rows, START, fit)
        owned = [{"prompt": x, "reference": f"blue {x}"} for x in ASKED]
        data = reference_records(PAIRS, ("chosen", "rejected"))
        records = [
            row
            for part in (data, owned)
            for row in fitting_references(LAB, part, template=SHORT).records
        ]

        def score(prompts, answers):
            named = zip(prompts, answers, strict=True)
            asked = [{**records[n], "answer": text or "grey"} for n, text in named]
            return {"gap": gap_scores(LAB, gap, asked, batch_size=64) - zero}

        plain = text_task(range(len(records)), score, objective="gap", heldout=2)
        plain = plain._replace(texts=lambda n: [records[int(i)]["prompt"] for i in n])
        task = improving_task(plain, [row["reference"] for row in records], template=SHORT)
        parts = range(len(data)), range(len(data), len(records) - 2)
        task = task._replace(splits=dict(task.splits) | dict(zip("ab", parts, strict=True)))
        a, b = (prompt_rows(task, batch_size=16, seed=0, split=name) for name in "ab")
        method, reward = grpo(LAB, samples=4), task_reward(LAB, task)
        fit = Fit(optax.adam(0.01), steps=12)
        given = (Stage(run, "pit"), LAB, task, method, reward, first, StagedRows([(a, 6), (b, 6)]))
        params = online(*given, fit, key=key)
    steps = [row for row in read_metrics(tmp_path / "run") if row["stage"] == "pit"]
    means = [row["scores/mean"] for row in steps]
    assert np.mean(means[-3:]) > np.mean(means[:3])
    assert all(0 <= row["named/copied"] <= 1 for row in steps)
    reds = {}
    for name, each in (("sft", first), ("pit", params)):
        answers = ["blue blue"] * len(ASKED)
        found = improve(LAB, each, ASKED, answers, key, rounds=2, template=SHORT)
        assert found.texts[0] == answers
        reds[name] = np.mean([text.split().count("red") for text in found.texts[-1]])
    assert reds["pit"] >= reds["sft"] > 0
