"""What a proxy chooses: best of n, and the KL-regularised optimum, by its own and the gold score."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments.rm_ensembles.config import Config
from experiments.rm_ensembles.members import (
    Scores,
    combinations,
    fit_families,
    fit_linear,
    uwo,
)
from experiments.rm_ensembles.worlds import draw_answers, draw_pairs, draw_world, gold_score
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.ops.ensembles import (
    error_correlation,
    mean_off_diagonal,
    member_scale,
    member_variances,
    standardised_scores,
)
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.statistics import best_of_n_curve, wins

Arrays = dict[str, dict[str, Array]]


def sizes(config: Config) -> np.ndarray:
    """n of the best of n: two to an octave, and all candidates."""
    halves = np.arange(0, 2 * np.log2(config.candidates)) / 2
    return np.unique(np.append(np.round(2**halves), config.candidates).astype(int))


def run_world(config: Config, key: Key[Array, ""], *, noise: float, cliff: bool) -> Arrays:
    """One world: its pairs, all families, and what each proxy chooses; kind -> name -> array."""
    keys = jax.random.split(key, 6)
    world = draw_world(keys[0], cliff=cliff)
    pairs = draw_pairs(keys[1], config, world, noise=noise)
    fit = fit_linear if cliff else fit_families
    score = fit(config, keys[2], pairs)
    x = draw_answers(keys[3], config, (config.prompts, config.candidates))
    test = draw_pairs(keys[4], config, world, noise=0.0)
    gold, raw = gold_score(world, x), score(x)
    proxies = every_proxy(config, raw, gold)
    chosen = {name: choose(config, proxy, gold) for name, proxy in proxies.items()}
    found = {kind: {name: each[kind] for name, each in chosen.items()} for kind in KINDS}
    found["accuracy"] = {
        name: wins(each[..., 0], each[..., 1]).mean() for name, each in score(test).items()
    }
    off = draw_answers(keys[5], replace(config, far_share=1.0), (config.candidates,))
    places = {"base": (raw, gold), "far": (score(off), gold_score(world, off))}
    found["correlation"] = {
        f"{name}, {place}": shared_errors(each, known)
        for place, (scores, known) in places.items()
        for name, each in scores.items()
        if len(each) > 1
    }
    return found | {"variance": variances(config, raw["separate"], proxies)}


def every_proxy(config: Config, raw: dict[str, Scores], gold: Array) -> dict[str, Scores]:
    """Name -> proxies [M, prompts, candidates], of which the results are averaged."""
    found = combinations(config, raw["separate"]) | {"oracle": gold[None]}
    if "shared trunk" in raw:
        shared, together = (
            combinations(config, raw[name]) for name in ("shared trunk", "one start")
        )
        best = uwo(2.0)
        found |= {f"shared trunk, {name}": shared[name] for name in ("mean", "WCO", best)}
        found |= {f"one start, {name}": together[name] for name in ("mean", "WCO", best)}
        for name in ("averaged", "wide"):
            found[name] = standardised_scores(raw[name], member_scale(raw[name]))
    return found


KINDS = ("gold", "proxy", "kl gold", "kl")


def choose(config: Config, proxies: Scores, gold: Float[Array, "S A"]) -> dict[str, Array]:
    """Means over prompts and proxies: gold and proxy [n] of the best of n; gold and KL [beta] of
    the regularised optimum."""
    ns = jnp.asarray(sizes(config))
    everyone = jnp.broadcast_to(gold, proxies.shape)
    zeros = jnp.zeros_like(proxies)

    def regularised(beta):
        logps = regularised_optimum(proxies, zeros, beta=beta)
        return jnp.sum(jnp.exp(logps) * everyone, -1).mean(), exact_kl(logps, zeros).mean()

    kl_gold, kl = jax.lax.map(regularised, jnp.asarray(config.betas))
    return {
        "gold": best_of_n_curve(proxies, everyone, ns).mean((0, 1)),
        "proxy": best_of_n_curve(proxies, proxies, ns).mean((0, 1)),
        "kl gold": kl_gold,
        "kl": kl,
    }


def shared_errors(raw: Scores, gold: Float[Array, "*B"]) -> Array:
    """Mean correlation of two members' errors, over all answers."""
    return mean_off_diagonal(error_correlation(raw.reshape(len(raw), -1), gold.ravel()))


def variances(config: Config, raw: Scores, proxies: dict[str, Scores]) -> dict[str, Array]:
    """Name -> [n] disagreement of the separate members on the best of n by each proxy."""
    scores = standardised_scores(raw, member_scale(raw))
    ns = jnp.asarray(sizes(config))
    several = member_variances(scores)

    def curve(proxy: Scores) -> Array:
        everyone = jnp.broadcast_to(several, proxy.shape)
        return best_of_n_curve(proxy, everyone, ns).mean((0, 1))

    return {name: curve(proxies[name]) for name in ("mean", "WCO", uwo(2.0))}
