"""The spo experiment in its quick size, and claims that fail when the method is another."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.spo import matrix_games, trajectories
from experiments.spo import run as spo
from experiments.spo.config import default, quick
from rlhf_jax.envs.games import rock_paper_scissors
from rlhf_jax.ops.games import answer_win_rates
from rlhf_jax.training import open_run

ASKED = {
    "A, cycle: SPO's average gap, worst seed": ("<=", 0.1),
    "A, cycle: seeds below the reward model": ("==", 2),
    "A, low rank: SPO's average gap, worst seed": ("<=", 0.1),
    "A, low rank: seeds below the reward model": ("==", 2),
    "A, RPS(0.9): SPO's last policy, peak gap, least seed": (">=", 0.36),
    "B, Condorcet: T gap, least": (">=", 6.05),
    "B, Condorcet: T gap, largest": ("<=", 6.25),
    "B, RPS: average gap, relative to expected": ("<=", 0.02),
    "B, RPS: average gap over 2 regret / T": ("<=", 1.0),
    "C, SPO: P(count = 3), worst seed": (">=", 0.95),
    "C, r(a): P(count = 3), best seed": ("<=", 0.5),
    "C, control r(t, a): P(count = 3), worst seed": (">=", 0.95),
    "D: mean gap with a queue of a batch over the best other": ("<", 1.0),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The quick run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("spo")
    with open_run(out, slug="spo", config=quick()) as job:
        return out, spo.run(quick(), job)


def load(path):
    with np.load(path) as file:
        return dict(file)


def test_the_claims_are_those_asked_and_hold(finished):
    _, outcome = finished
    assert {c.statement: (c.op, c.threshold) for c in outcome.claims} == ASKED
    assert np.isfinite([float(c.value) for c in outcome.claims]).all()
    assert [c.statement for c in outcome.claims if not c.holds] == []
    assert len(outcome.table.rows) == 14


def test_the_report_is_one_self_contained_page(finished):
    out, _ = finished
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http://" not in page
    assert "https://" not in page
    names = sorted(path.stem for path in (out / "data").glob("*.npz"))
    assert names == ["intransitive", "queues", "rates", "trajectories"]


def test_a_reward_model_in_the_place_of_spo_fails(finished):
    out, _ = finished
    flat = load(out / "data" / "intransitive.npz")
    games = {
        game: {
            "SPO": {part: flat[f"{game}_reward model_{part}"] for part in ("average", "last")},
            "reward model": {"last": flat[f"{game}_reward model_last"]},
        }
        for game in ("cycle", "low rank", "RPS(0.9)")
    }
    holds = {c.statement: c.holds for c in spo.intransitive_claims(games)}
    assert not holds["A, low rank: SPO's average gap, worst seed"]
    walks = load(out / "data" / "trajectories.npz")
    walks["SPO"], walks["reward model r(a)"] = walks["reward model r(a)"], walks["SPO"]
    holds = {c.statement: c.holds for c in spo.walk_claims(walks)}
    assert not holds["C, SPO: P(count = 3), worst seed"]
    assert not holds["C, r(a): P(count = 3), best seed"]


def test_rewards_are_answer_win_rates_and_a_wrong_sign_is_seen(monkeypatch):
    """Losing instead of winning, in both panels that sample."""

    def lost(prefs, mask=None):
        return 1.0 - answer_win_rates(prefs, mask)

    monkeypatch.setattr(matrix_games, "answer_win_rates", lost)
    monkeypatch.setattr(trajectories, "answer_win_rates", lost)
    config, key = replace(quick(), steps=500, walk_steps=60), jax.random.key(0)
    prefs = matrix_games.condorcet_game(key, 4, gap=0.4)
    counted = jnp.ones(config.queue, bool)
    gaps = jax.jit(lambda key: matrix_games.play(config, "SPO", prefs, counted, key))(key)
    assert float(gaps["last"][-1]) > 0.5
    assert float(jax.jit(lambda key: trajectories.train_spo(config, key))(key)[-1]) < 0.01


def test_the_chance_of_three_is_exact():
    """Of the uniform policy: binomial; and of a policy that stops at three: one."""
    risky = jnp.zeros((trajectories.STEPS * (trajectories.STEPS + 1), 2))
    np.testing.assert_allclose(trajectories.chance(risky), 56 / 256, rtol=1e-6)
    wanted = jnp.where(jnp.arange(len(risky)) % 9 < 3, 40.0, -40.0)
    np.testing.assert_allclose(trajectories.chance(risky.at[:, 1].set(wanted)), 1.0, rtol=1e-6)


def test_a_queue_of_one_is_the_last_answer():
    """One update by hand: everything that is drawn is judged against the newest answer only."""
    prefs, config = rock_paper_scissors(0.9), quick()
    counted = jnp.arange(4) >= 3
    zeros = jnp.zeros(3)
    player = matrix_games.Player(
        jax.nn.log_softmax(zeros), zeros, jnp.array([0, 0, 0, 1]), jnp.zeros((3, 3)), zeros
    )
    moved = matrix_games.spo_update(config, prefs, counted, player, jnp.array([0, 0, 2]))
    want = jax.nn.log_softmax(config.rate * jnp.array([0.8, 0.0, -0.8]))
    np.testing.assert_allclose(moved.logps, want, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queue": 0}, r"queue must be in \[1, inf\)"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"rate": 0.0}, r"rate must be in \(0, 1000\]"),
        ({"queues": (32, 1)}, "queues must be two or more and ascend"),
        ({"queues": (1, 64)}, "queues must hold the batch, 32"),
        ({"margins": (0.6,)}, r"margins must be in \(0, 1/2\]"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(default(), **change)
