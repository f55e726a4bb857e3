"""LoRA of any tree of parameters: the adapter is a small tree of its own, the base is frozen.

    lora = make_lora(LoRAConfig(rank=8, alpha=16, targets=("*/query", "*/value")), model.axes())
    adapter = lora.init(key, base)                      # B = 0: the base, bit for bit
    policy = adapt(language_policy(model), lora, base)  # a Policy with adapters as its params
    params = lora.merge(base, adapter)                  # for export: params of the model itself

`adapt` makes of any functions of params functions of an adapter. So losses, optimizers, checkpoints
and recipes are given the adapter as the params and nothing else about them changes; gradients and
moments exist for it alone. The reference policy is the same function at the first adapter, or at
None, which stands for the base: no second copy.

The base is closed over, but not as a constant: a compiled program would hold a copy of its own.
`hold` puts it into `jax.Ref`s, which JAX passes to every compiled program as arguments. As part of
the trained state the base would be differentiated, copied, donated and saved in each checkpoint.

Two ways to read the sum W + s A B, with the same numbers. `merge` makes the whole tree at once: any
function can read it, at the price of a second copy of the weights that have an adapter, and in the
backward pass of their gradients. `attach` leaves a `LowRank` in place of each weight, which a
transformer sums up layer by layer (`models.low_rank`). Neither computes (x A) B for every token.
That would save the gradient of the whole weight, a third of the arithmetic of a step, but belongs
into every matrix product of every model; and in bfloat16 it would train another policy than the one
that is exported. Here they are the same, bit for bit.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path, tree_map_with_path

from rlhf_jax.checks import check_fields
from rlhf_jax.models.low_rank import LowRank, summed

Params = Any  # tree of arrays
Names = tuple[str | None, ...]

STACKED = ("layers", "experts")  # axes of separate matrices


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Which weights get an adapter, and of which kind.

    rank: r. alpha: the change of a weight is s A B with s = alpha / r.
    targets: glob patterns of paths such as "trunk/layers/attention/query"; * also matches "/". A
      pattern stands for the matrices that it matches, not for the norms and biases beside them.
    trained: patterns of leaves that are trained whole, like the new head of a reward model.
    rank_stabilised: s = alpha / sqrt(r) (rsLoRA).
    magnitudes: train the length of each column on its own (DoRA).

    Reference: Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732 (rsLoRA);
      Liu et al. 2024, arXiv:2402.09353 (DoRA).
    Departs: without dropout.
    """

    rank: int
    alpha: float | int
    targets: tuple[str, ...]
    trained: tuple[str, ...] = ()
    rank_stabilised: bool = False
    magnitudes: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "rank")
        check_fields(self, "(0, inf)", "alpha")

    @property
    def scale(self) -> float:
        """s."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)


class LoRA(NamedTuple):
    """An adapter for one kind of tree, as pure functions.

    init: `(key, base) -> adapter`, which leaves the base as it is.
    attach: `(base, adapter) -> params` with a `LowRank` in place of each target.
    merge: `(base, adapter) -> params`, arrays like the base's.
    axes: `() -> ` a tree like the adapter with tuples of logical axis names.
    sides: path of a target -> numbers of its axes (stack, inputs, outputs).

    An adapter is nested dicts with the paths of the base: {"a", "b"} (and "magnitude") for a
    target, {"weight"} for a leaf that is trained whole; float32.
    """

    config: LoRAConfig
    init: Callable[..., Params]
    attach: Callable[..., Params]
    merge: Callable[..., Params]
    axes: Callable[[], Params]
    sides: dict[str, tuple[int, int, int]]


def make_lora(config: LoRAConfig, axes: Params) -> LoRA:
    """The adapter's functions for all trees with these axes.

    Args:
      axes: a tree like the params with a tuple of axis names (or None) for each array, e.g.
        `model.axes()`. It says how an array is a matrix: after stacked axes ("layers", "experts")
        come inputs and outputs, one axis each, or several for heads: (heads, head_dim).
    Raises:
      ValueError: a pattern matches nothing, or targets without a matrix among them.
    """
    flat, _ = tree_flatten_with_path(axes, is_leaf=_is_names)
    names: dict[str, Names] = {path_name(path): each for path, each in flat}
    whole = _matching(config.trained, names)
    targets = _matching(config.targets, names, only=is_matrix)
    if both := sorted(targets & whole):
        raise ValueError(f"{both[0]!r} is matched by both targets and trained")
    sides = {path: _sides(names[path]) for path in names if path in targets}
    functions = (functools.partial(each, config, sides, whole) for each in (_init, _attach, _merge))
    return LoRA(config, *functions, lambda: _axes(config, sides, whole, names), sides)


def adapt(functions: Any, lora: LoRA, base: Params, *, layerwise: bool = False) -> Any:
    """The same functions of adapters: of a Policy, ValueFn, RewardFn, PreferenceFn.

    Args:
      functions: a NamedTuple of `init` and functions with params as their first argument.
      base: arrays, or what `hold` made of them; give it the same `hold(base)` several times, and
        there is one copy.
      layerwise: whether the functions sum up each `LowRank` themselves, as those of a model do.
    Returns:
      The same kind of NamedTuple. Its `init` makes an adapter, and None is the base itself.
    """
    held = hold(base)
    apply = lora.attach if layerwise else lora.merge

    def of_adapter(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(adapter, *args, **kwargs):
            params = read(held)
            params = params if adapter is None else apply(params, adapter)
            return function(params, *args, **kwargs)

        return run

    parts = {name: part for name, part in functions._asdict().items() if part is not None}
    made = {name: of_adapter(part) for name, part in parts.items() if name != "init"}
    return functions._replace(init=lambda key: lora.init(key, held), **made)


def hold(base: Params) -> Params:
    """A copy of the base in `jax.Ref`s; a function that closes over it is compiled without it."""
    return jax.tree.map(
        lambda x: x if isinstance(x, jax.Ref) else jax.new_ref(jnp.asarray(x)), base
    )


def read(held: Params) -> Params:
    """The arrays that are held."""
    return jax.tree.map(lambda ref: ref[...], held)


def path_name(path: tuple) -> str:
    """A path of JAX as text: "trunk/layers/attention/query"."""
    return keystr(path, simple=True, separator="/")


def _is_names(part: Any) -> bool:
    return type(part) is tuple and all(name is None or isinstance(name, str) for name in part)


def _matching(
    patterns: tuple[str, ...],
    names: dict[str, Names],
    only: Callable[[Names], bool] = lambda axes: True,
) -> set[str]:
    """The paths that match any of the patterns; ValueError for one that matches none."""
    found: set[str] = set()
    for pattern in patterns:
        matched = {path for path in names if fnmatchcase(path, pattern)}
        here = {path for path in matched if only(names[path])}
        if not matched:
            near = sorted(names, key=functools.partial(_distance, pattern))[:3]
            raise ValueError(
                f"no parameter matches the pattern {pattern!r}; the nearest are {near}"
            )
        if not here:
            path = min(matched)
            known = sorted(each for each, axes in names.items() if only(axes))
            raise ValueError(
                f"the pattern {pattern!r} matches no matrix: {path!r} has axes {names[path]}, and "
                f"a target needs inputs and outputs after any of {STACKED}. The matrices are "
                f"{known}; name {path!r} in `trained` to train it whole"
            )
        found |= here
    return found


def _distance(pattern: str, path: str) -> float:
    """How little the last parts of two paths are alike."""
    end, other = (name.rsplit("/", 1)[-1] for name in (pattern, path))
    return -SequenceMatcher(None, end, other).ratio()


def is_matrix(names: Names) -> bool:
    """Whether an array has inputs and outputs after its stacked axes, and so may get an adapter."""
    stack, starts = _starts(names)
    return len(starts) == 2 and starts[0] == stack


def _starts(names: Names) -> tuple[int, list[int]]:
    """The number of stacked axes, and where the sides after them begin."""
    # "experts" is a stack only where it comes first: it is the outputs of a router.
    stack = next((i for i, name in enumerate(names) if name not in STACKED), len(names))
    # A head and its features are one side of a matrix.
    return stack, [i for i in range(stack, len(names)) if names[i] != "head_dim"]


def _sides(names: Names) -> tuple[int, int, int]:
    """Numbers of stacked axes, input axes and output axes of a matrix."""
    stack, starts = _starts(names)
    return stack, starts[1] - stack, len(names) - starts[1]


def _init(config, sides, whole, key: jax.Array, base: Params) -> Params:
    """A uniform within 1 / sqrt(number of inputs), B = 0, m the lengths of the columns."""
    leaves = _leaves(base)
    adapter = {path: {"weight": _wide(leaves[path][...])} for path in whole}
    for path, each in zip(sides, jax.random.split(key, len(sides)), strict=True):
        stack, inputs, _ = sides[path]
        shape = leaves[path].shape
        rows = shape[: stack + inputs]
        bound = math.prod(rows[stack:]) ** -0.5
        dtype = jnp.promote_types(leaves[path].dtype, jnp.float32)
        a = jax.random.uniform(each, (*rows, config.rank), dtype, -bound, bound)
        b = jnp.zeros((*shape[:stack], config.rank, *shape[stack + inputs :]), dtype)
        adapter[path] = {"a": a, "b": b}
        if config.magnitudes:
            over = tuple(range(stack, stack + inputs))
            adapter[path]["magnitude"] = jnp.sqrt(jnp.sum(_wide(leaves[path][...]) ** 2, over))
    return _nested(adapter)


def _attach(config, sides, whole, base: Params, adapter: Params) -> Params:
    """Each target as a `LowRank`, each leaf that is trained whole in its place."""
    _check_parts(config, sides, whole, adapter)

    def leaf(path: tuple, weight: jax.Array) -> Any:
        name = path_name(path)
        if name not in sides and name not in whole:
            return weight
        part = functools.reduce(lambda tree, key: tree[key], filter(None, name.split("/")), adapter)
        if name in whole:
            return part["weight"].astype(weight.dtype)
        _check_shapes(name, weight.shape, part, sides[name])
        return LowRank(weight, part["a"], part["b"], part.get("magnitude"), config.scale)

    return tree_map_with_path(leaf, base)


def _merge(config, sides, whole, base: Params, adapter: Params) -> Params:
    """`attach` with every `LowRank` summed up."""
    return summed(_attach(config, sides, whole, base, adapter))


def _axes(config, sides, whole, names: dict[str, Names]) -> Params:
    """Axis names of the adapter; the rank has none and is never split over devices."""
    adapter: dict[str, dict[str, Names]] = {path: {"weight": names[path]} for path in whole}
    for path, (stack, inputs, _) in sides.items():
        into, out = names[path][: stack + inputs], names[path][stack + inputs :]
        lead = names[path][:stack]
        adapter[path] = {"a": (*into, None), "b": (*lead, None, *out)}
        if config.magnitudes:
            adapter[path]["magnitude"] = (*lead, *out)
    return _nested(adapter)


def _check_parts(config, sides, whole, adapter: Params) -> None:
    """ValueError for an adapter with other leaves than this config says."""
    kinds = ("a", "b", "magnitude") if config.magnitudes else ("a", "b")
    wanted = {f"{path}/{kind}".lstrip("/") for path in sides for kind in kinds}
    wanted |= {f"{path}/weight".lstrip("/") for path in whole}
    if other := sorted(wanted ^ set(_leaves(adapter))):
        where = "lacks" if other[0] in wanted else "has another leaf,"
        raise ValueError(f"the adapter {where} {other[0]!r}: it was made with another LoRAConfig")


def _check_shapes(name: str, shape: tuple[int, ...], part: dict, sides) -> None:
    """ValueError unless A and B fit the weight."""
    stack, inputs, _ = sides
    rank, a, b = part["a"].shape[-1], part["a"].shape, part["b"].shape
    lead, out = shape[:stack], shape[stack + inputs :]
    if a[:-1] != shape[: stack + inputs] or b != (*lead, rank, *out):
        raise ValueError(
            f"the adapter of {name!r} has A {a} and B {b}, which do not fit a weight {shape}: it "
            "is the adapter of another model"
        )


def _leaves(base: Params) -> dict[str, Any]:
    return {path_name(path): leaf for path, leaf in tree_flatten_with_path(base)[0]}


def _wide(x: jax.Array) -> jax.Array:
    """At least float32: small steps of a bfloat16 weight would round to nothing."""
    return jnp.asarray(x).astype(jnp.promote_types(x.dtype, jnp.float32))


def _nested(flat: dict[str, Any]) -> Params:
    """Nested dicts from paths; the path of a tree that is one array is empty."""
    tree: dict[str, Any] = {}
    for path, part in flat.items():
        here = tree
        for key in filter(None, path.split("/")):
            here = here.setdefault(key, {})
        here |= part
    return tree
