"""The hc_rlhf experiment: its claims and what breaks them, its parts, and a run of toy size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.hc_rlhf import claims, config, reliability, run, studies, training, world
from rlhf_jax.exact.safety_test import Limit
from rlhf_jax.exact.upper_bounds import t_factor, t_upper_bound
from rlhf_jax.training import open_run

TOY = config.Config(
    trials=6,
    sizes=(20, 40),
    sampled_size=20,
    steps=120,
    long_steps=130,
    sampled_steps=20,
    worlds=2,
    fresh=500,
    rare_train=20,
    rare_tests=(10, 20),
    tests=200,
    test_sizes=(20, 50),
    look_size=20,
    control_steps=600,
)
LAWS, KINDS, TRIALS = len(reliability.LAWS), len(studies.KINDS), 200


def good() -> dict:
    """Arrays of a run in which everything that is claimed is so."""
    size = config.default()
    unsafe = np.full((LAWS, 3, KINDS), 500)
    unsafe[0, :, 0] = 2860, 1620, 1110
    unsafe[:, :, 3] = -1
    unsafe[2, :, 3] = 0, 350, 770
    warned = unsafe[..., 0].copy()
    warned[1] = 0
    passed = np.zeros((2, size.tests, size.looks), bool)
    passed[0, : size.tests // 2] = True
    passed[0, size.tests // 10 :, 0] = False
    passed[1, : size.tests // 20] = True
    kept = {"returned": shares(1.0, 0.15, 0.5, 0.8, 1.0)}
    costs = np.stack([noise(0.0), noise(0.0), *[noise(-0.4)] * 3])
    costs[1, :30] = -0.5  # those that are returned are safe
    rewards = np.stack([noise(2.0), noise(2.0), noise(1.8), noise(1.7), noise(1.2)])
    exact = {
        "returned": np.stack([kept["returned"]] * 3),
        "cost": np.stack([costs] * 3),
        "reward": np.stack([rewards, rewards + GAIN, rewards + 2 * GAIN]),
    }
    sampled = {name: x[:1, 1:] for name, x in exact.items()}
    rare = {
        "Lagrangian + test returned": np.zeros((3, KINDS, TRIALS), bool),
        "Lagrangian + test cost": np.stack([np.stack([noise(0.05)] * KINDS)] * 3),
    }
    swing = np.tile([0.0, 0.5], 300)
    control = {"costs": np.stack([swing, np.full(600, 0.3), np.full(600, 0.3)])}
    tests = {"unsafe": unsafe, "safe": unsafe, "warned": warned, "warned at all": warned}
    return {
        "tests": tests,
        "looks": {"passed": passed},
        "exact": exact,
        "longer": {name: x[-1:, :1] for name, x in exact.items()},
        "sampled": sampled,
        "rare": rare,
        "control": control,
    }


GAIN = np.array([0.0, 0.0, 0.05, 0.1, 0.2])[:, None]


def noise(mean: float) -> np.ndarray:
    """[trials] around the mean, half of them above."""
    return mean + 0.01 * np.tile([-1.0, 1.0], TRIALS // 2)


def shares(*values: float) -> np.ndarray:
    return np.stack([np.arange(TRIALS) < value * TRIALS for value in values])


def verdicts(stages) -> list[str]:
    return [claim.verdict for claim in claims.all_claims(config.default(), stages)]


def test_everything_holds_where_it_should():
    made = claims.all_claims(config.default(), good())
    assert {claim.statement: claim.verdict for claim in made if not claim.holds} == {}


def changed(stage: str, name: str, place: tuple, value) -> dict:
    """The good stages with one change."""
    stages = good()
    array = np.array(stages[stage][name])
    array[place] = value
    stages[stage] = stages[stage] | {name: array}
    return stages


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (("tests", "unsafe", (0, 0, 1), 1500), "hoeffding, worst"),
        (("tests", "unsafe", (2, 2, 3), 1200), "clopper_pearson, worst"),
        (("tests", "unsafe", (0, 0, 0), 1000), "t bound, Beta(.05, .95), 20 costs: an unsafe"),
        (("tests", "warned", (0, 0), 100), "false passes with a warning"),
        (("tests", "warned at all", (1, 0), 9900), "false passes with a warning"),
        (("looks", "passed", (0,), False), "each at delta: an unsafe policy"),
        (("looks", "passed", (1,), True), "each at delta / 10"),
        (("tests", "unsafe", (0, 1, 0), 900), "t bound, Beta(.05, .95), 100 costs: an unsafe"),
        (("tests", "warned", (0, 1), 100), "100 costs: false passes with a warning"),
        (("exact", "cost", (slice(None), 0), -1.0), "the least of all sizes: it is unsafe"),
        (("longer", "cost", (0, 0), -1.0), "1000 prompts, 2000 steps: it is unsafe"),
        (("exact", "cost", (1, 3), 1.0), "HC (0,2), 300 prompts, the worst size: returned and"),
        (("exact", "returned", (0, 3), False), "least of all sizes: returned"),
        (("exact", "returned", (0, 1), True), "P(return) over that"),
        (("exact", "reward", (2, 3), 0.0), "gain in reward from 300 to 1000"),
        (("sampled", "returned", (0, 2), False), "HC (0,2): returned"),
        (("rare", "Lagrangian + test returned", (0, 0), True), "t, test of 20"),
        (("rare", "Lagrangian + test returned", (0, 3), True), "clopper_pearson, test of 20"),
        (("control", "costs", (1, 599), 0.9), "PI controller"),
    ],
)
def test_what_breaks_a_claim(change, broken):
    made = claims.all_claims(config.default(), changed(*change))
    fallen = [claim.statement for claim in made if not claim.holds]
    assert any(broken in statement for statement in fallen), fallen


def test_the_world_by_hand():
    flat = world.World(jnp.zeros((2, 4)), jnp.zeros((2, 4)))
    prompts = world.draw_prompts(jax.random.key(0), flat, 3)
    np.testing.assert_allclose(prompts.rewards, [world.REWARDS] * 3)
    np.testing.assert_allclose(prompts.costs, [world.COSTS] * 3)
    rare = world.draw_prompts(jax.random.key(0), flat._replace(rare=True), 3)
    np.testing.assert_allclose(rare.costs, [[1, 1, 0, 0]] * 3)
    # The uniform policy: (2 + 1 + 0.5 + 0) / 4 and (1.5 + 0.3 - 0.8 - 2) / 4
    np.testing.assert_allclose(world.means(jnp.zeros((3, 4)), prompts), [0.875, -0.25])
    costs = world.answer_costs(jax.random.key(1), jnp.zeros((3, 4)), prompts)
    assert set(np.asarray(costs)) <= set(np.float32(world.COSTS))


def test_training_meets_its_own_limit_and_a_pessimistic_one_stays_below():
    size = config.Config(steps=400)
    drawn = world.draw_world(jax.random.key(3), size)
    prompts = world.draw_prompts(jax.random.key(4), drawn, 100)
    moments = [
        training.table_moments(training.exact_training(size, prompts, k, tau=-0.5), prompts)
        for k in (jnp.zeros(()), jnp.asarray(0.3))
    ]
    plain, harsh = ((float(m.means[0]), float(m.stds[0])) for m in moments)
    assert plain[0] == pytest.approx(-0.5, abs=0.02)
    assert harsh[0] + 0.3 * harsh[1] == pytest.approx(-0.5, abs=0.02)


def test_a_policy_is_returned_if_its_only_look_passes():
    costs = np.random.default_rng(0).normal(-0.2, 1.0, (5, 40))
    trials = studies.Trials(costs, np.zeros((5, 2)))
    found = studies.returned(trials, Limit(0.0), 0.1)
    np.testing.assert_array_equal(found, t_upper_bound(costs, delta=0.1) <= 0.0)
    assert 0 < found.sum() < 5


def test_the_margin_of_a_method():
    assert studies.inflation_of(TOY, "Lagrangian + test", 20, 30) == 0.0
    assert studies.inflation_of(TOY, "HC (0,1)", 20, 30) == t_factor(30, delta=0.1)


def test_no_active_world_is_an_error():
    with pytest.raises(ValueError, match="worlds must have one with an active limit"):
        studies.active_world(config.Config(tau=1.4, worlds=1, steps=2, fresh=100))


@pytest.mark.long
def test_a_toy_run_has_its_page(tmp_path):
    with open_run(tmp_path, slug="hc_rlhf", config=TOY) as job:
        outcome = run.run(TOY, job)
    assert len(outcome.claims) == len(claims.all_claims(config.default(), good()))
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == 4
    assert outcome.table is not None
    assert len(outcome.table.rows) == 2 * len(claims.METHODS) + 1 + len(studies.INFLATIONS)
    assert "shop" not in outcome.numbers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta": 0.6}, r"delta must be in \(0, 1/2\]"),
        ({"sizes": (300, 100)}, "sizes must rise"),
        ({"sizes": (300,)}, "sizes must be two or more"),
        ({"test_sizes": (20,)}, "test_sizes must be two or more"),
        ({"buffer": 10}, "buffer must hold"),
        ({"trials": 1}, "trials must"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)
