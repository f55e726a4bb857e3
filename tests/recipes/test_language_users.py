"""Batches of users from pairs, and the vectors of answers by a frozen model."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_params import random_params

from rlhf_jax.algos.user_reward import init_user_model, posterior_of
from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.recipes import Fit, make_lab
from rlhf_jax.recipes.rows import answer_batch
from rlhf_jax.recipes.users import (
    EmbeddedPairs,
    UserSizes,
    context_of,
    embedded_pairs,
    first_contexts,
    padded_numbers,
    rows_by_user,
    user_model,
    user_networks,
    user_rows,
)
from rlhf_jax.recipes.vectors import vectors_of
from rlhf_jax.training import UserError, open_run, run_stage
from rlhf_jax.types import with_latents

VOCABULARY = standard_vocabulary(train_word_tokenizer(["red green blue grey say"]))
SIZE = {"d_model": 8, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 4, "d_ff": 8}
LAB = make_lab(
    TransformerConfig(vocab_size=VOCABULARY.size, **SIZE),
    VOCABULARY,
    prompt_length=2,
    answer_length=4,
)
USERS = ("ann", 7, "ann", "ann", 7, "bob", "bob", "ann", 7, "bob")
PAIRS = EmbeddedPairs(np.arange(40.0, dtype=np.float32).reshape(10, 2, 2), USERS)
SIZES = UserSizes(context=2, targets=1, latent_dim=3, width=4)


def numbers(vectors):
    """The numbers of the pairs whose chosen answers these are."""
    return (np.asarray(vectors)[..., 0] / 4).astype(int)


def test_the_first_answer_of_a_pair_is_the_chosen_one():
    mask = np.array([[True, False]])
    found = context_of(PAIRS.vectors[None, :2], mask)
    np.testing.assert_array_equal(found.chosen, PAIRS.vectors[None, :2, 0])
    np.testing.assert_array_equal(found.rejected, PAIRS.vectors[None, :2, 1])
    np.testing.assert_array_equal(found.mask, mask)


def test_batches_have_pairs_of_one_user_in_each_row_and_none_twice():
    rows = user_rows(PAIRS, SIZES, batch_size=3, seed=0)
    for step in range(6):
        batch = rows[step]
        assert batch.noise.shape == (3, 3)
        encoded = numbers(batch.context.chosen)
        explained = numbers(batch.chosen.inputs[:, :, 0])
        for i in range(3):
            own = [*encoded[i][np.asarray(batch.context.mask[i])]]
            own += [*explained[i][np.asarray(batch.mask[i])]]
            assert len(set(own)) == len(own) == 3
            assert len({USERS[row] for row in own}) == 1
        np.testing.assert_array_equal(
            batch.rejected.inputs[:, :, 0], batch.chosen.inputs[:, :, 0] + 2
        )


def test_a_batch_depends_on_its_step_and_the_seed_alone():
    one, same, other = (user_rows(PAIRS, SIZES, batch_size=2, seed=seed) for seed in (0, 0, 1))
    for step in (5, 2):
        jax.tree.map(np.testing.assert_array_equal, one[step], same[step])
    assert not np.array_equal(one[2].noise, one[5].noise)
    assert not np.array_equal(one[2].noise, other[2].noise)


def test_the_first_rows_of_each_user_are_padded():
    numbers, mask = padded_numbers([np.array([4, 7, 9]), np.array([5])], 2)
    np.testing.assert_array_equal(numbers, [[4, 7], [5, 0]])
    np.testing.assert_array_equal(mask, [[True, True], [True, False]])


def test_what_is_known_of_a_user_are_its_first_pairs():
    pairs = EmbeddedPairs(PAIRS.vectors[:6], USERS[:6])
    users, contexts = first_contexts(pairs, SIZES)
    assert users == ("ann", 7, "bob")
    np.testing.assert_array_equal(numbers(contexts.chosen), [[0, 2], [1, 4], [5, 0]])
    np.testing.assert_array_equal(contexts.mask, [[True, True], [True, True], [True, False]])
    assert {user: own.tolist() for user, own in rows_by_user(USERS).items()} == {
        "ann": [0, 2, 3, 7],
        7: [1, 4, 8],
        "bob": [5, 6, 9],
    }


def test_pairs_without_a_user_are_counted_and_one_is_named():
    pair = {"chosen": "b", "rejected": "c"}
    known = (("a", 0), ("first", None), ("second", None))
    records = [{"prompt": prompt, "user": user, **pair} for prompt, user in known]
    with pytest.raises(UserError, match="2 of 3 pairs have no user, the first with the prompt"):
        embedded_pairs(LAB, None, records, batch_size=2)


def test_sizes_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"targets must be in \[1, inf\)"):
        UserSizes(targets=0)


@pytest.mark.long
def test_users_of_a_language_model_are_served_from_their_pairs(tmp_path):
    """Half of the users prefer red, the other half green: a tiny transformer, which is frozen,
    gives the vectors, and each user is served by the latent of its own pairs."""
    params = random_params(LAB.policy.init)
    words = ("red", "green")
    records = [
        {
            "prompt": "say",
            "chosen": f"{more}{words[u % 2]}",
            "rejected": f"{more}{words[1 - u % 2]}",
        }
        | {"user": u}
        for u in range(12)
        for more in ("", "blue ", "grey ")
    ]
    pairs = embedded_pairs(LAB, params, records, batch_size=8)
    one = answer_batch(LAB, [{"prompt": "say", "answer": "blue green"}])
    # Row 4: the second user's second pair.
    np.testing.assert_allclose(vectors_of(LAB, params, one)[0], pairs.vectors[4, 0], rtol=1e-5)
    units = pairs.vectors.mean((0, 1)), pairs.vectors.std((0, 1))
    pairs = pairs._replace(vectors=(pairs.vectors - units[0]) / units[1])
    sizes = UserSizes(context=2, targets=1, latent_dim=2, width=16)
    networks = user_networks(8, sizes)
    rows = user_rows(pairs, sizes, batch_size=12, seed=0)
    first = init_user_model(jax.random.key(0), *networks)
    work = partial(
        user_model,
        lab=LAB,
        networks=networks,
        rows=rows,
        params=first,
        fit=Fit(optax.adam(1e-2), steps=150),
        beta=0.01,
    )
    with open_run(tmp_path, slug="users", config=sizes) as run:
        fitted = run_stage(run, "users", lambda stage: (work(stage), {}), like=first).arrays
    users, contexts = first_contexts(pairs, sizes)
    latents = posterior_of(networks.encoder, fitted, contexts).means
    unseen = vector_trajectory(jnp.asarray(pairs.vectors[2::3]))  # each user's third pair
    own = networks.reward.scores(fitted.reward, with_latents(unseen, latents))
    assert float(jnp.mean(own[:, 0] > own[:, 1])) == 1.0
    other = networks.reward.scores(fitted.reward, with_latents(unseen, latents[::-1]))
    assert float(jnp.mean(other[:, 0] > other[:, 1])) == 0.0
    assert users == tuple(range(12))
