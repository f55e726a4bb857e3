"""Number puzzles with a verifier, a policy and a reward model that are small networks.

A puzzle is three different digits and a target, an answer an order of the digits with an operator
between each two, worked from left to right: all answers can be enumerated. The verifier is the
library's. The reward model learns from pairs of right and wrong answers of the starting policy.
"""

from functools import partial
from itertools import permutations, product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from experiments.pf_ppo.config import Config, Puzzles
from experiments.pf_ppo.filtered import NAMES, Rules, mean_gold, train_filtered
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.models.mlp import MLP, make_mlp
from rlhf_jax.rewards.verifiers import exact_reward

OPERATORS = "+-*"
ORDERS = tuple(permutations(range(3)))
SIGNS = tuple(product(range(3), repeat=2))
ANSWERS = tuple(product(ORDERS, SIGNS))
INPUTS = 10  # three digits in their order, two operators, the target
SCALE = 20.0  # of targets
REWARDS = ("reward model", "verifier")


class Puzzle(NamedTuple):
    """digits: three. target: a number that at least one answer gives."""

    digits: tuple[int, ...]
    target: int


class Sheet(NamedTuple):
    """inputs: [S, A, 10] of the networks. right: [S, A] the verifier's verdict."""

    inputs: Array
    right: Array


def worked(digits: tuple[int, ...], order: tuple[int, ...], signs: tuple[int, ...]) -> str:
    """The answer as a text that ends with its result: "3 * 4 - 2 = 10"."""
    first, second, third = (digits[i] for i in order)
    partial_result = apply(OPERATORS[signs[0]], first, second)
    result = apply(OPERATORS[signs[1]], partial_result, third)
    names = [OPERATORS[sign] for sign in signs]
    return f"( {first} {names[0]} {second} ) {names[1]} {third} = {result}"


def apply(operator: str, left: int, right: int) -> int:
    """left operator right."""
    return {"+": left + right, "-": left - right, "*": left * right}[operator]


def draw_puzzles(sizes: Puzzles, rng: np.random.Generator) -> list[Puzzle]:
    """Digits 1 to 9, and the result of a random answer."""
    found = []
    for _ in range(sizes.count):
        digits = tuple(int(d) for d in rng.choice(np.arange(1, 10), size=3, replace=False))
        answer = worked(digits, *ANSWERS[rng.integers(len(ANSWERS))])
        found.append(Puzzle(digits, int(answer.split()[-1])))
    return found


def sheet_of(puzzles: list[Puzzle]) -> Sheet:
    """Inputs and verdicts of every answer to every puzzle."""
    texts = [worked(puzzle.digits, *answer) for puzzle in puzzles for answer in ANSWERS]
    targets = [str(puzzle.target) for puzzle in puzzles for _ in ANSWERS]
    verdicts = exact_reward()([""] * len(texts), texts, answer=targets)
    rows = [
        [
            *(puzzle.digits[i] / 9 for i in order),
            *np.eye(3)[list(signs)].ravel(),
            puzzle.target / SCALE,
        ]
        for puzzle in puzzles
        for order, signs in ANSWERS
    ]
    shape = len(puzzles), len(ANSWERS)
    inputs = np.array(rows, np.float32).reshape(*shape, INPUTS)
    return Sheet(jnp.asarray(inputs), jnp.asarray(np.array(verdicts).reshape(shape), jnp.float32))


def puzzle_study(config: Config) -> dict[str, np.ndarray]:
    """gold [N, rewards, filters, I + 1]; informative [N, rewards, filters]; r2 [N, filters] of the
    reward model, accuracy [N] of it on right against wrong answers; start [N] share of right
    answers before PPO."""
    sizes = config.puzzles
    rngs = [np.random.default_rng([config.seed, i]) for i in range(sizes.num_seeds)]
    sheets = [sheet_of(draw_puzzles(sizes, rng)) for rng in rngs]
    both = jax.tree.map(lambda *x: jnp.stack(x), *sheets)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1), sizes.num_seeds)
    found = jax.jit(jax.vmap(partial(one_seed, config)))(both, keys)
    found["r2"] = found["r2"][:, 0]  # of the verifier it is 1, or nothing where all are right
    return {name: np.asarray(x) for name, x in found.items()}


def one_seed(config: Config, sheet: Sheet, key: Key[Array, ""]) -> dict[str, Array]:
    """The starting policy, the reward model, and PPO with every filter."""
    sizes, network = (
        config.puzzles,
        make_mlp((INPUTS, config.puzzles.width, config.puzzles.width, 1)),
    )
    start_key, reward_key, pair_key, noise_key, own_key = jax.random.split(key, 5)

    def logits_of(params) -> Array:
        return network.apply(params, sheet.inputs)[..., 0]

    start = likely(sizes, network, sheet, start_key)
    reward = reward_model(
        sizes, network, sheet, jax.nn.softmax(logits_of(start)), reward_key, pair_key
    )
    scores = jax.nn.sigmoid(logits_of(reward))
    shape = sizes.iterations, sizes.count, config.samples, len(ANSWERS)
    noise = jax.random.gumbel(noise_key, shape)

    def run(scores: Array, kind: Array) -> dict[str, Array]:
        rules = Rules(
            beta=config.beta,
            clip_eps=config.clip_eps,
            epochs=config.epochs,
            baseline_rate=config.baseline_rate,
            kind=kind,
            whiten_first=False,
        )
        optimizer = optax.adam(sizes.policy_rate)
        return train_filtered(
            rules, start, logits_of, optimizer, scores, sheet.right, noise, own_key
        )

    over_filters = jax.vmap(run, (None, 0))
    rewards = jnp.stack([scores, sheet.right])
    found = jax.vmap(over_filters, (0, None))(rewards, jnp.arange(len(NAMES)))
    accuracy = ordered_share(scores, sheet.right)
    return found | {"accuracy": accuracy, "start": mean_gold(logits_of(start), sheet.right)}


def likely(sizes: Puzzles, network: MLP, sheet: Sheet, key: Key[Array, ""]):
    """A network trained towards the right answers of each puzzle."""

    def loss(params) -> Array:
        logps = jax.nn.log_softmax(network.apply(params, sheet.inputs)[..., 0])
        return -jnp.mean(jnp.sum(sheet.right * logps, axis=-1) / jnp.sum(sheet.right, axis=-1))

    return fitted(loss, network.init(key), sizes.likelihood, sizes.rate)


def reward_model(
    sizes: Puzzles,
    network: MLP,
    sheet: Sheet,
    probs: Float[Array, "S A"],
    key: Key[Array, ""],
    pair_key: Key[Array, ""],
):
    """A network trained on pairs of a right and a wrong answer to one puzzle, as the policy draws
    them."""
    keys = jax.random.split(pair_key, 3)
    rows = jax.random.randint(keys[0], (sizes.pairs,), 0, sizes.count)
    chosen, rejected = (
        jax.random.categorical(k, jnp.log(probs * which + 1e-30)[rows])
        for k, which in ((keys[1], sheet.right), (keys[2], 1.0 - sheet.right))
    )

    def loss(params) -> Array:
        first, second = (
            network.apply(params, sheet.inputs[rows, each])[..., 0] for each in (chosen, rejected)
        )
        return jnp.mean(bradley_terry_loss(first, second))

    return fitted(loss, network.init(key), sizes.pair_steps, sizes.rate)


def fitted(loss, params, steps: int, rate: float):
    """Params after steps of Adam on all of the data."""
    optimizer = optax.adam(rate)

    def step(state, _):
        params, moments = state
        changes, moments = optimizer.update(jax.grad(loss)(params), moments)
        return (optax.apply_updates(params, changes), moments), None

    return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0]


def ordered_share(scores: Float[Array, "S A"], right: Float[Array, "S A"]) -> Float[Array, ""]:
    """How often a right answer has the higher score than a wrong one to the same puzzle."""
    higher = scores[:, :, None] > scores[:, None, :]
    pairs = right[:, :, None] * (1.0 - right[:, None, :])
    return jnp.sum(higher * pairs) / jnp.sum(pairs)
