"""The shop job at toy size: it runs whole, and an interrupted run ends as if it never stopped."""

import json
import re
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from experiments.__main__ import BadArguments, make_config, parse_run
from experiments.shop import config as shop_config
from experiments.shop import run as shop_run
from experiments.shop.claims import (
    accuracy_claim,
    axis_claims,
    fall_claim,
    falls,
    gate_claims,
    way_claims,
)
from experiments.shop.report import overoptimisation
from experiments.shop.seeds import table
from experiments.shop.table import Method
from experiments.shop.tools import make_tools
from rlhf_jax.labs.shop_models import GATES
from rlhf_jax.recipes.offline import score_scale
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import Interrupted, UserError, open_run, read_metrics

TOY = shop_config.Config(
    from_scratch=True,
    bound=True,
    size=shop_config.Size(d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, d_ff=16),
    pretraining=shop_config.Schedule(
        batch_size=8,
        base_rows=60,
        base_steps=2,
        ideal_rows=60,
        ideal_steps=3,
        sft_rows=60,
        sft_steps=2,
    ),
    pairs=shop_config.Pairs(train=48, heldout=24, tie_gap=0.0),
    head=shop_config.Head(steps=4, batch_size=8),
    dpo=shop_config.Direct(steps=3, batch_size=8),
    ipo=shop_config.Direct(steps=3, batch_size=8),
    online_dpo=shop_config.OnlineDPO(steps=3, batch_size=8),
    ppo=shop_config.PPO(steps=3, free_steps=3, batch_size=8, minibatches=2),
    evaluation=shop_config.Evaluation(
        gate_prompts=16,
        prompts=12,
        greedy_prompts=20,
        best_prompts=8,
        curve_prompts=6,
        curve_points=2,
        best_of=4,
    ),
)


WAYS = ("best of 4", "DPO", "online DPO", "PPO")


def run_toy(out: Path, *, resume: bool = False, stop=lambda: 0) -> Outcome:
    """The whole job in this process."""
    with open_run(out, slug="shop", config=TOY, resume=resume, stop=stop) as job:
        return shop_run.run(TOY, job)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Outcome]:
    """One uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    return out, run_toy(out)


def test_every_method_is_in_the_table_and_every_number_is_finite(whole):
    _, outcome = whole
    drawn = [
        "SFT",
        "SFT at 0.9",
        "best of 4",
        "DPO",
        "IPO",
        "online DPO",
        "PPO",
        "PPO, no KL, DPO's reward",
    ]
    drawn += ["PPO on gold"]
    methods = outcome.numbers["methods"]
    assert list(methods) == [*drawn, "ideal", "declining", "lying"]
    assert [row[0] for row in outcome.table.rows] == list(methods)
    for name, numbers in methods.items():
        assert 0 <= numbers["gold"] <= 1
        assert np.isfinite(numbers["length"])
        if name in drawn:
            assert np.isfinite(numbers["score"])
            assert numbers["kl"] is None if name == "SFT at 0.9" else np.isfinite(numbers["kl"])
        assert (numbers["greedy"] is None) == (name in {"best of 4", "ideal", "declining", "lying"})
    assert methods["SFT at 0.9"]["greedy"] == methods["SFT"]["greedy"]
    assert methods["ideal"]["gold"] > 0.99


def test_the_claims_name_their_size(whole):
    _, outcome = whole
    gates, (accuracy, *ways), axes, greedy, (fall,) = (
        outcome.claims[i:j] for i, j in ((0, 4), (4, 9), (9, 17), (17, 20), (20, 21))
    )
    assert [claim.statement.split(": gold of greedy")[0] for claim in greedy] == [*WAYS[1:]]
    assert [claim.baseline[1] for claim in greedy] == [0.0] * 3
    assert all("SFT's, 20 held-out prompts" in claim.statement for claim in greedy)
    assert all(claim.statement.endswith("on 16 held-out prompts") for claim in gates)
    assert [claim.threshold for claim in gates] == [0.9, 0.7, 0.7, 0.75]
    assert re.fullmatch(r"reward model: accuracy on \d+ held-out pairs", accuracy.statement)
    names = WAYS
    assert [claim.statement.split(":")[0] for claim in ways] == [*names]
    assert [claim.statement.split(" less")[0] for claim in axes] == [
        f"{name}: {axis}" for axis in ("helpful", "honest") for name in names
    ]
    assert "6 held-out prompts" in fall.statement
    for claim in (*ways, *axes):
        size = 8 if claim.statement.startswith("best of") else 12
        assert f"{size} held-out prompts, one training run" in claim.statement
    assert all(claim.baseline for claim in outcome.claims)


def method(gold: np.ndarray, axes: np.ndarray | None = None) -> Method:
    axes = np.zeros((len(gold), 6)) if axes is None else axes
    return Method(gold, gold, axes, np.zeros(3), 0.0, 0.0, 1.0, 1.0, [])


def test_gates_are_missed_by_a_model_that_cannot_read():
    good = {name: np.full(50, 0.95) for name in GATES}
    bad = {name: np.full(50, 0.1) for name in GATES}
    assert {claim.verdict for claim in gate_claims(good, bad, 50)} == {"holds"}
    assert {claim.verdict for claim in gate_claims(bad, bad, 50)} == {"fails"}
    assert {claim.verdict for claim in gate_claims(good, good, 50)} == {"undecided"}


def test_another_answer_of_sft_goes_no_part_of_the_way():
    rng = np.random.default_rng(0)
    sft, again = rng.uniform(0.3, 0.7, (2, 400))
    ideal = np.ones(400)
    methods = {"SFT": method(sft), "DPO": method(sft + 0.5 * (1 - sft)), "PPO": method(again)}
    claims = way_claims(methods, ("DPO", "PPO"), again, ideal)
    assert [claim.verdict for claim in claims] == ["holds", "fails"]
    np.testing.assert_allclose(float(claims[0].value), 0.5, atol=1e-9)


def test_declining_everything_is_less_helpful_and_one_lie_less_honest():
    axes = np.full((100, 6), 0.8)
    weak = {"helpful": ("declining", np.zeros(100)), "honest": ("lying", np.full(100, 0.4))}
    worse = axes.copy()
    worse[:, 0] = 0.5
    rows = {"SFT": method(axes[:, 0], axes), "DPO": method(axes[:, 0], worse)}
    helpful, honest = axis_claims(rows, ("DPO",), weak)
    assert (helpful.verdict, honest.verdict) == ("fails", "holds")


def test_the_peak_of_a_path_is_found_on_the_other_prompts():
    """Noise alone has a highest point, above its end, but not on prompts that did not choose it."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(400, 6, 40))
    assert np.mean([(x.mean(1).max() - x[-1].mean()) for x in noise]) > 0.15
    assert abs(np.mean([falls(x).mean() for x in noise])) < 0.02
    risen = np.array([0.5, 0.9, 0.6])[:, None] + 0.01 * rng.normal(size=(3, 40))
    np.testing.assert_allclose(falls(risen).mean(), 0.3, atol=0.02)
    claim = fall_claim(risen, np.repeat([[0.5], [0.7], [0.7]], 40, axis=1))
    assert claim.verdict == "holds"
    assert fall_claim(risen, risen).verdict == "undecided"


def test_a_reward_model_at_chance_fails_and_few_pairs_leave_it_undecided():
    margins = np.where(np.arange(400) % 2, 1.0, -1.0)
    assert accuracy_claim(margins, margins).verdict == "fails"
    assert accuracy_claim(np.abs(margins), margins).verdict == "holds"
    assert accuracy_claim(np.abs(margins), np.abs(margins)).verdict == "undecided"
    assert accuracy_claim([1.0, 1.0, 1.0, -1.0], [0.0] * 4).verdict == "undecided"


def test_the_report_is_one_self_contained_page(whole):
    out, _ = whole
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 10
    assert page.count('<div class="answer">') == 8 * 12  # best-of-n answers 8 prompts
    assert "http://" not in page
    assert page.count("https://") == page.count("https://arxiv.org/abs/")


def test_ppo_starts_from_the_reference(whole):
    """The first rollout is drawn from SFT itself: KL 0 and no step outside the clip."""
    out, _ = whole
    first = next(row for row in read_metrics(out) if row["stage"] == "ppo")
    assert abs(first["kl/ref"]) < 1e-4


@pytest.mark.parametrize("polls", [9, 31])
def test_an_interrupted_run_ends_with_the_same_numbers(whole, tmp_path, polls):
    """Stopped at the n-th look at the flag: in a training loop, or between two stages."""
    looked = []

    def stop() -> int:
        looked.append(1)
        return signal.SIGTERM if len(looked) >= polls else 0

    with pytest.raises(Interrupted):
        run_toy(tmp_path, stop=stop)
    outcome = run_toy(tmp_path, resume=True)
    out, expected = whole
    assert json.dumps(dict(outcome.numbers)) == json.dumps(dict(expected.numbers))
    assert (tmp_path / "metrics.jsonl").read_bytes() == (out / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("gold", "proxy", "words"),
    [
        ([0.3, 0.5, 0.4], [0.1, 0.5, 0.9], "highest, 0.500, at step 20, and ends at 0.400"),
        ([0.3, 0.5, 0.4], [0.1, 0.5, 0.9], "ends higher than it was there"),
        ([0.3, 0.5, 0.4], [0.1, 0.5, 0.2], "ends no higher than it was there"),
        ([0.1, 0.05, 0.0], [0.1, 0.5, 0.9], "highest, 0.200, at step 0"),
    ],
)
def test_the_panel_says_where_gold_peaked(gold, proxy, words):
    rows = [
        {"stage": "ppo_no_kl", "step": 10 * (i + 1), "heldout/gold": g, "heldout/score": s}
        for i, (g, s) in enumerate(zip(gold, proxy, strict=True))
    ]
    assert words in overoptimisation(rows, method(np.array([0.1, 0.3])))["text"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: replace(TOY.dpo, beta=0.0), r"beta must be in \(0, inf\)"),
        (lambda: replace(TOY.ppo, clip_eps=-0.2), r"clip_eps must be in \(0, inf\)"),
        (lambda: replace(TOY.dpo, learning_rate=1e30), "learning_rate must be in"),
        (lambda: replace(TOY.pretraining, sft_rows=300_001), "sft_rows must be in"),
        (lambda: replace(TOY.pairs, tie_gap=5.0), "tie_gap must be in"),
        (lambda: replace(TOY.pairs, temperature=0.0), r"temperature must be in \(0, inf\)"),
        (lambda: replace(TOY.evaluation, gate_prompts=100_001), "gate_prompts must be in"),
        (lambda: replace(TOY.evaluation, prompts=17), "prompts must be in"),
        (lambda: replace(TOY.ppo, minibatches=3), "minibatches must divide"),
        (lambda: replace(TOY.evaluation, best_of=0), r"best_of must be in \[1, inf\)"),
        (lambda: replace(TOY.size, d_model=20, num_heads=4), "d_model must be a multiple"),
        (lambda: replace(TOY.size, num_heads=4, num_kv_heads=3), "multiple of num_kv_heads"),
        (lambda: replace(TOY.size, num_heads=0), r"num_heads must be in \[1, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        change()


@pytest.mark.parametrize(
    ("devices", "change", "message"),
    [
        (1, {"model_parallel": 3}, "must divide the number of devices, 1, got 3"),
        (8, {"model_parallel": 3}, "must divide the number of devices, 8, got 3"),
        (8, {"ipo": replace(TOY.ipo, batch_size=12)}, "ipo.batch_size must be a multiple of 8"),
    ],
)
def test_what_the_devices_cannot_share_is_refused_at_the_start(
    monkeypatch, tmp_path, devices, change, message
):
    monkeypatch.setattr("jax.device_count", lambda: devices)
    with pytest.raises(UserError, match=message):
        make_tools(replace(TOY, **change), tmp_path)


def test_a_policy_too_weak_to_leave_pairs_is_named(tmp_path):
    tools = make_tools(TOY, tmp_path)
    empty = SimpleNamespace(trajectory=SimpleNamespace(actions=np.zeros((128, 2, 3), int)))
    lab = tools.lab._replace(draw=cast(Any, lambda *_, **__: empty))
    message = "pairs: none of the 48 train pairs is left: .* lower tie_gap"
    opened = open_run(tmp_path / "out", slug="shop", config=TOY)
    with opened as job, pytest.raises(UserError, match=message):
        shop_run.label(job, tools._replace(lab=lab), {})


def test_equal_scores_cannot_be_normalised():
    assert score_scale("reward_model", np.array([[1.0, 3.0]])) == (2.0, 1.0)
    for scores in (np.full((2, 2), 33.3, np.float32), np.full((2, 2), np.nan)):
        with pytest.raises(UserError, match="reward_model: the 4 held-out scores"):
            score_scale("reward_model", scores)


@pytest.mark.parametrize("dtype", ["float16", "banana"])
def test_the_dtype_is_a_choice(dtype):
    with pytest.raises(BadArguments, match=f"invalid choice '{dtype}' for argument '--size.dtype'"):
        make_config(parse_run(["shop", "--size.dtype", dtype]))


@pytest.mark.parametrize("name", ["default", "quick", "laptop", "pod"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(shop_config, name)(), shop_config.Config)


def test_runs_of_several_seeds_are_one_table():
    def run_of(gold: float, prompts: int = 8) -> dict:
        row = {
            "gold": gold,
            "greedy": gold,
            "axes": {"helpful": gold, "honest": 1.0},
            "kl": None,
            "length": 9.0,
        }
        claim = {"statement": f"{gold:.0%} of pairs", "value": gold, "verdict": "holds"}
        config = {"seed": int(10 * gold), "prompts": prompts}
        return {"config": config, "numbers": {"methods": {"SFT": row}}, "claims": [claim]}

    lines = table([run_of(gold) for gold in (0.4, 0.5, 0.6)])
    # Student's t: 0.5 +- 4.303 x 0.1 / sqrt(3)
    assert lines[0].startswith("| SFT | 0.500 [0.252, 0.748] | 0.500 [0.252, 0.748] | 0.500")
    assert lines[0].endswith("| 0.000 [0.000, 0.000] |")  # SFT less itself
    assert lines[1] == "| 40% of pairs | 0.500 [0.252, 0.748] | holds, holds, holds |"
    with pytest.raises(ValueError, match="needs two of them, got 1"):
        table([run_of(0.5)])
    with pytest.raises(ValueError, match="differ in more than the seed"):
        table([run_of(0.5), run_of(0.6, prompts=9)])
