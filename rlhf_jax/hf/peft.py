"""Adapters of the `peft` package: adapter_config.json and adapter_model.safetensors, in and out.

    lora, adapter = read_adapter("llama-lora", model)
    save_adapter("tuned-lora", model, lora, adapter)

Module names are those of the family's table. The change of a weight is s A B: `peft` stores A
[inputs, r] as lora_A [r, inputs] and B [r, outputs] as lora_B [outputs, r].
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from rlhf_jax.hf.config import CONFIG, parse_entries, read_entries, write_entries
from rlhf_jax.hf.families import FAMILIES
from rlhf_jax.hf.params import dotted, nested
from rlhf_jax.hf.pretrained import Pretrained
from rlhf_jax.hf.rows import FLAT, SAME, Layout, Row, Shape, linear
from rlhf_jax.hf.tensors import Tensor, open_file
from rlhf_jax.models import LoRA, LoRAConfig, make_lora, make_reward_model, make_transformer
from rlhf_jax.types import Params

ADAPTER_CONFIG, ADAPTER = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
A, B, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"

USED = {"peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "bias", "init_lora_weights"}
# Entries that change no number of a finished adapter. The tensors say which modules have one;
# dropout is of training by `peft`, there is none here.
_HARMLESS = """
task_type auto_mapping peft_version base_model_name_or_path revision inference_mode target_modules
exclude_modules modules_to_save lora_dropout fan_in_fan_out megatron_core qalora_group_size
layers_pattern runtime_config
"""
HARMLESS = frozenset(_HARMLESS.split())
# Starts that leave the base as it is; others (pissa, olora, loftq, ...) change it too.
PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")


class AdapterPlace(NamedTuple):
    """A tensor's place in an adapter: the leaf, numbers on its stacked axes, and how it lies."""

    leaf: str
    at: Shape
    layout: Layout


def read_adapter(folder: Path | str, model: Pretrained) -> tuple[LoRA, Params]:
    """An adapter of `model`, a language or a reward model, that `peft` or `save_adapter` wrote.

    Raises:
      ValueError: a file is missing or damaged; an entry is not supported; a tensor is missing, one
        too many or of another shape. Each is named.
    """
    folder = Path(folder)
    entries = read_entries(folder / ADAPTER_CONFIG)
    _check_entries(entries, folder / ADAPTER_CONFIG)
    tensors = _open(folder)
    rows, base = _rows(model)
    modules = {path: _module(row, base, (0,) * row.stacked) for path, row in rows.items()}
    _drop_base_layers(folder, tensors, modules, model)
    config = LoRAConfig(
        rank=entries["r"],
        alpha=entries["lora_alpha"],
        targets=tuple(path for path, module in modules.items() if module + A in tensors),
        trained=tuple(path for path, module in modules.items() if module + ".weight" in tensors),
        rank_stabilised=entries.get("use_rslora") or False,
        magnitudes=entries.get("use_dora") or False,
    )
    lora = _lora(config, model)
    like = dotted(jax.eval_shape(lora.init, jax.random.key(0), model.params))
    leaves = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in like.items()}
    places = dict(_places(model, lora))
    if other := sorted(places.keys() ^ tensors.keys()):
        which = "is missing" if other[0] in places else "has no place in this model"
        raise ValueError(f"{folder / ADAPTER}: {other[0]} {which}")
    for name, (leaf, at, layout) in places.items():
        shape = leaves[leaf][at].shape
        if tensors[name].shape != layout.theirs(shape):
            raise ValueError(
                f"{folder / ADAPTER}: {name} has shape {tensors[name].shape}, the model and r say "
                f"{layout.theirs(shape)}"
            )
        leaves[leaf][at] = layout.read(tensors[name].load(), shape)
    return lora, nested({name: jnp.asarray(leaf) for name, leaf in leaves.items()})


def save_adapter(
    folder: Path | str, model: Pretrained, lora: LoRA, adapter: Params, *, base: str | None = None
) -> None:
    """Writes a folder that `peft` and vLLM load on top of the model.

    Args:
      folder: new or empty.
      model: the base, for its names.
      base: name or path of the base model that the adapter is said to belong to.
    Raises:
      ValueError: the folder has files, or an adapter of a weight that `peft` has no place for.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: has files already; name a new folder for the adapter")
    leaves = {name: np.asarray(leaf) for name, leaf in dotted(adapter).items()}
    if leaves.get("head.bias.weight", 0) != 0:
        raise ValueError(
            'head/bias was trained, and a sequence classifier has none: train "head/weight" alone'
        )
    tensors = {
        name: np.ascontiguousarray(layout.write(leaves[leaf][at]))
        for name, (leaf, at, layout) in _places(model, lora)
    }
    entries = _entries(model, lora, base)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / ADAPTER, metadata={"format": "pt"})
    (folder / ADAPTER_CONFIG).write_text(json.dumps(entries, indent=2) + "\n", "utf-8")


def _places(model: Pretrained, lora: LoRA) -> Iterator[tuple[str, AdapterPlace]]:
    """Each tensor of an adapter, by name, with its place."""
    shapes = {name: leaf.shape for name, leaf in dotted(model.params).items()}
    rows, base = _rows(model)
    for path in (*lora.sides, *_trained(lora)):
        name = path.replace("/", ".")
        row = rows.get(path)
        if row is None:
            raise ValueError(
                f"{path!r} is no module of its own for `peft`; export the merged model"
            )
        parts = {"weight": (".weight", row.layout)}
        if path in lora.sides:
            parts = _parts(row, lora.sides[path], magnitudes=lora.config.magnitudes)
        for at in np.ndindex(shapes[name][: row.stacked]):
            for kind, (suffix, layout) in parts.items():
                yield _module(row, base, at) + suffix, AdapterPlace(f"{name}.{kind}", at, layout)


def _parts(
    row: Row, sides: tuple[int, int, int], *, magnitudes: bool
) -> dict[str, tuple[str, Layout]]:
    """Suffix and layout of the tensor of each leaf of one target."""
    if row.layout is not SAME:
        found = {"a": (A, linear(sides[1])), "b": (B, linear(1))}
        return found | {"magnitude": (MAGNITUDE, FLAT)} if magnitudes else found
    if row.ours != "unembed" or magnitudes:
        raise ValueError(
            f"`peft` has no like adapter of {row.ours!r}; leave it out or export the merged model"
        )
    # Ours is [vocab, d]: its A has the vocabulary, which is the output of lm_head.
    return {"a": (B, SAME), "b": (A, SAME)}


def _rows(model: Pretrained) -> tuple[dict[str, Row], str]:
    """Path -> row of every parameter that is a module of its own, and the prefix of the trunk."""
    family = FAMILIES[_model_entries(model)["model_type"]]
    names = dotted(model.params)
    rows = {
        row.ours.replace(".", "/"): row
        for row in family.rows
        if row.ours in names
        and row.theirs.endswith(".weight")
        # Not a part of a fused projection, and not one of several experts in one tensor.
        and row.part[1] == 1
        and row.stacked <= 1
    }
    return rows, family.base


def _module(row: Row, base: str, at: Shape) -> str:
    """The module of `peft` around the weight at this layer."""
    return PREFIX + row.name(base, at).removesuffix(".weight")


def _trained(lora: LoRA) -> list[str]:
    """Paths of the leaves that are trained whole; not the bias of a head, for which see above."""
    paths = [name.replace(".", "/") for name in dotted(lora.axes()) if name.endswith(".weight")]
    paths = [path.removesuffix("/weight") for path in paths]
    return [path for path in paths if path != "head/bias"]


def _lora(config: LoRAConfig, model: Pretrained) -> LoRA:
    make = make_reward_model if "head" in model.params else make_transformer
    return make_lora(config, make(model.config).axes())


def _model_entries(model: Pretrained) -> dict[str, Any]:
    """The config.json of the base."""
    source = parse_entries(model.files[CONFIG], CONFIG) if CONFIG in model.files else None
    return write_entries(model.config, reward="head" in model.params, source=source)


def _entries(model: Pretrained, lora: LoRA, base: str | None) -> dict[str, Any]:
    """The adapter_config.json."""
    rows, _ = _rows(model)
    config = lora.config
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if "head" in model.params else "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "target_modules": _suffixes(rows, lora.sides),
        "modules_to_save": _suffixes(rows, _trained(lora)) or None,
        "use_rslora": config.rank_stabilised,
        "use_dora": config.magnitudes,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }


def _suffixes(rows: Mapping[str, Row], chosen: Collection[str]) -> list[str]:
    """The shortest ends of module names that match the chosen ones and no other."""
    modules = {path: row.theirs.removesuffix(".weight").split(".") for path, row in rows.items()}
    found = []
    for path in chosen:
        for size in range(1, len(modules[path]) + 1):
            end = modules[path][-size:]
            if all(other in chosen for other, name in modules.items() if name[-size:] == end):
                found.append(".".join(end))
                break
    return sorted(set(found))


def _open(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter by name."""
    if not (folder / ADAPTER).is_file():
        pickles = " and adapter_model.bin is a pickle, which is never loaded"
        also = pickles if (folder / "adapter_model.bin").is_file() else ""
        raise ValueError(f"{folder}: no {ADAPTER}{also}")
    tensors = open_file(folder / ADAPTER)
    # Some releases of `peft` write the magnitudes as weights of a module.
    return {name.replace(f"{MAGNITUDE}.weight", MAGNITUDE): each for name, each in tensors.items()}


def _drop_base_layers(
    folder: Path, tensors: dict[str, Tensor], modules: Mapping[str, str], model: Pretrained
) -> None:
    """Takes out the frozen weights, which `peft` saves with an adapter of lm_head."""
    weights = dotted(model.params)
    for path, module in modules.items():
        kept = tensors.pop(f"{module}.base_layer.weight", None)
        if kept is not None and not np.array_equal(kept.load(), weights[path.replace("/", ".")]):
            raise ValueError(f"{folder / ADAPTER}: {kept.name} differs from the base model's")


def _check_entries(entries: Mapping[str, Any], path: Path) -> None:
    """ValueError for an entry that this library cannot follow."""
    if entries.get("peft_type") != "LORA":
        raise ValueError(f"{path}: peft_type = {entries.get('peft_type')!r}: supported is 'LORA'")
    for name, kinds in (("r", (int,)), ("lora_alpha", (int, float))):
        if type(entries.get(name)) not in kinds:
            raise ValueError(f"{path}: {name} = {entries.get(name)!r}: expected a number")
    other = {"bias": ("none",), "init_lora_weights": PLAIN_STARTS}
    for name, value in entries.items():
        empty = value is None or value is False or value in ({}, [])
        if name in other and value not in other[name]:
            raise ValueError(f"{path}: {name} = {value!r}: supported are {other[name]}")
        if name not in USED | HARMLESS and not empty:
            raise ValueError(f"{path}: {name} = {value!r}: not supported")
