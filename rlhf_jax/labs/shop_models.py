"""Two trained models of the shop, in the package: what experiments on the shop start from.

    lab = shop_lab(Size(), folder, seed=0)
    sft = shipped(lab, "sft")
    competence(lab, shop_task(0), sft, indices, world=0)["listed"].mean()

`base` has read look-up drills and general text of the world, and no assistant. `sft` goes on from
it with ideal answers, and ends on three answers of the corpus, faults and all, to seven ideal ones.
`python -m rlhf_jax.labs.train_shop OUT` makes both. A file holds bfloat16 numbers and the hash of
the world it was trained on; a model of another world is refused.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.reading import read_answer
from rlhf_jax.hf.params import dotted, nested
from rlhf_jax.recipes import LanguageLab, Task, measure, stage_key
from rlhf_jax.recipes.lab import hold_params
from rlhf_jax.sharding import on_host
from rlhf_jax.training import UserError
from rlhf_jax.types import Params

SHIPPED = ("base", "sft")
FOLDER = Path(__file__).parent / "shop_models"
# What SFT must reach on held-out prompts before it is compared with anything: `competence`.
GATES = {"listed": 0.9, "gold": 0.7, "helpful": 0.7, "honest": 0.75}
REMADE = "remake it with `python -m rlhf_jax.labs.train_shop`"


def shipped(lab: LanguageLab, name: str, folder: Path = FOLDER) -> Params:
    """The policy parameters of a shipped model, float32, on the lab's devices.

    Args:
      name: one of SHIPPED.
      folder: with `<name>.safetensors`, from `ship`.
    Raises:
      UserError: no such model, one of another world, or one of another size than the lab's.
    """
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        found = sorted(file.stem for file in folder.glob("*.safetensors"))
        raise UserError(f"{folder} has no shipped model {name!r}; it has {found}")
    try:
        with safe_open(path, "np") as file:
            world = (file.metadata() or {}).get("world")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} is cut off or damaged ({error}): {REMADE}") from error
    if world != shop.world_hash():
        raise UserError(
            f"{path} was trained on world {world}, this one is {shop.world_hash()}: {REMADE}"
        )
    like = dotted(jax.eval_shape(lab.policy.init, jax.random.key(0)))
    shapes = {key: leaf.shape for key, leaf in like.items()}
    if shapes != {key: tensor.shape for key, tensor in tensors.items()}:
        raise UserError(
            f"{path} is a model of another size than this lab's: leave `size` as it is, or train "
            "from scratch"
        )
    leaves = {key: jnp.asarray(tensors[key], leaf.dtype) for key, leaf in like.items()}
    return hold_params(lab, nested(leaves), lab.axes["policy"])


def ship(path: Path, params: Params) -> None:
    """Writes policy parameters as bfloat16, with the hash of the world."""
    tensors = {
        key: np.ascontiguousarray(jnp.asarray(leaf, jnp.bfloat16))
        for key, leaf in dotted(on_host(params)).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"world": shop.world_hash()})


def competence(
    lab: LanguageLab,
    task: Task,
    params: Params,
    indices: np.ndarray,
    *,
    world: int,
) -> dict[str, np.ndarray]:
    """What a policy can do, of its answers to N prompts: gold, the axes, and `listed`.

    listed: 1 if all products that the answer recommends are on the prompt's list, 0 if one is not
    or none is; NaN where the prompt does not ask for a recommendation.

    Args:
      task: from `shop_task(world)`.
    Returns:
      [N, 1] by name.
    """
    key = stage_key(lab, "competence")
    found = measure(lab, task, params, params, indices, key)
    prompts = [shop.make_prompt(world, int(i)) for i in indices]
    listed = [
        [_names_listed(prompt, text) for text in texts]
        for prompt, texts in zip(prompts, found.texts, strict=True)
    ]
    return {**found.named, "listed": np.asarray(listed, float)}


def _names_listed(prompt: shop.Prompt, text: str) -> float:
    if prompt.task != "recommend":
        return np.nan
    recommended = read_answer(prompt, text).recommended
    return float(bool(recommended) and {*recommended} <= {p.name for p in prompt.products})
