"""The feedback_types experiment at a small size: its claims, and learners that break them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.feedback_types import claims as feedback_types_claims
from experiments.feedback_types import config as feedback_types_config
from experiments.feedback_types import run as feedback_types_run
from experiments.feedback_types.kinds import GROUPS, KINDS, MIXED, OPTIONS, PARTS, drawn
from experiments.feedback_types.learner import Records, loglik, record_information
from experiments.feedback_types.rules import ASKED as RULES
from experiments.feedback_types.stages import (
    BELIEVED,
    BLIND,
    IN_ORDER,
    PICKED,
    expected_errors,
    wrong_minds,
)
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import open_run

CONFIG = feedback_types_config.quick()
WRONG = ("beta x 0.25", "beta x 0.5", "beta x 2", "beta x 4", "10% mistakes")
MANY = "12 kinds: "
ASKED = {
    ("mutual information: seeds ahead of random after 20 queries", ">=", 0.8),
    ("D-optimal: seeds ahead of random after 20 queries", ">=", 0.8),
    ("mutual information: median queries to a cosine of .95", "<=", 20),
    ("D-optimal: median queries to a cosine of .95", "<=", 20),
    ("entropy less random: mean cosine after 20 queries", "<", 0),
    (
        "mutual information less the best of 5 rules for far pairs: mean cosine after 20 queries",
        ">",
        0,
    ),
    *(
        (
            f"learner assumes {name}: mutual information less random, mean cosine after 20 queries",
            ">",
            0,
        )
        for name in WRONG
    ),
    ("ranking less comparison: mean cosine", ">=", 0),
    ("least mean cosine of a type of feedback", ">=", 0.85),
    ("mixture: seeds not below its worst part", ">=", 0.8),
    ("mixture: its mean error (1 - cosine) over that of its parts", "<=", 1),
    (
        f"{MANY}largest factor between mean error after 25 records and tr J^-1 / 2",
        "<=",
        2,
    ),
    (
        f"{MANY}records to a cosine of .95, picked by information over in order (geometric mean)",
        "<",
        1,
    ),
    ("loop: mean regret after all queries over that before", "<=", 0.1),
    ("loop: mean regret over that of random, 20 queries", "<", 1),
}
SEEDS = 20  # of 20 that all succeed the interval is [0.83, 1]


def toy_cosines(late: float) -> dict[str, np.ndarray]:
    """[seeds, queries + 1] that rise to 0.99 at once, but for random, which takes `late` of it, and
    entropy, which takes less still."""
    fast = np.tile(np.minimum(0.99, np.linspace(0.5, 1.5, CONFIG.queries + 1)), (SEEDS, 1))
    slow = late * fast
    active = {"mutual information": fast, "D-optimal": fast}
    return dict.fromkeys(RULES, slow) | active | {"entropy": 0.9 * slow}


def toy_regrets() -> dict[str, np.ndarray]:
    """[seeds, queries + 1] that fall to 0, later at random, and stay where nobody answers."""
    falling = np.tile(np.linspace(1, 0, CONFIG.queries + 1), (SEEDS, 1))
    named = {"mutual information": falling**2, "random": falling}
    return named | {"mutual information, answers at random": np.ones_like(falling)}


def toy_beliefs(best: float) -> np.ndarray:
    """[beliefs, rules, seeds, compared + 1] with random at 0.5 and entropy at 0.4."""
    levels = np.array([0.5, 0.4, best])[:, None, None]
    return np.broadcast_to(levels, (len(WRONG), 3, SEEDS, CONFIG.compared + 1))


def toy_kinds(**cosines: float) -> dict[str, np.ndarray]:
    """[seeds, most_records], about 0.95 (or as given) from record 10 on, from record 5 if records
    are picked; 0 if the answers are random."""
    found = {}
    for name in (*KINDS, MIXED):
        low = {MIXED: 0.96, "critique": 0.94}  # the mixture above its parts, one of them below all
        level = cosines.get(name.replace(" ", "_"), low.get(name, 0.95))
        for order, first in ((IN_ORDER, 10), (PICKED, 5), (BLIND, CONFIG.most_records)):
            if order != BLIND or name in BELIEVED:
                runs = np.where(np.arange(CONFIG.most_records) < first, 0.0, level)
                found[f"{name}, {order}"] = np.tile(runs, (SEEDS, 1))
    return found


def falling_kinds() -> dict[str, np.ndarray]:
    """Errors of 0.005 to 0.06, as expected from information."""
    errors = {name: 0.005 * (1 + i) for i, name in enumerate(KINDS)}
    told = {f"{name}, told": np.full(SEEDS, error) for name, error in errors.items()}
    return toy_kinds(**{name.replace(" ", "_"): 1 - x for name, x in errors.items()}) | told


def broken(claims) -> set[str]:
    return {claim.statement for claim in claims if not claim.holds}


def test_queries_to_a_target():
    runs = np.array([[0.0, 0.5, 0.96, 0.9], [0.0, 0.1, 0.2, 0.3]])
    assert feedback_types_claims.needed(runs, 0.95).tolist() == [2, 4]


def test_a_rule_that_is_no_better_than_random_fails():
    good = toy_cosines(0.7)
    assert broken(feedback_types_claims.query_claims(CONFIG, good)) == set()
    swapped = good | {"mutual information": good["random"], "entropy": good["D-optimal"]}
    missed = broken(feedback_types_claims.query_claims(CONFIG, swapped))
    # A rule that must fall behind random is ahead of it: no share of seeds tells anything.
    assert len(missed) == 5
    assert "D-optimal: median queries to a cosine of .95" not in missed


def test_a_wrong_learner_who_does_not_gain_fails():
    assert broken(feedback_types_claims.wrong_claims(CONFIG, toy_beliefs(0.9))) == set()
    assert len(broken(feedback_types_claims.wrong_claims(CONFIG, toy_beliefs(0.5)))) == 5
    assert [name for name, *_ in wrong_minds(CONFIG)] == list(WRONG)


def test_the_claims_are_those_asked_for():
    cosines, kinds = toy_cosines(0.7), falling_kinds()
    made = [
        *feedback_types_claims.query_claims(CONFIG, cosines),
        *feedback_types_claims.wrong_claims(CONFIG, toy_beliefs(0.9)),
        *feedback_types_claims.type_claims(CONFIG, kinds),
        *feedback_types_claims.kind_claims(CONFIG, kinds, cosines),
        *feedback_types_claims.loop_claims(CONFIG, toy_regrets()),
    ]
    assert {(claim.statement, claim.op, claim.threshold) for claim in made} == ASKED


def test_a_useless_type_and_a_mixture_below_its_parts_fail():
    assert broken(feedback_types_claims.type_claims(CONFIG, toy_kinds())) == set()
    worse = toy_kinds(ranking=0.75) | {f"{MIXED}, {IN_ORDER}": np.full((SEEDS, 26), 0.8)}
    assert len(broken(feedback_types_claims.type_claims(CONFIG, worse))) == 4
    deaf = toy_kinds()
    deaf |= {f"{name}, {IN_ORDER}": deaf[f"{name}, {BLIND}"] for name in BELIEVED}
    assert len(broken(feedback_types_claims.type_claims(CONFIG, deaf))) == 4
    assert set(PARTS) < set(KINDS)


def test_kinds_that_do_not_follow_their_information_fail():
    cosines, kinds = toy_cosines(0.7), falling_kinds()
    assert broken(feedback_types_claims.kind_claims(CONFIG, kinds, cosines)) == set()
    idle = kinds | {f"{name}, {PICKED}": kinds[f"{name}, {IN_ORDER}"] for name in KINDS}
    swapped = idle | {"ranking, told": kinds["comparison, told"]}
    assert len(broken(feedback_types_claims.kind_claims(CONFIG, swapped, cosines))) == 2


def test_information_is_minus_the_mean_hessian_and_tells_the_error():
    options = jax.random.normal(jax.random.key(0), (1, 3, 5))
    record = Records(options, jnp.zeros(1, int), jnp.ones((1, 3), bool))
    theta = jnp.array([1.0, 0, 0, 0, 0])
    found = record_information(record, theta, 2.0)
    hessian = jax.hessian(lambda theta: loglik(record, theta, 2.0))(theta)
    np.testing.assert_allclose(found, -hessian, atol=1e-5)
    # Four directions across theta, with information 8 each.
    assert expected_errors(np.asarray(theta), 8 * np.eye(5)) == pytest.approx(4 / 8 / 2)


def test_a_loop_that_does_not_learn_fails():
    assert broken(feedback_types_claims.loop_claims(CONFIG, toy_regrets())) == set()
    flat = dict.fromkeys(toy_regrets(), np.ones((5, CONFIG.queries + 1)))
    assert len(broken(feedback_types_claims.loop_claims(CONFIG, flat))) == 2


def test_every_kind_is_in_one_group_that_has_room_for_its_options():
    assert sorted(name for group in GROUPS for name in group.names) == sorted((*KINDS, MIXED))
    for group in GROUPS:
        for name in group.names:
            if name != MIXED:
                make = OPTIONS[name]
                shape = jax.eval_shape(lambda key, make=make: make(key, 5), jax.random.key(0))
                assert len(shape) <= group.most


def test_the_mixture_takes_its_parts_in_turn():
    (group,) = (group for group in GROUPS if MIXED in group.names)
    which = group.names.index(MIXED)
    draw = jax.jit(lambda turn: drawn(group, jax.random.key(0), which, turn, 5)[1].sum())
    assert [int(draw(turn)) for turn in range(5)] == [2, 2, 21, 10, 2]


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
    assert page.count("data:image/png;base64,") == 5
    assert "http://" not in page
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    kept = {path.stem for path in (out / "data").glob("*.npz")}
    assert kept == {"queries", "loop", "kinds"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.0}, r"beta must be in \(0, inf\)"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"pool": 7}, "pool must be even"),
        ({"compared": 41}, r"compared must be in \[1, 40\]"),
        ({"records": 3}, r"records must be in \[4, 40\]"),
        ({"most_records": 3}, r"most_records must be in \[4, inf\)"),
        ({"factors": (0.0,)}, r"factors must be in \(0, inf\)"),
        ({"mistakes": 0.5}, r"mistakes must be in \[0, 0.5\)"),
        ({"offers": 0}, r"offers must be in \[1, inf\)"),
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
