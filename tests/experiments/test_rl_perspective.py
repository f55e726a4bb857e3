"""The rl_perspective experiment at a small size: what it claims, and methods that break it."""

from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.rl_perspective import claims as perspective_claims
from experiments.rl_perspective import config as perspective_config
from experiments.rl_perspective import run as perspective_run
from experiments.rl_perspective.compounding import random_rope
from experiments.rl_perspective.config import Compounding, Config, Prompts, Tokens
from experiments.rl_perspective.prefixes import place_follow, prefix_follow, visited_rows
from experiments.rl_perspective.prompts import gap_closed
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import open_run

ASKED = {
    ("BC: slope of log cost in log T", ">=", 1.8),
    ("BC, as many episodes: slope of log cost in log T", ">=", 1.8),
    ("MaxEnt IRL: slope of log cost in log T", "<=", 1.2),
    ("RLHF: slope of log cost in log T", "<=", 1.2),
    ("RLHF: cost over that of BC, T = {longest}", "<=", 0.05),
    ("RLHF: cost over that of BC from as many demonstrations with slips, T = {longest}", "<=", 1.0),
    ("OIRL, logged prompts: mean gap closed", ">=", 0.9),
    ("OIRL, all prompts: share of seeds that close 0.8 of the gap", ">=", 0.8),
    ("OIRL: least rise of mean success with more queries", ">", 0.0),
    ("REINFORCE: share of right tokens, worst |V|", ">=", 0.95),
    ("REINFORCE: lead over Q-learning on prefixes with replay, |V| = 4, best rate", ">", 0.0),
    ("Q-learning on positions: share of right tokens, |V| = 4", "<=", 0.5),
    ("Q-learning on positions: share at |V| = {most} less that at 4", "<", 0.0),
    ("Q-learning, |V| = 4: lead of prefixes with replay over positions", ">", 0.0),
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
    equal = perspective_claims.EQUAL
    plans = {"MaxEnt IRL": planned, "RLHF": planned, "BC, as many with slips": 1.1 * planned}
    right = {"BC": cloned, equal: cloned, **plans}
    assert all(held(perspective_claims.compounding_claims(config, right)))
    wrong = dict.fromkeys(right, cloned) | {"BC": planned, equal: planned}
    assert not any(held(perspective_claims.compounding_claims(config, wrong)))
    # A clone with slips that costs less than planning leaves the last claim alone broken.
    better = right | {"BC, as many with slips": 0.9 * planned}
    assert held(perspective_claims.compounding_claims(config, better)) == [True] * 5 + [False]
    # One rope in three, as a reward model that a few pairs misled, leaves nothing decided.
    planned[0, -1] = 14.0
    claims = perspective_claims.compounding_claims(config, right | {"RLHF": planned})
    assert [claim.verdict for claim in claims[3:5]] == ["undecided", "undecided"]


def test_ropes_differ_and_the_expert_stays_on_them():
    draw = jax.jit(jax.vmap(lambda key: random_rope(key, 6)))
    ropes = draw(jax.random.split(jax.random.key(1), 5))
    moves, right = np.asarray(ropes.mdp.transitions[:, 0]), np.exp(np.asarray(ropes.expert[:, 0]))
    np.testing.assert_allclose(moves.sum(-1), 1.0, rtol=1e-6)
    stays = np.einsum("nsa,nsat->nst", right, moves)
    np.testing.assert_allclose(stays[:, 0, 0], 1.0, rtol=1e-6)  # slips alone leave offset 0
    assert (stays[:, 3, 2] >= 0.5).all()
    costs = -np.asarray(ropes.mdp.rewards[:, 0, :, 0])
    assert (np.diff(costs, axis=-1) > 0).all()
    np.testing.assert_allclose(costs[:, [0, -1]], [[0, 1]] * 5, atol=1e-6)
    assert min(np.ptp(costs[:, 4]), np.ptp(stays[:, 3, 2])) > 0.01


def test_a_prompt_for_all_queries_fails_where_one_for_each_holds():
    levels = {"best single prompt": 0.56, "OIRL, logged prompts": 0.86, "OIRL, all prompts": 0.9}
    found = {name: np.full((20, 2), level) for name, level in levels.items()}
    for name in ("OIRL, logged prompts", "OIRL, all prompts"):
        found[name][:, 0] = 0.7
    oracles = {
        "oracle, logged prompts": np.full(20, 0.87),
        "oracle, all prompts": np.full(20, 0.93),
    }
    found = {**found, **oracles}
    np.testing.assert_allclose(gap_closed(found, "logged prompts")[:, -1], 0.30 / 0.31)
    assert all(held(perspective_claims.prompt_claims(found)))
    found["OIRL, logged prompts"] = found["OIRL, all prompts"] = found["best single prompt"]
    assert held(perspective_claims.prompt_claims(found)) == [False, False, False]
    found["OIRL, all prompts"] = np.tile([0.9, 0.8], (20, 1))
    assert perspective_claims.prompt_claims(found)[2].verdict == "fails"


def test_q_learning_in_the_place_of_reinforce_fails():
    config = Tokens(vocabularies=(4, 32), q_rates=(0.1, 0.3))
    strong, weak = np.ones((2, 3, 5)), np.full((2, 3, 5), 0.4)
    weak[1] = 0.2
    tuned = {
        f"{perspective_claims.PREFIXES}, rate {rate:g}": np.full((1, 3, 5), level)
        for rate, level in ((0.1, 0.8), (0.3, 0.9))
    }
    others = {perspective_claims.REPLAYED: weak[:1], **tuned}
    curves = {"REINFORCE": strong, "Q-learning": weak, **others}
    assert all(held(perspective_claims.token_claims(config, curves)))
    curves |= {"REINFORCE": weak, "Q-learning": strong}
    assert held(perspective_claims.token_claims(config, curves)) == [False] * 5
    # Replay without prefixes that does as well takes the prefixes' claim away.
    curves = {"REINFORCE": strong, "Q-learning": weak, **others}
    curves[perspective_claims.REPLAYED] = tuned["Q-learning on prefixes, replay, rate 0.3"]
    claims = perspective_claims.token_claims(config, curves)
    assert [claim.verdict for claim in claims] == [*["holds"] * 4, "undecided"]
    curves |= others | {"Q-learning": weak[::-1]}
    assert not perspective_claims.token_claims(config, curves)[3].holds


def test_rows_of_prefixes_are_numbered_by_length_and_those_of_positions_by_place():
    strings = jax.numpy.array([[1, 0, 2], [2, 2, 2]])
    rows = visited_rows(strings, prefix_follow(3))
    np.testing.assert_array_equal(rows, [[0, 2, 7], [0, 3, 12]])
    np.testing.assert_array_equal(visited_rows(strings, place_follow), [[0, 1, 2]] * 2)


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
def test_costs_order_and_differ_from_rope_to_rope(whole):
    costs = dict(np.load(whole[0] / "data" / "costs.npz"))
    assert (costs["expert"] <= costs["RLHF"] * (1 + 1e-9)).all()
    assert (costs["expert"][:, -1] < costs["BC"][:, -1]).all()
    assert costs["BC"][:, -1].std() > 0.01  # ropes are units of their own


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
        (Tokens, {"q_rates": (0.1, 1.0)}, "q_rates must differ and hold q_rate"),
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
