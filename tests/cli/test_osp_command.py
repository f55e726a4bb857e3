"""`rlhf osp`: a judge of the user's, the model's own folder, the weights that are trained."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from refusals import refused

from rlhf_jax.cli import main
from rlhf_jax.cli.job import Job
from rlhf_jax.cli.online_options import Scoring
from rlhf_jax.cli.options import Model, Output
from rlhf_jax.cli.self_preference import SelfPreference
from rlhf_jax.cli.verdicts import VERDICTS
from rlhf_jax.training import read_metrics

FEW = ("--steps", "2", "--batch-size", "8", "--answer-length", "3", "--completions-every", "0")
JUDGE = """
def longer(prompts, first, second):
    # No verdict on different answers that begin alike.
    found = []
    for a, b in zip(first, second):
        alike = a != b and a[:1] == b[:1]
        found.append(None if alike else 0.5 + 0.4 * ((len(a) > len(b)) - (len(a) < len(b))))
    return found
"""


@pytest.fixture(scope="module")
def judge(tmp_path_factory, model):
    """The tiny model as a pairwise judge with two words of one token."""
    folder = tmp_path_factory.mktemp("judges") / "judge"
    shutil.copytree(model, folder)
    (folder / VERDICTS).write_text(json.dumps({"verdicts": ["a", "b"]}))
    return folder


def play(model, files, out, *words):
    given = ("osp", "--model", model, "--prompts", files / "prompts.txt", "--out", out, *FEW)
    return main([str(word) for word in (*given, *words)])


@pytest.mark.long
def test_a_judge_of_the_user_labels_ranked_pairs(tmp_path, model, files):
    path, out = tmp_path / "judges.py", tmp_path / "out"
    path.write_text(JUDGE)
    words = ("--judge", f"{path}:longer", "--pairing", "ends", "--label-temperature", "2")
    assert play(model, files, out, *words) == 0
    rows = [row for row in read_metrics(out) if "pairs/strength" in row]
    assert len(rows) == 2
    assert rows[0]["loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert all(0 < row["pairs/decided"] <= 1 for row in rows)
    assert all(0 <= row["judge/verdicts"] <= 1 for row in rows if "judge/verdicts" in row)
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    assert numbers["win rate over the start"]["before"] == 0.5


@pytest.mark.long
@pytest.mark.parametrize("words", [(), ("--refresh",)], ids=["frozen", "refreshed"])
def test_a_model_judges_its_own_answers(tmp_path, judge, files, words):
    out = tmp_path / "out"
    assert play(judge, files, out, "--judge", judge, "--samples", "2", *words) == 0
    rows = [row for row in read_metrics(out) if "pairs/entropy" in row]
    assert all(row["pairs/decided"] == 1.0 for row in rows)
    assert all(0 < row["pairs/entropy"] <= np.log(2) + 1e-4 for row in rows)


def test_what_cannot_be_paired_is_refused_in_one_line(tmp_path, model, files, judge, capsys):
    words = ("osp", "--model", model, "--prompts", files / "prompts.txt", "--out", tmp_path / "o")
    for given, message in (
        ((), "rlhf osp needs --judge"),
        (("--judge", judge, "--refresh"), "it is not a pairwise judge"),
        (("--judge", judge, "--refresh", "--lora-rank", "2"), "--refresh is not for --lora-rank"),
    ):
        refused((*words, *given), message, capsys)


def test_an_odd_number_of_answers_is_named():
    here = Path()
    scoring = Scoring(prompts=here, judge="j")
    job = Job(model=Model(model=here), scoring=scoring, output=Output(out=here))
    with pytest.raises(ValueError, match="samples must be even, to be paired, got 3"):
        SelfPreference(job=job, samples=3)
    with pytest.raises(ValueError, match=r"samples must be in \[2, inf\)"):
        SelfPreference(job=job, samples=1)
