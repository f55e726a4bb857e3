"""Products within kernels, which a program shows as one call: noted by the author, or known."""

import math
import re

from rlhf_jax.plan.hlo import ArrayType, Instruction

# Products for each pair of a query and a key in the attention kernel of TPUs: scores and values; in
# the backward pass scores again, and those of the slopes.
SPLASH = {"_dkv": 4, "_dq": 3, "_fwd": 2}


def kernel_flops(one: Instruction, operands: list[ArrayType]) -> float | int:
    """Of a custom call; 0 for one that is not known.

    Args:
      operands: their types.
    """
    if found := re.search(r'"flops":"?(\d+)', one.attributes):
        return int(found[1])
    if re.match(r"splash_m[hq]a", one.name):
        return _splash_flops(one.name, operands)
    return 0


def _splash_flops(name: str, operands: list[ArrayType]) -> int:
    """Causal attention of queries [..., L, h] in n blocks, each with at most k blocks of keys.

    The kernel skips blocks that nobody attends to: block i has min(i + 1, k) of them.
    """
    _, blocks, most = operands[0].dims
    length, size = operands[2].dims[-2:]
    met = sum(min(i + 1, most) for i in range(blocks)) * (length // blocks) ** 2
    products = next(count for part, count in SPLASH.items() if part in name)
    rows_and_heads = math.prod(operands[2].dims[:-2])
    return products * 2 * size * met * rows_and_heads
