"""`rlhf merge`: an adapter into its model, or several models into one."""

from dataclasses import dataclass
from pathlib import Path

from rlhf_jax.cli.options import Dtype
from rlhf_jax.hf import Pretrained, add_changes, load_any, mean_model, read_adapter, save_model
from rlhf_jax.hf.merging import cast_model
from rlhf_jax.training import UserError, reading_input


@dataclass(frozen=True, kw_only=True)
class Merge:
    """One model of an adapter and its model, or of several models of one architecture.

    --model and --adapter: the model with the adapter of `peft` in its weights. --models: the sum of
    weight * each, the mean without --weights. --model and --models: the sum of changes, model +
    weight * (each - model).
    """

    model: Path | None = None
    """Hugging Face folder of the model that the adapter or --models were trained from."""
    adapter: Path | None = None
    """Folder of an adapter in the format of `peft`."""
    models: tuple[Path, ...] = ()
    """Folders of models."""
    weights: tuple[float, ...] = ()
    """One for each of --models; without --model their sum is 1."""
    out: Path
    """New folder."""
    dtype: Dtype = "float32"
    """Of the weights that are written; sums are taken in float32."""


def merge(command: str, options: Merge) -> None:
    """Reads, adds up and writes."""
    if (options.adapter is None) == (not options.models):
        raise UserError("rlhf merge needs --model and --adapter, or --models")
    with reading_input():
        found = _with_adapter(options) if options.adapter else _sum(options)
        save_model(options.out, cast_model(found, options.dtype))
    print(f"model: {options.out}")


def _with_adapter(options: Merge) -> Pretrained:
    if options.model is None or options.adapter is None:
        raise UserError("rlhf merge --adapter needs --model, the model that it belongs to")
    model = load_any(options.model)
    lora, adapter = read_adapter(options.adapter, model)
    return model._replace(params=lora.merge(model.params, adapter))


def _sum(options: Merge) -> Pretrained:
    weights = options.weights or (1 / len(options.models),) * len(options.models)
    if options.model is None:
        return mean_model(options.models, weights)
    return add_changes(options.model, options.models, weights)
