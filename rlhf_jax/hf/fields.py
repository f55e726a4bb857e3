"""Entries of a config.json as settings of `TransformerConfig`, in both directions.

A `ConfigField` names the entries that it reads. A value that is not computed is refused by name.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rlhf_jax.models import MoEConfig, TransformerConfig

Entries = Mapping[str, Any]  # of a config.json
REQUIRED = object()
PATTERNS = ("sliding_window_pattern", "_sliding_window_pattern")
ACTIVATIONS = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}


class ConfigField(NamedTuple):
    """names: the entries that it reads.

    read: `entries -> settings`, keyword arguments of TransformerConfig. write: `config -> entries`.
    """

    names: tuple[str, ...]
    read: Callable[[Entries], dict[str, Any]]
    write: Callable[[TransformerConfig], dict[str, Any]]


def renamed(theirs: str, ours: str, default: Any = REQUIRED) -> ConfigField:
    """An entry with the value of a setting; `default` is that of an absent entry."""

    kind = int if default is REQUIRED else type(default)

    def read(entries: Entries) -> dict[str, Any]:
        value = entries.get(theirs, default)
        if not isinstance(value, (int, float) if kind is float else kind):
            found = "none" if value is REQUIRED else repr(value)
            raise ValueError(f"{theirs} must be of type {kind.__name__}, got {found}")
        return {ours: float(value) if kind is float else value}

    return ConfigField((theirs,), read, lambda config: {theirs: getattr(config, ours)})


def optional(theirs: str, ours: str, default: float | None) -> ConfigField:
    """A number or null; `default` is the value of an absent entry."""

    def read(entries: Entries) -> dict[str, Any]:
        value = entries.get(theirs, default)
        if value is not None and not isinstance(value, (int, float)):
            raise ValueError(f"{theirs} must be a number or null, got {value!r}")
        return {ours: None if value is None else float(value)}

    return ConfigField((theirs,), read, lambda config: {theirs: getattr(config, ours)})


def only(theirs: str, *values: Any) -> ConfigField:
    """An entry that must have one of these values, if it is there; the first is written."""

    def read(entries: Entries) -> dict[str, Any]:
        found = entries.get(theirs, values[0])
        if found not in values:
            raise refused(theirs, found, f"expected {' or '.join(map(repr, values))}")
        return {}

    return ConfigField((theirs,), read, lambda config: {theirs: values[0]})


def always(**settings: Any) -> ConfigField:
    """Settings that every model of the family has."""
    return ConfigField((), lambda entries: settings, lambda config: {})


def heads(*, kv_heads: int | None = None, head_dim: int | None = None) -> ConfigField:
    """Numbers of heads and their size.

    Args:
      kv_heads: default of num_key_value_heads; None: as many as query heads.
      head_dim: default of head_dim; None: hidden_size / num_attention_heads.
    """
    names = ("num_attention_heads", "num_key_value_heads", "head_dim")

    def read(entries: Entries) -> dict[str, Any]:
        for name in ("num_attention_heads", "hidden_size"):
            if not isinstance(entries.get(name), int):
                raise ValueError(f"{name} must be a whole number, got {entries.get(name)!r}")
        queries, width = entries["num_attention_heads"], entries["hidden_size"]
        size = entries.get("head_dim", head_dim)
        if size is None and width % queries:
            raise ValueError(f"hidden_size {width} is not a multiple of {queries} heads")
        return {
            "num_heads": queries,
            "num_kv_heads": entries.get("num_key_value_heads", kv_heads) or queries,
            "head_dim": width // queries if size is None else size,
        }

    def write(config: TransformerConfig) -> dict[str, Any]:
        return dict(
            zip(names, (config.num_heads, config.num_kv_heads, config.head_dim), strict=True)
        )

    return ConfigField(names, read, write)


def several(theirs: str, *ours: str, default: Any) -> ConfigField:
    """One entry that several settings share."""

    def read(entries: Entries) -> dict[str, Any]:
        return dict.fromkeys(ours, entries.get(theirs, default))

    return ConfigField((theirs,), read, lambda config: {theirs: getattr(config, ours[0])})


def unused(theirs: str, ours: str) -> ConfigField:
    """An entry that changes nothing; the value of a setting is written."""
    return ConfigField(
        (theirs,), lambda entries: {}, lambda config: {theirs: getattr(config, ours)}
    )


def equal_heads(count: str, width: str) -> ConfigField:
    """GPT-2's heads: as many for keys and values as for queries, together as wide as the model."""

    def read(entries: Entries) -> dict[str, Any]:
        number, size = entries.get(count), entries.get(width)
        if not isinstance(number, int) or not isinstance(size, int) or size % number:
            raise ValueError(f"{width} = {size!r} must be a multiple of {count} = {number!r}")
        return {"num_heads": number, "num_kv_heads": number, "head_dim": size // number}

    return ConfigField((count,), read, lambda config: {count: config.num_heads})


def inner_width(theirs: str, width: str) -> ConfigField:
    """GPT-2's width of the MLP; null is four times that of the model."""

    def read(entries: Entries) -> dict[str, Any]:
        return {"d_ff": entries.get(theirs) or 4 * entries[width]}

    return ConfigField((theirs,), read, lambda config: {theirs: config.d_ff})


def activation(theirs: str, default: str, names: Mapping[str, str] = ACTIVATIONS) -> ConfigField:
    """The activation of the MLP, by its name in `transformers`."""

    def read(entries: Entries) -> dict[str, Any]:
        found = entries.get(theirs, default)
        if found not in names:
            raise refused(theirs, found, f"expected one of {', '.join(names)}")
        return {"activation": names[found]}

    def write(config: TransformerConfig) -> dict[str, Any]:
        return {theirs: next(t for t, ours in names.items() if ours == config.activation)}

    return ConfigField((theirs,), read, write)


def attention_scale(default: int) -> ConfigField:
    """Gemma's query_pre_attn_scalar, the scale to the power of -2."""
    name = "query_pre_attn_scalar"

    def read(entries: Entries) -> dict[str, Any]:
        return {"attention_scale": entries.get(name, default) ** -0.5}

    def write(config: TransformerConfig) -> dict[str, Any]:
        # Whole, as `transformers` asks: the root of its inverse is the scale again.
        return {name: round((config.attention_scale or config.head_dim**-0.5) ** -2)}

    return ConfigField((name,), read, write)


def windows(
    default: int | None,
    local: Callable[[Entries, int], list[bool]] | None = None,
    *,
    optional: bool = False,
) -> ConfigField:
    """Sliding windows, of all layers or of those that `layer_types` names.

    Args:
      default: sliding_window of a file without it.
      local: `(entries, layers) -> ` which layers are local in a file without layer_types; None: the
        family has no layer_types, and a window is that of all layers.
      optional: whether the window counts only with use_sliding_window, as in Qwen.
    """
    switches = ("use_sliding_window", "max_window_layers") if optional else ()
    types = () if local is None else ("layer_types", *PATTERNS)

    def read(entries: Entries) -> dict[str, Any]:
        window = entries.get("sliding_window", default)
        if window is None or (optional and not entries.get("use_sliding_window", False)):
            return {}
        if local is None:
            return {"sliding_window": window}
        found = entries.get("layer_types") or [
            "sliding_attention" if each else "full_attention"
            for each in local(entries, entries["num_hidden_layers"])
        ]
        if set(found) - {"sliding_attention", "full_attention"}:
            raise refused("layer_types", sorted(set(found)))
        layers = tuple(each == "sliding_attention" for each in found)
        return {"sliding_window": window, "layer_windows": layers}

    def write(config: TransformerConfig) -> dict[str, Any]:
        layers = config.local_layers
        entries: dict[str, Any] = {"sliding_window": config.sliding_window}
        if optional:
            entries["use_sliding_window"] = config.sliding_window is not None
            entries["max_window_layers"] = layers.index(True) if any(layers) else len(layers)
        if local is not None:
            entries["layer_types"] = [
                "sliding_attention" if each else "full_attention" for each in layers
            ]
        return entries

    return ConfigField(("sliding_window", *switches, *types), read, write)


def experts(*count: str, normalise: bool | None) -> ConfigField:
    """A mixture of experts.

    Args:
      count: the names of the number of experts; the first is written.
      normalise: whether the family divides the weights by their sum; None: the file says it.
    """
    names = (*count, "num_experts_per_tok", "router_aux_loss_coef")
    names = names if normalise is not None else (*names, "norm_topk_prob")

    def read(entries: Entries) -> dict[str, Any]:
        numbers = [entries[name] for name in count if name in entries]
        if not numbers or "num_experts_per_tok" not in entries:
            raise ValueError(f"no {count[0]} or no num_experts_per_tok")
        moe = MoEConfig(
            experts=numbers[0],
            experts_per_token=entries["num_experts_per_tok"],
            normalise_weights=entries.get("norm_topk_prob", False)
            if normalise is None
            else normalise,
            load_balance_weight=float(entries.get("router_aux_loss_coef", 0.001)),
        )
        return {"moe": moe}

    def write(config: TransformerConfig) -> dict[str, Any]:
        moe = config.moe
        if moe is None:
            return {}
        values = (moe.experts_per_token, moe.load_balance_weight, moe.normalise_weights)
        return {count[0]: moe.experts} | dict(zip(names[len(count) :], values, strict=False))

    return ConfigField(names, read, write)


def refused(name: str, value: Any, why: str = "not supported") -> ValueError:
    """The error for an entry that the model cannot compute."""
    return ValueError(f"{name} = {value!r}: {why}")
