"""Trainings of shop_methods at toy size: every method, and rewards that were changed."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shop_methods_toy import TINY, TOY, made

from experiments.shop_methods import claims, config, controls, filters, world
from experiments.shop_methods.online import ONLINE
from experiments.shop_methods.parts import heldout_pairs, make_part
from experiments.shop_methods.train import stage_name, tokens_of, train, update_cap
from rlhf_jax.labs.shop import shop_lab
from rlhf_jax.recipes import Reward
from rlhf_jax.training import open_run
from rlhf_jax.types import Trajectory


def plain_reward():
    def scores(params, given, trajectory):
        return jnp.asarray(trajectory)

    return Reward((), lambda prompts, found: ((), {}), scores)


def test_a_power_keeps_the_order_and_a_shift_keeps_differences():
    rewards = np.array([[0.0, 1.0], [2.0, -1.0]])
    power = controls.powered(plain_reward(), 3.0).scores((), (), rewards)
    np.testing.assert_allclose(power, np.exp(3.0 * rewards), rtol=1e-6)
    shift = controls.shifted(plain_reward(), 5.0, 0)
    prompts = type("Asked", (), {"indices": np.array([7, 8])})
    given, named = shift.host(prompts, None)
    assert given.shape == (2, 1)
    assert named == {}
    assert given[0] != given[1]
    moved = np.asarray(shift.scores((), given, rewards))
    np.testing.assert_allclose(moved[:, 0] - moved[:, 1], [-1.0, 3.0], rtol=1e-5)
    np.testing.assert_array_equal(given, shift.host(prompts, None)[0])


def test_distance_is_euclidean_over_all_leaves():
    zero = {"a": np.zeros(2), "b": np.zeros((1, 1))}
    assert controls.distance({"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}, zero) == 5.0


def test_the_middle_of_a_reward_is_a_taste_for_words():
    """Word 1 is worth 1 and word 2 -1; between 0.2 and 0.6 it is 0.4 + 0.2 tanh(2 u)."""
    rewards = np.array([[0.1, 0.3], [0.6, 0.5]])
    base = Reward((), lambda prompts, found: ((), {}), lambda params, given, trajectory: given)
    found = filters.with_noise(
        base, jnp.array([9.0, 1.0, -1.0]), low=0.2, high=0.6, mean=0.5, std=0.1
    )
    actions = jnp.array([[[1, 1], [1, 0]], [[2, 2], [2, 2]]])
    mask = jnp.array([[[True, True], [True, False]], [[True, True], [True, True]]])
    shown = found.scores(found.params, rewards, Trajectory((), actions, mask))
    # Of two words u is 2 / sqrt(2), of one it is 1.
    middle = 0.4 + 0.2 * np.tanh(2.0 * np.array([1.0, -(2**0.5)]))
    expected = (np.array([[0.1, middle[0]], [0.6, middle[1]]]) - 0.5) / 0.1
    np.testing.assert_allclose(shown, expected, rtol=1e-5)


def test_the_middle_filter_keeps_what_best_and_worst_leaves_out():
    weights = filters.middle_weights(jnp.array([[0.3, 0.9, 0.1, 0.5], [1.0, 1.0, 1.0, 1.0]]))
    np.testing.assert_allclose(weights, [[0.5, 0.0, 0.0, 0.5], [0.25] * 4])


def test_filters_are_compared_with_none_draw_by_draw():
    plain = [0.70, 0.72, 0.71, 0.69]
    golds = {"none": plain, "middle": [x - 0.01 for x in plain]}
    golds["best and worst"] = [x + gap for x, gap in zip(plain, [0.02, 0.03] * 2, strict=True)]
    golds["best and random"] = [x - gap for x, gap in zip(plain, [0.02, 0.03] * 2, strict=True)]
    found = claims.filter_claims(made({}, filtered=golds))
    assert [claim.verdict for claim in found] == ["holds", "fails"]
    assert [float(claim.value) for claim in found] == pytest.approx([0.025, -0.025])
    helpful = {**golds, "middle": golds["best and worst"]}
    found = claims.filter_claims(made({}, filtered=helpful))
    assert found[0].verdict == "undecided"  # a filter that must not help does
    assert claims.filter_claims(made({})) == []
    del golds["best and worst"]
    assert len(claims.filter_claims(made({}, filtered=golds))) == 1


def test_controls_and_filters_are_of_the_methods_they_are_about():
    def of(methods, **about):
        return replace(config.Config(**about), methods=methods)

    assert of("sft,dpo").changes() == {}
    assert controls.last_control(of("sft")) is None
    assert filters.filters_of(of("ppo")) == ()
    assert filters.last_filtered(of("ppo")) is None
    assert of("p3o").changes() == {"p3o": ("shift",), "ppo": ("shift",)}
    assert of("p3o,raft").changes()["ppo"] == ("power", "shift")
    assert controls.last_control(of("raft")) == "control_ppo_power"
    assert controls.control_name("p3o", "plain") == "control_p3o_plain"
    assert filters.filters_of(of("pf_ppo_random")) == ("none", "best and random", "middle")
    assert filters.last_filtered(config.Config()) == "control_filter_middle_3"
    assert of("raft", controls=config.Controls(steps=0)).changes() == {}


# Update tokens


@pytest.fixture
def tools(tmp_path):
    """Sizes and a lab, without weights."""
    small = replace(TOY, online=config.Online(steps=3, answers=32, passes=2))
    lab = shop_lab(TINY, tmp_path, seed=0)
    return world.Tools(small, None, lab, lab, None, None, [])


def test_the_cap_of_update_tokens_by_hand(tools):
    """Two steps of 16 pairs, or of 32 good and bad answers with as many to other prompts; three
    steps of 32 fresh answers, twice."""
    longest = tools.lab.answer_length
    assert update_cap(tools, "dpo") == 64 * longest
    assert update_cap(tools, "kto") == 128 * longest
    assert update_cap(tools, "raft") == update_cap(tools, "grpo") == 192 * longest


def test_the_published_run_is_within_the_cap(tools):
    found = json.loads((Path(config.__file__).parent / "measured.json").read_text())
    sizes = found["config"]
    ran = config.Config(
        offline=config.Offline(**sizes["offline"]), online=config.Online(**sizes["online"])
    )
    for name, each in found["methods"].items():
        most = update_cap(tools._replace(config=ran), name)
        assert all(0 < one["tokens"] <= most for one in each), name


def test_no_method_passes_over_more_answers_than_the_cap_has(tools):
    """Methods with a critic make it of a part: see the long test of every method."""
    for name in {*config.ONLINE} - {*config.CRITICS}:
        entry = ONLINE[name]
        passes = (entry.make(tools, None).passes or (1, 1))[0]
        assert entry.learned * passes <= tools.config.online.passes, name


# Whole trainings


@pytest.mark.long
@pytest.mark.parametrize("name", config.METHODS)
def test_every_method_moves_the_policy(one_part, name):
    """One or two steps of each at toy size: all finite, not where it began, within the cap."""
    job, tools, part = one_part
    done = train(job, tools, part, name, 0.001)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(done.arrays))
    assert controls.distance(done.arrays, tools.start) > 1e-4
    tokens = tokens_of(job, tools, part, name, stage_name(part, name, 0.001))
    assert 0 < tokens <= update_cap(tools, name)


@pytest.fixture(scope="module")
def one_part(tmp_path_factory):
    small = replace(TOY, methods="all", online=config.Online(steps=2, answers=32))
    out = tmp_path_factory.mktemp("part")
    with open_run(out, slug="shop_methods", config=small) as job:
        tools = world.make_tools(small, job)
        yield job, tools, make_part(job, tools, 0, heldout=heldout_pairs(job, tools))


@pytest.mark.long
def test_every_filter_trains_on_every_draw(one_part, monkeypatch):
    job, tools, part = one_part
    monkeypatch.setattr(filters, "REPLICATIONS", 1)
    short = replace(tools.config, controls=config.Controls(steps=1))
    golds = filters.filter_golds(job, tools._replace(config=short), part)
    assert [*golds] == ["none", "best and worst", "best and random", "middle"]
    assert all(len(each) == 1 and 0 <= each[0] <= 1 for each in golds.values())
    assert {f"control_filter_{name}_0" for name in ("none", "best_and_worst")} <= set(job.done)
