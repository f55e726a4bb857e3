"""The panels: labels to a target, the triangle, the price of flips, ways out."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

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
from rlhf_jax.exact.sample_costs import label_sizes, labels_to_reach
from rlhf_jax.feedback.populations import total_flip_rate

CURVES = ("table, one group", "table, all groups", "linear, all groups")
MEASURES = ("stakes", "contexts", "every context")
FIRST = 8  # labels of the first measurement


class Case(NamedTuple):
    """A population: its contexts [C], shares [C, G] and rate of flips [C]."""

    contexts: Any
    shares: Any
    rates: Any


def measure_tables(config: Config) -> dict[str, np.ndarray]:
    """Of both kinds of tables: labels to the target [measure, bits, N]. prices: [attack, N] of a
    table for each group, by stakes, at each attack."""
    total, spans = len(config.bits), 2 ** np.array(config.bits)
    flips = np.full(total, config.flip_rate)
    alone = Case(spans, np.ones((total, 1)), flips)
    rates = [float(total_flip_rate(config.flip_rate, attack)) for attack in config.attacks]
    attacked = np.full(len(rates), 2**config.price_bits)
    everyone = Case(
        np.concatenate([spans, attacked]),
        np.tile(config.shares, (total + len(rates), 1)),
        np.concatenate([flips, rates]),
    )
    first, rest = (tables_to_target(config, each) for each in (alone, everyone))
    return {
        CURVES[0]: first,
        CURVES[1]: rest[:, :total],
        "prices": rest[0, total:],
    }


def measure_linear(config: Config) -> dict[str, np.ndarray]:
    """The same of a linear reward for each group."""
    found = [linear_to_target(config, bits) for bits in config.bits]
    return {CURVES[2]: np.stack(found, axis=1)}


def seed_keys(config: Config, offset: int) -> Key[Array, " N"]:
    """A key for each population of a panel."""
    return jax.random.split(jax.random.key(config.seed + offset), config.num_seeds)


def tables_to_target(config: Config, cases: Case) -> np.ndarray:
    """Labels to the target, by stakes and by contexts, and to all contexts right, of a table for
    each group, values without structure: [measure, C, N].

    Every seed's labels are one stream, of which each size is the beginning. All cases have the
    shapes of the largest: one program.
    """
    share = float(cases.shares[0, -1])
    most = int(config.per_context * cases.contexts.max() / share)
    sizes = label_sizes(first=FIRST, most=most, growth=config.growth)
    curve = partial(table_curve, config, int(np.log2(cases.contexts.max())), tuple(sizes.tolist()))
    keys = seed_keys(config, 0)

    def all_of(case: Case) -> tuple[Array, Array]:
        return jax.lax.map(lambda key: curve(key, case), keys)

    found = jax.jit(lambda cases: jax.lax.map(all_of, cases))(jax.tree.map(jnp.asarray, cases))
    return targets(config, sizes, *found)


def targets(config: Config, sizes: np.ndarray, stakes: Array, contexts: Array) -> np.ndarray:
    """The first sizes at which errors [*C, K] are on target, in the order of MEASURES."""
    aims = [labels_to_reach(sizes, x, target=config.target) for x in (stakes, contexts)]
    return np.stack([*aims, labels_to_reach(sizes, contexts, target=0.0)])


def table_curve(
    config: Config, bits: int, sizes: Sequence[int], key: Key[Array, ""], case: Case
) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """Errors of the worst-off group at each size, by stakes and with contexts alike."""
    value_key, ask_key, label_key = jax.random.split(key, 3)
    groups = case.shares.shape[0]
    values = draw_values(
        value_key,
        bits=bits,
        groups=groups,
        overlap=config.overlap,
        mix=1.0,
        contexts=case.contexts,
    )
    asked = ask(ask_key, case.shares, case.contexts, sizes[-1])
    given = flipped_labels(label_key, values, asked, case.rates)
    scores = vote_scores(count_beginnings(given, sizes, groups=groups, contexts=2**bits))
    return errors_by_size(scores, values)


def errors_by_size(
    scores: Float[Array, "K G S"], values: Float[Array, "G S"]
) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """Of the worst-off group, by stakes and with contexts alike."""
    worst = jax.vmap(worst_error, (0, None))
    return worst(scores, values), worst(scores, jnp.sign(values))


def linear_to_target(config: Config, bits: int) -> np.ndarray:
    """`tables_to_target` of a linear reward for each group, linear values: [measure, N]."""
    most = int(8 * config.per_context * bits / config.shares[-1])
    sizes = label_sizes(first=FIRST, most=most, growth=config.linear_growth)
    curve = partial(linear_curve, config, bits, tuple(sizes.tolist()))
    found = jax.jit(lambda keys: jax.lax.map(curve, keys))(seed_keys(config, 0))
    return targets(config, sizes, *found)


def linear_curve(
    config: Config, bits: int, sizes: Sequence[int], key: Key[Array, ""]
) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """As `table_curve`."""
    value_key, ask_key, label_key = jax.random.split(key, 3)
    groups = len(config.shares)
    values = draw_values(value_key, bits=bits, groups=groups, overlap=config.overlap, mix=0.0)
    asked = ask(ask_key, jnp.array(config.shares), 2**bits, sizes[-1])
    given = flipped_labels(label_key, values, asked, config.flip_rate)
    counts = count_beginnings(given, sizes, groups=groups, contexts=2**bits)
    scores = linear_scores(counts, context_bits(bits), precision=config.precision)
    return errors_by_size(scores, values)


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
    keys = seed_keys(config, 1)
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
    asked = ask(ask_key, jnp.array(config.shares), 2**bits, sizes[-1])
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
    keys = seed_keys(config, 2)
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
