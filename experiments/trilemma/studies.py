"""The panels: labels to a target, the triangle, the price of flips, ways out."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments.trilemma.config import Config
from experiments.trilemma.world import (
    SYSTEMS,
    Labels,
    ask,
    attacked_labels,
    context_bits,
    draw_values,
    fit_systems,
    flipped_labels,
    group_errors,
    worst_error,
)
from rlhf_jax.algos.label_counts import count_labels, linear_scores, vote_scores
from rlhf_jax.algos.mixture_reward import UserComparisons, fit_mixture
from rlhf_jax.exact.sample_costs import flip_inflation, label_sizes, labels_to_reach
from rlhf_jax.feedback.populations import total_flip_rate

CURVES = ("table, one group", "table, all groups", "linear, all groups")
MEASURES = ("stakes", "contexts", "every context")
FIRST = 8  # labels of the first measurement


def curve_sizes(config: Config, curve: str, bits: int, slack: float = 1.0) -> np.ndarray:
    """Sizes at which a curve is measured, up to so many labels of each unknown of the least group.

    Unknowns are contexts of a table, and weights of a linear reward with twice the labels each.
    """
    share = 1.0 if "one" in curve else config.shares[-1]
    unknowns = 2 * bits if "linear" in curve else 2**bits
    most = max(int(slack * config.per_context * unknowns / share), FIRST)
    return label_sizes(first=FIRST, most=most, growth=config.growth)


def measure_costs(config: Config) -> dict[str, np.ndarray]:
    """Of each curve: labels to the target [measure, bits, N]."""
    found = {}
    for name in CURVES:
        each = [
            reach(config, name, bits, curve_sizes(config, name, bits), [config.flip_rate])[0]
            for bits in config.bits
        ]
        found[name] = np.stack(each, axis=1)
    return found


def measure_prices(config: Config) -> dict[str, np.ndarray]:
    """labels: [attacks, N] to the target at each attack, a table for each group, by stakes."""
    name, bits = "table, all groups", config.price_bits
    rates = [float(total_flip_rate(config.flip_rate, attack)) for attack in config.attacks]
    slack = 3.0 * flip_inflation(config.flip_rate, total=rates[-1])
    sizes = curve_sizes(config, name, bits, slack)
    return {"labels": reach(config, name, bits, sizes, rates)[:, 0]}


def reach(
    config: Config, curve: str, bits: int, sizes: np.ndarray, rates: Sequence[float]
) -> np.ndarray:
    """Labels to the target, by stakes and by contexts, and to all contexts right, at each rate of
    flips: [rate, measure, N].

    Every seed's labels are one stream, of which each size is the beginning.
    """
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), bits), config.num_seeds)
    one = partial(learning_curve, config, curve, bits, tuple(sizes.tolist()))

    def all_of(rate: Array) -> tuple[Array, Array]:
        return jax.lax.map(lambda key: one(key, rate), keys)

    stakes, contexts = jax.jit(lambda rates: jax.lax.map(all_of, rates))(jnp.array(rates))
    every = labels_to_reach(sizes, contexts, target=0.0)
    aims = [labels_to_reach(sizes, x, target=config.target) for x in (stakes, contexts)]
    return np.stack([*aims, every], axis=1)


def learning_curve(
    config: Config,
    curve: str,
    bits: int,
    sizes: Sequence[int],
    key: Key[Array, ""],
    rate: Float[Array, ""],
) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """Errors of the worst-off group at each size, by stakes and with contexts alike."""
    shares = (1.0,) if "one" in curve else config.shares
    value_key, ask_key, label_key = jax.random.split(key, 3)
    linear, groups, contexts = "linear" in curve, len(shares), 2**bits
    values = draw_values(
        value_key,
        bits=bits,
        groups=groups,
        overlap=config.overlap,
        mix=0.0 if linear else 1.0,
    )
    asked = ask(ask_key, shares, contexts, sizes[-1])
    given = flipped_labels(label_key, values, asked, rate)
    counts = count_beginnings(given, sizes, groups=groups, contexts=contexts)
    if linear:
        scores = linear_scores(counts, context_bits(bits), precision=config.precision)
    else:
        scores = vote_scores(counts)
    return tuple(jax.vmap(worst_error, (0, None))(scores, v) for v in (values, jnp.sign(values)))


def count_beginnings(
    given: Labels, sizes: Sequence[int], *, groups: int, contexts: int
) -> Float[Array, "K G S 2"]:
    """`count_labels` of the first labels, so many as each size says."""
    # Labels between two sizes are counted apart, then added up.
    place = jnp.searchsorted(jnp.array(sizes), jnp.arange(sizes[-1]), side="right")
    counts = count_labels(
        given.groups,
        place * contexts + given.contexts,
        given.labels,
        num_groups=groups,
        num_contexts=len(sizes) * contexts,
    ).reshape(groups, len(sizes), contexts, 2)
    return jnp.cumsum(jnp.swapaxes(counts, 0, 1), axis=0)


def measure_triangle(config: Config) -> dict[str, np.ndarray]:
    """errors: [bits, mix (0, 1), attack (none, some), N, system] at the triangle's labels."""
    found = []
    for bits in config.triangle_bits:
        cases = jnp.array([[(mix, a) for a in (0.0, config.attack)] for mix in (0.0, 1.0)])
        found.append(errors_of(config, bits, (config.labels,), cases)[0])
    return {"errors": np.stack(found)}


def measure_mixes(config: Config) -> dict[str, np.ndarray]:
    """errors: [labels (few, many), mix, N, system] without an attack."""
    cases = jnp.array([(mix, 0.0) for mix in config.mixes])
    sizes = (config.labels, config.many * config.labels)
    return {"errors": errors_of(config, config.mix_bits, sizes, cases)}


def errors_of(
    config: Config, bits: int, sizes: Sequence[int], cases: Float[Array, "*C 2"]
) -> Float[np.ndarray, "K *C N Z"]:
    """Error of the worst-off group of each system in each case (mix, attack), by labels."""
    keys = jax.random.split(
        jax.random.fold_in(jax.random.key(config.seed + 1), bits), config.num_seeds
    )
    one = partial(errors_of_seed, config, bits, sizes)

    def all_of(case: Array) -> Array:
        return jax.lax.map(lambda key: one(key, case), keys)

    flat = jax.jit(lambda cases: jax.lax.map(all_of, cases))(cases.reshape(-1, 2))
    shape = (len(sizes), *cases.shape[:-1], config.num_seeds, len(SYSTEMS))
    return np.moveaxis(np.asarray(flat), 2, 0).reshape(shape)


def errors_of_seed(
    config: Config, bits: int, sizes: Sequence[int], key: Key[Array, ""], case: Float[Array, "2"]
) -> Float[Array, "K Z"]:
    """One population, one stream of labels, four systems at each size."""
    value_key, ask_key, label_key = jax.random.split(key, 3)
    values = draw_values(
        value_key, bits=bits, groups=len(config.shares), overlap=config.overlap, mix=case[0]
    )
    asked = ask(ask_key, config.shares, 2**bits, sizes[-1])
    given = attacked_labels(label_key, values, asked, kappa=config.kappa, attack=case[1])
    counts = count_beginnings(given, sizes, groups=len(config.shares), contexts=2**bits)

    def errors(counts: Array) -> Array:
        found = fit_systems(counts, context_bits(bits), precision=config.precision)
        return jnp.stack([worst_error(found[name], values) for name in SYSTEMS])

    return jax.lax.map(errors, counts)


def measure_cores(config: Config) -> dict[str, np.ndarray]:
    """Linear values, people whose group nobody knows: error of the worst-off group, [N] each.

    "K": K values by EM over people. "group ids": a reward for each group, given the ids.
    """
    keys = jax.random.split(jax.random.key(config.seed + 2), config.num_seeds)
    one = jax.jit(lambda keys: jax.lax.map(partial(core_errors, config), keys))
    return {name: np.asarray(x) for name, x in one(keys).items()}


def core_errors(config: Config, key: Key[Array, ""]) -> dict[str, Array]:
    """One population: the same comparisons for every learner."""
    value_key, ask_key, label_key, fit_key = jax.random.split(key, 4)
    groups, contexts = len(config.shares), 2**config.core_bits
    values = draw_values(
        value_key, bits=config.core_bits, groups=groups, overlap=config.overlap, mix=0.0
    )
    features, who = context_bits(config.core_bits), members(config)
    shape = (config.people, config.comparisons)
    met = jax.random.randint(ask_key, shape, 0, contexts)
    chances = jax.nn.sigmoid(config.kappa * values[who[:, None], met])
    labels = jax.random.bernoulli(label_key, chances)
    differences = jnp.where(labels[..., None], features[met], -features[met])
    comparisons = UserComparisons(differences, jnp.ones(shape, bool))
    everyone = jnp.broadcast_to(who[:, None], shape)
    counts = count_labels(
        *(x.ravel() for x in (everyone, met, labels.astype(int))),
        num_groups=groups,
        num_contexts=contexts,
    )
    systems = fit_systems(counts, features, precision=config.precision)
    found = {
        "group ids": worst_error(systems["group linear"], values),
        "1": worst_error(systems["pooled linear"], values),
    }
    for cores in config.cores[1:]:
        fit = fit_mixture(
            fit_key,
            comparisons,
            groups=cores,
            precision=config.precision,
            rounds=config.rounds,
            restarts=config.restarts,
        )
        scores = (fit.mixture.weights @ features.T)[jnp.argmax(fit.responsibilities, -1)]
        theirs = group_errors(scores, values[who])  # of each person
        sums = jax.ops.segment_sum(theirs, who, num_segments=groups)
        found[str(cores)] = jnp.max(sums / jnp.bincount(who, length=groups))
    return found


def members(config: Config) -> Array:
    """The group of each person, as close to the shares as people go."""
    ends = jnp.array([round(x * config.people) for x in np.cumsum(config.shares)[:-1]])
    return jnp.searchsorted(ends, jnp.arange(config.people), side="right")
