"""Two folders of language models as the reward that the trained one implies."""

from pathlib import Path

from jax.sharding import Mesh

from rlhf_jax.cli.reward_lab import reward_lab
from rlhf_jax.hf import load_model
from rlhf_jax.recipes import LanguageLab, implicit_lab
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params

IMPLICIT = "implicit"  # implicit:FOLDER,REFERENCE


def open_implicit(rest: str, *, mesh: Mesh | None = None) -> tuple[LanguageLab, Params]:
    """A lab whose scores are log pi - log pi_ref of an answer in nats, and both models.

    Args:
      rest: the folder of a policy that a loss of pairs has trained, and that of its reference.
    Raises:
      UserError: not two folders of language models with one shape and one tokenizer.
    """
    words = rest.split(",")
    if len(words) != 2:
        raise UserError(f"{IMPLICIT}:{rest} must be {IMPLICIT}:FOLDER,REFERENCE")
    folder, reference = map(Path, words)
    with reading_input():
        trained, first = (load_model(path, mesh=mesh) for path in (folder, reference))
        labs = [reward_lab(path, x, 0) for path, x in ((folder, trained), (reference, first))]
    texts = [lab.vocabulary.tokenizer.to_str() for lab in labs]
    if trained.config != first.config or texts[0] != texts[1]:
        raise UserError(
            f"{folder} and {reference} have different shapes or tokenizers: the reference must be "
            "the model that the training of the other began with"
        )
    lab = implicit_lab(labs[0], beta=1.0)
    return lab, {"policy": trained.params, "reference": first.params}
