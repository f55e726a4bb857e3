"""Plans against runs: what `rlhf plan` predicts on one CPU, and what the same steps take there.

    python -m benchmarks.scale [--layers 4] [--width 256] [--length 128] [--rows 16]

For SFT, DPO, GRPO and PPO: products of the compiled step against the count by hand, and its memory
against the growth of a process that makes the arguments and runs it. Each row is a process of its
own, and the exit code is 3 if a goal is missed.
"""

import argparse
import json
import subprocess
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import Goal, resident_growth
from rlhf_jax.losses import dpo_loss
from rlhf_jax.models import TransformerConfig
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.plan import Pairs, Workload
from rlhf_jax.plan.cost import program_cost
from rlhf_jax.plan.estimate import held
from rlhf_jax.plan.flops import TokenRows, forward_flops
from rlhf_jax.plan.hlo import parse_module
from rlhf_jax.plan.programs import Program, workload_programs
from rlhf_jax.sharding import make_mesh

METHODS = ("sft", "pairs", "grpo", "ppo")
FLOPS_GOAL, MEMORY_GOAL = 0.02, 0.15


def make_job(method: str, options: argparse.Namespace) -> Workload:
    """A Llama of these sizes, half of a row the answer."""
    heads, half = options.width // 64, options.length // 2
    config = TransformerConfig(
        vocab_size=options.vocab,
        d_model=options.width,
        num_layers=options.layers,
        num_heads=heads,
        num_kv_heads=max(heads // 2, 1),
        head_dim=64,
        d_ff=4 * options.width,
    )
    pairs = Pairs(partial(dpo_loss, beta=0.1), sequence_logps, reference=True)
    samples = 4 if method == "grpo" else 1
    return Workload(method, config, options.rows // samples, half, half, samples, pairs=pairs)


def products_by_hand(job: Workload) -> float | int:
    """Forward and twice that backward; PPO's critic has no words."""
    length = job.prompt_length + job.answer_length
    pairs = (
        job.config.num_layers * length**2
    )  # dense; in long rows blocks of masked pairs are left out
    answers = job.batch * job.samples * (2 if job.method == "pairs" else 1)
    rows = [TokenRows(answers, length, job.answer_length)]
    rows += [TokenRows(answers, length)] if job.method == "ppo" else []
    return sum(3 * forward_flops(job.config, each, pairs=pairs) for each in rows)


def measure(method: str, options: argparse.Namespace) -> dict[str, float | int]:
    """Predicted and measured numbers of one step."""
    job = make_job(method, options)
    mesh = make_mesh(devices=jax.devices()[:1])
    step: Program = workload_programs(job, mesh)[-1]
    compiled = step.lower().compile()
    memory = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    arguments = sum(held(step._replace(beside={})).values())

    def zeros(info: Any) -> jax.Array:
        return jax.jit(partial(jnp.zeros, info.shape, info.dtype))()

    shapes = jax.tree.leaves(compiled.args_info)
    keyed = [jax.dtypes.issubdtype(info.dtype, jax.dtypes.prng_key) for info in shapes]
    made = [
        (lambda: jax.random.key(0)) if key else partial(zeros, info)
        for key, info in zip(keyed, shapes, strict=True)
    ]
    [make() for make in made]  # compiled before anything is measured

    def run() -> None:
        values = jax.tree.unflatten(compiled.in_tree, [make() for make in made])
        positional, named = values
        jax.block_until_ready(compiled(*positional, **named))

    grown = resident_growth(run)
    return {
        "products": program_cost(parse_module(compiled.as_text())).flops,
        "by hand": products_by_hand(job),
        "predicted": arguments + memory.temp_size_in_bytes + results,
        "measured": grown,
    }


def in_process(method: str) -> dict[str, float | int]:
    """The numbers of one method from a process of its own."""
    words = [sys.executable, "-m", "benchmarks.scale", *sys.argv[1:], "--child", method]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(method: str, found: dict[str, float | int]) -> list[Goal]:
    """One line, and its goals."""
    products = found["products"] / found["by hand"] - 1
    memory = found["predicted"] / found["measured"] - 1
    print(
        f"{method:6}  {found['products'] / 1e9:9.2f}  {found['by hand'] / 1e9:9.2f}  "
        f"{products:+7.2%}  {found['predicted'] / 2**20:12.1f}  {found['measured'] / 2**20:12.1f}  "
        f"{memory:+7.1%}",
        flush=True,
    )
    return [
        Goal(name=f"{method}: products", value=abs(products), bound=FLOPS_GOAL),
        Goal(name=f"{method}: memory", value=abs(memory), bound=MEMORY_GOAL),
    ]


def main() -> None:
    """The table and the goals."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    sizes = {"layers": 4, "width": 256, "length": 128, "rows": 16, "vocab": 8192}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--child", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options)))
        return
    print("step    products    by hand            predicted MiB  measured MiB", flush=True)
    goals = [goal for method in METHODS for goal in report(method, in_process(method))]
    print(*goals, sep="\n")
    sys.exit(0 if all(goal.met for goal in goals) else 3)


if __name__ == "__main__":
    main()
