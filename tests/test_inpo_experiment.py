"""The inpo experiment at toy size: it runs whole, and a wrong method makes its claim fail."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.inpo import config as inpo_config
from experiments.inpo import rounds, stages
from experiments.inpo import run as inpo_run
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import open_run

TOY = inpo_config.Config(
    num_seeds=2,
    rounds=40,
    pairs=400,
    hedge_updates=(50, 100, 200),
    schedule_updates=200,
    transformer_rounds=6,
    transformer_steps=10,
)
ASKED = [
    ("one round: regression less mirror step", "<", 1e-10),
    ("one round: Eq. 7 less Eq. 8, range", "<=", 1e-12),
    ("cycle, sampled INPO: gap, worst seed", "<=", 0.002),
    ("cycle, transformer: gap, worst seed", "<=", 0.01),
    ("exact INPO: last gap, worst game and start", "<=", 1e-10),
    ("cycle, iterative DPO: smallest gap", ">=", 0.4),
    ("cycle, uniform pairs: |gap - 0.0834|", "<=", 5e-4),
    ("random, uniform pairs: median gap", ">=", 0.01),
    ("cycle, best and worst of 8: gap, best seed", ">", 0.0834),
    ("cycle, best and worst of 8: mean gap, least", ">=", 0.105),
    ("cycle, best and worst of 8: mean gap, most", "<=", 0.12),
    ("cycle, better of 2: mean gap, least", ">=", 0.0015),
    ("cycle, better of 2: mean gap, most", "<=", 0.0025),
    ("Hedge, average: slope in T, steepest", ">=", -0.6),
    ("Hedge, average: slope in T, flattest", "<=", -0.4),
    ("Hedge, last on RPS(1) from the reference: smallest gap", ">=", 0.25),
    ("decaying steps, RPS(0.9): slope of KL", "<=", -1.0),
    ("decaying steps, RPS(5/9): slope of KL", "<=", -1.0),
    ("decaying steps, random: slope of KL", "<=", -1.0),
    ("decaying steps: KL over 32 C^2 / (beta^2 (T + 1))", "<=", 1.0),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Outcome]:
    """One run."""
    out = tmp_path_factory.mktemp("inpo")
    with open_run(out, slug="inpo", config=TOY) as job:
        return out, inpo_run.run(TOY, job)


def test_the_claims_are_those_of_the_acceptance_list(whole):
    claims = whole[1].claims
    assert [(c.statement, c.op, c.threshold) for c in claims] == ASKED
    assert np.isfinite([c.value for c in claims]).all()


def test_what_needs_no_many_rounds_holds_at_this_size_too(whole):
    held = {c.statement: c.holds for c in whole[1].claims}
    for name in (
        *[each[0] for each in ASKED[:2]],
        ASKED[5][0],
        ASKED[6][0],
        *(a[0] for a in ASKED[16:]),
    ):
        assert held[name], name


def test_the_report_holds_its_figures_and_every_curve_is_kept(whole):
    out, outcome = whole
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page
    assert "https://" not in page
    kept = [f"{kind}-{name}" for kind in ("rounds", "schedule") for name in stages.NAMES]
    kept = {name.replace("/", "-") for name in kept} | {"hedge", "transformer"}
    assert {path.stem for path in (out / "data").glob("*.npz")} == kept
    assert json.dumps(dict(outcome.numbers))


def test_every_method_of_the_spec_is_in_the_table(whole):
    assert [row[0] for row in whole[1].table.rows] == [
        *("reference", "INPO without KL", "INPO, exact", "INPO, sampled", "best and worst of 8"),
        *("better of 2", "iterative DPO", "uniform pairs", "INPO, transformer"),
    ]


def test_a_method_that_does_not_converge_fails_its_claims():
    """Best and worst of 8 in the place of sampled INPO, and sampled INPO in the place of DPO."""
    good, bad = np.full((2, 41), 1e-4), np.full((2, 41), 0.11)
    runs = {
        "INPO, exact": 1e-9 * good,
        "INPO, sampled": bad,
        "iterative DPO": good,
        "uniform pairs": good,
        "best and worst of 8": good,
        "better of 2": bad,
    }
    gaps = {inpo_run.CYCLE: runs, "random": runs}
    averages = {name: {k: v.mean(-1) for k, v in runs.items()} for name in gaps}
    averages[inpo_run.CYCLE]["INPO, transformer"] = bad.mean(-1)
    failed = {c.statement for c in inpo_run.round_claims(gaps, averages) if not c.holds}
    assert failed == {
        *(ASKED[i][0] for i in (2, 3, 5, 6, 7, 8, 9, 12)),
    }


def test_a_round_of_iterative_dpo_minimises_the_dpo_loss():
    """Stationary in the population over pairs of pi, labelled by P; not so beside it."""
    with jax.enable_x64(True):
        prefs, refs, _ = stages.draw_games(TOY, "random")
        game = rounds.Game(prefs[0], refs[0], 0.3, 1.0)
        old = jax.nn.log_softmax(jnp.sin(jnp.arange(10.0)))
        wins = rounds.exact_wins(game, old)

        def mean(logits):
            pairs = *rounds.all_pairs(jax.nn.log_softmax(logits)), *rounds.all_pairs(refs[0])
            return jnp.sum(wins * dpo_loss(*pairs, beta=0.3))

        fitted = rounds.dpo_round(game, old)
        np.testing.assert_allclose(jax.grad(mean)(fitted), 0.0, atol=1e-9)
        assert float(jnp.max(jnp.abs(jax.grad(mean)(old)))) > 1e-3


def test_pairs_are_counted_as_they_are_drawn():
    """Shares near those of the population; the best of 2 is never the worse; one answer ties."""
    with jax.enable_x64(True):
        prefs, refs, _ = stages.draw_games(TOY, "RPS(0.9)")
        game, key = rounds.Game(prefs[0], refs[0], 0.1, 1.0), jax.random.key(0)
        drawn = rounds.sampled_wins(game, refs[0], key, 40_000)
        np.testing.assert_allclose(drawn, rounds.exact_wins(game, refs[0]), atol=0.015)
        better = rounds.best_and_worst(game, refs[0], key, 1000, 2)
        assert float(jnp.sum(jnp.where(game.prefs < 0.5, better, 0.0))) == 0.0
        np.testing.assert_allclose(jnp.sum(better), 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"rounds": 3}, r"rounds must be in \[4, inf\)"),
        ({"pairs": 0}, r"pairs must be in \[1, inf\)"),
        ({"hedge_updates": (1, 2)}, "hedge_updates must be three or more"),
        ({"transformer_rate": 0.0}, "transformer_rate must be in"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        inpo_config.Config(**change)
