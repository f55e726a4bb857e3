"""The mistral_plus experiment in a minute size, its pieces by hand, and claims that must fail."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.mistral_plus import claims, run
from experiments.mistral_plus.config import Config, ShopPanel
from experiments.mistral_plus.learners import (
    Carried,
    at_stop,
    demonstrations,
    direct_rl,
    first_reaching,
    follow,
    kept_answers,
    learners,
    rl_objective,
)
from experiments.mistral_plus.report import crossed
from experiments.mistral_plus.shop import KEPT, READ, curves, labelled_pairs, open_shop
from experiments.mistral_plus.world import World, answer_rewards, chat_shares, draw_worlds, measure
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.training import open_run

TINY = Config(
    num_seeds=2,
    features=5,
    general=8,
    chats=6,
    pretrain_steps=30,
    pretrain_rate=3.0,
    steps=40,
    cold_shares=(0.3, 0.1),
    cold_steps=20,
    cold_seeds=2,
)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a minute size: its folder and its outcome."""
    out = tmp_path_factory.mktemp("mistral_plus")
    with open_run(out, slug="mistral_plus", config=TINY) as job:
        return out, run.run(TINY, job)


@pytest.mark.long
def test_every_figure_and_number_is_there(finished):
    out, outcome = finished
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 4
    assert len(outcome.claims) == 11  # not the two at a KL that no world reaches
    rows = [row[0] for row in outcome.table.rows]
    assert rows[0] == "base"
    assert sorted(rows[1:]) == sorted(learners(TINY))
    assert set(outcome.numbers["cold"]) == {
        f"{name}, {share}" for name in ("direct RL", "SFT") for share in (0.3, 0.1)
    }


# ---- The world.


def test_shares_and_rewards_of_answers():
    """6 good answers share 0.3, 4 toxic ones 0.2, the other 14 share 0.5."""
    np.testing.assert_array_equal(answer_rewards(TINY), [1.0] * 6 + [-1.0] * 4 + [0.0] * 14)
    shares = chat_shares(TINY, jnp.float32(0.3), 0.2)
    expected = [0.05] * 6 + [0.05] * 4 + [0.5 / 14] * 14
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
    clean = chat_shares(TINY, jnp.float32(0.1), 0.0)
    np.testing.assert_allclose(clean, [0.1 / 6] * 6 + [0.05] * 18, rtol=1e-6)


def tabular(rewards: list[float], logits: list[list[float]]) -> World:
    """Chats that share no parameter, and one general context."""
    size = len(logits)
    general, labels = jnp.ones((1, size)), jnp.zeros(1, jnp.int32)
    return World(general, labels, jnp.eye(size), jnp.array(rewards), jnp.array(logits), KEY)


def test_what_is_measured_by_hand():
    """Chats of 0.5, 0.25, 0.25 and the reverse, a uniform base; general logits are the sum."""
    world = tabular([1.0, -1.0, 0.0], [[0.0] * 3] * 2)
    probs = np.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])
    found = measure(world, jnp.log(probs))
    assert found["reward"] == pytest.approx((0.25 + 0.0) / 2)
    assert found["toxic"] == pytest.approx(0.25)
    assert found["kl"] == pytest.approx(0.5 * np.log(1.5) + 0.5 * np.log(0.75))
    # Products 0.125, 0.0625, 0.125: the label 0 has 0.4, and is the first of two equal ones.
    assert found["nll"] == pytest.approx(-np.log(0.4))
    assert found["accuracy"] == 1.0


def test_the_base_is_at_no_distance_to_itself():
    worlds, keys = draw_worlds(TINY, [0.3, 0.1], toxic_share=0.2)
    found = jax.vmap(measure)(worlds, worlds.base)
    np.testing.assert_array_equal(found["kl"], np.zeros(4))
    # The same contexts under every share, other ones in another world.
    np.testing.assert_array_equal(worlds.chats[:2], worlds.chats[2:])
    assert not np.array_equal(worlds.chats[0], worlds.chats[1])
    assert np.all(found["reward"][:2] > found["reward"][2:])
    np.testing.assert_array_equal(jax.random.key_data(keys[:2]), jax.random.key_data(keys[2:]))


# ---- Learners.


@pytest.mark.long
def test_the_mean_gradient_is_that_of_the_regularised_reward():
    """(K - 1) / K of the gradient of E r - beta KL: the mean of the K answers is the baseline."""
    config = replace(TINY, samples=4)
    world = tabular([1.0, -1.0, 0.0], [[0.0, 0.5, -0.5], [1.0, 0.0, 0.0]])
    weights, beta = jnp.array([[0.3, 0.0, -0.4], [0.0, 0.8, 0.2]]), 0.5

    def sampled(key):
        objective = rl_objective(config, world, world.base, key, beta=beta)(weights)
        return jax.grad(lambda w: objective(w)[0].value())(weights)

    def exact(weights):
        probs = jax.nn.softmax(weights)
        return jnp.mean(probs @ world.rewards - beta * exact_kl(weights, world.base))

    found = jax.vmap(sampled)(jax.random.split(KEY, 20_000))
    error = np.asarray(found.std(0)) / np.sqrt(20_000)
    gap = np.asarray(found.mean(0) + 0.75 * jax.grad(exact)(weights))
    assert np.all(np.abs(gap) < 4.5 * error + 1e-7)


def test_nothing_moves_at_the_optimum_or_with_a_constant_reward():
    """At pi_0 exp(r / beta) / Z every answer is paid the same, beta log Z."""
    world, beta = tabular([1.0, -1.0, 0.0], [[0.0, 0.5, -0.5], [1.0, 0.0, 0.0]]), 0.5
    rewards = jnp.broadcast_to(world.rewards, (2, 3))
    optimum = regularised_optimum(rewards, world.base, beta=beta)
    flat = world._replace(rewards=jnp.full(3, 0.7))
    for each, start in ((world, optimum), (flat, world.base)):
        objective = rl_objective(TINY, each, world.base, KEY, beta=beta)(start)
        gradient = jax.grad(lambda w, o=objective: o(w)[0].value())(start)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_the_optimum_is_the_nearest_policy_of_its_reward():
    """KL(q || pi_0) >= KL(pi* || pi_0) for every q with the expected reward of pi*."""
    rewards, base = jnp.array([1.0, -1.0, 0.0, 0.0]), jnp.array([0.2, 0.0, 1.0, -1.0])
    best = jnp.exp(regularised_optimum(rewards, base, beta=0.7))
    rng = np.random.default_rng(0)
    for _ in range(50):
        # Directions that change neither the sum of q nor its reward.
        a, b = 0.02 * rng.uniform(-1, 1, 2)
        other = best + jnp.array([a, a, -2 * a - b, b])
        assert other @ rewards == pytest.approx(float(best @ rewards), abs=1e-6)
        assert exact_kl(jnp.log(other), base) >= exact_kl(jnp.log(best), base) - 1e-6


def test_targets_of_likelihood():
    worlds, _ = draw_worlds(TINY, [0.3], toxic_share=0.2)
    first, second = (jax.tree.map(lambda x, i=i: x[i], worlds) for i in range(2))
    demos = [
        demonstrations(TINY, world, number)
        for world, number in ((first, 0), (first, 0), (first, 1), (second, 0))
    ]
    np.testing.assert_array_equal(demos[0], demos[1])
    assert all(np.all(each < TINY.good) for each in demos)
    assert not np.array_equal(demos[0], demos[2])
    assert not np.array_equal(demos[0], demos[3])
    # A world has the same annotators whatever its base is, and whichever worlds are beside it.
    others, _ = draw_worlds(replace(TINY, num_seeds=3), [0.1], toxic_share=0.0)
    again = demonstrations(TINY, jax.tree.map(lambda x: x[0], others), 0)
    np.testing.assert_array_equal(demos[0], again)
    shares = kept_answers(first)
    probs = jax.nn.softmax(first.chats @ first.base)[:, : TINY.good]
    np.testing.assert_allclose(
        shares[:, : TINY.good], probs / probs.sum(-1, keepdims=True), rtol=1e-5
    )
    np.testing.assert_array_equal(shares[:, TINY.good :], 0.0)


@pytest.mark.long
def test_sft_then_rl_turns_at_its_reward_and_keeps_that_policy_as_reference():
    config = replace(TINY, warm=0.5)
    worlds, _ = draw_worlds(config, [0.3], toxic_share=0.2)
    world = jax.tree.map(lambda x: x[0], worlds)
    methods = learners(config)

    def start(weights, *, tuned):
        state = init_state(weights, optax.sgd(config.rate))
        return Carried(state, world.base, jnp.array(tuned))

    rewarded = world.base + 0.0
    for _ in range(200):
        rewarded = methods["SFT"](world, start(rewarded, tuned=False), KEY).train.params
    assert measure(world, rewarded)["reward"] > config.warm
    cold = methods["SFT + RL"](world, start(world.base, tuned=False), KEY)
    alone = methods["SFT"](world, start(world.base, tuned=False), KEY)
    assert not cold.tuned
    np.testing.assert_array_equal(cold.train.params, alone.train.params)
    turned = methods["SFT + RL"](world, start(rewarded, tuned=False), KEY)
    assert turned.tuned
    np.testing.assert_array_equal(turned.ref, rewarded)
    later = methods["SFT + RL"](
        world, turned._replace(train=start(world.base, tuned=True).train), KEY
    )
    np.testing.assert_array_equal(later.ref, rewarded)


@pytest.mark.long
def test_a_curve_begins_at_the_base_and_rl_improves_the_chat():
    worlds, keys = draw_worlds(TINY, [0.3], toxic_share=0.2)
    learn = direct_rl(TINY, optax.sgd(1.0), beta=0.05)
    found = jax.vmap(partial(follow, TINY, learn, steps=60))(worlds, keys)
    np.testing.assert_allclose(
        found["nll"][:, 0], jax.vmap(measure)(worlds, worlds.base)["nll"], rtol=1e-6
    )
    assert found["reward"].shape == (2, 61)
    assert np.all(found["reward"][:, -1] > found["reward"][:, 0] + 0.2)
    assert np.all(found["kl"][:, -1] > 0.1)


# ---- What is read off the curves.


def test_the_first_step_at_a_level():
    curve = np.array([[0.0, 0.5, 0.4, 0.9], [0.0, 0.1, 0.2, 0.3]])
    np.testing.assert_array_equal(first_reaching(curve, 0.5), [1.0, np.nan])
    found = at_stop({"reward": curve, "kl": 10 * curve}, 0.45)
    np.testing.assert_array_equal(found["steps"], [1.0, np.nan])
    np.testing.assert_array_equal(found["kl"], [5.0, np.nan])
    x, y = np.array([[0.0, 2.0, 1.0, 3.0]]), np.array([[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(crossed(x, y, np.array([0.0, 1.0, 2.5])), [[1.0, 2.0, 4.0]])


WORLDS = Config().num_seeds  # with fewer no share of 9 in 10 is decided


def chat_curves(**lost):
    """WORLDS worlds in which each method reaches the target at the last of three steps, with these
    drops of accuracy; NLL, toxic mass and KL rise with the drop."""
    found = {}
    for name in learners(TINY):
        drop = lost.get(name.replace(" ", "_").replace("+", "and").replace(",", ""), 0.2)
        drop = drop + np.linspace(0.0, 0.001, WORLDS)[:, None] * np.array([0.0, 0.5, 1.0])
        drop = drop * np.array([0.0, 0.5, 1.0])
        steps = np.array([0.1, 0.5, 0.8])
        found[name] = {
            "accuracy": 1.0 - drop,
            "nll": 0.3 + drop,
            "toxic": np.array([0.2, 0.1, 0.02]) + 0.1 * drop,
            "kl": np.array([0.0, 0.5, 1.0]) + drop,
            "reward": np.broadcast_to(steps, drop.shape) - 0.1 * drop,
        }
    return found


def verdicts(found):
    return [claim.verdict for claim in found]


def test_claims_hold_where_rl_forgets_less_and_fail_where_it_does_not():
    kept = {"direct_RL": 0.05, "direct_RL_no_KL": 0.05, "SFT_and_RL": 0.1}
    kept |= {"rejection_sampling": 0.08, "SFT_other_annotator": 0.21}
    good = chat_curves(**kept)
    assert verdicts(claims.forgetting_claims(TINY, good)) == ["holds"] * 5
    assert verdicts(claims.order_claims(TINY, good)) == ["holds"] * 2
    assert verdicts(claims.cause_claims(TINY, good)) == ["holds"] * 2
    assert verdicts(claims.kl_claims(TINY, good)) == ["holds"] * 2
    bad = chat_curves(**{**kept, "direct_RL": 0.4, "rejection_sampling": 0.2})
    assert verdicts(claims.forgetting_claims(TINY, bad)) == ["fails"] * 5
    assert verdicts(claims.order_claims(TINY, bad)) == ["fails", "holds"]
    assert verdicts(claims.cause_claims(TINY, bad))[0] == "fails"
    assert verdicts(claims.kl_claims(TINY, bad)) == ["fails"] * 2
    # A method that never arrives has no numbers there.
    late = chat_curves(**kept)
    late["direct RL"]["reward"] = late["direct RL"]["reward"] - 0.5
    assert "holds" not in verdicts(claims.forgetting_claims(TINY, late))
    # Ten worlds of ten do not show nine in ten.
    few = {name: {key: x[:10] for key, x in each.items()} for name, each in good.items()}
    assert verdicts(claims.forgetting_claims(TINY, few))[:3] == ["undecided"] * 3


def test_means_are_over_the_worlds_that_arrive():
    found = run._means(
        {
            "some": {"steps": np.array([1.0, np.nan, 3.0]), "kl": np.array([0.2, np.nan, 0.4])},
            "none": {"steps": np.array([np.nan]), "kl": np.array([np.nan])},
        }
    )
    assert found["some"] == pytest.approx({"steps": 2.0, "kl": 0.3, "worlds": 2})
    assert found["none"] == pytest.approx({"steps": np.nan, "kl": np.nan, "worlds": 0}, nan_ok=True)


def test_a_kl_that_a_world_never_has_leaves_its_claims_undecided():
    found = chat_curves(direct_RL=0.05, SFT_other_annotator=0.21)
    found["direct RL"]["kl"][0] -= 0.5
    for claim in claims.kl_claims(Config(), found):
        assert claim.verdict == "undecided"
        assert f"the {WORLDS - 1} of 36 worlds that reach it, undecided" in claim.statement
        assert np.isfinite(float(claim.value))
    found["SFT"]["kl"] -= 2.0
    assert claims.kl_claims(Config(), found) == []


def test_cold_claims_are_about_rl_alone():
    low, high = (np.tile([0.1, end], (WORLDS, 1)) for end in (0.6, 0.8))
    given = {"direct RL, 0.3": high, "SFT, 0.3": high, "direct RL, 0.1": low, "SFT, 0.1": high}
    found = {name: {"reward": x} for name, x in given.items()}
    assert verdicts(claims.cold_claims(TINY, found)) == ["holds"] * 2
    found["SFT, 0.1"]["reward"] = low
    assert verdicts(claims.cold_claims(TINY, found)) == ["holds", "fails"]
    found["direct RL, 0.1"]["reward"] = high
    assert verdicts(claims.cold_claims(TINY, found))[0] == "fails"


# ---- The shop.

SHOP = replace(
    TINY,
    panel=True,
    shop=ShopPanel(
        pairs=8,
        demos=8,
        head_steps=1,
        sft_steps=2,
        warm_steps=1,
        rl_steps=1,
        batch_size=8,
        samples=2,
        points=1,
        prompts=8,
        corpus=3,
        probes=2,
        attacks=2,
    ),
)


@pytest.mark.long
def test_the_panel_measures_each_method_from_the_same_base(tmp_path):
    with open_run(tmp_path, slug="mistral_plus", config=SHOP) as job:
        outcome = run.run(SHOP, job)
        place = open_shop(SHOP, job)
        pairs = labelled_pairs(place, "pairs", 8)
        again = curves(job, ["shop SFT"], dict.fromkeys((*READ.values(), *KEPT), 0.0))
    cold = outcome.numbers["shop cold start"]
    assert 0 <= cold["gold"] <= cold["highest"] < 0.1
    assert 0 <= cold["differ"] < 0.5
    found = outcome.numbers["shop"]
    assert set(found) == {"direct RL", "SFT", "SFT + RL"}
    assert [found[name]["step"] for name in found] == [[0, 1], [0, 2], [0, 1, 2]]
    assert len({each["kept/corpus loss"][0] for each in found.values()}) == 1
    assert found["SFT"]["kl"][0] == pytest.approx(0.0, abs=1e-3)
    np.testing.assert_allclose(again["kept/corpus loss"][1:], found["SFT"]["kept/corpus loss"][1:])
    assert 1 < len(pairs) <= 8
    assert all(row["chosen"] != row["rejected"] for row in pairs)
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": 10}, r"answers must be in \[11, inf\)"),
        ({"warm": 0.8}, r"warm must be in \(0, 0.75\)"),
        ({"cold_shares": (0.3,)}, "cold_shares must be at least two"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)
