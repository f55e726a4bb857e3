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
        "rlif": {name: np.full(shape, learned) for name in VARIANTS},
    }


def failed(stages: dict) -> set[str]:
    claims = rlif_run.make_claims(CONFIG, stages["exact"], stages["dagger"], stages["rlif"])
    return {claim.statement for claim in claims if not claim.holds}


def asked() -> set[tuple[str, str, float]]:
    claims = set()
    for judge in ("optimal Q", "expert's Q"):
        for bad in ("0.25", "0.5"):
            for rival in ("HG-DAgger", "expert"):
                claims.add((f"bad {bad}, {judge}: seeds with RLIF > {rival}", ">=", 0.9))
        for bad in ("0", "0.25", "0.5"):
            claims.add((f"bad {bad}, {judge}: |HG-DAgger - expert|, at most", "<=", 0.02))
        claims.add((f"{judge}, no errors: worst tied optimum above its bound", ">=", -1e-6))
    return claims | {(f"bad {bad}, optimal Q: RLIF, mean", ">=", 0.9) for bad in (0, 0.25, 0.5)}


def test_the_rlif_claims_are_those_that_were_asked():
    stages = made_up()
    claims = rlif_run.make_claims(CONFIG, stages["exact"], stages["dagger"], stages["rlif"])
    assert {(claim.statement, claim.op, claim.threshold) for claim in claims} == asked()
    assert failed(stages) == set()


def test_rlif_that_only_imitates_fails():
    stages = made_up()
    stages["rlif"][MAIN] = stages["dagger"]["HG-DAgger"]
    gone = failed(stages)
    assert sum("seeds with RLIF" in name for name in gone) == 8
    assert "bad 0.25, optimal Q: RLIF, mean" in gone


def test_eight_of_ten_seeds_are_not_enough():
    stages = made_up()
    scores = stages["rlif"][MAIN].copy()
    scores[1, :2, 1] = 0.4
    stages["rlif"][MAIN] = scores
    assert failed(stages) == {
        f"bad 0.25, expert's Q: seeds with RLIF > {rival}" for rival in ("HG-DAgger", "expert")
    }


def test_a_broken_clone_and_a_broken_bound_fail():
    assert sum("|HG-DAgger - expert|" in name for name in failed(made_up(cloned=-0.05))) == 6
    assert sum("above its bound" in name for name in failed(made_up(slack=-1e-3))) == 2


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_whole_quick_run_of_rlif_holds(tmp_path):
    config = rlif_config.quick()
    with open_run(tmp_path, slug="rlif", config=config) as job:
        outcome = rlif_run.run(config, job)
    assert [claim.statement for claim in outcome.claims if not claim.holds] == []
    assert np.isfinite(jax.tree.leaves(dict(outcome.numbers))).all()
    # Blaming the previous transition in the place of the proposal breaks the method.
    kept = {name: dict(np.load(tmp_path / "data" / f"{name}.npz")) for name in made_up()}
    kept["rlif"][MAIN] = kept["rlif"]["previous, last"]
    broken = rlif_run.make_claims(config, kept["exact"], kept["dagger"], kept["rlif"])
    assert sum(not claim.holds for claim in broken) >= 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bads": (0.0, 1.5)}, "bads must be shares"),
        ({"margins": (-0.1,)}, "margins must be >= 0"),
        ({"rate": 1.2}, r"rate must be in \[0, 1\], got 1.2"),
        ({"num_seeds": 0}, "num_seeds must be at least 1"),
        ({"steps": 100, "points": 7}, "steps must be a multiple of points"),
    ],
)
def test_rlif_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        rlif_config.Config(**change)
