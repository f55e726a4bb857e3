"""Nash methods on the shop: the tournament by hand, the judges, and the whole run at toy size."""

import numpy as np
import pytest

from experiments.shop_nash import claims as nash_claims
from experiments.shop_nash import config as nash_config
from experiments.shop_nash import run as nash_run
from experiments.shop_nash.evaluate import play, standings
from experiments.shop_nash.population import population_judge
from rlhf_jax.envs import shop
from rlhf_jax.labs.shop import shop_lab
from rlhf_jax.labs.size import Size
from rlhf_jax.recipes.lab import make_trajectories
from rlhf_jax.training import open_run

TOY = nash_config.Config(
    rows=40,
    pairs=48,
    heldout_pairs=24,
    size=Size(d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, d_ff=16),
    sft=nash_config.Fit(steps=4, batch_size=8, rate=0.004),
    reward=nash_config.Fit(steps=2, batch_size=8, rate=0.002),
    preference=nash_config.Fit(steps=2, batch_size=8, rate=0.002),
    ppo=nash_config.PPO(steps=2, batch_size=8),
    game=nash_config.Game(answers=32, rounds=2, inner_steps=1),
    evaluation=nash_config.Evaluation(prompts=12, samples=2),
)
PURE = np.array(
    [[2.0, 0.0, 1.0], [1.0, 2.0, 0.0], [0.0, 1.0, 2.0]]
)  # judges' utility of each style


def tournament(**policies):
    """Six prompts, two answers each, from utilities [2, 3] that are the same for every prompt."""
    utilities = {name: np.tile(np.array(rows), (6, 1, 1)) for name, rows in policies.items()}
    return play(utilities, beta=np.inf)


@pytest.mark.long
def test_pure_styles_go_round_and_the_mixed_one_is_held_to_a_half():
    """Brief beats warm beats thorough beats brief, 2 : 1; half brief, half thorough by hand."""
    brief, warm, thorough = PURE
    games = tournament(
        SFT=[brief - 5] * 2, a=[brief] * 2, b=[warm] * 2, c=[thorough] * 2, m=[brief, thorough]
    )
    wins = games.wins.mean(0)
    expected = {("a", "b"): 2 / 3, ("b", "c"): 2 / 3, ("c", "a"): 2 / 3, ("m", "b"): 1 / 2}
    for (row, column), value in expected.items():
        i, j = games.names.index(row), games.names.index(column)
        assert np.isclose(wins[i, j], value)
        assert np.isclose(wins[j, i], 1 - value)
    table = standings(games, seed=0)
    assert np.allclose(table["a"].worst, 1 / 3)
    assert table["a"].rival == "c"
    # m against c: brief loses 1/3, thorough ties 1/2.
    assert np.allclose(table["m"].worst, (1 / 3 + 1 / 2) / 2)
    assert np.isclose(table["a"].gap[0], 1 / 3)
    assert np.isclose(table["m"].gap[0], 2 * (1 / 2 + 2 / 3) / 2 - 1)
    assert np.allclose(table["a"].against_sft, 1.0)
    assert np.isclose(games.gaps["a"]["cycle"][0], 1.0)
    assert np.isclose(games.gaps["a"]["condorcet"][0], 0.0)


def test_sft_is_no_rival():
    """A policy that loses to SFT alone is not held down by it."""
    brief, *_ = PURE
    table = standings(tournament(SFT=[brief + 1] * 2, a=[brief] * 2, b=[brief] * 2), seed=0)
    assert np.allclose(table["a"].worst, 0.5)
    assert np.allclose(table["a"].against_sft, 0.0)


def test_the_claims_follow_the_games():
    """A Nash method like the baselines fails both of its claims, one that mixes holds them."""
    brief, _, thorough = PURE
    baselines = dict.fromkeys(nash_run.BASELINES, [brief] * 2)
    games = tournament(SFT=[brief - 5] * 2, INPO=[brief] * 2, EGPO=[brief, thorough], **baselines)
    claims = nash_claims.method_claims(games)
    size = "6 held-out prompts, one training run"
    assert [(c.statement, c.verdict) for c in claims] == [
        (f"INPO: worst case less that of the better baseline, {size}", "fails"),
        (f"INPO: exploitability less that of the better baseline, {size}", "fails"),
        (f"EGPO: worst case less that of the better baseline, {size}", "holds"),
        (f"EGPO: exploitability less that of the better baseline, {size}", "holds"),
    ]
    # EGPO beats brief half the time, 1/2, and else 2/3; brief then loses as much to EGPO.
    mixed = (1 / 2 + 2 / 3) / 2
    np.testing.assert_allclose([c.value for c in claims], [0, 0, 2 * mixed - 1, -1 / 3], atol=1e-12)


def test_two_models_that_are_right_about_other_pairs_leave_the_accuracy_undecided():
    verdicts = [
        nash_claims.accuracy_claim(preference, [1.0, 0.0, 0.5, 1.0]).verdict
        for preference in ([1.0, 0.0, 0.5, 1.0], [0.0, 1.0, 1.0, 1.0])
    ]
    assert verdicts == ["fails", "undecided"]


def test_the_judge_reads_texts_and_is_the_population(tmp_path):
    lab = shop_lab(TOY.size, tmp_path, seed=0)
    indices = np.arange(4)
    prompts = [shop.make_prompt(0, i) for i in range(4)]
    texts = [[shop.sample_answer(0, p, k) for p in prompts] for k in range(2)]
    sides = [make_trajectories(lab, [p.text for p in prompts], side) for side in texts]
    judge = population_judge(lab, beta=10.0)
    utilities = np.stack([shop.style_utilities(prompts, side) for side in texts], 1)
    gaps = utilities[:, 0] - utilities[:, 1]
    assert np.allclose(judge(indices, *sides), (1 / (1 + np.exp(-10 * gaps))).mean(-1))
    assert np.allclose(judge(indices, *sides) + judge(indices, *sides[::-1]), 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nash_config.Game(eta=300.0), r"eta \* beta must be in \(0, 1\]"),
        (lambda: nash_config.Game(rate=0.0), "rate must be in"),
        (lambda: nash_config.Fit(steps=1, batch_size=1, rate=1e30), "rate must be in"),
        (lambda: nash_config.Config(pairs=250_001), "pairs must be in"),
        (lambda: nash_config.Evaluation(samples=1), r"samples must be in \[2, inf\)"),
        (lambda: nash_config.Config(dpo_beta=0.0), r"dpo_beta must be in \(0, inf\)"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.long
def test_the_whole_run_at_toy_size(tmp_path):
    with open_run(tmp_path, slug="shop_nash", config=TOY) as job:
        outcome = nash_run.run(TOY, job)
    assert outcome.table is not None
    assert len(outcome.table.rows) == 12
    assert len(outcome.claims) == 1 + 2 * 8
    means = np.array(outcome.numbers["tournament"])
    assert np.allclose(means + means.T, 1.0)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")
