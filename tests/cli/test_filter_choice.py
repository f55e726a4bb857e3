"""`rlhf eval --truth`: R^2 of a true score on a reward, by filter."""

import json

import numpy as np
import pytest
from refusals import refused

from rlhf_jax.cli import main
from rlhf_jax.cli.filter_choice import COMPARED, filter_choice, r2_by_filter
from rlhf_jax.training import UserError


def test_the_filter_that_leaves_the_middle_out_explains_more():
    """The reward is right at both ends; of the answers between, half are the wrong way round."""
    truth = np.tile([0.0, 0.4, 0.6, 1.0], (50, 1))
    scores = truth.copy()
    scores[::2, 1:3] = scores[::2, 2:0:-1]
    found = r2_by_filter(scores, truth)
    assert {*found} == {f"R^2, {name}" for name in COMPARED} - {"R^2, best"}  # all best are alike
    assert found["R^2, best-worst"] == pytest.approx(1.0)
    # The variance of 0, 0.4, 0.6, 1 is 0.13; the covariance is 0.13 or 0.12, by halves.
    assert found["R^2, none"] == pytest.approx(((0.13 - 0.005) / 0.13) ** 2, rel=1e-4)
    with pytest.raises(UserError, match=r"no R\^2 of 8 answers: the reward or the truth"):
        r2_by_filter(np.ones((2, 4)), truth[:2])


@pytest.mark.long
def test_a_model_is_asked_for_answers_with_a_truth(tmp_path, model, files, capsys):
    words = ("eval", "--model", model, "--prompts", files / "prompts.txt", "--answer-length", "4")
    out = ("--out", tmp_path / "numbers.json", "--total", "24")
    scores = ("--reward", "regex:[a-m]", "--truth", "regex:[a-f]")
    assert main([str(word) for word in (*words, *scores, *out)]) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert 0 <= numbers["R^2, none"] <= 1
    assert "reward" in numbers
    assert callable(filter_choice)
    refused((*words, "--truth", "regex:a"), "--truth is compared with --reward", capsys)
