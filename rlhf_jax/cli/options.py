"""Options that several commands share; a command is a dataclass of such parts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.processes import Processes
from rlhf_jax.data.lengths import LengthPolicy
from rlhf_jax.models.config import Remat
from rlhf_jax.recipes.repair import RepairKind

Tracker = Literal["wandb", "trackio"]
Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model."""

    model: Path
    """Hugging Face folder of the model to start from, which is also the reference."""
    dtype: Dtype = "float32"
    """Of matrix products."""
    param_dtype: Dtype | None = None
    """Of the parameters and the optimizer's moments; None: as dtype."""
    prompt_length: int = 512
    """Tokens of a prompt, at most."""
    answer_length: int = 512
    """Tokens of an answer, at most, its stop token included."""
    long_prompts: LengthPolicy = "truncate_left"
    """Rows with a longer prompt: error, drop them, or truncate on one side; a note counts them."""
    long_answers: LengthPolicy = "truncate_right"
    """Rows with a longer answer, likewise."""
    seed: int = 0
    """Of all random draws and of the order of rows."""
    remat: Remat = "dots"
    """What is kept of a layer for its gradient; "nothing" needs the least memory and more time."""
    mesh: str | None = None
    """Devices by axis, e.g. fsdp=8,model=4 of data, fsdp, sequence, model; None: all to fsdp."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "prompt_length", "answer_length")
        check_fields(self, "[0, 4294967295]", "seed")


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """Low-rank adapters (LoRA): the model is frozen, and OUT/model has them merged."""

    lora_rank: int = 0
    """Rank of the change of each target; 0 trains all of the model."""
    lora_alpha: float = 16.0
    """The change is scaled by alpha / rank."""
    lora_targets: tuple[str, ...] = ("*/query", "*/key", "*/value", "*/out")
    """Patterns of the weights that are changed; */gate, */up and */down are the MLP's."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, inf)", "lora_rank")
        check_fields(self, "(0, inf)", "lora_alpha")


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Labels of pairs repaired by the vote of reward models, which are trained first."""

    repair: RepairKind = "none"
    """What is done with pairs that the voters doubt; margin: scores differ by the strength."""
    voters: int = 4
    """Reward models that vote, each trained for one pass over the pairs."""
    repair_share: float = 0.2
    """Of the pairs, the weakest first, that are flipped or dropped."""
    repair_smoothing: float = 0.5
    """Probability that the label of a pair of negative strength is wrong, for soft labels."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "voters")
        check_fields(self, "[0, 1]", "repair_share", "repair_smoothing")


@dataclass(frozen=True, kw_only=True)
class Robust:
    """A loss of pairs under which a spurious feature is not used."""

    robust: Literal["none", "vrex", "irm", "mmd", "group_dro", "length"] = "none"
    """What holds in all environments (the field "environment" of the pairs): equal risks, one
    scale of the scores, one distribution of the margins, or the worst risk; length: margins do not
    go with the difference of lengths."""
    robust_penalty: float = 10.0
    """Weight of the term beside Bradley-Terry, but in group_dro."""
    robust_eta: float = 0.05
    """Step size of the weights of group_dro."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, inf)", "robust_penalty", "robust_eta")


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A contrastive term on two dropout views of an answer's last hidden state."""

    contrast: Literal["none", "simcse", "swav"] = "none"
    """Each view finds the other one among those of the batch, or predicts its prototype."""
    contrast_items: Literal["answers", "differences"] = "answers"
    """What is compared: answers, or differences of the two answers to a prompt."""
    contrast_weight: float = 1.0
    """Of the term, beside the loss of pairs."""
    contrast_temperature: float = 0.1
    """Of the similarities."""
    contrast_dropout: float = 0.05
    """Share of the state that a view lacks."""
    contrast_prototypes: int = 50
    """Of swav."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, inf)", "contrast_weight")
        check_fields(self, "(0, inf)", "contrast_temperature")
        check_fields(self, "[0, 1)", "contrast_dropout")
        check_fields(self, "[1, inf)", "contrast_prototypes")


@dataclass(frozen=True, kw_only=True)
class Unlabelled:
    """Answers of the policy that the reward model will judge (MetaRM)."""

    unlabelled: Path | None = None
    """A file of several answers to each prompt, e.g. of rlhf sample --samples 4 --out FILE."""
    eta: float = 0.1
    """Step that spreads the scores of these answers before the loss of pairs is taken."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, inf)", "eta")


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The optimizer: AdamW, a short warm-up, then a cosine to a tenth, gradients clipped to 1."""

    steps: int | None = None
    """Updates in all; by default as many as --epochs needs."""
    epochs: float = 1.0
    """Passes over the training rows, where --steps is not given."""
    batch_size: int = 16
    """Rows of each update: answers, pairs or prompts."""
    micro_batches: int = 1
    """Parts of each update: the same step in less memory."""
    learning_rate: float = 1e-4
    """The highest rate of the schedule, in (0, 1]."""
    save_every: int = 100
    """Updates between checkpoints; 0 saves only at the end and when stopped."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "batch_size", "micro_batches")
        check_fields(self, "(0, inf)", "epochs")
        check_fields(self, "(0, 1]", "learning_rate")
        check_fields(self, "[0, inf)", "save_every")
        if self.steps is not None:
            check_fields(self, "[1, inf)", "steps")


@dataclass(frozen=True, kw_only=True)
class Output:
    """The results."""

    out: Path
    """Folder for results: model/, metrics.jsonl, report.html, config.json, checkpoints."""
    resume: bool = False
    """Go on with the run in --out from its last checkpoint, or show a finished one again."""
    log: tuple[Tracker, ...] = ()
    """Services that get the metrics too, besides metrics.jsonl and TensorBoard events in --out."""
    hosts: Processes = field(default=Processes())


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The data."""

    data: Path
    """Training rows: JSON lines, an array, gz, zst, Parquet or a folder; see docs/data.md."""
    heldout: float = 0.05
    """Share of the rows, in [0, 0.5], that is not trained on but measured."""
    heldout_data: Path | None = None
    """A file of rows to measure on, in place of --heldout."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, 0.5]", "heldout")


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What a training forgets."""

    watch_corpus: Path | None = None
    """Texts, as for rlhf sft, the loss on which is measured before, along and after the training:
    it rises where the model forgets them. The first 256 rows, each cut to --answer-length."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The reference of the loss."""

    reference_rate: float = 0.0
    """Share by which the reference moves to the policy (TR-DPO); 0 leaves it as the model, 1 takes
    the policy in its place."""
    reference_every: int = 1
    """Steps from one move to the next."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, 1]", "reference_rate")
        check_fields(self, "[1, inf)", "reference_every")
        if self.reference_every != 1 and not self.reference_rate:
            raise ValueError("--reference-every needs --reference-rate, which is 0: raise it")


@dataclass(frozen=True, kw_only=True)
class Padding:
    """How much of a batch is padding."""

    buckets: int | None = None
    """Number of lengths, at most: a batch has rows of similar length, and the step is compiled for
    each length. 1 pads every row to the longest; by default up to 4, if there are enough rows."""

    def __post_init__(self) -> None:
        if self.buckets is not None:
            check_fields(self, "[1, inf)", "buckets")


@dataclass(frozen=True, kw_only=True)
class Members:
    """Heads on one trunk, for --kind ensemble."""

    members: int | None = None
    """Heads that differ by their start and learn from all pairs; None: 5."""
    by_annotator: bool = False
    """A head for each annotator, which learns from the pairs of this one alone: the field
    "annotator" of the pairs, or what rlhf label writes."""

    def __post_init__(self) -> None:
        if self.members is not None:
            check_fields(self, "[2, inf)", "members")
        if self.members is not None and self.by_annotator:
            raise ValueError(
                "--members and --by-annotator exclude each other: there is a head for each "
                "annotator of the pairs"
            )


@dataclass(frozen=True, kw_only=True)
class Users:
    """Users who differ, for --kind users."""

    user_context: int = 8
    """Pairs of a user that show who it is, at most."""
    user_targets: int = 4
    """Other pairs of the user that are explained in each update, at most."""
    latent_dim: int = 8
    """Numbers that describe a user."""
    latent_width: int = 64
    """Hidden units of the encoder of users and of the reward."""
    latent_kl: float = 0.01
    """Weight of the KL of a user's posterior to the prior, relative to the sum over its pairs."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "user_context", "user_targets", "latent_dim")
        check_fields(self, "[1, inf)", "latent_width")
        check_fields(self, "[0, inf)", "latent_kl")


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Groups of users that nobody has named, for --kind mixture."""

    user_groups: int = 2
    """Groups of users, each with a reward of its own."""
    group_restarts: int = 4
    """Trainings from different starts, of which the best on the training pairs is kept."""
    group_pairs: int = 32
    """Pairs of a user that each update reads, at most."""
    hard_groups: bool = False
    """All of a user to the group that explains it best (hard EM), in place of its probability."""

    def __post_init__(self) -> None:
        check_fields(self, "[2, inf)", "user_groups")
        check_fields(self, "[1, inf)", "group_restarts", "group_pairs")


@dataclass(frozen=True, kw_only=True)
class Features:
    """Named features of an answer, for --kind features."""

    features: tuple[str, ...] = ()
    """NAME=SCORER or NAME:WORST:BEST=SCORER, each a reward as of --reward that rates answers from
    WORST to BEST, 0 to 1 by default; best may be the lower one."""
    feature_layers: tuple[int, ...] = ()
    """Hidden layers of the network that reads them; without any, each feature has a weight."""

    def __post_init__(self) -> None:
        if self.feature_layers:
            check_fields(self, "[1, inf)", "feature_layers")


@dataclass(frozen=True, kw_only=True)
class Ratings:
    """Several ratings of an answer, for --kind ratings."""

    ratings: tuple[str, ...] = ()
    """Columns of numbers, such as helpfulness verbosity; a row may lack some of them."""


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Heads for the segments of an answer, for --kind spans."""

    heads: dict[str, str] = field(default_factory=dict)
    """Names and what each learns, SEGMENTS:KIND,KIND, as in: relevance subsentences:off_topic style
    sentences:rude,vague. SEGMENTS is subsentences, sentences or answer; a segment that meets a span
    of these kinds has the error. After a second colon, kinds of spans that leave a segment out. By
    default every kind of span has a head on subsentences."""


@dataclass(frozen=True, kw_only=True)
class Judging:
    """A judge that thinks in text and ends with a verdict, for --kind judge."""

    verdicts: Literal["binary", "graded"] = "binary"
    """<answer>A</answer> or B; or -3 to 3 without 0, for pairs with a margin."""
    judgements: int = 8
    """That the model writes of each training pair before it is trained."""
    keep_judgement: Literal["longest", "shortest", "random"] = "longest"
    """Which one of those with the right verdict is learned."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "judgements")


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """The judge of --kind pairwise."""

    verdict_tokens: tuple[str, str] = ("A", "B")
    """What it says if the first answer is better, and if the second one is; a token each."""
    verdict_norm: Literal["binary", "full"] = "binary"
    """Cross-entropy of the verdict between the two tokens, or among all tokens."""
    consistency: float = 0.0
    """Weight of the penalty (g + g')^2 on the log-odds of "the first is better" in both orders."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, inf)", "consistency")


@dataclass(frozen=True, kw_only=True)
class Entailment:
    """The verdict of --kind entailment."""

    yes_no: tuple[str, str] = ("yes", "no")
    """What the model says if an answer follows the principle, and if it does not; a token each."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are drawn."""

    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_k: int = 0
    """Only the k likeliest tokens; 0 for all."""
    top_p: float = 1.0
    """Only the likeliest tokens that have this probability together."""
    stop: tuple[str, ...] = ()
    """Strings that end an answer, e.g. "Human:" where a base model goes on with the next turn. What
    follows is neither scored nor trained on."""
    decode_rows: int = 0
    """Answers decoded at a time: when an eighth of them has ended, others take their places, which
    pays where lengths differ much. 0 decodes all at once."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, inf)", "temperature", "top_k", "decode_rows")
        check_fields(self, "(0, 1]", "top_p")
        if not all(self.stop):
            raise ValueError("stop must be strings that are not empty")
