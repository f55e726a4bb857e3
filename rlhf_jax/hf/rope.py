"""Rotary positions in a config.json: rope_theta and rope_scaling, or rope_parameters with both.

`transformers` 5 writes rope_parameters; all versions, and vLLM, read the older names, which are
written here.
"""

import math
from typing import Any

from rlhf_jax.hf.fields import ConfigField, Entries, refused
from rlhf_jax.models import RopeScaling, TransformerConfig

NAMES = ("rope_theta", "rope_scaling", "rope_parameters", "max_position_embeddings")
LOCAL = "rope_local_base_freq"
# Name of a number in rope_scaling -> name in RopeScaling.
NUMBERS = {
    "factor": "factor",
    "original_max_position_embeddings": "original_max_positions",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "attention_factor": "attention_factor",
    "truncate": "truncate",
}
WHOLE = ("original_max_position_embeddings", "truncate")
# The numbers of each kind; yarn may have mscale and mscale_all_dim in place of attention_factor.
KINDS = {
    "linear": ("factor",),
    "dynamic": ("factor",),  # its original length is max_position_embeddings
    "llama3": (*NUMBERS,)[:4],
    "yarn": ("factor", "original_max_position_embeddings", *(*NUMBERS,)[4:]),
}


def rope(theta: float = 10_000.0, *, local_theta: float | None = None) -> ConfigField:
    """Rotary positions.

    Args:
      theta: rope_theta of a file without it.
      local_theta: rope_local_base_freq of a file without it; None: local layers are as the others.
    """

    def read(entries: Entries) -> dict[str, Any]:
        given = {**(entries.get("rope_scaling") or {}), **(entries.get("rope_parameters") or {})}
        local = given.pop("sliding_attention", {})
        given |= given.pop("full_attention", {})
        longest = entries.get("max_position_embeddings")
        settings = {"max_positions": longest, "rope_theta": float(entries.get("rope_theta", theta))}
        settings |= _scaling(given, longest)
        if local_theta is not None:
            found = _scaling(dict(local), longest)
            if found["rope_scaling"] is not None:
                raise refused("rope_parameters.sliding_attention", local)
            settings["rope_local_theta"] = float(
                found.get("rope_theta", entries.get(LOCAL, local_theta))
            )
        return settings

    def write(config: TransformerConfig) -> dict[str, Any]:
        entries: dict[str, Any] = {"rope_theta": config.rope_theta, "rope_scaling": None}
        if config.max_positions is not None:
            entries["max_position_embeddings"] = config.max_positions
        if local_theta is not None:
            entries[LOCAL] = config.rope_local_theta
        scaling = config.rope_scaling
        if scaling is not None:
            numbers = {name: getattr(scaling, NUMBERS[name]) for name in KINDS[scaling.kind]}
            numbers = {name: number for name, number in numbers.items() if number is not None}
            entries["rope_scaling"] = {"rope_type": scaling.kind, **numbers}
        return entries

    return ConfigField((*NAMES, LOCAL) if local_theta is not None else NAMES, read, write)


def _scaling(given: dict[str, Any], longest: int | None) -> dict[str, Any]:
    """rope_scaling, and rope_theta if it is given here; `longest` is max_position_embeddings."""
    old = given.pop("type", "default")
    kind = given.pop("rope_type", old)
    settings = {"rope_theta": float(given.pop("rope_theta"))} if "rope_theta" in given else {}
    if given.pop("partial_rotary_factor", 1.0) != 1.0:
        raise refused("partial_rotary_factor", "less than 1")
    if kind != "default" and kind not in KINDS:
        raise refused("rope_type", kind, f"expected default, {', '.join(KINDS)}")
    if kind == "yarn":
        given = _yarn(given, longest)
    if kind == "dynamic" and given.pop("original_max_position_embeddings", longest) != longest:
        raise refused("rope_type", kind, "its original length must be max_position_embeddings")
    if kind == "llama3":
        given.setdefault("original_max_position_embeddings", longest)
    for name, value in given.items():
        if name not in KINDS.get(kind, ()):
            raise refused(f"rope_scaling.{name}", value, f"not a number of rope_type {kind}")
    if kind == "default":
        return settings | {"rope_scaling": None}
    numbers: dict[str, Any] = {
        NUMBERS[name]: value if name in WHOLE else float(value)  # files have 8 for 8.0
        for name, value in given.items()
        if value is not None
    }
    if kind == "dynamic":
        numbers["original_max_positions"] = longest
    return settings | {"rope_scaling": RopeScaling(kind=kind, **numbers)}


def _yarn(given: dict[str, Any], longest: int | None) -> dict[str, Any]:
    """The numbers of yarn, attention_factor in place of mscale and mscale_all_dim."""
    original = given.get("original_max_position_embeddings") or longest
    given = {**given, "original_max_position_embeddings": original}
    if given.get("factor") is None and longest and original:
        given["factor"] = longest / original
    scales = [given.pop(name, None) for name in ("mscale", "mscale_all_dim")]
    if all(scales) and given.get("attention_factor") is None:
        top, bottom = (0.1 * scale * math.log(given["factor"]) + 1.0 for scale in scales)
        given["attention_factor"] = top / bottom
    return given
