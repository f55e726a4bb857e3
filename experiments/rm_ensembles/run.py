"""Reward-model ensembles: does a conservative combination of members end over-optimisation?"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.rm_ensembles.claims import Worlds, all_claims, relative_drop
from experiments.rm_ensembles.config import Config
from experiments.rm_ensembles.report import write_report
from experiments.rm_ensembles.selection import Arrays, run_world, sizes
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, check_stop, run_stages

STAGES = ("noise", "no-noise", "shared-errors")


def run(config: Config, job: Run) -> Outcome:
    """Worlds with and without label noise, and the control where all members err alike."""
    # Compiled once for both levels of noise.
    apart, alike = (jax.jit(partial(run_world, config, cliff=cliff)) for cliff in (False, True))
    draw, controls = partial(run_worlds, config, job), config.control_seeds
    work = (
        partial(draw, apart, noise=config.noise, worlds=config.num_seeds),
        partial(draw, apart, noise=0.0, worlds=controls),
        partial(draw, alike, noise=config.noise, worlds=controls),
    )
    stages = run_stages(job, dict(zip(STAGES, work, strict=True)))
    claims = all_claims(config, stages)
    table = results_table(config, stages)
    write_report(job, config, stages, claims, table)
    return Outcome(claims, numbers=summary(stages), table=table)


def run_worlds(
    config: Config, job: Run, one: Callable[..., Arrays], *, noise: float, worlds: int
) -> Worlds:
    """The worlds, `one(key, ns, noise=...)` after the other: curve -> name -> [worlds, ...]."""
    key, ns, found = jax.random.key(config.seed), jnp.asarray(sizes(config)), []
    for number in range(worlds):
        check_stop(job, "worlds")
        found.append(jax.device_get(one(jax.random.fold_in(key, number), ns, noise=noise)))
    return jax.tree.map(lambda *each: np.stack(each), *found)


def results_table(config: Config, stages: Mapping[str, Worlds]) -> Table:
    """Proxies as rows: best of all candidates with swapped labels, and without."""
    noisy, clean = stages["noise"], stages["no-noise"]
    single, low = noisy["gold"]["single"][:, -1], config.betas.index(0.3)

    def row(name: str) -> tuple:
        gold = noisy["gold"][name]
        place = gold.mean(0).argmax()
        return (
            name,
            gold.mean(0)[place],
            int(sizes(config)[place]),
            gold[:, -1].mean(),
            relative_drop(gold),
            float((gold[:, -1] > single).mean()),
            noisy["kl gold"][name][:, low].mean(),
            clean["gold"][name][:, -1].mean(),
        )

    final = {name: gold[:, -1].mean() for name, gold in noisy["gold"].items()}
    return Table(
        f"Gold score of the best of {config.candidates} by each proxy, {config.num_seeds} worlds",
        ("proxy", "peak", "at n", "final", "drop", "beats single", "beta 0.3", "no noise"),
        [row(name) for name in sorted(final, key=lambda name: final[name])],
        note=f"{config.noise:.0%} of the labels swapped, but in the last column; drop: share of "
        "the peak's gain over the base policy that is lost at the end; beta 0.3: KL-regularised "
        "optimum",
    )


def summary(stages: Mapping[str, Worlds]) -> dict:
    """Means over worlds: held-out accuracy, and correlation of the members' errors."""
    return {
        stage: {
            kind: {name: float(x.mean()) for name, x in worlds[kind].items()}
            for kind in ("accuracy", "correlation")
        }
        for stage, worlds in stages.items()
    }
