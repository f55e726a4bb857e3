"""The craft_gui experiment: its claims, what breaks them, chains by hand, a run of toy size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.craft_gui import chains, claims, config, language, phone, report, run
from rlhf_jax.envs import gui
from rlhf_jax.training import UserError, open_run

TOY = config.Config(
    num_seeds=2,
    skills=4,
    actions=3,
    prompts=4,
    samples=4,
    updates=6,
    short_updates=3,
    heldout=10,
    phone_tasks=8,
    phone_episodes=2,
)
CONFIG = config.Config()
SCHEDULES = tuple(chains.schedules(CONFIG))


def noisy(value, size=10):
    return value + 1e-3 * np.random.default_rng(0).standard_normal((size, 1))


def stage(outcome, steps):
    """Hard success of curriculum, with replay, mixed, hard first and hard only."""
    found = {}
    for reward, values in (("outcome", outcome), ("steps", steps)):
        for name, value in zip(SCHEDULES, values, strict=True):
            found[f"{reward}/{name}/hard"] = noisy(value)
            found[f"{reward}/{name}/equal"] = noisy(0.5)
    return found


STEPS = (0.92, 0.92, 0.90, 0.88, 0.82)


def good():
    return {
        "full": stage((0.91, 0.91, 0.85, 0.61, 0.0), STEPS),
        "short": stage((0.76, 0.77, 0.40, 0.1, 0.0), STEPS),
    }


def test_everything_holds_where_it_should():
    assert [claim.verdict for claim in claims.all_claims(CONFIG, good())] == ["holds"] * 5


@pytest.mark.parametrize(
    ("size", "outcome", "steps", "broken"),
    [
        ("full", (0.80, 0.91, 0.85, 0.61, 0.0), STEPS, "share of 10 seeds"),
        ("full", (0.91, 0.91, 0.60, 0.61, 0.0), STEPS, "share of 10 seeds"),
        ("short", (0.5, 0.77, 0.40, 0.1, 0.0), STEPS, "curriculum minus mixed"),
        ("full", (0.91, 0.91, 0.85, 0.61, 0.3), STEPS, "240 updates: hard success of hard only"),
        ("full", (0.91, 0.91, 0.85, 0.61, 0.0), (0.9, 0.9, 0.9, 0.9, 0.5), "reward for steps"),
        ("full", (0.91, 0.91, 0.89, 0.61, 0.0), STEPS, "gain in hard success of mixed"),
    ],
)
def test_what_breaks_a_claim(size, outcome, steps, broken):
    stages = good() | {size: stage(outcome, steps)}
    fallen = [c.statement for c in claims.all_claims(CONFIG, stages) if not c.holds]
    assert any(broken in statement for statement in fallen)


def test_schedules_by_hand():
    found = chains.schedules(CONFIG)
    np.testing.assert_array_equal(found["curriculum"], np.eye(3))
    np.testing.assert_array_equal(found["hard first"], np.eye(3)[::-1])
    np.testing.assert_array_equal(found["hard only"], [[0, 0, 1]] * 3)
    np.testing.assert_allclose(found["curriculum, replay"][2], [0.1, 0.1, 0.8])
    for shares in found.values():
        np.testing.assert_allclose(shares.sum(1), 1.0)


def test_tasks_have_the_lengths_of_their_bin():
    tasks = chains.draw_tasks(CONFIG, jax.random.key(0), jnp.array([0.0, 1.0, 0.0]), 200)
    assert set(np.asarray(tasks.mask.sum(-1))) == {3, 4}
    assert tasks.skills.shape == (200, 8)
    mixed = chains.draw_tasks(CONFIG, jax.random.key(0), jnp.ones(3) / 3, 400)
    assert set(np.asarray(mixed.mask.sum(-1))) == {1, 2, 3, 4, 6, 7, 8}


def test_rewards_and_success_by_hand():
    right = jnp.array([[True, True, False], [True, False, True]])
    mask = jnp.array([[True, True, False], [True, True, True]])
    # A right chain of two; two of three steps right.
    np.testing.assert_allclose(chains.rewards_of(right, mask, 0.0), [1.0, 0.0])
    np.testing.assert_allclose(chains.rewards_of(right, mask, 0.3), [1.0, 0.2], rtol=1e-6)
    logits = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
    tasks = chains.Tasks(jnp.array([[0, 1, 1], [0, 0, 1]]), mask)
    # 1/2 * 1/4, and 1/2 * 1/2 * 1/4
    assert float(chains.success(logits, tasks)) == pytest.approx((1 / 8 + 1 / 16) / 2)


def test_rates_of_the_solver_are_by_horizon():
    tasks = [gui.gui_task(0, i, (length,)) for i, length in enumerate((1, 2, 2))]
    assert phone.solver_rates(tasks) == {1: 1.0, 2: 1.0}
    late = tasks[0]._replace(horizon=2)  # it takes one action: not what its task says
    assert phone.solver_rates([late]) == {2: 0.0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the toy size."""
    out = tmp_path_factory.mktemp("craft_gui")
    with open_run(out, slug="craft_gui", config=TOY) as job:
        return out, run.run(TOY, job)


@pytest.mark.long
def test_a_small_run_has_its_claims_numbers_and_figures(finished):
    out, outcome = finished
    assert len(outcome.claims) == 5
    numbers = [float(claim.value) for claim in outcome.claims]
    assert np.isfinite([*numbers, *jax.tree.leaves(dict(outcome.numbers))]).all()
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "The text phone" in page
    kept = {path.stem: dict(np.load(path)) for path in (out / "data").glob("*.npz")}
    assert set(kept) == {"full", "short", "phone"}
    assert kept["full"]["outcome/mixed/hard"].shape == (2, 7)
    assert kept["short"]["steps/hard only/equal"].shape == (2, 3)
    np.testing.assert_array_equal(kept["phone"]["solver"], 1.0)
    np.testing.assert_array_equal(kept["phone"]["tasks"].sum(1), [8, 10])
    start = kept["full"]["outcome/curriculum/hard"][:, 0]
    assert (start < (1 / 3) ** 6 + 1e-6).all()


def phone_found(start, curriculum, mixed):
    """Success of two seeds in 100 tasks of horizons 1 to 4 with a little noise."""
    horizons = np.tile(np.arange(1, 5), 25)
    noise = np.random.default_rng(0).normal(0.0, 0.02, (3, 2, 100, 2))
    values = np.array([start, curriculum, mixed])[:, None, None, None] + noise
    return {
        **dict(zip(("start", "curriculum", "mixed"), values, strict=True)),
        **{"horizons": horizons, "random": np.array([0.1, 0, 0, 0]), "solver": np.ones(4)},
    }


@pytest.mark.parametrize(
    ("levels", "verdicts"),
    [
        ((0.3, 0.5, 0.4), ["holds"] * 3),
        ((0.05, 0.5, 0.4), ["fails", "holds", "holds"]),
        ((0.3, 0.2, 0.1), ["holds", "fails", "undecided"]),  # mixed lost what the start had
        ((0.3, 0.5, 0.6), ["holds", "holds", "fails"]),
    ],
)
def test_claims_about_the_phone_and_what_breaks_them(levels, verdicts):
    found = claims.language_claims(CONFIG, phone_found(*levels))
    assert [claim.verdict for claim in found] == verdicts


def test_the_hard_bin_is_the_upper_half_of_horizons():
    done = np.arange(1, 101).reshape(1, -1, 1) % 4 * np.array([1.0, 2.0])[:, None, None]
    found = phone_found(0, 0, 0) | {"mixed": done}  # 1, 2, 3, 0 by horizon, and twice that
    assert claims.in_bin(CONFIG, found, "mixed").tolist() == [1.5, 3.0]
    assert claims.in_bin(CONFIG, found, "mixed", easy=True).tolist() == [1.0, 2.0]


LANGUAGE = config.LanguagePanel(
    seeds=2,
    d_model=16,
    layers=1,
    longest=2,
    tasks=16,
    heldout=8,
    base_steps=2,
    base_batch=4,
    base_longest=1,
    gate=0.0,
    steps=2,
    prompts=2,
    samples=2,
)


@pytest.mark.long
def test_a_toy_model_on_the_phone(tmp_path):
    small = dataclasses.replace(TOY, panel=True, language=LANGUAGE)
    with open_run(tmp_path, slug="craft_gui", config=small) as job:
        found = language.language_study(small, job)
    for name in ("start", "curriculum", "mixed"):
        assert found[name].shape == (2, 8, 2)
        assert set(np.unique(found[name])) <= {0.0, 1.0}
    assert found["curriculum/equal"].shape == found["mixed/equal"].shape == (2, 2)
    np.testing.assert_array_equal(found["horizons"], [1, 2] * 4)
    np.testing.assert_array_equal(found["solver"], 1.0)


def test_the_table_and_the_figure_of_the_phone():
    found = phone_found(0.3, 0.5, 0.4)
    found |= {f"{name}/equal": np.array([[0.0, 0.5]]) for name in language.ARMS}
    table = run.language_table(found)
    assert [row[:2] for row in table.rows] == [(1, 25), (2, 25), (3, 25), (4, 25)]
    np.testing.assert_allclose([row[2:5] for row in table.rows], [[0.3, 0.5, 0.4]] * 4, atol=0.02)
    assert [row[5:] for row in table.rows] == [(1, 0.1), (1, 0), (1, 0), (1, 0)]
    assert table.title.endswith("mean of 2 seeds")
    assert table.note == "groups with equal rewards in training: curriculum 25%, mixed 25%"
    labels = report.language_figure(found).figure.legends[0].get_texts()
    assert {"start", "curriculum", "mixed", "random"} <= {each.get_text() for each in labels}


def test_a_start_below_its_gate_is_refused():
    found = phone_found(0.3, 0, 0)
    found["start"] = found["start"][0]
    language.check_start(config.LanguagePanel(gate=0.25), found["start"], found["horizons"])
    with pytest.raises(UserError, match=r"below language.gate = 0.5: raise language.base_steps"):
        language.check_start(config.LanguagePanel(gate=0.5), found["start"], found["horizons"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"longest": 9}, r"longest must be in \[2, 8\]"),
        ({"base_longest": 5}, r"base_longest must be in \[1, 4\]"),
        ({"gate": 1.5}, r"gate must be in \[0, 1\]"),
        ({"seeds": 0}, r"seeds must be in \[1, 10\]"),
        ({"d_model": 20}, "d_model must be a multiple of 8"),
        ({"tasks": 7}, r"tasks must be in \[8, 100000\]"),
    ],
)
def test_sizes_of_the_panel_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.LanguagePanel(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"hard": (8, 6)}, r"hard must be \(shortest, longest\)"),
        ({"dense": 1.5}, r"dense must be in \[0, 1\]"),
        ({"replay": -0.1}, r"replay must be in \[0, 1\]"),
        ({"rate": 0.0}, r"rate must be in \(0, 100\]"),
        ({"updates": 2}, r"updates must be in \[3, inf\)"),
        ({"phone_tasks": 7}, r"phone_tasks must be in \[8, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)
