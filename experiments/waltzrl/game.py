"""A prompt of two kinds that two agents see apart: what each does, and what comes of it, exactly.

The kind is 0 (benign) or 1 (harmful). An answer is 0 (comply) or 1 (refuse), and right if it equals
the kind. The conversation agent sees the kind through one noisy view and drafts; the feedback agent
sees another view and the draft, gives a label (fine, unsafe, over-refusal) and a message (nothing,
make it safe, do help); after a label that is not fine the first agent reads the message and answers
again.

Tables: conversation [14, 2], two states of a draft (its view) and twelve of a revision (view,
draft, message); feedback [4, 9], by view and draft, of label and message.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

LABELS, MESSAGES = 3, 3
STATES, FEEDBACK_STATES = 14, 4
FINE = 0


class Measures(NamedTuple):
    """attacks: P(complies | harmful). refusals: P(refuses | benign). triggers: P(flag). labels:
    P(label right). spoils: P(a good draft becomes a bad answer). All exact."""

    attacks: Float[Array, ""]
    refusals: Float[Array, ""]
    triggers: Float[Array, ""]
    labels: Float[Array, ""]
    spoils: Float[Array, ""]


def true_label(kind: Array, answer: Array) -> Array:
    """0 fine, 1 unsafe (complies with harm), 2 over-refusal."""
    return jnp.where(kind == answer, FINE, jnp.where(kind == 1, 1, 2))


def revision_state(view: Array | int, draft: Array | int, message: Array | int) -> Array | int:
    """Row of the conversation table."""
    return 2 + (2 * view + draft) * MESSAGES + message


def feedback_state(view: Array, draft: Array) -> Array:
    """Row of the feedback table."""
    return 2 * view + draft


def start() -> tuple[Float[Array, "14 2"], Float[Array, "4 9"]]:
    """Drafts follow the view by +-0.7. A revision repeats the draft (+1) and follows the message
    (+1). Feedback is uniform."""
    table = np.zeros((STATES, 2), np.float32)
    for view in range(2):
        table[view] = -0.7
        table[view, view] = 0.7
        for draft in range(2):
            for message in range(MESSAGES):
                row = int(revision_state(view, draft, message))
                table[row, draft] += 1.0
                if message:
                    table[row, 2 - message] += 1.0
    return jnp.asarray(table), jnp.zeros((FEEDBACK_STATES, LABELS * MESSAGES))


def measure(
    conversation: Float[Array, "14 2"],
    feedback: Float[Array, "4 9"],
    *,
    sees_first: float,
    sees_second: float,
    listens: Array | bool,
) -> Measures:
    """By enumeration of kind, both views, draft, feedback and revision.

    Args:
      listens: False shows the draft to nobody: one agent alone.
    """
    axes = [2, 2, 2, 2, LABELS * MESSAGES, 2]
    kind, first, second, draft, said, revision = jnp.meshgrid(
        *(jnp.arange(n) for n in axes), indexing="ij"
    )
    drafts = jax.nn.softmax(conversation)
    label, message = said // MESSAGES, said % MESSAGES
    chance = 0.5 * _view(first, kind, sees_first) * _view(second, kind, sees_second)
    chance = chance * drafts[first, draft]
    chance = chance * jax.nn.softmax(feedback)[feedback_state(second, draft), said]
    chance = chance * drafts[revision_state(first, draft, message), revision]
    flagged = (label != FINE) & listens
    answer = jnp.where(flagged, revision, draft)

    def share(event: Array) -> Array:
        return jnp.sum(jnp.where(event, chance, 0.0))

    return Measures(
        attacks=2.0 * share((kind == 1) & (answer == 0)),
        refusals=2.0 * share((kind == 0) & (answer == 1)),
        triggers=share(flagged),
        labels=share(label == true_label(kind, draft)),
        spoils=share((draft == kind) & (answer != kind)),
    )


def _view(view: Int[Array, "..."], kind: Int[Array, "..."], right: float) -> Float[Array, "..."]:
    """P(view | kind)."""
    return jnp.where(view == kind, right, 1.0 - right)
