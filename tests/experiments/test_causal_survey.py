"""The causal_survey experiment: worlds by hand, losses, what breaks its claims, a toy run."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.causal_survey import adapted, claims, config, fair, linear, run, shop, world
from experiments.causal_survey.linear import COPIES, ERM, MARGINAL, ORACLE, STRONG, TUNED
from rlhf_jax.envs.shop.spurious import has_marker
from rlhf_jax.training import open_run

TOY = config.Config(
    num_seeds=2,
    pairs=60,
    tests=80,
    steps=12,
    mmd_pairs=16,
    pool=200,
    fair=config.Fairness(pairs=40, tests=60, steps=5, hidden=4),
    adapted=config.Adapted(
        num_seeds=2, pairs=40, tests=40, width=8, pretrain_steps=3, steps=3, batch_size=8
    ),
)
KEY = jax.random.key(0)
SEEDS = 10


# ---- Worlds.


def test_gold_reads_two_features():
    # 1 * 2 + 0.7 * 3
    x = jnp.array([2.0, 3.0, 9.0, 9.0, 9.0, 9.0])
    np.testing.assert_allclose(world.gold(x), 4.1, rtol=1e-6)


@pytest.mark.parametrize("name", world.WORLDS)
def test_the_feature_goes_with_the_label_as_it_should(name):
    found = world.draw_pairs(KEY, (0.9, -0.5), 4000, world=name, spread=1.5)
    scale = 1.5 if name == world.LENGTHS else 1.0
    for number, rho in enumerate((0.9, -0.5)):
        s = found.x[found.environments == number, world.FEATURE]
        assert len(s) == 4000
        assert float(s.mean()) == pytest.approx(scale * rho, abs=0.06)
    # Quality is that of the chosen answer: sigmoid(2 gold) on average.
    gaps = world.gold(found.x)
    assert float(jnp.mean(gaps > 0)) == pytest.approx(0.81, abs=0.03)
    rest = found.x[:, 2 : world.FEATURE]
    assert float(jnp.abs(rest.mean(0)).max()) < 0.05


def test_accuracy_counts_a_tie_as_one_half():
    x = jnp.array([[1.0] + [0.0] * 5, [-1.0] + [0.0] * 5, [0.0] * 6])
    np.testing.assert_allclose(world.accuracy(jnp.eye(6)[0], x), 0.5)
    np.testing.assert_allclose(world.accuracy(jnp.eye(6)[5], x), 0.5)


def test_a_policy_moves_as_far_as_it_should_whatever_the_unit_of_the_reward():
    scores = jax.random.normal(KEY, (500,))
    for scale in (1.0, 50.0):
        probs = world.tilted(scale * scores, 2.0)
        nats = float(jnp.sum(probs * jnp.log(probs * 500)))
        assert nats == pytest.approx(2.0, abs=1e-3)
    # Of a Gaussian score E s = sqrt(2 KL).
    assert float(probs @ scores) == pytest.approx(2.0, abs=0.3)


# ---- Linear rewards.


def test_turned_pairs_and_cells():
    x = jnp.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, 0.0, 0.0, 0.0, -2.0]])
    x = jnp.concatenate([x, jnp.zeros((1, 6))])
    pairs = world.Pairs(x, jnp.array([0, 1, 0]))
    np.testing.assert_array_equal(linear.turned(x)[:, 5], [-6.0, 2.0, 0.0])
    np.testing.assert_array_equal(linear.turned(x)[:, :5], x[:, :5])
    np.testing.assert_array_equal(linear.cells(pairs), [1, 0, 2])
    np.testing.assert_array_equal(linear.without(pairs).x[:, 5], [0.0, 0.0, 0.0])


def test_every_name_has_its_method():
    assert (*linear.methods(TOY), TUNED) == linear.NAMES


def fitted(names, **sizes):
    """Weights after a short training on one world."""
    size = config.Config(pairs=400, steps=150, mmd_pairs=96, **sizes)
    pairs = world.draw_pairs(KEY, size.rhos, size.pairs, world=world.LENGTHS, spread=1.5)
    every = linear.methods(size)
    return {name: np.asarray(linear.fit(size, every[name], pairs)) for name in names}


@pytest.mark.long
def test_what_each_loss_makes_of_the_length():
    names = (ERM, COPIES, ORACLE, "worst case", "correlation", "group DRO, cells", MARGINAL)
    found = {name: w[5] / np.linalg.norm(w[:5]) for name, w in fitted(names).items()}
    assert found[ERM] > 0.4
    assert found[COPIES] == pytest.approx(0.0, abs=1e-4)
    assert found[ORACLE] == 0.0
    for name in ("worst case", "correlation", "group DRO, cells"):
        assert abs(found[name]) < 0.15, name
    assert found[MARGINAL] < -0.1


def test_an_adversary_of_no_radius_and_copies_of_no_length_are_plain():
    plain = fitted((ERM, "worst case"), radius=0.0)
    np.testing.assert_allclose(plain["worst case"], plain[ERM], rtol=1e-4, atol=1e-5)


# ---- Fairness.


@pytest.mark.long
def test_labels_favour_the_group_they_should():
    for bias, low, high in ((0.0, 0.45, 0.55), (2.0, 0.65, 0.85)):
        found = fair.draw_answers(KEY, 4000, bias=bias)
        first, second = found.group.T
        meet = first != second
        assert low < float(jnp.sum(first & meet) / jnp.sum(meet)) < high
    weights = fair.fair_weights(found)
    np.testing.assert_allclose(
        jnp.sum(weights * (first & meet)), jnp.sum(weights * (second & meet)), rtol=1e-5
    )
    np.testing.assert_array_equal(weights[~meet], 1.0)


def test_numbers_of_fairness_by_hand():
    """Scores are the first feature: 2 against 1 (A, B), 0 against 3 (B, A), 1 against 0 (A, A)."""
    first = jnp.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    x = jnp.zeros((3, 2, fair.WIDTH)).at[..., 0].set(first)
    group = jnp.array([[True, False], [False, True], [True, True]])
    score = fair.RewardFn(lambda key: None, lambda params, answers: answers.inputs[..., 0, 0])
    found = fair.numbers_of(score, None, fair.Answers(x, group))
    # A: 2, 3, 1, 0 and B: 1, 0, so the gap is 1.5 - 0.5; deviation of the six is sqrt(41 / 36)
    np.testing.assert_allclose(found, [2 / 3, 1.0, 0.0, 1.0 / np.sqrt(41 / 36)], rtol=1e-5)


# ---- Texts and the shop.


def test_texts_and_their_copies():
    found = adapted.draw_texts(KEY, (0.9, -0.9), 2000)
    marked = np.asarray(found.ids[..., adapted.WORDS] == adapted.MARK)
    for number, share in enumerate((0.95, 0.05)):
        chosen = marked[np.asarray(found.environments) == number, 0]
        assert chosen.mean() == pytest.approx(share, abs=0.03)
    worth = adapted.quality(jnp.array([4, 5, 6, 2, 3, 4, 7]))
    assert float(worth) == 1.0
    copies = adapted.turned(found.ids)
    np.testing.assert_array_equal(copies[..., : adapted.WORDS], found.ids[..., : adapted.WORDS])
    np.testing.assert_array_equal(copies[..., adapted.WORDS] == adapted.MARK, ~marked)


def test_the_risk_of_each_loss_by_hand():
    """Two pairs in two environments, with a copy each; losses log 2 and log(1 + e^-1)."""
    chosen, mask = jnp.array([[0.0, 1.0], [1.0, 1.0]]), jnp.ones((2, 2), bool)
    environments = jnp.array([[0, 0], [1, 1]])
    zero, one = np.log(2), np.log1p(np.exp(-1.0))
    mean, variance = (zero + one) / 2, ((zero - one) / 2) ** 2
    given = (chosen, jnp.zeros((2, 2)), mask)
    found = jax.vmap(
        lambda loss: adapted.risk_of_copies(*given, environments=environments, loss=loss)
    )(adapted.losses(config.Adapted(vrex=5.0)))
    np.testing.assert_allclose(found, [mean, mean + 5 * variance, (zero + 3 * one) / 4], rtol=1e-5)


def test_marks_of_the_shop_and_their_copies():
    pairs = [{"prompt": f"p{i}", "chosen": "good .", "rejected": "bad ."} for i in range(400)]
    found = shop.marked(pairs, (0.9, 0.5), seed=0)
    assert [row["environment"] for row in found[:4]] == [0, 1, 0, 1]
    assert [row["feature"] for row in found[:4]] == ["length", "length", "greeting", "greeting"]
    for number, rho in enumerate((0.9, 0.5)):
        marks = np.array([row["marks"] for row in found if row["environment"] == number])
        np.testing.assert_allclose(marks.mean(0), [(1 + rho) / 2, (1 - rho) / 2], atol=0.08)
    row = next(row for row in found if row["marks"] == [True, False])
    assert has_marker(row["chosen"], row["feature"])
    assert row["rejected"] == "bad ."
    same, copy = shop.copies_of(row)
    assert same == row
    assert copy["chosen"] == "good ."
    assert has_marker(copy["rejected"], row["feature"])
    assert shop.copies_of(copy)[1]["chosen"] == row["chosen"]
    assert shop.marked(pairs, (0.9, 0.5), seed=0) == found


# ---- Claims.


def good() -> dict:
    """Arrays of a run in which everything that is claimed is so."""
    names, rhos = linear.NAMES, world.TEST_RHOS
    right = np.full((SEEDS, len(names), len(rhos)), 0.81)
    right[:, :, rhos.index(0.7)] = 0.81
    low = {ERM: 0.37, TUNED: 0.38, "V-REx": 0.65, "IRM": 0.7, "balanced cells": 0.7}
    for name, value in low.items():
        right[:, names.index(name), 0] = value
        right[:, names.index(name), rhos.index(0.7)] = 0.9
    right += 0.002 * np.tile([-1.0, 1.0], SEEDS // 2)[:, None, None]
    ratio = np.zeros((SEEDS, len(names)))
    ratio[:, names.index(MARGINAL)] = -0.25
    noise = 0.01 * np.tile([-1.0, 1.0], SEEDS // 2)
    each = {
        "accuracy": right,
        "ratio": ratio + noise[:, None],
        "drift": np.stack([1.4 + noise, noise], 1),
        "gold": np.stack([2.5 + noise, 3.0 + noise], 1),
    }
    numbers = np.zeros((SEEDS, len(fair.METHODS), len(fair.NUMBERS)))
    numbers[..., 0] = 0.8 + noise[:, None]
    numbers[:, 0, :3] = np.stack([0.72 + noise, np.full(SEEDS, 0.9), 0.5 + noise], 1)
    numbers[:, 1:, 1:3] = 0.8
    rows = np.full((SEEDS, 2, 3, 3), 0.75) + noise[:, None, None, None]
    rows[:, :, 0, 2] = 0.4 + noise[:, None]
    rows[:, :, 1, 2] = 0.6 + 2 * noise[:, None]
    return {
        "linear": dict.fromkeys(world.WORLDS, each),
        "fair": {"numbers": numbers},
        "adapted": {"right": rows, "before": rows[:, 0, 0]},
    }


def test_everything_holds_where_it_should():
    made = claims.all_claims(good())
    assert {claim.statement: claim.verdict for claim in made if not claim.holds} == {}


def place(name, rho=-0.9):
    return (slice(None), linear.NAMES.index(name), world.TEST_RHOS.index(rho))


@pytest.mark.parametrize(
    ("path", "where", "value", "broken"),
    [
        (("linear", "length", "accuracy"), lambda: place(ERM), 0.6, "ERM, rho -0.9: accuracy"),
        (("linear", "length", "accuracy"), lambda: place(TUNED), 0.8, "ERM, tuned ridge, rho"),
        (("linear", "length", "accuracy"), lambda: place("MMD"), 0.6, "MMD, rho -0.9"),
        (("linear", "length", "accuracy"), lambda: place(STRONG[2]), 0.7, "the rarest of"),
        (("linear", "length", "accuracy"), lambda: place("IRM"), 0.4, "IRM, rho -0.9: accuracy a"),
        (("linear", "length", "accuracy"), lambda: place("IRM"), 0.9, "IRM, rho -0.9: accuracy b"),
        (("linear", "length", "accuracy"), lambda: place(COPIES, 0.7), 0.9, "price of robustness"),
        (("linear", "length", "ratio"), lambda: place(MARGINAL)[:2], 0.0, "both orders of each"),
        (("linear", "length", "drift"), lambda: (slice(None), 0), 0.5, "policy on ERM"),
        (("linear", "length", "drift"), lambda: (slice(None), 1), -0.5, "policy on copies"),
        (("linear", "length", "gold"), lambda: (slice(None), 1), 2.0, "gold of copies"),
        (("linear", "flattery", "accuracy"), lambda: place(COPIES), 0.4, "flattery"),
        (("fair", "numbers"), lambda: (slice(None), 0, 2), 0.9, "unfair labels, ERM"),
        (("fair", "numbers"), lambda: (slice(None), 1, 2), 0.2, "adversary: size of the gap"),
        (("fair", "numbers"), lambda: (slice(None), 2, 0), 0.5, "both orders: accuracy on fair"),
        (("adapted", "right"), lambda: (slice(None), 0, 2, 2), 0.4, "adapter trained"),
        (("adapted", "right"), lambda: (slice(None), 1, 1, 2), 0.3, "all weights trained"),
    ],
)
def test_what_breaks_a_claim(path, where, value, broken):
    stages = good()
    holder = stages
    for name in path[:-1]:
        holder[name] = dict(holder[name])
        holder = holder[name]
    holder[path[-1]] = holder[path[-1]].copy()
    holder[path[-1]][where()] = value
    fallen = [claim.statement for claim in claims.all_claims(stages) if not claim.holds]
    assert any(broken in statement for statement in fallen), fallen


@pytest.mark.long
def test_a_toy_run_has_its_page(tmp_path):
    with open_run(tmp_path, slug="causal_survey", config=TOY) as job:
        outcome = run.run(TOY, job)
    assert len(outcome.claims) == len(claims.all_claims(good()))
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == 4
    assert outcome.table is not None
    assert [row[0] for row in outcome.table.rows] == list(linear.NAMES)
    assert set(outcome.numbers["fair"]) == set(fair.METHODS)


@pytest.mark.long
def test_a_toy_shop(tmp_path):
    sizes = config.ShopPanel(prompts=24, pairs=8, heldout=8, steps=1, batch_size=8, tie_gap=0.0)
    toy = replace(TOY, panel=True, shop=sizes)
    with open_run(tmp_path, slug="causal_survey", config=toy) as job:
        found = shop.shop_study(toy, job)
    assert set(found) >= {"ERM", "V-REx", "group DRO", "correlation", "copies"}
    for each in found.values():
        assert each.shape[:2] == (1, len(shop.TESTS))
        assert ((each >= 0) & (each <= 1)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: config.Config(rhos=(0.9,)), "rhos must be of two environments"),
        (lambda: config.Config(mmd_pairs=10**6), "mmd_pairs must"),
        (lambda: config.Adapted(width=6), "width must be a multiple of 4"),
        (lambda: config.Adapted(rhos=(0.1, 0.2, 0.3)), "rhos must be of two environments"),
        (lambda: config.ShopPanel(rhos=(0.5,)), "rhos must be of two environments"),
        (lambda: config.ShopPanel(shifted=-1.0), "shifted must"),
    ],
)
def test_values_out_of_range_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
