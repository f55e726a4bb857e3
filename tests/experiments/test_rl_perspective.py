"""The rl_perspective experiment at a small size: what it claims, and methods that break it."""

from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.rl_perspective import claims as perspective_claims
from experiments.rl_perspective import config as perspective_config
from experiments.rl_perspective import run as perspective_run
from experiments.rl_perspective.config import Compounding, Config, Prompts, Tokens
from experiments.rl_perspective.prefixes import prefix_rows
from experiments.rl_perspective.prompts import gap_closed
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import open_run

ASKED = {
    ("BC: slope of log cost in log T", ">=", 1.8),
    ("MaxEnt IRL: slope of log cost in log T", "<=", 1.2),
    ("RLHF: slope of log cost in log T", "<=", 1.2),
    ("RLHF: cost over that of BC, T = {longest}", "<=", 0.05),
    ("OIRL, logged prompts: mean gap closed", ">=", 0.9),
    ("OIRL, all prompts: share of seeds that close 0.8 of the gap", ">=", 0.8),
    ("OIRL: least rise of mean success with more queries", ">=", 0.0),
    ("REINFORCE: share of right tokens, worst |V|", ">=", 0.95),
    ("Q-learning on positions: share of right tokens, |V| = 4", "<=", 0.5),
    ("Q-learning on positions: share at |V| = {most} less that at 4", "<=", 0.0),
    ("Q-learning, |V| = 4: lead of prefixes over positions", ">", 0.0),
}
HORIZONS = np.array(perspective_config.default().compounding.horizons, float)


def likely_costs(power: float) -> np.ndarray:
    """[seeds, horizons] that grow as T^power from those of the expert at T = 5."""
    return np.tile(0.0076 * (HORIZONS / HORIZONS[0]) ** power, (3, 1))


def held(claims) -> list[bool]:
    return [claim.holds for claim in claims]


def test_a_cloned_policy_in_the_place_of_the_planners_fails_and_so_does_one_without_slips():
    config = perspective_config.default()
    cloned, planned = likely_costs(2.4), likely_costs(1.07)
    right = {"BC": cloned, "MaxEnt IRL": planned, "RLHF": planned}
    assert all(held(perspective_claims.compounding_claims(config, right)))
    wrong = {"BC": planned, "MaxEnt IRL": cloned, "RLHF": cloned}
    assert not any(held(perspective_claims.compounding_claims(config, wrong)))
    # One seed in three, as a reward model that a few pairs misled, leaves nothing decided.
    planned[0, -1] = 14.0
    claims = perspective_claims.compounding_claims(config, right)
    assert [claim.verdict for claim in claims[2:]] == ["undecided", "undecided"]


def test_a_prompt_for_all_queries_fails_where_one_for_each_holds():
    levels = {"best single prompt": 0.56, "OIRL, logged prompts": 0.86, "OIRL, all prompts": 0.9}
    found = {name: np.full((20, 2), level) for name, level in levels.items()}
    oracles = {
        "oracle, logged prompts": np.full(20, 0.87),
        "oracle, all prompts": np.full(20, 0.93),
    }
    found = {**found, **oracles}
    np.testing.assert_allclose(gap_closed(found, "logged prompts"), 0.30 / 0.31)
    assert all(held(perspective_claims.prompt_claims(found)))
    found["OIRL, logged prompts"] = found["OIRL, all prompts"] = found["best single prompt"]
    assert held(perspective_claims.prompt_claims(found)) == [False, False, True]
    found["OIRL, all prompts"] = np.tile([0.9, 0.8], (20, 1))
    assert not perspective_claims.prompt_claims(found)[2].holds


def test_q_learning_in_the_place_of_reinforce_fails():
    sizes = (4, 32)
    strong, weak = np.ones((2, 3, 5)), np.full((2, 3, 5), 0.4)
    weak[1] = 0.2
    curves = {"REINFORCE": strong, "Q-learning": weak, perspective_claims.PREFIXES: strong[:1]}
    assert all(held(perspective_claims.token_claims(sizes, curves)))
    curves |= {"REINFORCE": weak, "Q-learning": strong}
    assert held(perspective_claims.token_claims(sizes, curves)) == [False, False, True, False]
    curves["Q-learning"] = weak[::-1]
    assert not perspective_claims.token_claims(sizes, curves)[2].holds


def test_rows_of_prefixes_are_numbered_by_length():
    strings = jax.numpy.array([[1, 0, 2], [2, 2, 2]])
    np.testing.assert_array_equal(prefix_rows(strings, 3), [[0, 2, 7], [0, 3, 12]])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Outcome]:
    out, config = tmp_path_factory.mktemp("rl_perspective"), perspective_config.quick()
    with open_run(out, slug="rl_perspective", config=config) as job:
        return out, perspective_run.run(config, job)


@pytest.mark.long
def test_a_quick_run_makes_the_claims_of_the_paper_and_they_hold(whole):
    out, outcome = whole
    config = perspective_config.quick()
    sizes = {"longest": config.compounding.horizons[-1], "most": config.tokens.vocabularies[-1]}
    asked = {(name.format(**sizes), op, threshold) for name, op, threshold in ASKED}
    assert {(claim.statement, claim.op, claim.threshold) for claim in outcome.claims} == asked
    # Few seeds leave shares undecided; none fails.
    assert "fails" not in {claim.verdict for claim in outcome.claims}
    assert np.isfinite([float(claim.value) for claim in outcome.claims]).all()
    assert np.isfinite(jax.tree.leaves(dict(outcome.numbers))).all()
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    assert {path.stem for path in (out / "data").glob("*.npz")} == {"costs", "prompts", "tokens"}


@pytest.mark.long
def test_costs_of_the_expert_and_of_cloning_are_the_known_ones(whole):
    """From a reference run: at T = 5, 10, 20, 40; neither hangs on the draw of the rope."""
    costs = np.load(whole[0] / "data" / "costs.npz")
    np.testing.assert_allclose(costs["BC"].mean(0), [0.027, 0.171, 1.01, 5.01], rtol=0.02)
    np.testing.assert_allclose(costs["expert"].mean(0), [0.008, 0.017, 0.037, 0.075], atol=6e-4)


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (Config, {"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        (Compounding, {"horizons": (5, 10)}, "horizons must rise and be at least three"),
        (Compounding, {"horizons": (0, 5, 10)}, r"horizons must be in \[1, inf\)"),
        (Compounding, {"slip": 0.0}, r"slip must be in \(0, 1\)"),
        (Compounding, {"pairs": 0}, r"pairs must be in \[1, inf\)"),
        (Compounding, {"beta": 0.0}, r"beta must be in \(0, inf\)"),
        (Prompts, {"queries": (200, 50)}, "queries must rise"),
        (Prompts, {"decay": -1.0}, r"decay must be in \[0, 1\]"),
        (Prompts, {"logged": 0}, r"logged must be in \[1, inf\)"),
        (Tokens, {"vocabularies": (4,)}, "vocabularies must rise"),
        (Tokens, {"vocabularies": (1, 4)}, r"vocabularies must be in \[2, inf\)"),
        (Tokens, {"epochs": 0}, r"epochs must be in \[1, inf\)"),
        (Tokens, {"clip_eps": 0.0}, r"clip_eps must be in \(0, inf\)"),
        (Tokens, {"explore": 2.0}, r"explore must be in \[0, 1\]"),
    ],
)
def test_values_out_of_range_are_named(make, change, message):
    with pytest.raises(ValueError, match=message):
        make(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(perspective_config, name)(), Config)
