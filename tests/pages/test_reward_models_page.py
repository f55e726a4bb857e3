"""docs/reward_models.md: its code runs."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "reward_models.md").read_text()


@pytest.mark.long
def test_the_code_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (block,) = [each for each in blocks if "user_sets" in each]
    found: dict = {}
    exec(compile(block, "docs/reward_models.md", "exec"), found)
    assert found["sets"].users == tuple(f"user {i}" for i in range(8))
    assert found["scores"].shape == (96,)
    assert np.isfinite(found["scores"]).all()
    assert float(found["metrics"]["loss"].value()) > 0


def test_the_code_of_named_features_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (block,) = [each for each in blocks if "feature_network" in each]
    found: dict = {}
    exec(compile(block, "docs/reward_models.md", "exec"), found)
    short, long = found["scores"]
    assert short > long


def test_the_code_of_corrections_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (block,) = [each for each in blocks if "seq2seq_token_rewards" in each]
    found: dict = {}
    exec(compile(block, "docs/reward_models.md", "exec"), found)
    assert found["rewards"].tolist() == [0.25, -0.25, 0.0, 0.0]


@pytest.mark.long
def test_the_code_of_judges_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (block,) = [each for each in blocks if "select_traces" in each]
    found: dict = {}
    exec(compile(block, "docs/reward_models.md", "exec"), found)
    np.testing.assert_array_equal(found["z"], [-1.0, -1.0, 1.0, np.nan])
    np.testing.assert_array_equal(found["rewards"], [1.0, 1.0, 0.0, 0.0])
    assert found["kept"] == found["texts"][:1]
    # Answer 0 beats 1, 2 beats 1, and the pair (0, 2) has no verdict.
    first, second, third = found["advantages"].tolist()
    assert first == third == pytest.approx(-second / 2)


def test_comments_become_rows_as_the_page_says():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (block,) = [each for each in blocks if "FeedbackComment" in each]
    found: dict = {}
    exec(compile(block, "docs/reward_models.md", "exec"), found)
    assert found["rows"][0]["prompt"] == "a lamp ?"
    assert found["found"].counts == {"kept": 1, "merged": 2}


@pytest.mark.long
def test_the_code_of_groups_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (block,) = [each for each in blocks if "fit_mixture" in each]
    found: dict = {}
    exec(compile(block, "docs/reward_models.md", "exec"), found)
    gammas = found["found"].responsibilities
    chosen = gammas.argmax(-1).tolist()
    assert chosen in ([0] * 8 + [1] * 4, [1] * 8 + [0] * 4)
