"""HERON in changed worlds: junctions by hand, what lights can do, claims and what breaks them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.heron import config as heron_config
from experiments.heron import junctions, traffic, traffic_report
from experiments.heron.changes import changed_claims
from experiments.heron.claims import standardised
from experiments.heron.run import run as run_heron
from experiments.heron.swing_up import CHANGED
from rlhf_jax.training import open_run

SIZE = heron_config.Traffic()
TINY = heron_config.Traffic(
    num_seeds=2, betas=(0.5,), cycles=(4,), population=8, elite=4, rounds=2, steps=20, starts=2
)


def test_a_step_serves_the_green_queue_and_a_switch_serves_nobody():
    start = junctions.empty_roads()._replace(
        queues=jnp.array([[2.0, 1.0], [0.5, 3.0]]),
        waits=jnp.array([[4.0, 2.0], [1.0, 9.0]]),
        road=jnp.array([0.0, 1.0, 1.0]),
    )
    come, demand = jnp.array([1.0, 0.0, 1.0]), traffic.USUAL
    switch = jnp.array([False, True])
    now, factors, there = junctions.drive_step(come, start, switch, demand)
    np.testing.assert_allclose(now.queues, [[2.0, 1.0], [1.5, 4.0]])
    # One of two went and took half of the waits along; whoever was not served waits a step more.
    np.testing.assert_allclose(now.waits, [[3.0, 3.0], [1.5, 12.0]], rtol=1e-5)
    np.testing.assert_allclose(now.road, [1.0, 0.0, 1.0])
    np.testing.assert_allclose(factors, [-8.5, -19.5, -4.0, -1.0, 0.0, -3.0], rtol=1e-5)
    assert float(there) == 8.5 + 2.0
    after, factors, _ = junctions.drive_step(0 * come, now, jnp.array([False, False]), demand)
    # Junction 1 is green for the side road now.
    np.testing.assert_allclose(after.queues, [[1.0, 1.0], [2.5, 3.0]])
    assert float(factors[4]) == 1.0


def test_nobody_is_lost():
    """Vehicles that came are there or have left, whatever the lights do."""
    key, weights = jax.random.key(0), jnp.array([-0.5, 0.0, 0.5, 0.0, 0.3, 0.0])

    def step(now, come):
        switch = junctions.light_features(now) @ weights > 0
        after, factors, there = junctions.drive_step(come, now, switch, traffic.USUAL)
        return after, (factors[4], there)

    come = (jax.random.uniform(key, (40, 3)) < 0.3).astype(jnp.float32)
    _, (left, there) = jax.lax.scan(step, junctions.empty_roads(), come)
    np.testing.assert_allclose(jnp.cumsum(come.sum(1)), jnp.cumsum(left) + there, rtol=1e-5)


def test_lights_that_never_switch_let_queues_grow():
    never, sees = jnp.array([-1.0, 0, 0, 0, 0, 0]), jnp.array([-0.5, -1.0, 1.0, 0, 0.5, 0])
    travel = [
        float(junctions.drive(jax.random.key(1), w, traffic.USUAL, steps=100)[1])
        for w in (never, sees)
    ]
    assert travel[0] > 3 * travel[1] > 0


def made_up(heron: float, reverse: float, best: float) -> dict[str, np.ndarray]:
    """Travel times [seeds, worlds] of every method; seeds differ a little."""
    times = dict.fromkeys(traffic.methods(SIZE), 30.0) | dict.fromkeys(traffic.sums(SIZE), best + 5)
    times |= {name: heron for name in traffic.trees(SIZE) if name.startswith("HERON, ")}
    times |= {name: reverse for name in traffic.trees(SIZE) if "reversed" in name}
    times |= {name: 18.0 for name in traffic.sums(SIZE) if "switches" in name}
    times |= {"standardised sum, beta 0.5": best, "fixed cycle": 20.0, "travel time": 10.0}
    noise = np.linspace(-0.05, 0.05, SIZE.num_seeds)[:, None]
    return {name: time + noise * np.ones(len(traffic.WORLDS)) for name, time in times.items()}


def verdicts(**times: float) -> list[str]:
    return [claim.verdict for claim in traffic_report.traffic_claims(made_up(**times))]


def test_the_claims_of_the_junctions_hold_fail_and_are_undecided():
    assert verdicts(heron=11.0, reverse=25.0, best=12.0) == ["holds"] * 9
    close = [*["holds"] * 5, *["fails"] * 3, "holds"]
    assert verdicts(heron=13.0, reverse=25.0, best=12.0) == close
    assert verdicts(heron=20.0, reverse=25.0, best=12.0) == ["holds", *["fails"] * 8]
    assert verdicts(heron=11.0, reverse=11.0, best=12.0) == ["holds", *["undecided"] * 8]


def test_nothing_is_compared_where_the_search_does_not_learn():
    times = made_up(heron=11.0, reverse=25.0, best=12.0)
    times["travel time"] = times["fixed cycle"]
    assert len(traffic_report.traffic_claims(times)) == 1


@pytest.mark.long
def test_no_unit_of_a_factor_changes_what_heron_or_a_standardised_sum_prefers():
    key = jax.random.key(0)
    factors = jax.random.normal(key, (8, 4, 6))
    odd = factors * jnp.array([1.0, 100.0, 1.0, 0.01, 1.0, 1.0])
    train = traffic.init_state(traffic.SCORER.init(key), traffic.OPTIMIZER)
    heron = traffic.score_heron(jnp.asarray(traffic.RANKING), jnp.ones(()))
    scores = [heron(key, train, each, jnp.zeros((8, 4)))[1] for each in (factors, odd)]
    np.testing.assert_allclose(*scores, rtol=1e-3, atol=1e-3)
    even, raw = (traffic.score_sum(*jnp.array([0.5, flag, 1.0])) for flag in (1.0, 0.0))
    sums = [even(key, train, each, None)[1] for each in (factors, odd)]
    np.testing.assert_allclose(*sums, rtol=1e-4, atol=1e-4)
    assert (
        float(jnp.abs(raw(key, train, odd, None)[1] - raw(key, train, factors, None)[1]).max()) > 1
    )


@pytest.mark.long
def test_a_tiny_run_of_the_junctions_writes_its_page(tmp_path):
    config = heron_config.Config(panel=True, traffic=TINY)
    with open_run(tmp_path, slug="heron", config=config) as job:
        outcome = run_heron(config, job)
    assert outcome.claims
    kept = dict(np.load(tmp_path / "data" / "traffic.npz"))
    assert kept["travel"].shape == (len(traffic.methods(TINY)), 2, len(traffic.WORLDS))
    assert kept["curve"].shape == (len(traffic.methods(TINY)) - 1, 2, TINY.rounds)
    assert (kept["travel"] > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"betas": (0.0,)}, r"betas must be in \(0, 1\]"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"cycles": (0,)}, r"cycles must be in \[1, inf\)"),
        ({"sigmas": (1.0, -1.0)}, r"sigmas must be in \[0, inf\)"),
        ({"sigmas": (0.5,)}, "sigmas must hold 1"),
        ({"unit": 0.0}, r"unit must be in \(0, inf\)"),
        ({"elite": 32}, "population must exceed elite"),
        ({"episodes": 1, "population": 16}, "play 32 episodes at least"),
    ],
)
def test_values_of_the_junctions_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        heron_config.Traffic(**change)


def test_the_size_of_the_junctions_is_the_junctions_alone():
    assert heron_config.traffic().panel
    assert not heron_config.default().panel


def changed_verdicts(heron: float, tuned: float, truth: float = -150.0) -> list[str]:
    """Verdicts where all worlds are alike, seeds differ a little."""
    times = {"true reward": truth, "weighted sum, odd unit": -1250.0, "HERON, odd unit": heron}
    times |= {standardised(0.25): tuned, standardised(0.5): tuned - 100}
    noise = np.linspace(-1.0, 1.0, 5)[:, None]
    returns = {name: time + noise * np.ones(len(CHANGED)) for name, time in times.items()}
    return [claim.verdict for claim in changed_claims(returns)]


def test_the_claims_of_changed_pendulums_hold_and_fail():
    worlds = len(CHANGED)
    assert changed_verdicts(heron=-152.0, tuned=-160.0) == ["holds"] * (1 + 2 * worlds)
    assert changed_verdicts(heron=-160.0, tuned=-152.0) == ["holds", *["holds", "fails"] * worlds]
    assert changed_verdicts(heron=-300.0, tuned=-152.0) == ["holds", *["fails"] * 2 * worlds]
    assert changed_verdicts(heron=-152.0, tuned=-160.0, truth=-400.0) == ["fails"]


def test_the_size_of_the_changes_is_the_pendulum_alone():
    config = heron_config.changed()
    assert config.changed
    assert not config.panel
    with pytest.raises(ValueError, match="panel and changed must not both be set"):
        heron_config.Config(panel=True, changed=True)
