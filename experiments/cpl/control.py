"""The control panel: CPL and its rivals with networks, on segments that a critic has scored."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from experiments.cpl import PAPER
from experiments.cpl.claims import control_claims
from experiments.cpl.config import Config, Control
from experiments.cpl.networks import (
    CONTRASTIVE,
    Segments,
    collect,
    fit_better_half,
    fit_clone,
    fit_contrastive,
    fit_iql,
    fit_reward,
    make_policy,
    make_values,
)
from experiments.cpl.oracles import train_agent
from experiments.cpl.worlds import World, make_world
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.pages import save_stages, write_page
from rlhf_jax.sampling.episodes import sample_episode
from rlhf_jax.training import Run, run_stages
from rlhf_jax.types import Params

Arrays = dict[str, np.ndarray]
LEAD = (
    "Networks in the place of tables: an off-policy agent is trained, its half-trained checkpoints "
    "act, its critic ranks segments of that, and every method learns a policy from the ranks."
)


def run_control(config: Config, job: Run) -> Outcome:
    """Each world is a stage; claims, one table a world."""
    size = config.control
    works = {name: partial(study, config, name) for name in size.worlds}
    stages = run_stages(job, works)
    names = methods(size)
    claims = [
        claim for world in size.worlds for claim in control_claims(world, names, stages[world])
    ]
    tables = [world_table(size, name, stages[name]) for name in size.worlds]
    save_stages(job.out, stages)
    write_page(
        job.out,
        "Contrastive preference learning: control",
        paper=PAPER,
        lead=LEAD,
        claims=claims,
        figures={},
        tables=tables,
    )
    numbers = {name: {key: x.tolist() for key, x in stages[name].items()} for name in size.worlds}
    return Outcome(claims, numbers, joined(size, tables))


def methods(config: Control) -> list[str]:
    """Names of the rows: what starts from the clone, then P-IQL at each beta."""
    return ["BC", "SFT", *CONTRASTIVE, *(f"P-IQL, beta {beta:.2g}" for beta in config.betas)]


def study(config: Config, name: str) -> Arrays:
    """All seeds of a world: success and return [methods, seeds], seconds of training without
    compilation [methods, seeds], trained parameters [methods], and facts of the data [seeds]."""
    size, world = config.control, make_world(name)
    keys = jax.random.split(jax.random.key(config.seed), size.num_seeds)
    trained = jax.jit(jax.vmap(lambda key: train_agent(key, world, size)))(keys)
    gather = jax.jit(lambda key, one: collect(key, one, world, size))
    programs: dict[str, Any] = {}
    found = []
    for seed, key in enumerate(keys):
        data_key, fit_key, test_key = jax.random.split(jax.random.fold_in(key, 1), 3)
        data = gather(data_key, jax.tree.map(lambda x, seed=seed: x[seed], trained))
        policies, seconds = fit_all(programs, fit_key, data.segments, world, size)
        success, returns = jax.jit(partial(judge, world, size))(test_key, policies)
        facts = data._asdict()
        del facts["segments"]
        found.append({"success": success, "return": returns, "seconds": seconds, **facts})
    stacked = {key: np.stack([np.asarray(each[key]) for each in found], -1) for key in found[0]}
    return stacked | {"parameters": parameters(world, size)}


def fit_all(
    programs: dict[str, Any], key: Any, data: Segments, world: World, config: Control
) -> tuple[Params, list[float]]:
    """Params of every method, stacked, and the seconds of each: those of the clone are in what
    starts from it, those of the reward in P-IQL."""
    start_key, *keys = jax.random.split(key, 6)
    start = make_policy(world, config).init(start_key)
    given = {"world": world, "config": config}

    def run(name: str, function: Callable, *args: Any) -> tuple[Any, float]:
        return timed(programs, name, partial(function, **given), *args)

    clone, before = run("clone", partial(fit_clone, steps=config.clone_steps), keys[0], start, data)
    found = {"BC": run("BC", partial(fit_clone, steps=config.steps), keys[1], clone, data)}
    found["SFT"] = run("SFT", fit_better_half, keys[1], clone, data)
    for name in CONTRASTIVE:
        found[name] = run(name, partial(fit_contrastive, name), keys[1], clone, data)
    seconds = [before + each for _, each in found.values()]
    rewards, before = run("reward", fit_reward, keys[2], data)
    # One program for all beta: it is traced.
    for beta in config.betas:
        one = run("iql", fit_iql, jnp.float32(beta), keys[3], rewards, data)
        found[f"beta {beta}"] = one
        seconds.append(before + one[1])
    return jax.tree.map(lambda *x: jnp.stack(x), *(one for one, _ in found.values())), seconds


def timed(programs: dict[str, Any], name: str, function: Callable, *args: Any) -> tuple[Any, float]:
    """The result, and the processor seconds of the run, which other work on the machine does not
    change; compiled once for each name, outside of them."""
    if name not in programs:
        programs[name] = jax.jit(function).lower(*args).compile()
    began = time.process_time()
    found = jax.block_until_ready(programs[name](*args))
    return found, time.process_time() - began


def judge(world: World, config: Control, key: Any, policies: Params) -> tuple[Array, Array]:
    """Success and mean return [methods] of the likeliest actions, in the same episodes for all."""
    policy = make_policy(world, config)

    def one(params):
        def act(_, observation):
            output = policy.logits(params, observation)
            return (jnp.argmax(output) if world.num_actions else output), jnp.zeros(())

        def episode(key):
            return sample_episode(world.env, act, key, steps=world.steps)

        episodes = jax.vmap(episode)(jax.random.split(key, config.tests))
        return jax.vmap(world.success)(episodes).mean(), episodes.rewards.sum(-1).mean()

    return jax.vmap(one)(policies)


def parameters(world: World, config: Control) -> np.ndarray:
    """Trained parameters of each method: CPL trains a policy, P-IQL a reward, V and Q too."""
    values, steps = make_values(world, config)

    def count(model) -> int:
        shapes = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0)))
        return sum(math.prod(x.shape) for x in shapes)

    policy = count(make_policy(world, config))
    learned = policy + count(values) + 2 * count(steps)
    direct = len(methods(config)) - len(config.betas)
    return np.array([policy] * direct + [learned] * len(config.betas))


def world_table(config: Control, name: str, found: Arrays) -> Table:
    """A row for each method, then for what was seen and for the agent that labels."""
    rows: list[tuple] = [
        (
            method,
            *spread(found["success"][i], 2),
            *spread(found["return"][i], 0),
            f"{found['seconds'][i].mean():.1f}",
            int(found["parameters"][i]),
        )
        for i, method in enumerate(methods(config))
    ]
    rows.append(("the segments' agents", *spread(found["seen_success"], 2), *(None,) * 4))
    expert = *spread(found["expert_success"], 2), *spread(found["expert_return"], 0)
    rows.append(("the labelling agent", *expert, None, None))
    seen, own = (found[f"{who}_advantage"].mean() for who in ("seen", "expert"))
    return Table(
        f"{name}: {config.num_seeds} seeds",
        ("method", "success", "by seed", "return", "by seed", "seconds", "parameters"),
        rows,
        note=f"advantage of a step by the critic: {seen:.3f} in the segments, {own:.3f} of its own "
        "agent; processor seconds of training, without compilation",
    )


def spread(x: np.ndarray, digits: int) -> tuple[str, str]:
    """The mean, and all seeds."""
    return f"{x.mean():.{digits}f}", ", ".join(f"{each:.{digits}f}" for each in x)


def joined(config: Control, tables: Sequence[Table]) -> Table:
    """The tables of all worlds as one, for the screen."""
    rows = [
        (name, *row) for name, each in zip(config.worlds, tables, strict=True) for row in each.rows
    ]
    return Table("Control", ("world", *tables[0].headers), rows)
