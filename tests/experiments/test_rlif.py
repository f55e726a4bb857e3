"""The rlif experiment: its claims on made-up scores, and a whole run at the quick size (slow)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.rlif import claims as rlif_claims
from experiments.rlif import config as rlif_config
from experiments.rlif import run as rlif_run
from experiments.rlif.learners import (
    LATE,
    LATE_PROPOSAL,
    MAIN,
    OFFICIAL,
    VARIANTS,
    accepted_actions,
    linear_dagger,
    rival_names,
)
from experiments.rlif.report import write_report
from experiments.rlif.worlds import cell_features, drawing_env
from rlhf_jax.algos.control.takeovers import Moment
from rlhf_jax.envs.hazard_grid import hazard_grid
from rlhf_jax.training import open_run

CONFIG = rlif_config.default()
BADS, SEEDS = CONFIG.bads, CONFIG.num_seeds


def made_up(learned: float = 0.95, cloned: float = 0.0, slack: float = 0.01) -> dict:
    """Stages with the expert at 1, 0.5, 0.2; RLIF at `learned` but for a late teacher and the label
    on the proposal; HG-DAgger `cloned` above the expert, and its rivals too."""
    expert = np.repeat(np.array([1.0, 0.5, 0.2])[:, None], SEEDS, 1)
    shape = (len(BADS), SEEDS, 3, CONFIG.points)
    margins = (len(BADS), SEEDS, 2, len(CONFIG.margins))
    # A teacher at random, the last one, teaches nothing.
    levels = np.broadcast_to(np.array([learned, learned, 0.0])[:, None], shape)
    rivals = {
        name: np.broadcast_to(expert[..., None, None] + cloned, shape)
        for name in ("HG-DAgger", *rival_names(CONFIG))
    }
    led = np.full(shape, 0.1)
    stages = {
        "exact": {
            "expert": expert,
            "uniform": np.full_like(expert, 0.05),
            "planned": np.full((len(BADS), SEEDS, 3), 0.97),
            "worst": np.full(margins, 0.5),
            "slack": np.full(margins, slack),
        },
        "dagger": {"HG-DAgger": rivals.pop("HG-DAgger")},
        "rivals": rivals,
        "rlif": {name: levels.copy() for name in VARIANTS} | {LATE_PROPOSAL: np.zeros(shape)},
    }
    for stage in ("dagger", "rivals", "rlif"):
        stages[stage] |= {f"{name}, led": led for name in stages[stage]}
    return stages


def verdicts(stages: dict) -> dict[str, str]:
    claims = rlif_claims.make_claims(CONFIG, rlif_claims.last_scores(stages))
    return {claim.statement: claim.verdict for claim in claims}


def failed(stages: dict) -> set[str]:
    return {name for name, verdict in verdicts(stages).items() if verdict != "holds"}


def asked() -> set[tuple[str, str, float]]:
    claims = set()
    for bad in ("25%", "50%"):
        for judge in ("optimal Q", "expert's Q"):
            case = f"{bad} bad states, teacher judges by {judge}"
            ours, paper = "RLIF, -1 on the proposal", "RLIF, -1 on the previous step"
            beats = "grids on which it beats the expert"
            claims |= {
                (f"{ours}, {case}: {beats}", ">=", 0.9),
                (f"{paper}, {case}: lead over the expert", ">", 0.0),
                (f"{paper}, late teacher, {case}: {beats}", ">=", 0.9),
                (f"{ours}, {case}: lead over the best of 7 imitators", ">", 0.0),
            }
    for bad in ("0%", "25%", "50%"):
        level = f"{bad} bad states, teacher judges by optimal Q: V / V*"
        claims.add((f"RLIF, -1 on the proposal, {level}", ">=", 0.9))
        claims.add((f"RLIF, -1 on the previous step, late teacher, {level}", ">=", 0.9))
    return claims


def test_the_rlif_claims_are_those_that_were_asked():
    stages = made_up()
    claims = rlif_claims.make_claims(CONFIG, rlif_claims.last_scores(stages))
    assert {(claim.statement, claim.op, claim.threshold) for claim in claims} == asked()
    assert failed(stages) == set()


def test_rlif_that_only_imitates_fails():
    stages = made_up()
    scores = stages["dagger"]["HG-DAgger"]
    stages["rlif"] = dict.fromkeys(VARIANTS, scores)
    ours = {name for name in failed(stages) if "on the proposal" in name}
    assert sum("beats the expert" in name for name in ours) == 4
    assert sum("imitators" in name for name in ours) == 4
    # Of the expert who is never bad the clone is the optimum, with every teacher.
    assert sum("V / V*" in name for name in ours) == 3


def test_four_grids_of_five_are_not_enough():
    stages = made_up()
    scores = stages["rlif"][MAIN].copy()
    scores[1, : SEEDS // 5, 1] = 0.4
    stages["rlif"][MAIN] = scores
    (name,) = failed(stages)
    assert name.startswith("RLIF, -1 on the proposal, 25% bad states, teacher judges by expert's Q")


def test_a_teacher_at_random_who_does_as_well_leaves_it_undecided():
    stages = made_up()
    stages["rlif"][MAIN][..., -1, :] = stages["rlif"][OFFICIAL][..., -1, :] = 0.95
    prompt = [v for name, v in verdicts(stages).items() if "late" not in name]
    assert prompt == ["undecided"] * len(prompt)
    assert len(prompt) == 15


def test_a_late_teacher_whose_label_does_not_matter_leaves_it_undecided():
    stages = made_up()
    stages["rlif"][LATE_PROPOSAL] = stages["rlif"][LATE]
    late = [v for name, v in verdicts(stages).items() if "late" in name]
    assert late == ["undecided"] * 7


def test_cells_say_where_moves_end():
    features = cell_features(hazard_grid(jax.random.key(0)))
    assert features.shape == (64, 15)
    # Beside the goal a move down ends there, but for slips to the other three.
    assert features[55, 4:8].tolist() == pytest.approx([0.025, 0.925, 0.025, 0.025])
    assert features[0, 12:].tolist() == [0, 0, 1]
    assert features[0, 8:12].tolist() == pytest.approx([0.95, 0.05, 0.95, 0.05])


def test_drawn_states_follow_the_law():
    mdp = hazard_grid(jax.random.key(0))
    env = drawing_env(mdp)
    keys = jax.random.split(jax.random.key(1), 20_000)
    firsts = np.bincount(jax.jit(jax.vmap(env.reset))(keys)[0], minlength=64)
    np.testing.assert_allclose(firsts / 20_000, mdp.initial, atol=0.006)
    seen = jax.jit(jax.vmap(env.step, (0, None, None)))(keys, 55, 1)[1]
    found = np.bincount(seen.observation, minlength=64)
    np.testing.assert_allclose(found / 20_000, mdp.transitions[55, 1], atol=0.01)
    assert not found[mdp.transitions[55, 1] == 0].any()
    np.testing.assert_array_equal(seen.discount == 0, seen.observation == 63)


def test_imitators_learn_what_they_are_shown():
    nothing = jnp.zeros((), int)
    flags = dict.fromkeys(("intervened", "returned", "objected", "over"), jnp.zeros((), bool))
    seen = Moment(
        state=nothing,
        proposal=nothing,
        action=nothing + 2,
        controlled=jnp.ones((), bool),
        next_state=nothing,
        discount=jnp.ones(()),
        **flags,
    )
    own = seen._replace(action=nothing + 1, controlled=jnp.zeros((), bool))
    linear = linear_dagger(jnp.eye(2), jnp.array(0.1))
    state = linear.learn(linear.learn(linear.first, seen), own)
    np.testing.assert_allclose(state, [[-0.025, -0.025, 0.075, -0.025], [0, 0, 0, 0]], atol=1e-7)
    accepting = accepted_actions(CONFIG, (2, 4), jnp.array(4.0))
    votes = accepting.learn(accepting.learn(accepting.first, seen), own)
    assert votes.tolist() == [[0, 1, 4, 0], [0, 0, 0, 0]]
    for learner, shown in ((linear, state), (accepting, votes)):
        assert jnp.argmax(learner.policy(shown)[0]) == 2
        assert learner.propose(jax.random.key(1), shown, nothing).shape == ()


@pytest.mark.long
def test_the_rlif_page_is_self_contained_with_its_data(tmp_path):
    stages = made_up()
    with open_run(tmp_path, slug="rlif", config=CONFIG) as job:
        table = rlif_run.scores_table(CONFIG, stages)
        write_report(job, CONFIG, stages, [], table)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "http://" not in page
    assert {path.stem for path in (tmp_path / "data").glob("*.npz")} == set(stages)
    assert np.isfinite(jax.tree.leaves(rlif_run.summary(CONFIG, stages))).all()


@pytest.mark.long
def test_a_whole_quick_run_of_rlif_holds(tmp_path):
    config = rlif_config.quick()
    with open_run(tmp_path, slug="rlif", config=config) as job:
        outcome = rlif_run.run(config, job)
    verdict = {claim.statement: claim.verdict for claim in outcome.claims}
    prompt = [name for name in verdict if "on the proposal" in name and "imitators" not in name]
    assert "fails" not in [verdict[name] for name in prompt]
    assert np.isfinite(jax.tree.leaves(dict(outcome.numbers))).all()
    kept = {name: dict(np.load(tmp_path / "data" / f"{name}.npz")) for name in made_up()}
    # A table that clones a deterministic expert is the expert, and the guarantee is a lemma.
    expert = kept["exact"]["expert"][:, :, None]
    cloned = kept["dagger"]["HG-DAgger"][:, :, :2, -1]
    np.testing.assert_allclose(cloned, np.broadcast_to(expert, cloned.shape), atol=0.02)
    assert kept["exact"]["slack"].min() >= -1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bads": (0.0, 1.5)}, r"bads must be in \[0, 1\]"),
        ({"margins": (-0.1,)}, r"margins must be in \[0, inf\)"),
        ({"rate": 1.2}, r"rate must be in \[0, 1\], got 1.2"),
        ({"num_seeds": 0}, r"num_seeds must be in \[1, inf\)"),
        ({"rates": (0.0,)}, r"rates must be in \(0, inf\)"),
        ({"weights": (-1.0,)}, r"weights must be in \[0, inf\)"),
        ({"steps": 100, "points": 7}, "steps must be a multiple of points"),
    ],
)
def test_rlif_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        rlif_config.Config(**change)
