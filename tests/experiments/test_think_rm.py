"""The think_rm experiment: its parts by hand, its claims, and a run of toy size."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.think_rm import bandits, claims, config, run
from experiments.think_rm.judges import KEPT, SHUFFLED, forced_thoughts, read, verdicts_after
from experiments.think_rm.sums import (
    BASE,
    FIRST,
    PAD,
    VALUES,
    Comparisons,
    demonstrations,
    draw_comparisons,
    teacher_judgements,
    token_of,
)
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.training import open_run
from rlhf_jax.types import Policy, Rollout

SIZES = config.JudgeSizes(columns=3, pairs=400, traces=8, slip=0.0)
TOY = config.Config(
    bandit=config.BanditSizes(num_seeds=2, steps=3),
    judge=config.JudgeSizes(
        num_seeds=2,
        columns=2,
        pairs=32,
        width=8,
        heads=2,
        layers=1,
        steps=2,
        batch=4,
        rl_steps=2,
        rl_pairs=2,
        samples=2,
        test=8,
        votes=2,
    ),
)


def sums_of(asked: Comparisons) -> np.ndarray:
    """[N, L, 2] running sums."""
    digits = asked.prompts[:, :-1].reshape(len(asked.labels), -1, 2)
    return digits.cumsum(1) % BASE


def test_labels_are_differences_of_sums():
    asked = draw_comparisons(SIZES, np.random.default_rng(0), 400)
    last = sums_of(asked)[:, -1]
    np.testing.assert_array_equal(asked.labels, last[:, 1] - last[:, 0])
    assert set(asked.labels.tolist()) <= set(VALUES.tolist())
    # Nothing short decides: the differences before the last column are even.
    before = sums_of(asked)[:, -2]
    apart = (before[:, 1] - before[:, 0]) % BASE
    counts = np.bincount(apart, minlength=BASE)
    assert counts.min() > 60  # of 100; 4 standard errors are 35


def test_whole_judgements_are_right_and_short_ones_guess():
    rng = np.random.default_rng(1)
    asked = draw_comparisons(SIZES, rng, 400)
    given = teacher_judgements(SIZES, rng, asked)
    whole = given.lengths == SIZES.columns
    labels = np.broadcast_to(asked.labels[:, None], whole.shape)
    assert (given.verdicts == labels)[whole].all()
    # One of six at random.
    assert 0.13 < (given.verdicts == labels)[~whole].mean() < 0.2
    np.testing.assert_array_equal(given.mask.sum(-1), 2 * given.lengths + 1)
    ends = np.take_along_axis(given.tokens, 2 * given.lengths[..., None], axis=-1)[..., 0]
    np.testing.assert_array_equal(ends, token_of(given.verdicts))
    sums = sums_of(asked).reshape(400, 1, -1)
    written = given.tokens[..., :-1]
    worked = written < FIRST - 2
    np.testing.assert_array_equal(written[worked], np.broadcast_to(sums, written.shape)[worked])


def test_a_slip_stays_in_the_running_sums():
    sizes = replace(SIZES, slip=0.3)
    rng = np.random.default_rng(2)
    asked = draw_comparisons(sizes, rng, 400)
    given = teacher_judgements(sizes, rng, asked)
    whole = given.lengths == sizes.columns
    labels = np.broadcast_to(asked.labels[:, None], whole.shape)
    right = (given.verdicts == labels)[whole].mean()
    assert 0.15 < right < 0.6


def test_the_longest_right_judgements_work_more_columns():
    rng = np.random.default_rng(3)
    asked = draw_comparisons(SIZES, rng, 400)
    given = teacher_judgements(SIZES, rng, asked)
    columns = {
        keep: demonstrations(asked, given, keep=keep, seed=0).columns.mean() for keep in KEPT
    }
    assert columns["longest"] > columns["random"] > columns["shortest"]
    found = demonstrations(asked, given, keep="longest", seed=0)
    assert (found.tokens[~found.mask] == PAD).all()
    assert found.counts["kept"] == len(found.tokens)


def test_verdicts_are_read_at_the_end_and_nan_without_one():
    tokens = jnp.array([[[1, 2, FIRST + 5], [FIRST, PAD, PAD], [1, 2, 3]]])
    mask = tokens != PAD
    prompt = jnp.zeros((1, 3, 2), int)
    trajectory = language_trajectory(prompt, prompt == 0, tokens, mask)
    finished = jnp.array([[True, True, False]])
    logps = jnp.zeros(tokens.shape)
    np.testing.assert_array_equal(
        read(Rollout(trajectory, logps, logps, finished)), [[3.0, -3.0, np.nan]]
    )


def adding_judge() -> Policy:
    """It writes true running sums, and reads a verdict off the last two sums written."""

    def logits(params, inputs):
        prompts, longest = 2 * SIZES.columns + 1, 2 * SIZES.columns + 1
        digits = inputs.ids[:, : prompts - 1].reshape(-1, SIZES.columns, 2)
        sums = (digits.cumsum(1) % BASE).reshape(-1, longest - 1)
        tokens = inputs.ids[:, prompts : prompts + longest]
        gaps = tokens[:, 1 : longest - 1] - tokens[:, : longest - 2]  # before place 2 and later
        written = jax.nn.one_hot(jnp.pad(sums, ((0, 0), (0, 1))), FIRST)
        said = (gaps[..., None] == jnp.asarray(VALUES)).astype(float)
        return jnp.concatenate([written, jnp.pad(said, ((0, 0), (2, 0), (0, 0)))], axis=-1)

    return Policy(init=lambda key: (), logits=logits, logps=lambda *_: jnp.zeros(()))


def test_columns_of_another_comparison_say_nothing_about_this_one():
    asked = draw_comparisons(SIZES, np.random.default_rng(4), 400)
    policy, prompts = adding_judge(), jnp.asarray(asked.prompts)
    thoughts = forced_thoughts(SIZES, policy, (), prompts)
    assert thoughts.shape == (400, 2 * SIZES.columns + 1)
    np.testing.assert_array_equal(thoughts[:, :-1], sums_of(asked).reshape(400, -1))
    own = verdicts_after(policy, (), prompts, thoughts)
    np.testing.assert_array_equal(own[:, -1], asked.labels)
    borrowed = verdicts_after(policy, (), prompts, jnp.roll(thoughts, 1, axis=0))
    np.testing.assert_array_equal(borrowed[:, -1], np.roll(asked.labels, 1))
    # Winners agree in one half by symmetry; 4 standard errors are 0.1.
    assert abs(np.mean(np.sign(borrowed[:, -1]) == np.sign(asked.labels)) - 0.5) < 0.1


def test_a_noiseless_judge_by_hand():
    sizes = config.BanditSizes(noise=0.0)
    gaps = jnp.array([0.0, 0.5, -0.5, 1.0, 5.0])
    found = bandits.judged(sizes, gaps, jax.random.key(0))
    # 1.5 times the gap, rounded up: 1, 1, 2, 8 cut to 3; negative where the first is better.
    np.testing.assert_array_equal(found, [0.0, -1.0, 1.0, -2.0, -3.0])


def test_without_noise_pairs_rank_as_the_rewards_do():
    sizes = config.BanditSizes(noise=0.0, lost=0.0)
    rewards = jnp.array([0.0, 0.3, 0.9, 2.0, -1.0])
    actions = jnp.array([[0, 1, 2, 3]])
    found = bandits.all_advantages(sizes, rewards, actions, jax.random.key(0))
    names = dict(zip(bandits.METHODS, found[:, 0], strict=True))
    # Binary: wins less losses -3, -1, 1, 3 over 4, by sqrt(12 / 24).
    wanted = np.array([-3.0, -1.0, 1.0, 3.0]) / 4 / np.sqrt(0.5)
    np.testing.assert_allclose(names["pairwise binary"], wanted, rtol=1e-5)
    np.testing.assert_allclose(names["binary, lost verdicts masked"], wanted, rtol=1e-5)
    assert (jnp.diff(names["pairwise graded"]) > 0).all()
    # Against the median, 0.3: lost, equal, won, won.
    assert float(names["pointwise win or lose"][2]) == float(names["pointwise win or lose"][3])
    shrunk = names["binary over length"] / wanted
    assert (shrunk < 0.5).all()


def good() -> dict:
    """Arrays of a run in which everything that is claimed is so."""
    rng = np.random.default_rng(0)

    def near(*values, size=4):
        return np.asarray(values) + 1e-4 * rng.standard_normal((size, len(values)))

    ends = {
        "pairwise graded": 0.005,
        "pairwise binary": 0.006,
        "pointwise graded": 0.009,
        "pointwise win or lose": 0.1,
        "pointwise graded, equal calls": 0.008,
        "pointwise win or lose, equal calls": 0.07,
        "binary, lost verdicts masked": 0.006,
        "binary, lost verdicts as ties": 0.008,
        "binary over length": 0.3,
    }
    judges = {}
    for name, before, after in (
        ("longest", 0.8, 0.95),
        ("random", 0.6, 0.7),
        ("shortest", 0.5, 0.5),
    ):
        for stage, accuracy in (("sft", before), ("rl", after)):
            judges[f"{name}/{stage}/accuracy"] = near(accuracy)[:, 0]
            judges[f"{name}/{stage}/vote"] = near(accuracy + 0.01)[:, 0]
            judges[f"{name}/{stage}/thinking"] = near(10 * accuracy)[:, 0]
            rise = 0.5 if name != "shortest" else 0.0
            judges[f"{name}/{stage}/forced"] = near(0.5, 0.5 + rise)
            judges[f"{name}/{stage}/borrowed"] = near(0.5, 0.5)
    judges[f"{SHUFFLED}/rl/accuracy"] = near(0.7)[:, 0]
    judges[f"{SHUFFLED}/rl/thinking"] = near(7.0)[:, 0]
    return {
        "identities": {"error": np.full(4, 1e-7), "shrunk": np.full(4, 0.09)},
        "bandits": {name: near(1.0, end, size=40) for name, end in ends.items()},
        "judges": judges,
    }


def verdicts(stages) -> list[str]:
    return [claim.verdict for claim in claims.all_claims(config.Config(), stages)]


def test_everything_holds_where_it_should():
    assert set(verdicts(good())) == {"holds"}


@pytest.mark.parametrize(
    ("stage", "name", "value"),
    [
        ("identities", "error", 1e-3),
        ("bandits", "pairwise binary", 0.2),
        ("bandits", "binary over length", 0.0),
        ("bandits", "binary, lost verdicts masked", 0.1),
        ("judges", "longest/sft/accuracy", 0.4),
        ("judges", "longest/rl/accuracy", 0.5),
        ("judges", "random/rl/thinking", 0.0),
        ("judges", "longest/rl/forced", 0.5),
    ],
)
def test_what_is_not_so_does_not_hold(stage, name, value):
    stages = good()
    stages[stage][name] = np.full_like(stages[stage][name], value)
    assert "fails" in verdicts(stages)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: config.BanditSizes(lost=1.0), r"lost must be in \[0, 1\)"),
        (lambda: config.BanditSizes(group=1), r"group must be in \[2, inf\)"),
        (lambda: config.JudgeSizes(base=5), r"base must be in \[4, 4\]"),
        (lambda: config.JudgeSizes(width=10), "width must be a multiple of 2 heads, got 10"),
        (lambda: config.Config(seed=-1), "seed must be in"),
    ],
)
def test_values_out_of_range_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.long
def test_a_run_of_toy_size(tmp_path):
    with open_run(tmp_path, slug="think_rm", config=TOY) as job:
        outcome = run.run(TOY, job)
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == 2
    assert outcome.table is not None
    assert len(outcome.table.rows) == 2 * len(KEPT) + 1
    assert len(outcome.claims) == len(claims.all_claims(config.Config(), good()))
