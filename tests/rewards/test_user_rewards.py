"""A user's own reward, by name, as the score of a task."""

import numpy as np
import pytest

from rlhf_jax.recipes import score_answers, text_task
from rlhf_jax.rewards import load_function, make_reward, record_score
from rlhf_jax.training import UserError

MODULE = """
def is_short(prompts, answers, **columns):
    return [float(len(a) <= columns["limit"][i]) for i, a in enumerate(answers)]

def is_equal(prompts, answers, answer, weight=None):
    return [float(a == b) for a, b in zip(answers, answer)]

def alone(answers):
    return [1.0]

def strict(prompts, answers):
    if "bad" in answers:
        raise RuntimeError("out of paper\\nand ink")
    return [None] + [1.0] * (len(answers) - 1)

NUMBER = 3
"""

ROWS = [{"prompt": "p0", "answer": "a", "limit": 1}, {"prompt": "p1", "answer": "b", "limit": 0}]


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "paper_rewards.py").write_text(MODULE)
    (tmp_path / "broken_rewards.py").write_text("import no_such_package\n")
    (tmp_path / "raising_rewards.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_function_gets_the_columns_that_it_names():
    rewards = {name: load_function(f"paper_rewards:{name}") for name in ("is_short", "is_equal")}
    score = record_score(rewards, ROWS)
    assert score(np.array([1, 0, 0]), ["b", "a", "bb"]) == {
        "is_short": [0.0, 1.0, 0.0],
        "is_equal": [1.0, 1.0, 0.0],
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("paper_rewards", "expected module:function"),
        ("paper_rewards:", "expected module:function"),
        ("nowhere:f", "no module 'nowhere' in /"),
        ("nowhere.py:f", "no such file /.*nowhere.py"),
        ("paper_rewards.py:is_shirt", "paper_rewards.py has no is_shirt; it has is_short"),
        ("paper_rewards:is_shirt", "paper_rewards has no is_shirt; it has is_short"),
        ("paper_rewards:zzz", "has no zzz; it has alone, is_equal, is_short, strict"),
        ("paper_rewards:NUMBER", "is no function but 3"),
        ("paper_rewards:alone", r"must take \(prompts, answers, \*\*columns\)"),
        ("broken_rewards:f", "importing broken_rewards: No module named 'no_such_package'"),
        ("raising_rewards:f", "importing raising_rewards: ZeroDivisionError: division by zero"),
    ],
)
def test_a_name_that_leads_nowhere_says_where_it_ends(name, message):
    with pytest.raises(ValueError, match=message):
        load_function(name)


def test_a_file_is_a_module_whatever_its_name_and_folder(tmp_path):
    """`math` is a module of Python's, too."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "math.py").write_text(MODULE)
    for name in ("mine/math.py:is_equal", f"{tmp_path}/paper_rewards.py:is_equal"):
        assert load_function(name)(["p"], ["a"], answer=["a"]) == [1.0]


def test_a_column_that_no_record_has_is_named():
    score = record_score({"e": load_function("paper_rewards:is_equal")}, [{"prompt": "p", "x": 1}])
    with pytest.raises(ValueError, match=r"reads the column 'answer', .* have \['x'\]"):
        score([0], ["a"])


def test_a_record_without_its_reference_is_named_before_any_answer():
    rows = [*ROWS, {"prompt": "p2", "limit": 3}]
    spec = make_reward("exact")
    with pytest.raises(ValueError, match=r"'exact' reads the field 'answer', which prompt 2 lacks"):
        record_score({spec.name: spec.reward}, rows, wanted={spec.name: spec.wanted})


def test_in_a_task_none_leaves_out_and_a_failure_names_the_prompts():
    score = record_score({"strict": load_function("paper_rewards:strict")}, ROWS)
    task = text_task(["p0", "p1"], lambda p, a: {}, objective="strict", heldout=1)
    task = task._replace(score=score)
    found = score_answers(task, np.array([0, 1]), ["a", "b"])["strict"]
    np.testing.assert_array_equal(found, [np.nan, 1.0])
    with pytest.raises(UserError, match=r"prompts 0, 1 failed: RuntimeError: out of paper$"):
        score_answers(task, np.array([0, 1]), ["a", "bad"])


@pytest.mark.parametrize(
    ("spec", "name", "wanted"),
    [
        ("exact", "exact", "answer"),
        ("exact:solution", "exact", "solution"),
        (r"regex:^a+$", "regex", None),
        ("paper_rewards:is_short", "is_short", None),
    ],
)
def test_a_spec_names_a_reward(spec, name, wanted):
    if name == "regex":
        pytest.importorskip("regex")
    made = make_reward(spec)
    assert (made.name, made.wanted) == (name, wanted)
    assert made.reward(["p"], ["a"], answer=["a"], solution=["a"], limit=[1]) == [1.0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "correct",
            "regex:PATTERN, program:FILE, module:function, file.py:function, http://ADDRESS",
        ),
        ("regex:", "expected exact"),
        ("http://localhost:1/v1", "name the model behind the address, http://localhost:1/v1#MODEL"),
    ],
)
def test_a_spec_of_no_kind_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        make_reward(spec)
