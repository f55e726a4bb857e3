"""What a server has."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rlhf_jax.serving.engine import Engine
from rlhf_jax.serving.requests import Reads

Score = Callable[[Sequence[Any], Sequence[str]], list[float]]


class Served(NamedTuple):
    """What is served.

    name: of the model in requests. engine, reads: of the language model, None without one.
    score: (prompts, answers) -> scores of a reward model, None without one. token: what clients
    must show, or None.
    """

    name: str
    engine: Engine | None = None
    reads: Reads | None = None
    score: Score | None = None
    token: str | None = None
