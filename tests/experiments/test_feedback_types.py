"""The feedback_types experiment at a small size: its claims, and learners that break them."""

from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.feedback_types import config as feedback_types_config
from experiments.feedback_types import run as feedback_types_run
from experiments.feedback_types.kinds import PARTS, TYPES
from experiments.feedback_types.learner import RULES
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import open_run

CONFIG = feedback_types_config.quick()
ASKED = {
    ("mutual information: seeds ahead of random after 20 queries", ">=", 0.8),
    ("D-optimal: seeds ahead of random after 20 queries", ">=", 0.8),
    ("mutual information: median queries to a cosine of .95", "<=", 20),
    ("D-optimal: median queries to a cosine of .95", "<=", 20),
    ("entropy less random: mean cosine after 20 queries", "<", 0),
    ("ranking less comparison: mean cosine", ">=", 0),
    ("least mean cosine of a type of feedback", ">=", 0.85),
    ("mixture: seeds not below its worst part", ">=", 0.8),
    ("loop: mean regret after all queries over that before", "<=", 0.1),
    ("loop: mean regret over that of random, 20 queries", "<", 1),
}
SEEDS = 20  # of 20 that all succeed the interval is [0.83, 1]


def toy_cosines(late: float) -> dict[str, np.ndarray]:
    """[seeds, queries + 1] that rise to 0.99 at once, but for random, which takes `late` of it."""
    fast = np.tile(np.minimum(0.99, np.linspace(0.5, 1.5, CONFIG.queries + 1)), (SEEDS, 1))
    slow = late * fast
    return dict.fromkeys(RULES, slow) | {"mutual information": fast, "D-optimal": fast}


def broken(claims) -> set[str]:
    return {claim.statement for claim in claims if not claim.holds}


def test_queries_to_a_target():
    runs = np.array([[0.0, 0.5, 0.96, 0.9], [0.0, 0.1, 0.2, 0.3]])
    assert feedback_types_run.needed(runs, 0.95).tolist() == [2, 4]


def test_a_rule_that_is_no_better_than_random_fails():
    good = toy_cosines(0.7)
    good["entropy"] = 0.9 * good["random"]
    assert broken(feedback_types_run.query_claims(CONFIG, good)) == set()
    swapped = good | {"mutual information": good["random"], "entropy": good["D-optimal"]}
    assert broken(feedback_types_run.query_claims(CONFIG, swapped)) == {
        "mutual information: seeds ahead of random after 20 queries",
        "mutual information: median queries to a cosine of .95",
        "entropy less random: mean cosine after 20 queries",
    }


def test_the_claims_are_those_asked_for():
    cosines = toy_cosines(0.7)
    made = [
        *feedback_types_run.query_claims(CONFIG, cosines),
        *feedback_types_run.type_claims(learnt()),
        *feedback_types_run.loop_claims(CONFIG, cosines),
    ]
    assert {(claim.statement, claim.op, claim.threshold) for claim in made} == ASKED


def learnt() -> dict[str, np.ndarray]:
    """Cosines [seeds, records] of every type, which rise to 0.95."""
    return dict.fromkeys((*TYPES, "mixture of four"), np.tile([0.3, 0.8, 0.95], (SEEDS, 1)))


def test_a_useless_type_and_a_mixture_below_its_parts_fail():
    last = learnt()
    assert broken(feedback_types_run.type_claims(last)) == set()
    worse = last | {"ranking": last["ranking"] - 0.2, "mixture of four": last["off"] - 0.1}
    assert len(broken(feedback_types_run.type_claims(worse))) == 3
    assert set(PARTS) < set(TYPES)
    idle = {name: each[:, -1:] for name, each in last.items()}
    assert broken(feedback_types_run.type_claims(idle)) == {
        "least mean cosine of a type of feedback"
    }


def test_a_loop_that_does_not_learn_fails():
    flat = {name: np.ones((5, CONFIG.queries + 1)) for name in ("random", "mutual information")}
    assert len(broken(feedback_types_run.loop_claims(CONFIG, flat))) == 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("feedback_types")
    with open_run(out, slug="feedback_types", config=CONFIG) as job:
        return out, feedback_types_run.run(CONFIG, job)


@pytest.mark.long
def test_the_claims_are_those_asked_for_and_hold_at_the_quick_size(whole):
    out, outcome = whole
    assert {(claim.statement, claim.op, claim.threshold) for claim in outcome.claims} == ASKED
    # Ten seeds leave shares undecided; none fails.
    assert "fails" not in {claim.verdict for claim in outcome.claims}
    assert np.isfinite([float(claim.value) for claim in outcome.claims]).all()
    leaves = jax.tree.leaves(dict(outcome.numbers))
    assert leaves
    assert np.isfinite(leaves).all()
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    kept = {path.stem for path in (out / "data").glob("*.npz")}
    assert kept == {"queries", "types", "loop"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.0}, r"beta must be in \(0, inf\)"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"pool": 7}, "pool must be even"),
        ({"compared": 41}, r"compared must be in \[1, 40\]"),
        ({"records": 3}, r"records must be in \[4, inf\)"),
        ({"members": 0}, r"members must be in \[1, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        feedback_types_config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    made = getattr(feedback_types_config, name)()
    assert isinstance(made, feedback_types_config.Config)
