"""The alignment_ceiling experiment: its parts by hand, what breaks its claims, one small run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.alignment_ceiling import claims, gradients, sweeps, world
from experiments.alignment_ceiling import config as ceiling_config
from experiments.alignment_ceiling import run as ceiling_run
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.training import open_run

TABLES = ceiling_config.Gradients(num_seeds=2, prompts=3, answers=16, steps=4, points=2)
TOY = ceiling_config.Config(
    num_seeds=3,
    compared=2,
    answers=400,
    many_answers=800,
    pairs=100,
    validation=200,
    steps=40,
    points=8,
    draws=60,
    sizes=(20, 100),
    flips=(0.0, 0.25),
    largest=64,
    gradients=TABLES,
)
SHARE = "reward model, {} answers: share of 3 worlds with the gold peak inside"
POOL_CLAIMS = {
    (f"{SHARE.format('20,000')}", ">=", 0.8),
    (f"{SHARE.format('100,000')}", ">=", 0.8),
    ("reward model: rank correlation of score and gold up to the gold peak", ">=", 0.95),
    ("reward model: the same from the gold peak on, 3 worlds where gold falls", "<=", -0.5),
    ("reward model: order accuracy on the reference's answers minus at beta 0.5", ">=", 0.3),
    ("reward model: ceiling of label accuracy minus held-out accuracy", "<=", 0.01),
    ("reward model: downstream metric at the end over its peak", "<", 0.5),
    ("reward model: KL of the gold peak minus KL of the downstream peak", ">", 0),
}
LINK_CLAIMS = {
    ("8 reward models: rank correlation of accuracy and gold at KL 0.5", ">=", 0.5),
    ("8 reward models: rank correlation of accuracy and gold at KL 5", "<=", 0),
}
FALL = np.array([0.0, 1.0, 2.0, 1.5, 0.5, -1.0])
RISE = np.arange(6.0)


def asked(found) -> set[tuple]:
    return {(claim.statement, claim.op, claim.threshold) for claim in found}


def curves(gold, downstream, *, off, on, worlds=3) -> dict[str, np.ndarray]:
    """Measures of one policy, nearly the same in every world."""
    noise = 1e-3 * np.arange(worlds)
    rows = {"kl": RISE, "score": RISE, "gold": gold, "downstream": downstream}
    tiled = {name: np.tile(row, (worlds, 1)) for name, row in rows.items()}
    return tiled | {"off": off + noise, "on": on + noise}


def pool(**changes) -> dict[str, np.ndarray]:
    """A pool that shows every claim, or does not."""
    downstream = np.array([0.5, 0.6, 0.4, 0.3, 0.2, 0.1])
    policies = {
        "reward model": curves(FALL, downstream, off=0.96, on=0.3),
        "length-blind": curves(RISE, 0.5 + 0.05 * RISE, off=0.9, on=0.88),
    }
    found = {f"{name}/{x}": v for name, each in policies.items() for x, v in each.items()}
    noise = 1e-3 * np.arange(3)
    labels = {"train": 0.84 + noise, "validation": 0.828 + noise, "ceiling": 0.83 + noise}
    return found | labels | {"blind": 0.8 + noise} | changes


TAILS = {
    f"{name}/{x}": np.tile(row, (3, 1))
    for name, gold in zip(sweeps.TAILS, (RISE, FALL), strict=True)
    for x, row in (("kl", RISE), ("gold", gold))
}


def test_the_claims_of_the_pool_and_what_breaks_them():
    config = ceiling_config.Config(num_seeds=3, compared=2, gradients=TABLES)
    found = claims.pool_claims(config, pool(), TAILS)
    assert asked(found) == POOL_CLAIMS
    # Three worlds cannot show a share of 0.8; the other claims hold.
    assert [claim.verdict for claim in found] == ["undecided"] * 2 + ["holds"] * 6
    rising = np.tile(RISE, (3, 1))
    honest = {"reward model/gold": rising, "reward model/downstream": 0.5 + 0.05 * rising}
    honest["reward model/on"] = 0.9 + 1e-3 * np.arange(3)
    found = claims.pool_claims(config, pool(**honest), TAILS)
    verdicts = {claim.statement.removeprefix("reward model: "): claim.verdict for claim in found}
    assert verdicts.pop(SHARE.format("20,000")) == "fails"
    assert verdicts.pop(SHARE.format("100,000")) == "undecided"
    assert verdicts.pop("the same from the gold peak on, 0 worlds where gold falls") == "fails"
    assert verdicts["order accuracy on the reference's answers minus at beta 0.5"] == "fails"
    assert verdicts["downstream metric at the end over its peak"] == "fails"
    assert verdicts["KL of the gold peak minus KL of the downstream peak"] == "fails"


def test_the_link_of_accuracy_and_gold():
    config = ceiling_config.Config(num_seeds=3, compared=3, gradients=TABLES)
    accuracy = np.tile(np.linspace(0.6, 0.8, 8), (3, 1))
    gold = np.stack([accuracy, -accuracy], axis=1)
    gold[:, :, :2] += 1e-6 * np.arange(3)[:, None, None]
    visible = np.repeat([0.0, 1.0], 4)
    models = {"accuracy": accuracy, "gold": gold, "visible": visible}
    np.testing.assert_allclose(claims.link(models), [[1.0, -1.0]] * 3, atol=0.1)
    found = claims.population_claims(config, models)
    assert asked(found) == LINK_CLAIMS
    # Length-blind models are misranked too: the claim holds without telling the two apart.
    assert [claim.verdict for claim in found] == ["holds", "undecided"]
    # Accuracy ranks each group alike, and all of them wrongly: 1 - 6 * 8 * 4^2 / (8 * 63) = -0.52.
    gold[:, 1] = accuracy - visible
    found = claims.population_claims(config, models)
    np.testing.assert_allclose(claims.link(models, visible == 0)[:, 1], 1.0, atol=0.1)
    np.testing.assert_allclose(claims.link(models)[:, 1], 1 - 6 * 8 * 16 / (8 * 63), rtol=1e-5)
    assert [claim.verdict for claim in found] == ["holds", "holds"]
    found = claims.population_claims(config, models | {"gold": gold[:, ::-1]})
    assert [claim.verdict for claim in found] == ["fails", "fails"]


def gradient_curves(gold) -> dict[str, np.ndarray]:
    """Runs of all methods on both kinds of table; those of "gold" never fall."""
    runs = dict.fromkeys(gradients.LEARNERS, (gold, np.array([0.5, 0.6, 0.4, 0.3, 0.2, 0.1])))
    runs["gold"] = (RISE, 0.5 + 0.05 * RISE)
    found = {}
    for kind in gradients.KINDS:
        for method, run in runs.items():
            each = curves(*run, off=0.9, on=0.9)
            found |= {f"{kind}/{method}/{x}": values for x, values in each.items()}
    return found


def test_the_claims_of_policy_gradients_and_what_breaks_them():
    found = claims.gradient_claims(gradient_curves(FALL))
    assert len(found) == 6
    assert [claim.verdict for claim in found] == ["holds"] * 6
    found = claims.gradient_claims(gradient_curves(RISE))
    assert [claim.verdict for claim in found] == ["fails", "fails", "holds"] * 2
    # The worst method counts.
    mixed = gradient_curves(FALL) | {"uniform/PPO/gold": np.tile(RISE, (3, 1))}
    found = claims.gradient_claims(mixed)
    assert [claim.verdict for claim in found] == ["fails", "fails", "holds", *["holds"] * 3]


def test_where_a_peak_is_inside():
    run = {"x/kl": np.tile(RISE, (2, 1)), "x/gold": np.stack([FALL, RISE])}
    assert claims.inside(run, "x").tolist() == [True, False]
    run["x/downstream"] = np.stack([RISE, FALL])
    assert claims.peak_gap(run, "x").tolist() == [-3.0, 3.0]
    np.testing.assert_allclose(claims.remaining(np.array([[1.0, 4.0, 1.0]])), [0.25])


def test_gold_by_hand():
    """Standardising is linear: differences of gold keep their ratio."""
    config = ceiling_config.Config(gradients=TABLES, num_seeds=2, compared=2)
    found = world.draw_pool(config, jax.random.key(0))
    np.testing.assert_allclose(found.gold.mean(), 0.0, atol=1e-5)
    np.testing.assert_allclose(found.gold.std(), 1.0, rtol=1e-5)
    length = np.asarray(found.features[:, -1])
    assert length.max() > 6  # standard deviations: a heavy tail
    light = world.draw_pool(config, jax.random.key(0), heavy=False)
    assert light.features[:, -1].max() < 6
    # Gold without its length terms is linear in the six features.
    terms = 0.8 * length - 0.12 * np.maximum(length - 0.5, 0) ** 2
    phi = np.c_[np.asarray(found.features[:, :-1]), terms, np.ones(len(terms))].astype(float)
    weights, residual, *_ = np.linalg.lstsq(phi, np.asarray(found.gold, float), rcond=None)
    assert residual.item() < 1e-6
    # Quality has weights of norm 1, length the weight 1, before the deviation divides both.
    np.testing.assert_allclose(np.linalg.norm(weights[:6]), weights[6], rtol=1e-4)
    quality = phi[:, :6] @ (weights[:6] / weights[6])
    expected = 1 / (1 + np.exp(-2 * (quality - 0.4 * np.maximum(length - 1, 0))))
    np.testing.assert_allclose(found.downstream, expected, atol=1e-5)


@pytest.mark.long
def test_a_fit_on_many_clean_pairs_finds_a_linear_gold_and_a_blind_one_has_no_length():
    config = ceiling_config.Config(num_seeds=2, compared=2, gradients=TABLES, steps=200)
    pool = world.draw_pool(config, jax.random.key(0))
    linear = pool.features @ jnp.arange(1.0, 8.0)
    pool = pool._replace(gold=world.standardise(linear))
    labels = world.draw_labels(config, pool, jax.random.key(1), 4000)
    weights = world.fit(config, labels.pairs)
    np.testing.assert_allclose(weights / weights[-1], jnp.arange(1.0, 8.0) / 7.0, atol=0.1)
    np.testing.assert_allclose(world.accuracy(weights, labels.pairs), labels.ceiling, atol=0.02)
    blind = world.fit(config, labels.pairs, visible=0.0)
    assert blind[-1] == 0.0
    half = world.fit(config, labels.pairs, counts=(jnp.arange(4000) < 2000).astype(jnp.float32))
    first = jax.tree.map(lambda x: x[:2000], labels.pairs)
    np.testing.assert_allclose(half, world.fit(config, first), rtol=1e-3, atol=1e-4)
    reversed_ = world.draw_labels(config, pool, jax.random.key(1), 4000, flip=1.0 - 1e-6)
    np.testing.assert_allclose(
        world.accuracy(weights, reversed_.pairs), 1 - labels.ceiling, atol=0.02
    )


def test_answers_are_drawn_from_the_policy():
    logits = jnp.log(jnp.array([[0.5, 0.2, 0.3], [1e-9, 1.0, 1e-9]]))
    states, actions = gradients.draw_answers(jax.random.key(0), logits, 4000)
    assert (states == jnp.array([[0], [1]])).all()
    shares = jnp.bincount(actions[0], length=3) / 4000
    np.testing.assert_allclose(shares, [0.5, 0.2, 0.3], atol=0.03)
    assert (actions[1] == 1).all()


def test_the_longest_answers_are_in_every_row_of_a_long_tail():
    found = world.draw_pool(TOY, jax.random.key(0))
    weights = jnp.zeros(TOY.features + 1).at[-1].set(1.0)  # the score is the length
    plain, long = (
        gradients.draw_table(TOY, found, weights, jax.random.key(1), kind)
        for kind in gradients.KINDS
    )
    longest = jnp.sort(world.standardise(found.features[:, -1]))[-4:]
    np.testing.assert_allclose(jnp.sort(long.scores[:, :4]), jnp.tile(longest, (3, 1)), rtol=1e-4)
    np.testing.assert_array_equal(plain.scores[:, 4:], long.scores[:, 4:])
    np.testing.assert_allclose(jnp.exp(long.ref_logps).sum(1), 1.0, rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("name", gradients.LEARNERS)
def test_every_method_reaches_the_best_score_of_a_table_below_the_frontier(name):
    """No policy has more score at its KL than an exact optimum; a small beta ends near the best."""
    size = ceiling_config.Gradients(
        num_seeds=2, prompts=2, answers=8, steps=200, points=4, rate=0.1, beta=0.05
    )
    keys = jax.random.split(jax.random.key(0), 3)
    scores, gold, metric = (jax.random.normal(key, (2, 8)) for key in keys)
    table = gradients.Table(scores, gold, metric, jnp.full((2, 8), -jnp.log(8)))
    learner = gradients.LEARNERS[name](size)
    found = jax.jit(lambda key: gradients.train(size, learner, table, scores, key))(keys[0])
    np.testing.assert_allclose(found["kl"][0], 0.0, atol=1e-6)
    np.testing.assert_allclose(found["score"][0], scores.mean(), rtol=1e-4, atol=1e-5)
    assert found["score"][-1] > 0.8 * scores.max(1).mean()
    for beta in (0.1, 0.5, 2.0):
        best = regularised_optimum(scores, table.ref_logps, beta=beta)
        optimum = gradients.measured_table(table, best)
        value = optimum["score"] - beta * optimum["kl"]
        assert (found["score"] - beta * found["kl"] <= value + 1e-4).all()


@pytest.mark.long
def test_a_small_run_has_its_claims_its_figures_and_its_data(tmp_path):
    with open_run(tmp_path, slug="alignment_ceiling", config=TOY) as job:
        outcome = ceiling_run.run(TOY, job)
    assert len(outcome.claims) == 16
    statements = {claim.statement for claim in outcome.claims}
    assert {name for name, *_ in LINK_CLAIMS} < statements
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    kept = {path.stem: dict(np.load(path)) for path in (tmp_path / "data").glob("*.npz")}
    assert set(kept) == {"pool", "tails", "population", "gradients"}
    found = kept["pool"]
    for name in sweeps.SCORES:
        # Divergence and score never fall along a sweep.
        assert (np.diff(found[f"{name}/kl"], axis=1) > -1e-5).all()
        assert (np.diff(found[f"{name}/score"], axis=1) > -1e-5).all()
        assert found[f"{name}/gold"].shape == (3, 8)
    np.testing.assert_allclose(found["gold/off"], 1.0, rtol=1e-5)
    assert kept["population"]["gold"].shape == (2, 2, 8)
    assert kept["gradients"]["uniform/PPO/kl"].shape == (2, 3)
    assert (found["ceiling"] < 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"betas": (0.1, 5.0)}, "betas must fall"),
        ({"budgets": (5.0, 0.5)}, "budgets must rise"),
        ({"flips": (0.5,)}, r"flips must be in \[0, 1/2\)"),
        ({"largest": 30_000}, "answers must be more than largest = 30000, got 20000"),
        ({"many_answers": 50}, "many_answers must be at least answers = 20000, got 50"),
        ({"compared": 101}, r"compared must be in \[2, 100\], got 101"),
        ({"num_seeds": 5, "compared": 5}, r"gradients.num_seeds must be in \[2, 5\], got 40"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        ceiling_config.Config(**change)


def test_points_that_do_not_divide_the_steps_are_named():
    with pytest.raises(ValueError, match="points must divide steps = 10, got 3"):
        ceiling_config.Gradients(steps=10, points=3)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(ceiling_config, name)(), ceiling_config.Config)
