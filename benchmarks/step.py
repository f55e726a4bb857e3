"""Where the time of a DPO step goes: its parts alone, in the shapes of the step, against all of it.

    python -m benchmarks.step

The step is that of `benchmarks.train`: 32 pairs of 128 tokens, chosen and rejected side by side.

    weights      products with the weights of the layers, forward and twice that backward
    head         log-probs of the answers from the last hidden states, and their gradient
    attention    of all layers, forward and backward, from queries, keys and values
    optimizer    AdamW
    rest         what is left of the step: norms, rotations, activations, residuals, what is kept
                 for the backward pass, and reading and writing all of it

"roof" is the share of the best rate in the same turns: of a square product or of a part.
"""

import argparse
import os
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.measure import in_turns
from benchmarks.shapes import library_config
from benchmarks.train.child import best_rate
from benchmarks.train.library import ADAMW, rows
from benchmarks.train.sizes import BETA, Sizes, draw_arrays, quick
from rlhf_jax.algos import preference
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.models import make_transformer
from rlhf_jax.models.attend import RowView, attend
from rlhf_jax.models.blockwise import Tokens
from rlhf_jax.ops.chunked import chunked_token_logps
from rlhf_jax.policies.language import language_policy
from rlhf_jax.sharding import compile_update
from rlhf_jax.types import PreferenceBatch

SIDES = 2  # chosen and rejected

Part = tuple[Callable[[], object], float]  # a call that waits for its result, and its FLOPs


def whole_step(sizes: Sizes) -> Part:
    """The compiled update of `benchmarks.train`."""
    policy = language_policy(make_transformer(library_config(sizes, max_positions=512)))
    params, arrays = policy.init(jax.random.key(0)), draw_arrays(sizes)
    known = jnp.zeros(sizes.pairs)
    chosen, rejected = (rows(arrays["prompt"], arrays[name]) for name in ("chosen", "rejected"))
    batch = PreferenceBatch(chosen, rejected, known, known)
    loss = partial(dpo_loss, beta=BETA)
    step = compile_update(preference.make_update(policy, ADAMW, loss))
    state = init_state(params, ADAMW)

    def call() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)

    return call, sizes.flops


def layer_weights(sizes: Sizes) -> Part:
    """y = x w, x' = y' w^T, w' = x^T y' for every weight w and side."""
    keys, width = sizes.kv_heads * sizes.head, sizes.width
    shapes = [(width, width), (width, keys), (width, keys), (width, width)]
    shapes += [(width, sizes.mlp)] * 2 + [(sizes.mlp, width)]
    count = sizes.pairs * (sizes.prompt + sizes.answer)
    inputs = {n: _normal(SIDES, count, n) for n in {width, sizes.mlp, keys}}
    weights = [_normal(sizes.layers, *shape) for shape in shapes]

    @jax.jit
    def run(inputs: dict[int, jax.Array], weights: list[jax.Array]) -> Any:
        def layer(_: None, weights: list[jax.Array]) -> tuple[None, Any]:
            return None, [each(side, w) for w in weights for side in range(SIDES)]

        def each(side: int, w: jax.Array) -> tuple[jax.Array, ...]:
            x, slope = (inputs[n][side] for n in w.shape)
            # The largest entry: only for the whole product is there one, and nothing else is kept.
            return jnp.max(x @ w), jnp.max(slope @ w.T), x.T @ slope

        return jax.lax.scan(layer, None, weights)[1]

    flops = 3.0 * SIDES * 2 * count * sum(a * b for a, b in shapes) * sizes.layers
    return _waiting(run, inputs, weights), flops


def head(sizes: Sizes) -> Part:
    """The log-probs of the answers of both sides, and their gradient."""
    states = _normal(SIDES, sizes.pairs, sizes.answer, sizes.width)
    table, arrays = _normal(sizes.vocab, sizes.width), draw_arrays(sizes)
    actions = jnp.stack([arrays["chosen"], arrays["rejected"]])
    tokens = sizes.pairs * sizes.answer

    def total(states: jax.Array, table: jax.Array) -> jax.Array:
        found = (
            chunked_token_logps(states[i], table, actions[i], chunk=tokens) for i in range(SIDES)
        )
        return jnp.sum(jnp.stack([jnp.sum(each) for each in found]))

    flops = 3.0 * SIDES * 2 * tokens * sizes.width * sizes.vocab
    return _waiting(jax.jit(jax.grad(total, (0, 1))), states, table), flops


def attention(sizes: Sizes) -> Part:
    """Of every layer and side, and its gradient."""
    length, config = sizes.prompt + sizes.answer, library_config(sizes, max_positions=512)
    groups = sizes.heads // sizes.kv_heads
    lead = (sizes.layers, SIDES, sizes.pairs, length, sizes.kv_heads)
    query = _normal(*lead, groups, sizes.head)
    key, value = _normal(*lead, sizes.head), _normal(*lead, sizes.head)
    columns = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (sizes.pairs, length))
    view = RowView(None, Tokens(jnp.ones_like(columns), columns, columns, None), local=False)

    def total(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        mixed = [attend(query[i], key[i], value[i], view, config) for i in range(SIDES)]
        return jnp.sum(jnp.stack([jnp.sum(side) for side in mixed]))

    @jax.jit
    def slopes(*given: jax.Array) -> Any:
        return jax.lax.map(lambda layer: jax.grad(total, (0, 1, 2))(*layer), given)

    pairs = length * (length + 1) // 2
    flops = 3.0 * SIDES * sizes.pairs * sizes.layers * 4 * sizes.width * pairs
    return _waiting(slopes, query, key, value), flops


def optimizer(sizes: Sizes) -> Part:
    """One AdamW update of all parameters."""
    params = make_transformer(library_config(sizes, max_positions=512)).init(jax.random.key(0))
    state = ADAMW.init(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, state: Any) -> Any:
        changes, state = ADAMW.update(params, state, params)
        return optax.apply_updates(params, changes), state

    def call() -> Any:
        nonlocal params, state
        params, state = jax.block_until_ready(update(params, state))
        return params

    return call, 0.0


def _normal(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(0), shape)


def _waiting(run: Callable[..., object], *given: object) -> Callable[[], object]:
    return lambda: jax.block_until_ready(run(*given))


def report(seconds: dict[str, float], flops: dict[str, float], roof: float) -> list[str]:
    """Lines of the table, with what is left of the step. roof: GFLOP/s of a square product."""
    whole = seconds["step"]
    rest = whole - sum(spent for name, spent in seconds.items() if name != "step")
    rates = {name: flops.get(name, 0.0) / spent / 1e9 for name, spent in seconds.items()}
    best = max(roof, *rates.values())
    lines = [f"roof: {best:.0f} GFLOP/s", "part              s  of the step  GFLOP/s  roof"]
    for name, spent in [*seconds.items(), ("rest", rest)]:
        rate = rates.get(name, 0.0)
        speed = f"{rate:8.0f} {rate / best:5.0%}" if rate > 0 else ""
        lines.append(f"{name:10} {spent:8.3f} {spent / whole:12.0%} {speed}".rstrip())
    return lines


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--turns", type=int, default=5, help="default 5")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the times mean nothing")
    options = parser.parse_args()
    sizes = quick() if options.quick else Sizes()
    makers = {"step": whole_step, "weights": layer_weights, "head": head}
    makers |= {"attention": attention, "optimizer": optimizer}
    parts = {name: make(sizes) for name, make in makers.items()}
    side = 64 if options.quick else 2048
    square = jnp.ones((side, side))
    rates: list[float] = []

    def product() -> None:
        run = jax.jit(jnp.matmul)
        rates.append(best_rate(lambda: run(square, square).block_until_ready(), side))

    calls = {name: call for name, (call, _) in parts.items()}
    in_turns(calls, 1)  # compiles
    turns = in_turns(calls | {"product": product}, options.turns)
    seconds = {name: statistics.median(turns[name]) for name in parts}
    cores = len(os.sched_getaffinity(0))
    print(f"float32, cpu, {cores} cores, jax {jax.__version__}, {options.turns} turns")
    print("\n".join(report(seconds, {name: made for name, (_, made) in parts.items()}, max(rates))))


if __name__ == "__main__":
    main()
