"""What a proxy chooses, by its own and the gold score: best of n, the KL-regularised optimum."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from experiments.rm_ensembles.config import Config
from experiments.rm_ensembles.members import Scores, combinations, fit_families, fit_linear, uwo
from experiments.rm_ensembles.worlds import draw_answers, draw_pairs, draw_world, gold_score
from rlhf_jax.ops.ensembles import (
    error_correlation,
    mean_off_diagonal,
    member_scale,
    member_variances,
    standardised_scores,
)
from rlhf_jax.ops.logprobs import entropy, tempered
from rlhf_jax.ops.statistics import best_of_n_curve, wins
from rlhf_jax.types import Scalar

Arrays = dict[str, dict[str, Array]]
CURVES = ("gold", "proxy", "variance", "kl gold", "kl")


def sizes(config: Config) -> np.ndarray:
    """n of the best of n: two to an octave, and all candidates."""
    halves = np.arange(0, 2 * np.log2(config.candidates)) / 2
    return np.unique(np.append(np.round(2**halves), config.candidates).astype(int))


def run_world(
    config: Config, key: Key[Array, ""], ns: Int[Array, " M"], *, noise: Scalar, cliff: bool
) -> Arrays:
    """One world: its pairs, all families, and what each proxy chooses; kind -> name -> array.

    Args:
      ns: `sizes`, an argument so that the weights of the curves are not computed by the compiler.
      cliff: the world and the linear members of the control, which share their errors.
    """
    keys = jax.random.split(key, 6)
    world = draw_world(keys[0], cliff=cliff)
    pairs = draw_pairs(keys[1], config, world, noise=noise)
    score = (fit_linear if cliff else fit_families)(config, keys[2], pairs)
    x = draw_answers(keys[3], config, (config.prompts, config.candidates), cliff=cliff)
    test = draw_pairs(keys[4], config, world, noise=0.0)
    rare = replace(config, far_share=1.0)
    off = draw_answers(keys[5], rare, (config.candidates,), cliff=cliff)
    raw, tested, far = score_each(score, x, test, off)
    gold = gold_score(world, x)
    found = chosen(config, every_proxy(config, raw, gold), ns, gold, disagreement(raw["separate"]))
    found["accuracy"] = {
        name: wins(each[..., 0], each[..., 1]).mean() for name, each in tested.items()
    }
    places = {"base": (raw, gold), "far": (far, gold_score(world, off))}
    found["correlation"] = {
        f"{name}, {place}": shared_errors(each, known)
        for place, (scores, known) in places.items()
        for name, each in scores.items()
        if len(each) > 1
    }
    return found


def score_each(
    score: Callable[[Array], dict[str, Scores]], *sets: Float[Array, "*B 12"]
) -> Iterator[dict[str, Scores]]:
    """The scores of several sets of answers in one call, which compiles once."""
    flat = [x.reshape(-1, x.shape[-1]) for x in sets]
    found = score(jnp.concatenate(flat))
    edges = np.cumsum([len(x) for x in flat])
    for x, end in zip(sets, edges, strict=True):
        begin = end - x[..., 0].size
        yield {name: each[:, begin:end].reshape(-1, *x.shape[:-1]) for name, each in found.items()}


def every_proxy(config: Config, raw: dict[str, Scores], gold: Array) -> dict[str, Scores]:
    """Name -> proxies [M, S, A], of which the results are averaged."""
    found = combinations(config, raw["separate"]) | {"oracle": gold[None]}
    for family in (name for name in ("narrow", "shared trunk", "one start") if name in raw):
        combined = combinations(config, raw[family])
        kept = ("single", "mean", "WCO", uwo(2.0)) if family == "narrow" else (uwo(2.0),)
        found |= {f"{family}, {name}": combined[name] for name in kept}
    for name in (name for name in ("averaged", "wide") if name in raw):
        found[name] = standardised_scores(raw[name], member_scale(raw[name]))
    return dict(sorted(found.items()))


def disagreement(raw: Scores) -> Float[Array, "S A"]:
    """Variance of the members' standardised scores, beside which proxies are logged."""
    return member_variances(standardised_scores(raw, member_scale(raw)))


def chosen(
    config: Config,
    proxies: dict[str, Scores],
    ns: Int[Array, " M"],
    gold: Float[Array, "S A"],
    variance: Float[Array, "S A"],
) -> Arrays:
    """Means over prompts, curve -> name -> array: gold score, proxy and the members' variance [n]
    of the best of n by each proxy; gold score and KL [beta] of its regularised optimum."""
    counts = [len(each) for each in proxies.values()]
    together = jnp.concatenate(list(proxies.values()))
    one = jax.lax.map(lambda proxy: choose(config, proxy, ns, gold, variance), together)
    edges = np.cumsum(counts)[:-1]
    found = {}
    for kind, values in zip(CURVES, one, strict=True):
        parts = jnp.split(values, edges)
        found[kind] = {name: part.mean(0) for name, part in zip(proxies, parts, strict=True)}
    return found


def choose(
    config: Config, proxy: Array, ns: Array, gold: Array, variance: Array
) -> tuple[Array, ...]:
    """CURVES of one proxy [S, A]."""
    # The same proxy three times: compiled code sorts it once.
    curves = (best_of_n_curve(proxy, seen, ns).mean(0) for seen in (gold, proxy, variance))

    def regularised(beta):
        # The base policy is uniform over the candidates, so the KL is log A minus the entropy.
        logits = tempered(proxy, temperature=beta)
        kl = jnp.log(proxy.shape[-1]) - entropy(logits)
        return jnp.sum(jax.nn.softmax(logits) * gold, -1).mean(), kl.mean()

    return (*curves, *jax.lax.map(regularised, jnp.asarray(config.betas)))


def shared_errors(raw: Scores, gold: Float[Array, "*B"]) -> Array:
    """Mean correlation of two members' errors, over all answers."""
    return mean_off_diagonal(error_correlation(raw.reshape(len(raw), -1), gold.ravel()))
