"""QA-feedback of Fine-Grained RLHF: four answers to a question about passages, compared."""

from rlhf_jax.data.sets.builder import PairBuilder


class QaFeedback(PairBuilder):
    """Files: `train_feedback.json` and `dev_feedback.json` (Wu et al. 2023)."""

    FORMAT = "qa_feedback"
    SOURCE = "allenai/FineGrainedRLHF"
