"""Checks while training, on parameters of two numbers."""

import math
from functools import partial
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.losses import dpo_loss
from rlhf_jax.recipes import guarded, known_first_loss
from rlhf_jax.recipes.guards import check_first_loss, check_guard, check_sampler
from rlhf_jax.training import DivergedError, Stage, UserError, open_run

PARAMS = {"a": jnp.array([1.0]), "b": jnp.array([2.0])}


@pytest.fixture
def stage(tmp_path):
    with open_run(tmp_path / "run", slug="guards", config={}) as run:
        yield Stage(run, "sft")


def stepped(optimizer, state, params, grads):
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def test_a_guarded_optimizer_is_the_same_until_a_gradient_is_not_finite():
    plain, safe = optax.sgd(0.5, momentum=0.9), guarded(optax.sgd(0.5, momentum=0.9))
    one, other = plain.init(PARAMS), safe.init(PARAMS)
    grads = {"a": jnp.array([1.0]), "b": jnp.array([-2.0])}
    first, one = stepped(plain, one, PARAMS, grads)
    second, other = stepped(safe, other, PARAMS, grads)
    np.testing.assert_array_equal(first["b"], second["b"])  # 2 + 0.5 * 2 = 3
    assert float(second["b"][0]) == 3.0
    bad = {"a": jnp.array([1.0]), "b": jnp.array([jnp.nan])}
    kept, other = stepped(safe, other, second, bad)
    again, other = stepped(safe, other, kept, grads)
    for found in (kept, again):
        np.testing.assert_array_equal(found["a"], second["a"])
    assert int(other.bad) == 1  # "b" is the second leaf


def test_a_gradient_that_is_not_finite_stops_the_run_and_leaves_the_batch(stage):
    safe = guarded(optax.sgd(0.5))
    fine = safe.init(PARAMS)
    batch = {"x": np.array([1.0, 2.0])}
    check_guard(stage, fine, PARAMS, batch, 0.5, 6)
    assert list(stage.run.out.rglob("*.npz")) == []
    bad = {"a": jnp.array([1.0]), "b": jnp.array([jnp.inf])}
    _, state = stepped(safe, fine, PARAMS, bad)
    with pytest.raises(DivergedError, match=r"step 7 is not finite, first the gradient of \['b'\]"):
        check_guard(stage, state, PARAMS, batch, 0.5, 6)
    (path,) = stage.run.out.rglob("bad_batch_7.npz")
    with np.load(path) as held:
        np.testing.assert_array_equal(held["['x']"], batch["x"])
    with pytest.raises(DivergedError, match=r"first the batch\['x'\] holds nan"):
        check_guard(stage, state, PARAMS, {"x": np.array([np.nan])}, 0.5, 6)


def test_the_first_loss_of_dpo_is_known_to_be_log_2(stage):
    logps = jnp.array([-3.0, -40.0])
    sides = {"ref_chosen_logps": logps, "ref_rejected_logps": logps[::-1]}
    batch = SimpleNamespace(**sides, weights=None)
    known = known_first_loss(partial(dpo_loss, beta=0.1), [batch])
    assert known == pytest.approx(math.log(2), abs=1e-6)
    check_first_loss(stage, 0.6931, known)
    with pytest.raises(UserError, match=r"first step must be 0.693147, .* got 0.8"):
        check_first_loss(stage, 0.8, known)
    with pytest.raises(UserError, match="got nan"):
        check_first_loss(stage, math.nan, known)


def test_a_sampler_of_another_model_stops_the_run(stage):
    check_sampler(stage, 1e-5, 1e-2, 0)
    with pytest.raises(UserError, match=r"differ by 0.5 nats .* at step 4, at most 0.01"):
        check_sampler(stage, 0.5, 1e-2, 3)
