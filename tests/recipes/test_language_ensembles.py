"""Ensembles of reward models of language: heads on one trunk, members trained apart, a reward."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from word_lab import transformer_lab

from rlhf_jax.algos.reward_ensemble import average_members, stack_members
from rlhf_jax.ops.ensembles import (
    mean_scores,
    member_scale,
    uncertainty_penalised_scores,
    worst_case_scores,
)
from rlhf_jax.recipes import (
    Fit,
    ensemble_reward,
    first_heads,
    member_scores,
    on_trunk,
    pair_rows,
    reward_model,
    shared_reward_model,
)
from rlhf_jax.recipes.ensembles import ensemble_of, member_axes, num_heads
from rlhf_jax.recipes.rows import answer_batch
from rlhf_jax.training import open_run, run_stage

LAB = transformer_lab()
POLICY = LAB.policy.init(jax.random.key(0))
WORDS = ("red", "green", "blue")
PAIRS = [{"prompt": word, "chosen": "red", "rejected": "blue"} for word in WORDS]
ANSWERS = [
    {"prompt": word, "answer": answer} for word in WORDS for answer in ("red", "green", "blue")
]
FIT = Fit(optax.adam(0.03), steps=40)


def test_heads_are_drawn_anew_on_one_trunk():
    params = first_heads(LAB, POLICY, members=3)
    assert num_heads(params) == 3
    assert params["head"]["weight"].shape == (3, 8)
    assert len(np.unique(params["head"]["weight"])) == 24
    assert params["trunk"] is POLICY["trunk"]


@pytest.mark.parametrize("shared", [True, False])
def test_axes_have_members_in_front(shared):
    """As many names as an array has axes, or a mesh could not hold them."""
    params = first_heads(LAB, POLICY, members=2)
    if not shared:
        params = stack_members([on_trunk(LAB, POLICY, jax.random.key(i)) for i in range(2)])
    axes = member_axes(LAB.axes["reward"], shared=shared)
    counts = jax.tree.map(len, axes, is_leaf=lambda x: isinstance(x, tuple))
    assert counts == jax.tree.map(jnp.ndim, params)


def test_one_function_for_members_of_one_lab():
    params = first_heads(LAB, POLICY, members=2)
    assert ensemble_of(LAB, params, shared=True) is ensemble_of(LAB, params, shared=True)


def trained(tmp_path, members=3):
    """Params of heads on one trunk, and of members trained apart."""
    rows = pair_rows(LAB, PAIRS, batch_size=3)
    start = first_heads(LAB, POLICY, members=members)
    with open_run(tmp_path / "run", slug="ensembles", config={}) as job:
        heads = run_stage(
            job, "heads", lambda stage: (shared_reward_model(stage, LAB, rows, start, FIT), {})
        ).arrays
        apart = []
        for number in range(members):
            seeded = LAB._replace(seed=number)
            own = pair_rows(seeded, PAIRS, batch_size=3)
            first = on_trunk(LAB, POLICY, jax.random.key(number))
            work = partial(reward_model, lab=LAB, rows=own, params=first, fit=FIT)
            apart.append(
                run_stage(job, f"member{number}", lambda stage, work=work: (work(stage), {})).arrays
            )
    return heads, stack_members(apart)


@pytest.mark.long
def test_members_learn_pairs_and_are_one_reward(tmp_path):
    """Red over blue; each combination of the standardised members, by hand."""
    heads, apart = trained(tmp_path)
    trajectory = answer_batch(LAB, ANSWERS)
    for params, shared in ((heads, True), (apart, False)):
        raw = member_scores(LAB, params, ANSWERS, shared=shared, batch_size=4)
        assert raw.shape == (3, 9)
        by_answer = raw.reshape(3, 3, 3)
        assert (by_answer[..., 0] > by_answer[..., 2]).all()
        scale = member_scale(jnp.asarray(raw))
        z = (raw - raw.mean(1, keepdims=True)) / raw.std(1, keepdims=True)
        for combine, expected in (
            (mean_scores, z.mean(0)),
            (worst_case_scores, z.min(0)),
            (partial(uncertainty_penalised_scores, penalty=1.0), z.mean(0) - z.var(0)),
        ):
            reward = ensemble_reward(LAB, params, scale, combine=combine, shared=shared)
            found = reward.scores(reward.params, (), trajectory)
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    # Members of one trunk can be averaged, and the average has learned the pairs too.
    averaged = LAB.scores(average_members(apart), trajectory).reshape(3, 3)
    assert (averaged[:, 0] > averaged[:, 2]).all()
