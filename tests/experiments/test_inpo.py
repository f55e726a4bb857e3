"""The inpo experiment at toy size: it runs whole, and a wrong method makes its claim fail."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.inpo import claims as inpo_claims
from experiments.inpo import config as inpo_config
from experiments.inpo import rounds, stages
from experiments.inpo import run as inpo_run
from rlhf_jax.algos.games.steps import mirror_step
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import open_run

TOY = inpo_config.Config(
    num_seeds=2,
    rounds=40,
    pairs=400,
    hedge_updates=(50, 100, 200),
    hedge_games=4,
    schedule_updates=200,
    transformer_rounds=6,
    transformer_steps=10,
)
CONVERGES = [
    ("RPS(0.9), INPO, sampled: late gap, mean over seeds", "<=", 0.002),
    ("RPS(0.9), INPO, transformer: late gap, mean over seeds", "<=", 0.01),
    ("INPO, exact: last gap, worst game and start", "<=", 1e-10),
]
DPO = (
    "RPS(0.9), iterative DPO, beta 0.1: least gap of the last quarter, mean over starts",
    ">=",
    0.4,
)
FAILS = [
    DPO,
    ("random games, uniform pairs: median late gap", ">=", 0.01),
    ("RPS(0.9), best and worst of 8: late gap over that of the reference, mean over seeds", ">", 1),
    ("RPS(0.9), best and worst of 8: late gap, at least", ">=", 0.105),
    ("RPS(0.9), best and worst of 8: late gap, at most", "<=", 0.12),
    ("RPS(0.9), better of 2: late gap, at least", ">=", 0.0015),
    ("RPS(0.9), better of 2: late gap, at most", "<=", 0.0025),
]
RIVALS = [
    (
        f"{game}, table, INPO on sampled pairs: mean late gap over that of iterative DPO, solved, "
        "at the best beta of 0.1, 0.3, 1, 3, 10",
        "<=",
        0.1,
    )
    for game in stages.NAMES
]
HEDGE = [
    ("Hedge, random games, average: slope of log gap in log T, at most", "<=", -0.4),
    ("Hedge, random games, average: slope of log gap in log T, at least", ">=", -0.6),
    ("Hedge, RPS(1) from the reference, last policy: least gap over T", ">=", 0.25),
]
BOUND = "largest KL over 32 C^2 / (beta^2 (T + 1)), all t"
SCHEDULES = [
    *((f"decaying steps, {name}: slope of log KL in log t", "<=", -1) for name in stages.NAMES),
    *((f"decaying steps, {name}: {BOUND}", "<=", 1) for name in stages.NAMES),
]
ASKED = [*CONVERGES, *FAILS, *RIVALS, *HEDGE, *SCHEDULES]


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
    verdicts = {c.statement: c.verdict for c in whole[1].claims}
    assert verdicts[DPO[0]] == "holds"
    assert [verdicts[each[0]] for each in SCHEDULES[:3]] == ["holds"] * 3
    # So early the bound is above what any steps leave.
    assert "fails" not in [verdicts[each[0]] for each in SCHEDULES[3:]]


@pytest.mark.long
def test_one_round_solved_is_a_mirror_step():
    with jax.enable_x64(True):
        prefs, refs, _ = stages.draw_games(TOY, "random")
        game = rounds.Game(prefs[0], refs[0], stages.BETA, stages.ETA)
        old = jax.nn.log_softmax(jnp.sin(jnp.arange(10.0)))
        rates = game.prefs @ jnp.exp(old)
        want = mirror_step(old, refs[0], rates, eta=stages.ETA, beta=stages.BETA)
        solved = rounds.solve(game, old, rounds.exact_wins(game, old))
        np.testing.assert_allclose(solved, want, atol=1e-10)


def test_uniform_pairs_leave_a_cycle_at_its_reference(whole):
    """Every answer wins half of its games against the uniform opponent."""
    with np.load(whole[0] / "data" / "rounds-RPS(0.9).npz") as kept:
        gaps = kept["uniform pairs"]
    np.testing.assert_allclose(gaps, gaps[:1, :1] + 0 * gaps, atol=1e-12)
    np.testing.assert_allclose(gaps[0, 0], 0.0834, atol=5e-5)


def test_the_report_holds_its_figures_and_every_curve_is_kept(whole):
    out, outcome = whole
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    kept = [f"{kind}-{name}" for kind in ("rounds", "schedule") for name in stages.NAMES]
    kept = {name.replace("/", "-") for name in kept} | {"hedge", "transformer"}
    assert {path.stem for path in (out / "data").glob("*.npz")} == kept
    assert json.dumps(dict(outcome.numbers))


def test_every_method_of_the_spec_is_in_the_table(whole):
    assert [row[0] for row in whole[1].table.rows] == [
        *("reference", "INPO without KL", "INPO, exact", "INPO, sampled", "best and worst of 8"),
        *("better of 2", *sorted(stages.DPO), "uniform pairs", "INPO, transformer"),
    ]


def test_a_method_that_does_not_converge_fails_its_claims():
    """Best and worst of 8 in the place of sampled INPO, and sampled INPO in the place of DPO."""
    good, bad = np.full((2, 41), 1e-4), np.full((2, 41), 0.11)
    runs = {
        "INPO, exact": 1e-9 * good,
        "INPO without KL": bad,
        "INPO, sampled": bad,
        **dict.fromkeys(stages.DPO, good),
        "uniform pairs": good,
        "best and worst of 8": good,
        "better of 2": bad,
    }
    gaps = {inpo_run.CYCLE: runs, "random": runs}
    late = {name: {k: v.mean(-1) for k, v in runs.items()} for name in gaps}
    late[inpo_run.CYCLE]["INPO, transformer"] = bad.mean(-1)
    claims = inpo_claims.convergence_claims(gaps, late) + inpo_claims.failure_claims(gaps, late)
    failed = {c.statement for c in claims if c.verdict == "fails"}
    held = {each[0] for each in (*CONVERGES[2:], FAILS[4], FAILS[5])}
    assert failed == {each[0] for each in (*CONVERGES, *FAILS)} - held


def test_one_beta_of_dpo_that_is_as_good_is_enough_to_fail_the_claim_on_the_best():
    runs = {"INPO, sampled": np.array([1e-4, 2e-4]), "uniform pairs": np.full(2, 0.08)}
    runs |= dict.fromkeys(stages.DPO, np.full(2, 0.03))
    assert inpo_claims.rival_claim("a game", runs).verdict == "holds"
    assert inpo_claims.best_dpo(runs | {"iterative DPO, beta 3": np.full(2, 1e-3)}) == (
        "iterative DPO, beta 3",
        pytest.approx([1e-3, 1e-3]),
    )
    tuned = runs | {"iterative DPO, beta 3": np.full(2, 5e-4)}
    assert inpo_claims.rival_claim("a game", tuned).verdict == "fails"
    assert inpo_claims.rival_claim(
        "a game", runs | {"uniform pairs": np.full(2, 1e-4)}
    ).verdict == ("undecided")


def test_steps_without_kl_fail_the_rate_and_the_last_policy_that_of_the_average(whole):
    data = whole[0] / "data"
    schedules = {}
    for name in stages.NAMES:
        with np.load(data / f"schedule-{name.replace('/', '-')}.npz") as kept:
            schedules[name] = dict(kept) | {"kl": kept["free"]}
    with np.load(data / "hedge.npz") as kept:
        hedge = dict(kept) | {"average": kept["last"], "last": kept["cycle average"]}
    claims = inpo_claims.rate_claims(TOY, hedge, schedules)
    verdicts = {c.statement: c.verdict for c in claims}
    assert "holds" not in {verdicts[each[0]] for each in SCHEDULES[:3]}
    assert verdicts[HEDGE[0][0]] != "holds"
    assert verdicts[HEDGE[2][0]] == "fails"


@pytest.mark.long
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


@pytest.mark.long
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
