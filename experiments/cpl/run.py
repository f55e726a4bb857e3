"""CPL, its biased form, imitation and learned rewards on cliff grids: who finds pi*, how fast."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cpl import learners
from experiments.cpl.claims import CUT_SIZES, all_claims, kl_rate
from experiments.cpl.config import Config
from experiments.cpl.control import run_control
from experiments.cpl.learners import LEARNERS
from experiments.cpl.report import write_report
from rlhf_jax.envs.gridworlds import GridWorld, cliff_grid
from rlhf_jax.exact import discounted_mdp
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

CUT = ("CPL", "partial return + soft VI", "P-IQL")
COVERAGE = ("CPL", "CPL, bias 0.5")


def run(config: Config, job: Run) -> Outcome:
    """All learners at all sizes; with segments cut at the goal; with behaviour that covers less.

    With `panel`, the control panel alone.
    """
    if config.panel:
        return run_control(config, job)

    sizes = {f"pairs-{size}": partial(run_size, config, size, False) for size in config.sizes}
    cut = {f"cut-{size}": partial(run_size, config, size, True) for size in config.sizes[CUT_SIZES]}
    covered = {f"share-{share}": partial(run_coverage, config, share) for share in config.shares}
    sizes, cut, covered = (run_stages(job, each, x64=True) for each in (sizes, cut, covered))

    results = {
        name: {what: stack(sizes, f"{what}/{name}") for what in ("kl", "scaled")}
        for name in LEARNERS
    }
    results |= {f"{name}, cut": {"scaled": stack(cut, f"scaled/{name}")} for name in CUT}
    coverage = {name: stack(covered, f"scaled/{name}") for name in COVERAGE}
    coverage["share"] = stack(covered, "share")
    rate = kl_rate(config, results["CPL"]["kl"])
    claims = all_claims(config, results, rate)
    rows = [(name, *cells(results[name])) for name in LEARNERS]
    before = (None,) * (len(config.sizes) - 3)
    cut_rows = [(f"{name}, cut", *before, *cells(results[f"{name}, cut"]), None) for name in CUT]
    table = Table(
        "Scaled return: mean over grids [smallest, largest]",
        ("learner", *(f"{size} pairs" for size in config.sizes)),
        [*rows, *cut_rows],
        note="0 is uniform actions, 1 the soft-optimal policy; cut: segments end at the goal",
    )
    write_report(job, config, (results, coverage, rate), claims, table)
    numbers = {
        "rows": [*rows, *cut_rows],
        "slope of log KL": [rate.slope, rate.low, rate.high],
        **{f"KL of {name}": results[name]["kl"].mean(0).tolist() for name in COVERAGE},
        **{f"coverage, {name}": x.mean(0).tolist() for name, x in coverage.items()},
    }
    return Outcome(claims, numbers, table)


def stack(found: dict, name: str) -> np.ndarray:
    """[seeds, settings] of one number."""
    return np.stack([each[name] for each in found.values()], axis=1)


def run_size(config: Config, pairs: int, cut: bool) -> dict:
    """KL to pi* and scaled return [seeds] of each learner.

    A program of XLA holds one chain of batched linear solves at a time: two that do not wait for
    each other can wait for the same two threads for ever.
    """
    worlds, optima, keys = draw_worlds(config)
    behaviour = jnp.zeros(optima.shape)
    draw = partial(learners.sample_data, config=config, pairs=pairs, cut=cut)
    data = jax.jit(jax.vmap(draw))(keys, worlds, optima, behaviour)

    def fit(data, world):
        rewards = learners.fit_rewards(data, world, config)
        found = {"P-IQL": learners.fit_iql(data, rewards, world, config)}
        biases = jnp.array([1.0]) if cut else jnp.array([1.0, 0.5])
        policies = jax.vmap(lambda bias: learners.fit_cpl(data, world, config, bias=bias))(biases)
        found |= dict(zip(COVERAGE, policies, strict=False))
        if not cut:
            found["SFT on preferred"] = learners.fit_sft(data, world, config)
        return rewards, found

    rewards, policies = jax.jit(jax.vmap(fit))(data, worlds)
    plan = partial(learners.soft_optimum, alpha=config.alpha)
    planned = jax.jit(jax.vmap(plan))(replace(worlds.mdp, rewards=rewards))
    return judge(worlds, optima, policies | {"partial return + soft VI": planned})


def run_coverage(config: Config, share: float) -> dict:
    """Scaled returns [seeds] where behaviour never takes some actions, and the share it takes."""
    worlds, optima, keys = draw_worlds(config)

    def behaviour(key):
        """Uniform over the allowed actions: each with this probability, and one of them surely."""
        drawn = jax.random.uniform(key, optima.shape[1:])
        allowed = (drawn < share) | (drawn == drawn.min(-1, keepdims=True))
        return jnp.where(allowed, 0.0, -jnp.inf)

    logits = jax.jit(jax.vmap(behaviour))(keys)
    draw = partial(learners.sample_data, config=config, pairs=config.covered_pairs)
    data = jax.jit(jax.vmap(draw))(keys, worlds, optima, logits)

    def fit(data, world, bias):
        return learners.fit_cpl(data, world, config, bias=bias)

    fits = jax.jit(jax.vmap(jax.vmap(fit, (None, None, 0)), (0, 0, None)))
    policies = fits(data, worlds, jnp.array([1.0, 0.5]))
    found = judge(worlds, optima, dict(zip(COVERAGE, jnp.moveaxis(policies, 1, 0), strict=True)))
    return found | {"share": jnp.isfinite(logits).mean((1, 2))}


def draw_worlds(config: Config) -> tuple[GridWorld, jax.Array, jax.Array]:
    """Grids, their log pi* and a key for each."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    worlds = jax.jit(jax.vmap(cliff_grid))(keys)
    optima = jax.jit(jax.vmap(partial(learners.soft_optimum, alpha=config.alpha)))(worlds.mdp)
    return worlds, optima, jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)


def judge(worlds: GridWorld, optima: jax.Array, policies: dict) -> dict:
    """kl/<learner>: mean over states of KL(pi* || pi); scaled/<learner>: return between that of
    uniform actions and that of pi*; both [seeds] and exact."""
    uniform = jnp.full(optima.shape, -jnp.log(optima.shape[-1]))
    every = jnp.stack([optima, uniform, *policies.values()], axis=1)
    score = jax.vmap(jax.vmap(discounted_mdp.policy_return, (None, 0)))
    returns = jax.jit(score)(worlds.mdp, every)
    low, high = returns[:, 1:2], returns[:, :1]
    scaled = (returns - low) / (high - low)
    starts = worlds.mdp.initial[:, None]  # uniform over the states where anything is decided
    kl = jnp.sum(jnp.exp(optima)[:, None] * (optima[:, None] - every), axis=-1)
    kl = jnp.sum(starts * kl, axis=-1)
    found = {}
    for i, name in enumerate(policies):
        found |= {f"kl/{name}": kl[:, 2 + i], f"scaled/{name}": scaled[:, 2 + i]}
    return found


def cells(found: dict) -> list[str]:
    """Mean over grids of the scaled return, and the range, at each size."""
    return [f"{x.mean():.2f} [{x.min():.2f}, {x.max():.2f}]" for x in found["scaled"].T]
