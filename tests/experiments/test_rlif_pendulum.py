"""The pendulum of rlif: experts, a judge, learners, and claims that can fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.rlif import claims as rlif_claims
from experiments.rlif import config as rlif_config
from experiments.rlif.panel import run_pendulum
from experiments.rlif.pendulum import (
    SWINGERS,
    clone_names,
    keep_valid,
    objections,
    train_experts,
)
from experiments.rlif.swingers import (
    clone_swinger,
    make_networks,
    no_transition,
    rlif_swinger,
    torque_choices,
)
from rlhf_jax.algos.control.replay import init_replay
from rlhf_jax.algos.control.takeovers import Moment
from rlhf_jax.training import open_run

CONFIG = rlif_config.pendulum()


def made_up_swings(learned: float = 0.95, cloned: float = 0.0) -> dict:
    """Imitators `cloned` above their expert; RLIF at `learned`, but at 0 if the teacher steps in at
    random or the label of a late one goes to the proposal."""
    swing = CONFIG.swing
    expert = np.repeat(np.array(swing.shares)[:, None], swing.num_seeds, 1)
    shape = (*expert.shape, swing.points)
    found = {name: np.full(shape, learned) for name in SWINGERS}
    found |= {name: np.zeros(shape) for name in ("at random", "late: proposal")}
    clones = clone_names(CONFIG)
    found |= {name: np.broadcast_to(expert[..., None] + cloned, shape) for name in clones}
    found |= {f"{name}, led": np.full(shape, 0.1) for name in (*SWINGERS, *clones)}
    ends = {"low": np.full(swing.num_seeds, -1200.0), "high": np.full(swing.num_seeds, -150.0)}
    return found | {"expert": expert} | ends


def swing_verdicts(found: dict) -> dict[str, str]:
    return {c.statement: c.verdict for c in rlif_claims.swing_claims(CONFIG, found)}


def test_the_pendulum_is_claimed_for_poor_experts():
    found = swing_verdicts(made_up_swings())
    assert set(found.values()) == {"holds"}
    for share in ("40%", "10%"):
        case = f"pendulum, expert at {share}: RLIF, -1 on the"
        assert {name for name in found if name.startswith(case)} == {
            f"{case} proposal, lead over the expert",
            f"{case} previous step, lead over the expert",
            f"{case} previous step, late teacher, lead over the expert",
            f"{case} proposal, lead over the best of 6 imitators",
        }
    assert len(found) == 9
    assert any("expert at 10% less expert at 90%" in name for name in found)


def test_a_pendulum_that_imitates_fails():
    found = made_up_swings()
    found["proposal"] = found["previous"] = found[next(iter(clone_names(CONFIG)))]
    verdicts = swing_verdicts(found)
    assert {name for name, verdict in verdicts.items() if verdict == "holds"} == {
        name for name in verdicts if "late teacher" in name
    }


def test_the_best_clone_is_found_for_each_expert():
    found = {name: x[..., -1] for name, x in made_up_swings().items() if x.ndim == 3}
    name = "accepted torques, weight 1, rate 0.001"
    found[name] = found[name] + np.array([0.0, 0.1, 0.0])[:, None]
    assert rlif_claims.best_clone(CONFIG, found, 1) == name


SMALL = rlif_config.Config(
    rate=1.0,
    swing=rlif_config.Swing(
        num_seeds=2,
        widths=(4,),
        rounds=3,
        warmup=1,
        worlds=1,
        episode_steps=4,
        batch=2,
        starts=2,
        steps=8,
        points=2,
        clone_rates=(1e-3,),
    ),
)


@pytest.mark.long
def test_the_best_agent_judges_torques():
    school = jax.jit(lambda key: train_experts(key, SMALL))(jax.random.key(0))
    nets = make_networks(SMALL.swing)
    seen = jnp.array([-1.0, 0.0, 0.5])
    own = nets.actor(school.actor, seen)
    objects = objections(school, SMALL)
    assert objects(seen, own) == 0
    # A critic that is the torque: worse by more than the margin of 1, or not.
    torque_critic = jax.tree.map(jnp.zeros_like, school.critic)
    torque_critic[0]["weight"] = torque_critic[0]["weight"].at[3, 0].set(4.0)
    torque_critic[0]["bias"] = torque_critic[0]["bias"].at[0].set(4.0)
    torque_critic[1]["weight"] = torque_critic[1]["weight"].at[0, 0].set(0.5)
    objects = objections(school._replace(critic=torque_critic), SMALL)
    assert [float(objects(seen, own - gap)) for gap in (0.9, 1.1)] == [0, 1]
    assert objections(school, SMALL, True)(seen, own) == SMALL.random_rate
    assert school.scores.shape == (3,)


@pytest.mark.long
def test_swingers_learn_from_valid_rows():
    seen = no_transition()
    away = Moment(
        state=seen.state,
        proposal=jnp.ones(1),
        action=-jnp.ones(1),
        intervened=jnp.array(True),
        controlled=jnp.array(True),
        returned=jnp.array(False),
        objected=jnp.array(False),
        next_state=seen.state,
        discount=jnp.ones(()),
        over=jnp.array(False),
    )
    learner = rlif_swinger(jax.random.key(0), SMALL, False)
    _, (first, done) = learner.rows(learner.first, away)
    assert (first.reward, first.action, first.valid, done.valid) == (-1, 1, True, False)
    replay = init_replay(seen, size=4)
    for row in (first, done):
        replay = keep_valid(replay, row)
    assert replay.added == 1
    assert replay.rows.action[0] == 1
    batch = jax.tree.map(lambda x: x[None], first)
    new = learner.learn(learner.first, batch)
    assert new.q.step == 1
    choices = torque_choices(SMALL.swing)
    assert (choices[0], choices[-1], len(choices)) == (-2, 2, 9)
    assert learner.policy(new, seen.state)[0] in choices
    assert learner.act(jax.random.key(1), new, seen.state)[0] in choices
    clone = clone_swinger(jax.random.key(0), SMALL, jnp.array(0.0), jnp.array(0.1))
    _, (row,) = clone.rows(clone.first, away)
    assert (row.reward, row.action, row.valid) == (1, -1, True)
    freed = away._replace(controlled=jnp.array(False))
    assert not clone.rows(clone.first, freed)[1][0].valid
    trained = clone.learn(clone.first, jax.tree.map(lambda x: x[None], row))
    before, after = (clone.policy(state, seen.state) for state in (clone.first, trained))
    assert after < before


@pytest.mark.long
def test_a_small_pendulum_leaves_a_page(tmp_path):
    with open_run(tmp_path, slug="rlif", config=SMALL) as job:
        outcome = run_pendulum(SMALL, job)
    assert len(outcome.claims) == 9
    assert np.isfinite(jax.tree.leaves(dict(outcome.numbers))).all()
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    found = dict(np.load(tmp_path / "data" / "pendulum.npz"))
    assert found["proposal"].shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shares": (1.5,)}, r"shares must be in \[0, 1\]"),
        ({"own_weights": (-1.0,)}, r"own_weights must be in \[0, 1\]"),
        ({"clone_rates": (0.0,)}, r"clone_rates must be in \(0, 1\]"),
        ({"gamma": 1.0}, r"gamma must be in \(0, 1\)"),
        ({"margin": -1.0}, r"margin must be in \[0, inf\)"),
        ({"rounds": 2}, r"rounds must be in \[3, inf\)"),
        ({"starts": 0}, r"starts must be in \[1, inf\)"),
        ({"widths": (0,)}, r"widths must be in \[1, inf\)"),
        ({"torques": 1}, r"torques must be in \[2, inf\)"),
        ({"label_gamma": 1.0}, r"label_gamma must be in \[0, 1\)"),
        ({"steps": 100, "points": 7}, "steps must be a multiple of points"),
    ],
)
def test_swing_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        rlif_config.Swing(**change)
