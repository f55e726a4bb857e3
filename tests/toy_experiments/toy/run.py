"""Adam follows noise in two stages; the second goes on from the first."""

import time

import jax
import jax.numpy as jnp
import optax

from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.training import run_stage, train_stage, write_metrics


def run(config, job):
    optimizer = optax.adam(config.adam.rate)
    params = {"w": jnp.arange(4.0)}
    first = (params, optimizer.init(params), jax.random.key(7))

    @jax.jit
    def update(state, step):
        params, moments, key = state
        noise = jax.random.normal(jax.random.fold_in(key, step), (4,))
        loss, grads = jax.value_and_grad(lambda p: jnp.mean((p["w"] - noise) ** 2))(params)
        updates, moments = optimizer.update(grads, moments)
        metrics = {"loss": loss, "pair": (loss, jnp.float32(3))}
        return (optax.apply_updates(params, updates), moments, key), metrics

    def step(state, n):
        time.sleep(config.nap)
        if config.crash == "bug" and n == 5:
            raise RuntimeError("a bug")
        if config.crash == "nan" and n == 5:
            return state, {"loss": jnp.nan}
        if config.crash == "overflow":
            return jax.tree.map(lambda x: x * jnp.inf, state[:1]) + state[1:], {"loss": 0.0}
        return update(state, n)

    def fit(stage, state):
        write_metrics(job.writer, stage.name, [(0, {"start": jnp.sum(state[0]["w"])})])
        state = train_stage(stage, step, state, steps=config.steps, save_every=7)
        write_metrics(job.writer, stage.name, [(config.steps, {"end": jnp.sum(state[0]["w"])})])
        return state, {"steps": config.steps}

    one = run_stage(job, "one", lambda stage: fit(stage, first), like=first)
    two = run_stage(job, "two", lambda stage: fit(stage, one.arrays), like=first)
    kept = run_stage(job, "kept", lambda stage: ({"w": two.arrays[0]["w"]}, {"pair": (1, 2)}))
    end = float(jnp.sum(kept.arrays["w"]))
    claim = Claim("sum of weights", end, "<", config.below, kind="ours", source="an option")
    return Outcome([claim], {"w": kept.arrays["w"]}, Table("End", ("run", "sum"), [("toy", end)]))
