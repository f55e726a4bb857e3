"""The host's side of training: loop, checkpoints, metrics, stages. Never an algorithm."""

from rlhf_jax.training.checkpoints import Checkpoint as Checkpoint
from rlhf_jax.training.checkpoints import Store as Store
from rlhf_jax.training.errors import CheckpointError as CheckpointError
from rlhf_jax.training.errors import DiskFullError as DiskFullError
from rlhf_jax.training.errors import DivergedError as DivergedError
from rlhf_jax.training.errors import Interrupted as Interrupted
from rlhf_jax.training.errors import ResultsError as ResultsError
from rlhf_jax.training.errors import UserError as UserError
from rlhf_jax.training.errors import reading_input as reading_input
from rlhf_jax.training.loop import Trained as Trained
from rlhf_jax.training.loop import progress_bar as progress_bar
from rlhf_jax.training.loop import train as train
from rlhf_jax.training.metrics import MetricWriter as MetricWriter
from rlhf_jax.training.metrics import open_writer as open_writer
from rlhf_jax.training.metrics import read_metrics as read_metrics
from rlhf_jax.training.metrics import write_metrics as write_metrics
from rlhf_jax.training.signals import stop_on_signals as stop_on_signals
from rlhf_jax.training.stages import Run as Run
from rlhf_jax.training.stages import Stage as Stage
from rlhf_jax.training.stages import StageResult as StageResult
from rlhf_jax.training.stages import check_stop as check_stop
from rlhf_jax.training.stages import open_run as open_run
from rlhf_jax.training.stages import run_seconds as run_seconds
from rlhf_jax.training.stages import run_stage as run_stage
from rlhf_jax.training.stages import train_stage as train_stage
from rlhf_jax.training.trees import tree_digest as tree_digest
