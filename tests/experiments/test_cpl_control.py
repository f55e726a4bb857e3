"""The control panel of cpl: labels by hand, updates of every method, claims that can fail."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cpl import config as cpl_config
from experiments.cpl import control, networks, oracles
from experiments.cpl import run as cpl_run
from experiments.cpl.claims import control_claims
from experiments.cpl.config import Control
from experiments.cpl.worlds import World, make_world
from rlhf_jax.envs.pendulum import pendulum_env
from rlhf_jax.sampling.episodes import Episode
from rlhf_jax.training import open_run
from rlhf_jax.types import Trajectory

TOY = Control(
    worlds=("pendulum",),
    num_seeds=2,
    widths=(8,),
    rounds=6,
    round_steps=20,
    lanes=2,
    warmup=1,
    checks=2,
    checkpoints=2,
    episodes=4,
    segments=40,
    length=16,
    batch=8,
    clone_steps=3,
    steps=3,
    reward_steps=3,
    tests=3,
    betas=(0.3, 1.0),
)


def test_the_pendulum_of_the_panel_is_that_of_the_library_in_other_units():
    world, plain = make_world("pendulum"), pendulum_env()
    state, seen = world.env.reset(jax.random.key(0))
    same, raw = plain.reset(jax.random.key(0))
    np.testing.assert_allclose(seen, raw * np.array([1, 1, 1 / 8]), rtol=1e-6)
    _, ours = world.env.step(jax.random.key(1), state, jnp.array([-0.5]))
    _, theirs = plain.step(jax.random.key(1), same, jnp.array([-1.0]))
    np.testing.assert_allclose(ours.reward, theirs.reward)
    np.testing.assert_allclose(ours.observation[2], theirs.observation[2] / 8, rtol=1e-6)


def test_success_on_the_pendulum_is_standing_at_the_end():
    inputs = jnp.zeros((200, 3)).at[150:, 0].set(1.0)
    world = make_world("pendulum")
    assert bool(world.success(SimpleNamespace(trajectory=SimpleNamespace(inputs=inputs))))
    fallen = SimpleNamespace(trajectory=SimpleNamespace(inputs=inputs.at[199, 0].set(0.9)))
    assert not bool(world.success(fallen))


def test_a_label_is_the_sum_of_advantages_by_the_critic():
    # V is the observation. gamma = 0.5: 1 + 0.5 * 4 - 2; then 3 + 0.5 * 0 - 4; nothing after it.
    agent = SimpleNamespace(values=lambda params, seen: seen[..., 0])
    steps = Trajectory(
        jnp.array([[[2.0], [4.0], [9.0]]]),
        jnp.zeros((1, 3), int),
        jnp.array([[True, True, False]]),
    )
    episodes = Episode(
        steps,
        jnp.array([[1.0, 3.0, 0.0]]),
        jnp.array([[1.0, 0.0, 0.0]]),
        jnp.zeros((1, 3)),
        jnp.array([[9.0]]),
        None,
    )
    gaps, after = oracles.step_advantages(agent, None, episodes, gamma=0.5)
    np.testing.assert_allclose(gaps, [[1.0, -1.0, 0.0]])
    np.testing.assert_allclose(after[0, :, 0], [4.0, 9.0, 9.0])


def test_log_pi_of_a_continuous_action_is_minus_the_squared_distance():
    policy = networks.make_policy(make_world("pendulum"), TOY)
    params = policy.init(jax.random.key(0))
    seen = jax.random.normal(jax.random.key(1), (2, 5, 3))
    middle = policy.logits(params, seen)
    assert float(jnp.abs(middle).max()) <= 1
    found = policy.logps(params, seen, middle + 0.5)
    np.testing.assert_allclose(found, -0.25, rtol=1e-5)


def test_p_iql_trains_four_networks_where_cpl_trains_one():
    world = World(pendulum_env(), 3, 2, 200, make_world("pendulum").success)
    counts = control.parameters(world, TOY)
    # 3 to 8 to 2 for the policy, Q and the reward; 3 to 8 to 1 for V.
    assert counts.tolist() == [50] * 6 + [3 * 50 + 41] * 2
    assert len(counts) == len(control.methods(TOY))


def results(names):
    """What runs would show if every claim held."""
    success = np.full((len(names), 4), 0.5)
    success[names.index("CPL, bias 0.5")] = [0.8, 0.82, 0.78, 0.8]
    success[names.index("BC")] = 0.4
    seconds = np.ones((len(names), 4)) + np.linspace(0, 0.01, 4)
    parameters = np.full(len(names), 100)
    for i, name in enumerate(names):
        if name.startswith("P-IQL"):
            seconds[i], parameters[i] = seconds[i] * 2, 398
    ones = np.array([1.0, 0.99, 1.0, 0.98])
    return {
        "success": success,
        "seconds": seconds,
        "parameters": parameters,
        "expert_success": ones,
        "seen_success": ones / 2,
    }


def test_the_claims_of_control_can_fail():
    names = control.methods(TOY)
    found = results(names)
    assert all(claim.holds for claim in control_claims("pendulum", names, found))
    broken = {
        "expert_success": found["seen_success"],
        "success": found["success"][[names.index("BC")] * len(names)],
        "seconds": found["seconds"][[0] * len(names)],
        "parameters": found["parameters"][[0] * len(names)],
    }
    # success breaks the claims against SFT and P-IQL, the others one each
    wrong = {"expert_success": {0}, "success": {1, 2}, "seconds": {3}, "parameters": {4}}
    for name, x in broken.items():
        claims = control_claims("pendulum", names, found | {name: x})
        assert {i for i, claim in enumerate(claims) if not claim.holds} == wrong[name]


def test_p_iql_is_represented_by_its_best_beta():
    names = control.methods(TOY)
    found = results(names)
    found["success"][-1] = 0.7
    claim = control_claims("pendulum", names, found)[2]
    assert "P-IQL, beta 1" in claim.statement
    assert float(claim.value) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"worlds": ("pendulum", "pendulum")}, "worlds must be some of"),
        ({"worlds": ("chess",)}, "worlds must be some of"),
        ({"checkpoints": 3}, "checkpoints must be at most 6, a divisor of 4"),
        ({"length": 201}, r"length must be in \[1, 200\]"),
    ],
)
def test_settings_that_the_panel_cannot_use_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TOY, **change)
    assert cpl_config.control().panel


@pytest.mark.long
def test_the_whole_panel_at_a_toy_size(tmp_path):
    config = cpl_config.Config(panel=True, control=TOY)
    with open_run(tmp_path, slug="cpl", config=config) as job:
        outcome = cpl_run.run(config, job)
    assert len(outcome.claims) == 5
    found = outcome.numbers["pendulum"]
    methods = control.methods(TOY)
    for name in ("success", "return", "seconds"):
        assert np.shape(found[name]) == (len(methods), 2)
        assert np.isfinite(found[name]).all()
    assert np.min(found["seconds"]) > 0
    # Every method changed the policy, in a way of its own.
    assert len({tuple(row) for row in found["return"]}) == len(methods)
    assert (tmp_path / "data" / "pendulum.npz").is_file()
    assert "P-IQL, beta 0.3" in (tmp_path / "report.html").read_text()


@pytest.mark.long
def test_discrete_agents_learn_and_act_through_the_same_functions():
    world = make_world("pendulum")

    def step(key, state, action):
        return world.env.step(key, state, jnp.where(action == 1, 1.0, -1.0)[None])

    two = World(world.env._replace(step=step), 3, 2, 200, world.success)
    trained = jax.jit(lambda key: oracles.train_agent(key, two, TOY))(jax.random.key(0))
    assert trained.success.shape == (6,)
    found = jax.jit(lambda key: networks.collect(key, trained, two, TOY))(jax.random.key(1))
    segments = found.segments
    assert segments.steps.actions.shape == (40, 16)
    assert set(np.unique(segments.steps.actions)) == {0, 1}
    assert np.isfinite(segments.scores).all()
    policy = networks.make_policy(two, TOY)
    start = policy.init(jax.random.key(2))
    given = (jax.random.key(3), start, segments, two, TOY)
    ends = [networks.fit_contrastive(name, *given) for name in networks.CONTRASTIVE]
    first = [np.asarray(jax.tree.leaves(end)[0]) for end in ends]
    assert all(np.isfinite(x).all() for x in first)
    assert len({x.tobytes() for x in first}) == len(first)
