"""The pro experiment in a minute size, one world by hand, and claims that must fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pro import claims, config, run
from experiments.pro.config import Config
from experiments.pro.methods import METHODS, PLAIN, PRO, RRHF, SFT, SHUFFLED, Setting, fit_all
from experiments.pro.world import World, fit, make_world, measure
from rlhf_jax.training import open_run

TINY = Config(
    num_seeds=2,
    prompts=4,
    test_prompts=4,
    answers=4,
    features=3,
    lengths=(2, 3),
    steps=5,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a minute size: its folder and its outcome."""
    out = tmp_path_factory.mktemp("pro")
    with open_run(out, slug="pro", config=TINY) as job:
        return out, run.run(TINY, job)


@pytest.mark.long
def test_every_figure_and_number_is_there(finished):
    out, outcome = finished
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 2
    assert [row[0] for row in outcome.table.rows] == list(METHODS)
    assert len(outcome.claims) == 9
    assert 0 <= outcome.numbers[PRO]["n = 3"]["accuracy"] <= 1


@pytest.mark.slow
def test_the_quick_size_orders_the_methods(tmp_path):
    with open_run(tmp_path, slug="pro", config=config.quick()) as job:
        found = run.run(config.quick(), job).numbers
    last = {name: found[name]["n = 5"]["accuracy"] for name in found}
    assert last[PLAIN] > last[SFT] > last[SHUFFLED]


def test_one_step_by_hand():
    """One prompt, two answers with features 1 and 0: SFT's first step is rate (1 - 1/2)."""
    features = jnp.tile(jnp.array([[[1.0], [0.0]]]), (4, 1, 1))
    gold = jnp.tile(jnp.array([[2.0, 0.0]]), (4, 1))
    world = World(features, gold, jnp.array([[0, 1]] * 2), jnp.array([[0.9, 0.4]] * 2), gold[:2])
    one = Config(prompts=2, test_prompts=2, answers=5, features=1, lengths=(2, 5), steps=1)
    found = fit(one, METHODS[SFT], Setting(2, 0.0, 0.0), world)
    # theta = 0.3 / 2: pi of the first answer sigmoid(0.15), gold 2 of it
    np.testing.assert_allclose(found, [1.0, 2 / (1 + np.exp(-0.15))], rtol=1e-5)
    np.testing.assert_allclose(measure(world, jnp.zeros(1), 2), [0.5, 1.0], rtol=1e-6)


def test_a_longer_ranking_contains_the_shorter_and_every_method_has_a_row():
    world = make_world(jax.random.key(0), TINY)
    assert world.candidates.shape == (4, 3)
    assert all(len(set(row)) == 3 for row in np.asarray(world.candidates).tolist())
    asked = []

    def shape_of(method, setting):
        asked.append(method)
        return lambda given: jnp.stack([setting.length, setting.shuffled, given])

    names = (PRO, PLAIN, SHUFFLED, RRHF)
    found = dict(fit_all(names, (2, 3), shape_of, jnp.array([5.0, 6.0])))
    assert found.keys() == set(names)
    assert found[SHUFFLED][1].tolist() == [[2.0, 1.0, 6.0], [3.0, 1.0, 6.0]]
    assert found[PLAIN][0].tolist() == [[2.0, 0.0, 5.0], [3.0, 0.0, 5.0]]
    assert len(asked) == 3  # one program for each loss


def runs(lengths, accuracy, reward):
    """[10, lengths, 2] with these means and a little noise."""
    noise = 1e-3 * np.arange(10)[:, None]
    rows = np.stack([np.broadcast_to(x, (10, lengths)) + noise for x in (accuracy, reward)], -1)
    return rows.astype(float)


LEVEL = runs(3, [0.5, 0.5, 0.5], [0.0, 0.0, 0.0])
GOOD = {
    PRO: runs(3, [0.80, 0.86, 0.89], [2.0, 1.9, 1.8]),
    PLAIN: runs(3, [0.83, 0.91, 0.94], [2.1, 2.2, 2.3]),
    SFT: runs(3, [0.73, 0.80, 0.84], [0.8, 1.2, 1.6]),
    RRHF: runs(3, [0.8, 0.9, 0.94], [0.9, 1.3, 1.6]),
    SHUFFLED: LEVEL,
}


def verdicts(**changed):
    names = {"pro": PRO, "plain": PLAIN, "sft": SFT, "rrhf": RRHF, "shuffled": SHUFFLED}
    found = GOOD | {names[name]: value for name, value in changed.items()}
    return [claim.verdict for claim in claims.world_claims(Config(), found)]


def test_claims_hold_where_n_helps():
    assert verdicts() == ["holds"] * 9


def test_claims_fail_where_it_does_not():
    assert verdicts(pro=LEVEL)[:1] == ["fails"]
    assert verdicts(pro=LEVEL)[3:5] == ["fails"] * 2
    assert verdicts(plain=LEVEL)[1:3] == ["fails"] * 2
    assert verdicts(plain=LEVEL)[5:8] == ["fails"] * 3
    assert verdicts(pro=GOOD[PLAIN])[-1] == "fails"
    # Shuffled rankings that do as well leave the claims open.
    assert verdicts(shuffled=GOOD[PLAIN])[:3] == ["undecided"] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": (2,)}, "lengths must be two or more that rise"),
        ({"lengths": (3, 2)}, "lengths must be two or more that rise"),
        ({"lengths": (2, 30)}, "lengths must be at most answers, 24"),
        ({"lengths": (1, 2)}, r"lengths must be in \[2, inf\)"),
        ({"noise": -0.1}, r"noise must be in \[0, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)
