"""The spo experiment in its quick size, and claims that fail when the method is another."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.spo import claims as spo_claims
from experiments.spo import halves, labels, matrix_games, trajectories
from experiments.spo import run as spo
from experiments.spo.config import default, quick
from rlhf_jax.envs.games import rock_paper_scissors
from rlhf_jax.ops.games import answer_win_rates
from rlhf_jax.training import open_run

GAMES = ("cycle", "low rank", "RPS(0.9)")


def ahead(game: str, part: str) -> str:
    return (
        f"A, {game}: seeds, of 4, in which SPO's {part} policy ends with a smaller gap than the "
        f"reward model's {part} policy"
    )


NEAR = [f"A, {game}: last gap of SPO's average policy, mean over seeds" for game in GAMES[:2]]
PEAK = "A, RPS(0.9): largest gap of SPO's last policy in the last tenth, least seed"
WALKS = (
    "C, SPO: P(count = 3) at the end, mean over seeds",
    "C, r(a) on all pairs so far: P(count = 3) at the end, mean over seeds",
    "C, control r(t, a) on all pairs so far: P(count = 3) at the end, mean over seeds",
)
TUNED = {
    f"A, {game}: mean last gap of SPO's average policy over that of the reward model on {pairs}, "
    f"at the best of its {count} settings": asked
    for game in GAMES
    for pairs, count, asked in (
        ("all pairs so far", 2, ("<=", 0.5)),
        ("all or the newest pairs", 6, ("<", 1)),
    )
}
QUEUE = "D, RPS(0.9): mean average gap with a queue of 32, the batch, over the best other"
NOISY = [
    (f"F, {game}, Bernoulli labels, 30% of them flipped: {what}", ("<=", limit))
    for game in labels.GAMES
    for what, limit in (
        ("last gap of SPO's average policy, mean over seeds", 0.1),
        ("mean gap of SPO's average policy over that of the reward model's", 0.5),
    )
]
SAME = "P(difference = 0) after the last update"
HALVES = {
    f"E, SPO: {SAME}, mean over seeds": (">=", 0.95),
    f"E, reward model r(t, a): {SAME}, mean over seeds": ("<=", 0.5),
    f"E, r(t, a) of the newest pairs: {SAME}, mean over seeds": ("<=", 0.5),
    f"E, control r(t, difference, a): {SAME}, mean over seeds": (">=", 0.95),
}
ASKED = (
    dict.fromkeys(NEAR, ("<=", 0.1))
    | {ahead(game, part): ("==", 4) for game in GAMES for part in ("average", "last")}
    | {
        PEAK: (">=", 0.36),
        "B, Condorcet winner, flattest margin: slope of log average gap in log T": ("<=", -0.95),
        "B, Condorcet winner: least T times average gap": (">=", 6.05),
        "B, Condorcet winner: largest T times average gap": ("<=", 6.25),
        "B, RPS, first start: largest relative change of the average gap by T": ("<=", 0.02),
        "B, RPS: largest average gap over 2 regret / T, all starts and T": ("<=", 1),
        WALKS[0]: (">=", 0.95),
        WALKS[1]: ("<=", 0.5),
        WALKS[2]: (">=", 0.95),
        QUEUE: ("<", 1),
    }
    | HALVES
    | TUNED
    | dict(NOISY)
)
# The last policies cycle, both of them: who is lower depends on the moment. Four seeds are too few
# for the interval of the reward model's average, and additive models oscillate on halves.
BY_CHANCE = {ahead(game, "last") for game in GAMES} | set(NEAR) | set(list(HALVES)[1:3])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The quick run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("spo")
    with open_run(out, slug="spo", config=quick()) as job:
        return out, spo.run(quick(), job)


def load(path):
    with np.load(path) as file:
        return dict(file)


def test_the_claims_are_those_asked_and_all_but_those_on_last_policies_hold(finished):
    _, outcome = finished
    assert {c.statement: (c.op, c.threshold) for c in outcome.claims} == ASKED
    assert np.isfinite([float(c.value) for c in outcome.claims]).all()
    assert {c.statement for c in outcome.claims if not c.holds} <= BY_CHANCE
    assert len(outcome.table.rows) == 30 + 9


def test_the_report_is_one_self_contained_page(finished):
    out, _ = finished
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    assert "http://" not in page
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    names = sorted(path.stem for path in (out / "data").glob("*.npz"))
    assert names == [
        *("halves", "intransitive", "labels", "queues", "rates", "rivals", "trajectories")
    ]


def test_a_reward_model_in_the_place_of_spo_fails(finished):
    out, _ = finished
    flat = load(out / "data" / "intransitive.npz")
    games = {
        game: {
            name: {part: flat[f"{game}/{other}/{part}"] for part in ("average", "last")}
            for name, other in (("SPO", "reward model"), ("reward model", "SPO"))
        }
        for game in GAMES
    }
    verdicts = {c.statement: c.verdict for c in spo_claims.intransitive_claims(games)}
    assert verdicts[NEAR[1]] != "holds"
    assert {verdicts[ahead(game, "average")] for game in GAMES} == {"fails"}
    average = flat["RPS(0.9)/SPO/average"]
    games["RPS(0.9)"]["SPO"] = {"average": average, "last": average}
    verdicts = {c.statement: c.verdict for c in spo_claims.intransitive_claims(games)}
    assert verdicts[PEAK] == "fails"
    walks = load(out / "data" / "trajectories.npz")
    walks["SPO"], walks["reward model r(a)"] = walks["reward model r(a)"], walks["SPO"]
    verdicts = {c.statement: c.verdict for c in spo_claims.walk_claims(walks)}
    assert [verdicts[name] for name in WALKS] == ["fails", "fails", "undecided"]
    rivals = load(out / "data" / "rivals.npz")
    for game in GAMES:
        games[game]["SPO"] = {"average": np.full((4, 2), rivals[game].mean(0).min())} | {
            "last": games[game]["SPO"]["last"]
        }
    verdicts = {c.verdict for c in spo_claims.rival_claims(quick(), games, rivals)}
    assert "holds" not in verdicts


def test_a_game_without_a_winner_fails_its_rate_and_the_last_policy_the_bound(finished):
    rates = load(finished[0] / "data" / "rates.npz")
    slow = rates | {
        "condorcet": np.repeat(rates["cycle"][:, None], len(quick().margins), axis=1),
        "cycle": rates["cycle last"],
    }
    claims = spo_claims.rate_claims(quick(), slow)
    assert claims[0].verdict != "holds"
    assert [c.verdict for c in claims[2:]] == ["fails"] * 3


def test_the_longest_queue_in_the_place_of_a_batch_fails(finished):
    queues = load(finished[0] / "data" / "queues.npz")
    order = [0, 3, 2, 1]
    (claim,) = spo_claims.queue_claims(quick(), {"average": queues["average"][:, order]})
    assert not claim.holds


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
    assert (
        float(
            jax.jit(lambda key: trajectories.train_spo(config, trajectories.COUNTED, key))(key)[-1]
        )
        < 0.01
    )


@pytest.mark.long
def test_the_chance_of_three_is_exact():
    """Of the uniform policy: binomial; and of a policy that stops at three: one."""
    risky = jnp.zeros((trajectories.STEPS * (trajectories.STEPS + 1), 2))
    np.testing.assert_allclose(trajectories.chance(risky), 56 / 256, rtol=1e-6)
    wanted = jnp.where(jnp.arange(len(risky)) % 9 < 3, 40.0, -40.0)
    np.testing.assert_allclose(trajectories.chance(risky.at[:, 1].set(wanted)), 1.0, rtol=1e-6)


def test_the_chance_of_the_same_halves_is_exact():
    """Fair coins: sum_k C(3, k)^2 / 64; always risky: C(3, 3) / 8; up to the first half's: one."""
    fair = jnp.zeros((halves.STEPS * halves.PLACES, 2))
    np.testing.assert_allclose(halves.chance(fair), 20 / 64, rtol=1e-6)
    np.testing.assert_allclose(halves.chance(fair.at[:, 1].set(40.0)), 1 / 8, rtol=1e-6)
    place = jnp.arange(len(fair)) % halves.PLACES - halves.HALF
    repeats = fair.at[:, 1].set(jnp.where(place > 0, 40.0, -40.0))
    np.testing.assert_allclose(halves.chance(repeats), 1.0, rtol=1e-6)
    drawn = halves.draw(repeats, jax.random.key(0), 100)
    np.testing.assert_array_equal(drawn.actions @ halves.SIGNS, 0)
    assert 0.3 < float(drawn.actions.mean()) < 0.7


def test_an_ignorant_policy_matches_three_eighths_at_most():
    """Every constant choice of the last three steps, and the mixed one that is best."""
    best = 0.0
    for code in range(8):
        risky = np.repeat([code >> t & 1 for t in range(halves.HALF)], halves.PLACES)
        logits = jnp.zeros((halves.STEPS * halves.PLACES, 2))
        logits = logits.at[halves.HALF * halves.PLACES :, 1].set(jnp.where(risky, 40.0, -40.0))
        best = max(best, float(halves.chance(logits)))
    assert best == pytest.approx(halves.IGNORANT)


def test_an_additive_model_in_the_place_of_spo_fails_on_halves_and_on_labels(finished):
    same = load(finished[0] / "data" / "halves.npz")
    control = "reward model r(t, difference, a)"
    same["SPO"], same[control] = same["reward model r(t, a)"], same["r(t, a) of the newest pairs"]
    verdicts = {c.statement: c.verdict for c in spo_claims.half_claims(same)}
    assert "holds" not in [verdicts[name] for name in HALVES]
    flat = load(finished[0] / "data" / "labels.npz")
    noisy = {
        game: {
            name: {part: flat[f"{game}/{other}/{part}"] for part in ("average", "last")}
            for name, other in (("SPO", "reward model"), ("reward model", "SPO"))
        }
        for game in labels.GAMES
    }
    assert "holds" not in [c.verdict for c in spo_claims.label_claims(quick(), noisy)]


def test_labels_are_drawn_with_their_chance_and_flips_shrink_it():
    prefs, key = rock_paper_scissors(0.9), jax.random.key(0)
    answers, queue = jnp.zeros(400, int), jnp.ones(400, int)
    for flips in (0.0, 0.3):
        won = labels.draw_labels(prefs, flips, answers, queue, key)
        want = flips + (1 - 2 * flips) * float(prefs[0, 1])
        assert float(won.mean()) == pytest.approx(want, abs=0.01)


@pytest.mark.long
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
        ({"memories": (0.0,)}, "memories must begin with 1"),
        ({"flips": (0.5,)}, r"flips must be in \[0, 1/2\)"),
        ({"flips": (0.3, 0.1)}, "flips must ascend"),
        ({"margins": (0.6,)}, r"margins must be in \(0, 1/2\]"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(default(), **change)
