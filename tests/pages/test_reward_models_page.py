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


def test_comments_become_rows_as_the_page_says():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (block,) = [each for each in blocks if "FeedbackComment" in each]
    found: dict = {}
    exec(compile(block, "docs/reward_models.md", "exec"), found)
    assert found["rows"][0]["prompt"] == "a lamp ?"
    assert found["found"].counts == {"kept": 1, "merged": 2}
