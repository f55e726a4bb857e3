"""The trilemma experiment at a toy size, its world by hand, and claims that can fail."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.trilemma import claims, collapse, config, run, studies, world
from rlhf_jax.algos.label_counts import count_labels
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.ops.aggregate import weighted_rewards
from rlhf_jax.training import open_run

TOY = replace(
    config.quick(),
    num_seeds=2,
    bits=(2, 3, 4),
    growth=2.0,
    labels=200,
    triangle_bits=(2, 8),
    price_bits=2,
    mix_bits=2,
    many=2,
    core_bits=3,
    people=40,
    comparisons=5,
    rounds=2,
    steps=20,
    dual_steps=20,
)
SHARES = (0.7, 0.15, 0.1, 0.05)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the toy size."""
    out = tmp_path_factory.mktemp("trilemma")
    with open_run(out, slug="trilemma", config=TOY) as job:
        return out, run.run(TOY, job)


@pytest.mark.long
def test_a_small_run_has_its_claims_numbers_and_figures(finished):
    out, outcome = finished
    assert len(outcome.claims) == len(claims.all_claims(TOY, good()))
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 4
    kept = {path.stem: dict(np.load(path)) for path in (out / "data").glob("*.npz")}
    assert set(kept) == {"costs", "triangle", "mixes", "cores", "collapse"}
    assert all(kept["costs"][name].shape == (3, 3, 2) for name in studies.CURVES)
    assert kept["triangle"]["errors"].shape == (2, 2, 2, 2, 4)
    assert kept["mixes"]["errors"].shape == (2, 3, 2, 4)
    assert set(kept["cores"]) == {"group ids", "1", "4"}
    for errors in (kept["triangle"]["errors"], kept["mixes"]["errors"]):
        assert ((errors >= 0) & (errors <= 1)).all()


def good():
    """Arrays in which everything holds."""
    rng = np.random.default_rng(0)

    def noisy(value, shape):
        return np.asarray(value) * (1 + 0.001 * rng.normal(size=shape))

    contexts = 2.0 ** np.array(TOY.bits)[:, None]
    costs = {
        "table, one group": noisy(4 * contexts, (3, 3, 8)),
        "table, all groups": noisy(80 * contexts, (3, 3, 8)),
        "linear, all groups": noisy(3 * contexts**0.3, (3, 3, 8)),
        "prices": noisy(np.array([[1.0], [3.0], [8.0]]), (3, 8)),
    }
    errors = np.zeros((2, 2, 2, 8, 4))  # bits, mix, attack, seed, system
    errors[..., [0, 2]], errors[..., 1], errors[..., 3] = 0.5, 0.02, 0.3
    errors[:, 1, :, :, 1], errors[0, ..., 3] = 0.5, 0.03
    mixes = np.zeros((2, 3, 8, 4))  # labels, mix, seed, system
    mixes[:, :, :, 1], mixes[0, :, :, 3], mixes[1, :, :, 3] = 0.2, 0.4, 0.1
    return {
        "costs": costs,
        "triangle": {"errors": noisy(errors, errors.shape)},
        "mixes": {"errors": noisy(mixes, mixes.shape)},
        "cores": {x: noisy(y, 8) for x, y in (("1", 0.5), ("4", 0.05), ("group ids", 0.04))},
        "collapse": {
            "DPO": noisy([[0.4], [8.0]], (2, 8)),
            "Bradley-Terry reward": noisy([[0.4], [8.0]], (2, 8)),
            "MaxMin": 0.01 * rng.normal(size=(2, 8)),
        },
    }


def verdicts(stages):
    # The toy populations are fewer than those of `good`.
    return [c.verdict for c in claims.all_claims(replace(TOY, num_seeds=8), stages)]


def test_every_claim_holds_and_each_can_fail():
    count = len(verdicts(good()))
    assert verdicts(good()) == ["holds"] * 23
    seen = set()
    for change, places in (
        (lambda s: s["costs"]["table, one group"].__imul__(np.arange(1, 4)[:, None] ** 2.0), 1),
        (lambda s: s["costs"]["table, one group"].__itruediv__(np.arange(1, 4)[:, None]), 0),
        (lambda s: s["costs"]["table, all groups"].__imul__(np.arange(1, 4)[:, None] ** 2.0), 3),
        (lambda s: s["costs"]["table, all groups"].__itruediv__(np.arange(1, 4)[:, None]), 2),
        (lambda s: s["costs"]["linear, all groups"].__imul__(2.0 ** np.arange(3)[:, None]), 4),
        (lambda s: s["costs"]["table, one group"].__imul__(0.1), 5),
        (lambda s: s["costs"]["table, all groups"].__imul__(0.2), 6),
        (lambda s: s["costs"]["table, all groups"].__imul__(4.0), 7),
        (lambda s: s["triangle"]["errors"][..., 2].__imul__(0.1), 8),
        (lambda s: s["triangle"]["errors"][0, ..., 3].__imul__(5.0), 9),
        (lambda s: s["triangle"]["errors"][1, ..., 3].__imul__(0.2), 10),
        (lambda s: s["triangle"]["errors"][:, 0, :, :, 1].__imul__(5.0), 11),
        (lambda s: s["triangle"]["errors"][:, 1, :, :, 1].__imul__(0.5), 12),
        (lambda s: s["triangle"]["errors"][1, 1, :, :, 3].__imul__(0.2), 13),
        (lambda s: s["costs"]["prices"][2].__itruediv__(3.0), 14),
        (lambda s: s["costs"]["prices"][2].__imul__(3.0), 15),
        (lambda s: s["costs"]["prices"][1].__itruediv__(4.0), 16),
        (lambda s: s["collapse"]["DPO"].__itruediv__(4.0), 17),
        (lambda s: s["collapse"]["Bradley-Terry reward"].__itruediv__(2.0), 18),
        (lambda s: s["collapse"]["Bradley-Terry reward"].__imul__(2.0), 19),
        (lambda s: s["mixes"]["errors"][0, :, :, 1].__imul__(2.0), 20),
        (lambda s: s["mixes"]["errors"][1, :, :, 3].__imul__(3.0), 21),
    ):
        stages = good()
        change(stages)
        failed = {i for i, verdict in enumerate(verdicts(stages)) if verdict != "holds"}
        assert places in failed
        seen |= failed
    stages = good()
    stages["cores"]["4"] *= 10
    assert verdicts(stages)[-1] == "fails"
    assert seen | {count - 1} == set(range(count))


def test_a_target_that_is_never_reached_is_no_slope():
    stages = good()
    stages["costs"]["table, one group"][0, -1, 0] = np.inf
    failed = [i for i, verdict in enumerate(verdicts(stages)) if verdict == "fails"]
    assert failed == [0, 1, 6, 7]  # both slopes, both claims on the share


def test_values_have_their_size_and_overlap():
    for mix in (0.0, 0.5, 1.0):
        values = world.draw_values(jax.random.key(0), bits=8, groups=4, overlap=0.3, mix=mix)
        np.testing.assert_allclose(jnp.mean(values**2, 1), 1.0, rtol=1e-5)
        features = world.context_bits(8)
        told = features @ (features.T @ values.T) / 256  # bits are orthogonal
        outside = jnp.mean((values.T - told) ** 2, 0)
        np.testing.assert_allclose(outside, mix, atol=0.12)
    # rho = 0.3 / sqrt(1 + 0.3^2) = 0.287
    np.testing.assert_allclose(jnp.mean(values[0] * values[1:]), 0.287, atol=0.1)


def test_the_contexts_are_all_signs():
    np.testing.assert_array_equal(world.context_bits(2), [[1, 1], [-1, 1], [1, -1], [-1, -1]])


def test_labels_are_the_groups_own_but_for_flips_and_attacks():
    values = world.draw_values(jax.random.key(0), bits=6, groups=4, overlap=0.0, mix=1.0)
    asked = world.ask(jax.random.key(1), jnp.array(SHARES), 64, 20000)
    np.testing.assert_allclose(jnp.bincount(asked.groups) / 20000, SHARES, atol=0.01)
    signs = values[asked.groups, asked.contexts] > 0
    flipped = world.flipped_labels(jax.random.key(2), values, asked, 0.1).labels
    np.testing.assert_allclose(jnp.mean(flipped != signs), 0.1, atol=0.01)
    majority = values[0, asked.contexts] > 0
    few = asked.groups > 0
    for attack in (0.0, 0.5):
        given = world.attacked_labels(
            jax.random.key(3), values, asked, kappa=1e4, attack=attack
        ).labels
        apart = few & (signs != majority)
        share = jnp.sum(apart & (given == majority)) / jnp.sum(apart)
        np.testing.assert_allclose(share, attack, atol=0.03)
        assert (given == signs)[~few].mean() > 0.999


def test_beginnings_are_counts_of_the_first_labels():
    asked = world.ask(jax.random.key(1), jnp.array(SHARES), 4, 64)
    given = asked._replace(labels=jax.random.randint(jax.random.key(2), (64,), 0, 2))
    found = studies.count_beginnings(given, (8, 16, 64), groups=4, contexts=4)
    for counts, size in zip(found, (8, 16, 64), strict=True):
        first = [x[:size] for x in given]
        np.testing.assert_array_equal(counts, count_labels(*first, num_groups=4, num_contexts=4))


def test_a_table_in_the_shape_of_a_larger_one():
    """Two of eight contexts, labels that are never wrong: no error is left, and none before."""
    sizes, case = (8, 16, 64), studies.Case(jnp.array(2), jnp.array([1.0]), jnp.array(0.0))
    curve = jax.jit(lambda key: studies.table_curve(TOY, 3, sizes, key, case))
    stakes, contexts = curve(jax.random.key(0))
    assert stakes.shape == contexts.shape == (3,)
    assert (np.diff(stakes) <= 0).all()
    np.testing.assert_allclose([stakes[-1], contexts[-1]], 0.0)
    values = world.draw_values(
        jax.random.key(0), bits=3, groups=2, overlap=0.3, mix=1.0, contexts=2
    )
    np.testing.assert_allclose(jnp.mean(values[:, :2] ** 2, 1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(values[:, 2:], 0.0)
    # A group without values is no worst-off group.
    none = jnp.stack([values[0], jnp.zeros(8)])
    np.testing.assert_allclose(world.worst_error(-values, none), 1.0)
    np.testing.assert_allclose(world.worst_error(none, none), 0.0)


def test_no_feature_tells_the_rest_of_a_mix():
    """A fit of endless labels on mixed values: (1 - sqrt(1 - mix)) / 2 of the stakes."""
    rng = np.random.default_rng(0)
    linear, table = rng.normal(size=(2, 200_000))
    values = np.sqrt(0.75) * linear + np.sqrt(0.25) * table
    wrong = np.sum(np.abs(values) * (linear * values < 0)) / np.sum(np.abs(values))
    np.testing.assert_allclose(wrong, 0.5 * (1 - np.sqrt(0.75)), atol=0.003)


def test_the_odds_are_those_of_the_average_reward():
    """e^8 = 2,981 at a share of 0.7, margin 1, beta 0.05: the optimum of the weighted reward."""
    np.testing.assert_allclose(
        collapse.average_odds(0.7, margin=1.0, beta=0.05), 2980.96, rtol=1e-4
    )
    rewards = jnp.array([[[0.0, 1.0], [1.0, 0.0]]])  # [1, option, group]
    average = weighted_rewards(rewards, jnp.array([0.7, 0.3]))
    logps = regularised_optimum(average, jnp.zeros((1, 2)), beta=0.05)
    np.testing.assert_allclose(logps[0, 1] - logps[0, 0], 8.0, rtol=1e-5)


@pytest.mark.long
def test_dpo_ends_at_the_closed_form_and_maxmin_does_not_follow_the_majority():
    sized = replace(TOY, labels=4000, betas=(1.0, 0.1), steps=600, dual_steps=500)
    found = collapse.measure_collapse(sized)
    np.testing.assert_allclose(found["DPO"], found["Bradley-Terry reward"], rtol=0.02)
    assert (np.abs(found["MaxMin"]) < 0.2).all()
    # logit(0.7 s(1) + 0.3 s(-1)) = 0.374 pooled, against 0.4 of the average reward
    np.testing.assert_allclose(found["DPO"][0], 0.374, atol=0.1)


def test_what_the_majority_tells_of_a_minority():
    assert world.own_entropy(0.0) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    chances = 0.5 * (1 + np.vectorize(__import__("math").erf)(rng.normal(size=20000) / 2**0.5))
    bits = -(chances * np.log2(chances) + (1 - chances) * np.log2(1 - chances))
    assert world.own_entropy(1.0) == pytest.approx(bits.mean(), abs=0.01)


def test_people_are_shared_out():
    sizes = np.bincount(np.asarray(studies.members(replace(TOY, people=200))))
    np.testing.assert_array_equal(sizes, [140, 30, 20, 10])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shares": (0.5, 0.5)}, "shares must have a majority"),
        ({"shares": (0.7, 0.1)}, "shares must fall, two or more, and add up to 1"),
        ({"people": 20}, "people must leave two to the smallest group"),
        ({"triangle_bits": (3, 4)}, "triangle_bits must reach 8"),
        ({"attacks": (0.1, 0.2, 0.3)}, "attacks must begin with 0"),
        ({"mixes": (0.0, 0.2, 0.5)}, "mixes must go from 0 to 1"),
        ({"cores": (2, 4)}, "cores must begin with 1"),
        ({"bits": (3, 4)}, "bits must rise, 3 or more"),
        ({"betas": (0.1, 1.0)}, "betas must fall"),
        ({"flip_rate": 0.5}, r"flip_rate must be in \[0, 1/2\)"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(config, name)(), config.Config)
