"""The host's side of training: loop, checkpoints, metrics, stages. Never an algorithm."""

from rlhf_jax.training.checkpoints import Checkpoint, Store
from rlhf_jax.training.errors import (
    CheckpointError,
    DiskFullError,
    DivergedError,
    Interrupted,
    ResultsError,
    UserError,
    reading_input,
)
from rlhf_jax.training.loop import Trained, progress_bar, train
from rlhf_jax.training.metrics import MetricWriter, open_writer, read_metrics, write_metrics
from rlhf_jax.training.signals import stop_on_signals
from rlhf_jax.training.stages import (
    Run,
    Stage,
    StageResult,
    check_stop,
    open_run,
    run_seconds,
    run_stage,
    train_stage,
)
from rlhf_jax.training.trees import tree_digest

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "DiskFullError",
    "DivergedError",
    "Interrupted",
    "MetricWriter",
    "ResultsError",
    "Run",
    "Stage",
    "StageResult",
    "Store",
    "Trained",
    "UserError",
    "check_stop",
    "open_run",
    "open_writer",
    "progress_bar",
    "read_metrics",
    "reading_input",
    "run_seconds",
    "run_stage",
    "stop_on_signals",
    "train",
    "train_stage",
    "tree_digest",
    "write_metrics",
]
