"""Robust reward models of language: environments of records, copies as rows, a tiny transformer."""

from functools import partial

import jax
import numpy as np
import optax
import pytest
from word_lab import transformer_lab

from rlhf_jax.algos.robust_reward import vrex_risk
from rlhf_jax.recipes import Fit, on_trunk, pair_rows
from rlhf_jax.recipes.offline import pair_scores
from rlhf_jax.recipes.robust import (
    check_whole_batches,
    copies_reward_model,
    copy_rows,
    environment_column,
    group_dro_reward_model,
    robust_reward_model,
)
from rlhf_jax.training import UserError

LAB = transformer_lab()
WORDS = ("red", "green", "blue")
# The first word of the answer is better than the second one of the pair; "green" may follow it.
PAIRS = [
    {"prompt": word, "chosen": "red green", "rejected": "blue", "environment": i % 2}
    for i, word in enumerate(WORDS * 2)
]
TURNED = [{**row, "chosen": "red", "rejected": "blue green"} for row in PAIRS]
FIT = Fit(optax.adam(0.03), steps=30)


def first():
    return on_trunk(LAB, LAB.policy.init(jax.random.key(0)), jax.random.key(1))


def test_environments_are_numbered_in_the_order_of_their_rows():
    ids, names = environment_column([{"environment": x, "prompt": ""} for x in ("b", 7, "b")])
    np.testing.assert_array_equal(ids, [0, 1, 0])
    assert names == ("b", 7)
    for environments, message in (
        (("a", "a"), "all 2 pairs are in the environment 'a'"),
        (("a", None), "1 of 2 pairs have no environment, the first with the prompt 'p1'"),
    ):
        records = [{"environment": x, "prompt": f"p{i}"} for i, x in enumerate(environments)]
        with pytest.raises(UserError, match=message):
            environment_column(records)


def test_copies_are_an_axis_of_the_batch():
    rows = copy_rows(LAB, list(zip(PAIRS, TURNED, strict=True)), batch_size=4)
    plain = pair_rows(LAB, PAIRS, batch_size=4)
    batch = rows[0]
    assert batch.chosen.mask.shape[:2] == (4, 2)
    np.testing.assert_array_equal(batch.chosen.actions[:, 0], plain[0].chosen.actions)
    with pytest.raises(UserError, match=r"as many copies, got \[1, 2\]"):
        copy_rows(LAB, [PAIRS[:1], PAIRS[:2]], batch_size=2)


@pytest.mark.long
def test_copies_teach_the_first_word_and_not_the_second(stage):
    rows = copy_rows(LAB, list(zip(PAIRS, TURNED, strict=True)), batch_size=4)
    params = copies_reward_model(stage, LAB, rows, first(), FIT, worst=True)
    for pairs in (PAIRS, TURNED):
        scores = pair_scores(LAB, params, pairs, batch_size=4)
        assert (scores[:, 0] > scores[:, 1]).all()


@pytest.mark.long
@pytest.mark.parametrize("name", ["vrex", "group_dro"])
def test_environments_reach_the_loss(stage, name):
    ids, _ = environment_column(PAIRS)
    rows = pair_rows(LAB, PAIRS, batch_size=4, columns={"environments": ids})
    given = (stage, LAB, rows, first(), FIT)
    if name == "vrex":
        params = robust_reward_model(*given, risk=partial(vrex_risk, count=2, penalty=1.0))
    else:
        params = group_dro_reward_model(*given, count=2, eta=0.1)
    scores = pair_scores(LAB, params, PAIRS, batch_size=4)
    assert (scores[:, 0] > scores[:, 1]).all()


def test_parts_of_a_batch_are_refused():
    with pytest.raises(UserError, match="no micro-batches"):
        check_whole_batches(LAB, FIT._replace(parts=2))
    with pytest.raises(UserError, match="not for a mixture of experts"):
        check_whole_batches(LAB._replace(router_losses={"reward": None}), FIT)
    check_whole_batches(LAB, FIT)
