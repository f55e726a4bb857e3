"""The osp experiment in a minute size, one update by hand, and claims that must fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.osp import claims, config, run
from experiments.osp.config import Config
from experiments.osp.world import (
    LABELS,
    MEASURES,
    ROWS,
    draw_pairs,
    make_world,
    measure,
    optimum,
)
from rlhf_jax.training import open_run

TINY = Config(num_seeds=2, prompts=3, answers=4, updates=20, points=4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a minute size: its folder and its outcome."""
    out = tmp_path_factory.mktemp("osp")
    with open_run(out, slug="osp", config=TINY) as job:
        return out, run.run(TINY, job)


@pytest.mark.long
def test_every_figure_and_number_is_there(finished):
    out, outcome = finished
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 2
    assert [row[0] for row in outcome.table.rows] == [*ROWS, "optimum"]
    assert len(outcome.claims) == 8
    numbers = dict(outcome.numbers)
    assert set(numbers.pop("worlds ahead in J").values()) <= {0, 1, 2}
    assert numbers["optimum"]["distance"] == pytest.approx(0.0, abs=1e-6)
    assert max(row["J"] for row in numbers.values()) == numbers["optimum"]["J"]


@pytest.mark.slow
def test_the_quick_size_orders_the_labels(tmp_path):
    with open_run(tmp_path, slug="osp", config=config.quick()) as job:
        found = run.run(config.quick(), job).numbers
    for judge in ("calibrated", "imperfect"):
        js = [found[f"{labels}, {judge}"]["J"] for labels in ("hard", "smooth", "soft")]
        assert js == sorted(js)


@pytest.mark.long
def test_pairs_and_labels_by_hand():
    """Two answers with gap log 3: P = 3/4; equal answers are a tie."""
    size = Config(num_seeds=2, prompts=2, answers=2, samples=2, smoothing=0.1)
    gaps = jnp.tile(jnp.array([[0.0, 1.0], [-1.0, 0.0]]) * np.log(3.0), (2, 1, 1))
    given = (jnp.zeros((2, 2)), gaps, jnp.log(jnp.array([[0.2, 0.8]] * 2)))
    seen = {}
    for number, labels in enumerate(LABELS):
        for seed in range(8):
            args = (size, jax.random.key(seed), *given, jnp.array(number), jnp.array(1.0))
            batch = draw_pairs(*args)
            assert batch.columns is not None
            for row in range(2):
                pair = tuple(int(x.actions[row, 0, 0]) for x in (batch.chosen, batch.rejected))
                seen[labels, pair] = float(np.asarray(batch.columns["prefs"])[row, 0])
                refs = float(np.asarray(batch.ref_chosen_logps)[row, 0])
                assert refs == pytest.approx(np.log([0.2, 0.8][pair[0]]), rel=1e-5)
    assert {pair for _, pair in seen} == {(0, 1), (0, 0), (1, 1)}  # the better answer first
    for labels, want in (("soft", 0.75), ("hard", 1.0), ("smooth", 0.9)):
        assert seen[labels, (0, 1)] == pytest.approx(want, rel=1e-5)
        assert seen[labels, (0, 0)] == pytest.approx(0.5, rel=1e-5)


def test_judges_are_antisymmetric_and_the_optimum_is_the_best_policy():
    world = make_world(jax.random.key(0), TINY)
    np.testing.assert_allclose(world.gaps, -jnp.swapaxes(world.gaps, -1, -2), atol=1e-6)
    assert float(jnp.abs(world.gaps[0] - world.gaps[1]).max()) > 0.1
    best = measure(TINY, world, optimum(TINY, world))
    start = measure(TINY, world, jax.nn.log_softmax(world.ref_logits))
    assert float(start[1]) == pytest.approx(0.0, abs=1e-6)
    assert float(best[2]) > float(start[2])
    assert float(best[3]) == pytest.approx(0.0, abs=1e-6)


def ended(reward, kl, distance):
    """[10, 1, measures] with these values at the end."""
    noise = 1e-3 * np.arange(10)
    columns = [reward + noise, kl + 0 * noise, reward - 0.5 * kl + noise, distance + 0 * noise]
    return np.stack(columns, axis=-1)[:, None]


GOOD = {
    "soft, calibrated": ended(1.17, 0.98, 0.007),
    "hard, calibrated": ended(1.58, 2.70, 0.52),
    "smooth, calibrated": ended(1.36, 1.89, 0.39),
    "soft, imperfect": ended(1.10, 0.92, 0.15),
    "hard, imperfect": ended(1.48, 2.51, 0.50),
    "smooth, imperfect": ended(1.28, 1.76, 0.39),
    "soft, unknowing": ended(0.0, 1.0, 0.6),
    "soft, tempered, beta / tau": ended(1.17, 0.98, 0.01),
    "soft, tempered, beta / tau, steps tau^2": ended(1.17, 0.98, 0.01),
    "soft, tempered": ended(0.6, 0.3, 0.3),
}


def verdicts(**changed):
    names = {name.replace(", ", "_"): name for name in GOOD}
    found = GOOD | {names[name]: value for name, value in changed.items()}
    return [claim.verdict for claim in claims.osp_claims(Config(), found)]


def test_claims_hold_where_soft_labels_stay():
    assert verdicts() == ["holds"] * 8
    assert len(MEASURES) == GOOD["soft, calibrated"].shape[-1]


def test_claims_fail_where_they_do_not():
    found = verdicts(soft_calibrated=GOOD["hard, calibrated"])
    assert found[0] == "fails"
    assert found[4:6] == ["fails"] * 2
    assert run.worlds_ahead(GOOD | {"optimum": GOOD["soft, calibrated"]}) == dict.fromkeys(
        ("calibrated, hard", "calibrated, smooth", "imperfect, hard", "imperfect, smooth"), 10
    )
    assert verdicts(soft_imperfect=ended(0.0, 1.0, 0.5))[2:4] == ["fails"] * 2
    # A judge that knows nothing must not do as well.
    assert verdicts(soft_unknowing=GOOD["soft, calibrated"])[:4] == ["undecided"] * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 3}, "samples must be even, got 3"),
        ({"samples": 1}, r"samples must be in \[2, inf\)"),
        ({"updates": 31}, "updates must be a multiple of points, 30; got 31"),
        ({"smoothing": 0.5}, r"smoothing must be in \(0, 1/2\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)
