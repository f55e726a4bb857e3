"""Groups of users on vectors of a frozen model: batches, and a training that finds them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import unigram_lab

from rlhf_jax.algos.mixture_reward import best_restart, init_restarts, user_losses
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.recipes import Fit
from rlhf_jax.recipes.mixtures import mixture_model, mixture_rows, pairs_by_user
from rlhf_jax.recipes.users import EmbeddedPairs
from rlhf_jax.training import open_run, run_stage


def pairs_of(users, seed=0):
    """Odd users like the first number of a vector, even ones dislike it."""
    vectors = np.random.default_rng(seed).normal(size=(len(users), 2, 3)).astype(np.float32)
    ahead = vectors[:, 0, 0] > vectors[:, 1, 0]
    wanted = np.array([user % 2 for user in users], bool)
    vectors[ahead != wanted] = vectors[ahead != wanted][:, ::-1]
    return EmbeddedPairs(vectors, tuple(users))


def test_users_have_all_of_their_pairs():
    pairs = pairs_of([7, 3, 7])
    users, found = pairs_by_user(pairs)
    assert users == (7, 3)
    np.testing.assert_array_equal(found.mask, [[True, True], [True, False]])
    np.testing.assert_array_equal(found.chosen.inputs[0, :, 0], pairs.vectors[[0, 2], 0])
    np.testing.assert_array_equal(found.rejected.inputs[1, 0, 0], pairs.vectors[1, 1])


def test_a_step_reads_a_few_of_each_users_pairs():
    pairs = pairs_of([1] * 6 + [2] * 2)
    rows = mixture_rows(pairs, limit=4, batch_size=2, seed=0)
    batch, other = rows[0], rows[1]
    assert batch.mask.shape == (2, 4)
    assert sorted(batch.mask.sum(-1).tolist()) == [2, 4]
    for seen, mask in zip(batch.chosen.inputs, batch.mask, strict=True):
        shown = {tuple(x) for x in np.asarray(seen)[np.asarray(mask), 0].tolist()}
        assert len(shown) == int(mask.sum())
    assert not np.array_equal(batch.chosen.inputs, other.chosen.inputs)
    again = mixture_rows(pairs, limit=4, batch_size=2, seed=0)[0]
    np.testing.assert_array_equal(batch.chosen.inputs, again.chosen.inputs)
    with pytest.raises(ValueError, match=r"limit must be in \[1, inf\)"):
        mixture_rows(pairs, limit=0, batch_size=2, seed=0)


@pytest.mark.long
@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_a_training_finds_the_groups(tmp_path, hard):
    users = [user for user in range(12) for _ in range(8)]
    pairs, reward = pairs_of(users), linear_reward(3)
    rows = mixture_rows(pairs, limit=8, batch_size=6, seed=0)
    first = init_restarts(jax.random.key(0), reward, groups=2, restarts=3)
    assert first.reward.shape == (3, 2, 3)

    def work(stage):
        fit = Fit(optax.adam(0.1), steps=60)
        return mixture_model(stage, unigram_lab(), reward, rows, first, fit, hard=hard), {}

    with open_run(tmp_path / "run", slug="mixture", config={}) as run:
        found = run_stage(run, "mixture", work, like=first).arrays
    _, every = pairs_by_user(pairs)
    best = best_restart(reward, found, every, hard=hard)
    chosen = np.asarray(user_losses(reward, best.reward, every).argmin(-1))
    assert (chosen == chosen[0]).tolist() == [user % 2 == 0 for user in range(12)]


def test_the_best_restart_has_the_lowest_loss():
    _, every = pairs_by_user(pairs_of([user for user in range(6) for _ in range(4)]))
    reward = linear_reward(3)
    params = init_restarts(jax.random.key(0), reward, groups=2, restarts=3)
    good = jnp.array([[4.0, 0, 0], [-4.0, 0, 0]])
    for place in range(3):
        given = params._replace(reward=params.reward.at[place].set(good))
        np.testing.assert_array_equal(best_restart(reward, given, every).reward, good)
