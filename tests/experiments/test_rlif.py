"""The rlif experiment: its claims on made-up scores, and a whole run at the quick size (slow)."""

import jax
import numpy as np
import pytest

from experiments.rlif import config as rlif_config
from experiments.rlif import run as rlif_run
from experiments.rlif.learners import MAIN, VARIANTS
from experiments.rlif.report import write_report
from rlhf_jax.training import open_run

CONFIG = rlif_config.default()
BADS, SEEDS = CONFIG.bads, CONFIG.num_seeds


def made_up(learned: float = 0.95, cloned: float = 0.0, slack: float = 0.01) -> dict:
    """Stages with the expert at 1, 0.5, 0.2; RLIF at `learned`, HG-DAgger `cloned` above it."""
    expert = np.repeat(np.array([1.0, 0.5, 0.2])[:, None], SEEDS, 1)
    shape = (len(BADS), SEEDS, 3, CONFIG.points)
    margins = (len(BADS), SEEDS, 2, len(CONFIG.margins))
    return {
        "exact": {
            "expert": expert,
            "uniform": np.full_like(expert, 0.05),
            "planned": np.full((len(BADS), SEEDS, 3), 0.97),
            "worst": np.full(margins, 0.5),
            "slack": np.full(margins, slack),
        },
        "dagger": {"HG-DAgger": np.broadcast_to(expert[..., None, None] + cloned, shape)},
        # A teacher at random, the last one, teaches nothing.
        "rlif": {
            name: np.broadcast_to(np.array([learned, learned, 0.0])[:, None], shape).copy()
            for name in VARIANTS
        },
    }


def verdicts(stages: dict) -> dict[str, str]:
    claims = rlif_run.make_claims(CONFIG, stages["exact"], stages["rlif"])
    return {claim.statement: claim.verdict for claim in claims}


def failed(stages: dict) -> set[str]:
    return {name for name, verdict in verdicts(stages).items() if verdict != "holds"}


def asked() -> set[tuple[str, str, float]]:
    claims = set()
    for bad in ("25%", "50%"):
        for judge in ("optimal Q", "expert's Q"):
            case = f"{bad} bad states, teacher judges by {judge}"
            ours = f"RLIF, -1 on the proposal, {case}: grids on which it beats the expert"
            claims.add((ours, ">=", 0.9))
            paper = f"RLIF, -1 on the previous step, {case}: lead over the expert"
            claims.add((paper, ">", 0.0))
    for bad in ("0%", "25%", "50%"):
        level = f"RLIF, -1 on the proposal, {bad} bad states, teacher judges by optimal Q: V / V*"
        claims.add((level, ">=", 0.9))
    return claims


def test_the_rlif_claims_are_those_that_were_asked():
    stages = made_up()
    claims = rlif_run.make_claims(CONFIG, stages["exact"], stages["rlif"])
    assert {(claim.statement, claim.op, claim.threshold) for claim in claims} == asked()
    assert failed(stages) == set()


def test_rlif_that_only_imitates_fails():
    stages = made_up()
    scores = stages["dagger"]["HG-DAgger"]
    stages["rlif"] = dict.fromkeys(VARIANTS, scores)
    ours = {name for name in failed(stages) if "on the proposal" in name}
    assert sum("beats the expert" in name for name in ours) == 4
    assert sum("V / V*" in name for name in ours) == 2


def test_four_grids_of_five_are_not_enough():
    stages = made_up()
    scores = stages["rlif"][MAIN].copy()
    scores[1, : SEEDS // 5, 1] = 0.4
    stages["rlif"][MAIN] = scores
    (name,) = failed(stages)
    assert name.startswith("RLIF, -1 on the proposal, 25% bad states, teacher judges by expert's Q")


def test_a_teacher_at_random_who_does_as_well_leaves_it_undecided():
    stages = made_up()
    stages["rlif"][MAIN][..., -1, :] = 0.95
    beaten = [v for name, v in verdicts(stages).items() if "beats" in name]
    assert beaten == ["undecided"] * 4


@pytest.mark.long
def test_the_rlif_page_is_self_contained_with_its_data(tmp_path):
    stages = made_up()
    with open_run(tmp_path, slug="rlif", config=CONFIG) as job:
        table = rlif_run.scores_table(CONFIG, stages)
        write_report(job, CONFIG, stages, [], table)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http://" not in page
    assert {path.stem for path in (tmp_path / "data").glob("*.npz")} == {"exact", "dagger", "rlif"}
    assert np.isfinite(jax.tree.leaves(rlif_run.summary(CONFIG, stages))).all()


@pytest.mark.long
def test_a_whole_quick_run_of_rlif_holds(tmp_path):
    config = rlif_config.quick()
    with open_run(tmp_path, slug="rlif", config=config) as job:
        outcome = rlif_run.run(config, job)
    verdict = {claim.statement: claim.verdict for claim in outcome.claims}
    assert "fails" not in [verdict[name] for name in verdict if "on the proposal" in name]
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
        ({"steps": 100, "points": 7}, "steps must be a multiple of points"),
    ],
)
def test_rlif_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        rlif_config.Config(**change)
