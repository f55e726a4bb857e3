"""Commands on data that is there: sft, preference and reward."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.corrections import correction_training
from rlhf_jax.cli.data import read_answers, read_labelled, read_marked, read_pairs, read_steps
from rlhf_jax.cli.ensembles import ensemble_training
from rlhf_jax.cli.entailment import entailment_training
from rlhf_jax.cli.exclusions import check_reward
from rlhf_jax.cli.features import FeatureModel, feature_rater, feature_training, named_features
from rlhf_jax.cli.frame import Opened, Training, train_offline
from rlhf_jax.cli.gaps import gap_training
from rlhf_jax.cli.improvement import read_improvements
from rlhf_jax.cli.judging import judge_training
from rlhf_jax.cli.layout import bucketing, packing
from rlhf_jax.cli.losses import NamedLoss, named_loss
from rlhf_jax.cli.measures import answer_loss, pair_accuracy
from rlhf_jax.cli.mixtures import mixture_training
from rlhf_jax.cli.options import (
    Adapter,
    Contrast,
    Entailment,
    Features,
    Judging,
    Members,
    Mixture,
    Model,
    Optimizer,
    Output,
    Padding,
    Ratings,
    Reference,
    Repair,
    Robust,
    Rows,
    Spans,
    Unlabelled,
    Users,
    Verdicts,
    Watch,
)
from rlhf_jax.cli.principles import principle_training
from rlhf_jax.cli.ratings import rating_training, read_ratings
from rlhf_jax.cli.reactions import reaction_training
from rlhf_jax.cli.reward_lab import length_file
from rlhf_jax.cli.reward_terms import pair_training, with_terms
from rlhf_jax.cli.rewards import absolute_scorer, named_reward
from rlhf_jax.cli.robust import robust_training
from rlhf_jax.cli.segments import segment_training
from rlhf_jax.cli.session import Start, start_policy, start_reward
from rlhf_jax.cli.steps import step_training
from rlhf_jax.cli.users import user_training
from rlhf_jax.cli.verdicts import verdict_training
from rlhf_jax.cli.watch import corpus_quality, watched
from rlhf_jax.recipes import (
    LanguageLab,
    answer_rows,
    known_first_loss,
    moving_preference,
    pair_rows,
    preference,
    reference_logps,
    supervised,
)
from rlhf_jax.recipes.buckets import by_length
from rlhf_jax.recipes.rows import Records
from rlhf_jax.training import UserError
from rlhf_jax.types import Params


@dataclass(frozen=True, kw_only=True)
class SFT:
    """Supervised fine-tuning: maximum likelihood of the answers, given their prompts.

    Data: rows of a prompt and an answer, dialogues, or a text file with blank lines or
    <|endoftext|> between its documents.
    """

    model: Model
    rows: Rows
    padding: Padding = field(default=Padding())
    pack: int = 0
    """Tokens of a row that several answers share; --batch-size then counts such rows, and attention
    stays within an answer. 0 for one answer a row."""
    improve: bool = False
    """Train a model that improves answers, on --data of pairs: the prompt shows the rejected
    answer, and the chosen one is learned."""
    adapter: Adapter = field(default=Adapter())
    optimizer: Optimizer = field(default=Optimizer(learning_rate=3e-4))
    watch: Watch = field(default=Watch())
    output: Output

    def __post_init__(self) -> None:
        check_fields(self, "[0, inf)", "pack")
        if self.pack and self.padding.buckets is not None:
            raise ValueError("--pack and --buckets exclude each other; give one")


def sft(command: str, options: SFT) -> None:
    """Trains, measures the held-out loss before and after, and writes the model."""
    size = options.optimizer.batch_size

    def make(opened: Opened) -> Training:
        lab, first, merge = start_policy(options.adapter, opened.lab, opened.base)
        records, corpus = opened.records, corpus_quality(options, opened.base, lab)
        if options.pack:
            layout = packing(lab, records, options.pack)
        else:
            layout = bucketing(lab, records, options.padding, batch_size=size)
        return Training(
            lab=lab,
            first=first,
            recipe=supervised,
            rows=lambda _: answer_rows(lab, records, batch_size=size, **layout),
            quality=watched(partial(answer_loss, lab, opened.held, batch_size=size), corpus),
            export=merge,
            total=len(layout["packs"]) if options.pack else None,
        )

    if not options.improve:
        train_offline(command, options, read_answers, make)
        return
    if options.model.long_prompts.startswith("truncate"):
        # Half an answer is another answer.
        options = replace(options, model=replace(options.model, long_prompts="drop"))
    train_offline(command, options, read_improvements, make)


@dataclass(frozen=True, kw_only=True)
class Preference:
    """DPO, IPO, SimPO or any other loss of pairs of answers.

    Data: pairs of a chosen and a rejected answer; see docs/data.md for the formats.
    """

    model: Model
    rows: Rows
    loss: str = "dpo"
    """Name of the loss, as in docs/losses.md without _loss."""
    loss_options: dict[str, float] = field(default_factory=dict)
    """Settings of the loss, as names and numbers: beta 0.1 label_smoothing 0.1."""
    reference: Reference = field(default=Reference())
    padding: Padding = field(default=Padding())
    adapter: Adapter = field(default=Adapter())
    optimizer: Optimizer = field(default=Optimizer(learning_rate=5e-5))
    watch: Watch = field(default=Watch())
    output: Output


def train_preference(command: str, options: Preference) -> None:
    """Trains, measures how often the held-out chosen answer is preferred, and writes the model."""
    chosen, moving = named_loss(options.loss, options.loss_options), options.reference
    if moving.reference_rate and not chosen.reference:
        raise UserError(f"--loss {options.loss} has no reference: leave --reference-rate out")
    size = options.optimizer.batch_size

    def make(opened: Opened) -> Training:
        lab, first, merge = start_policy(options.adapter, opened.lab, opened.base)
        records, corpus = opened.records, corpus_quality(options, opened.base, lab)
        layout = bucketing(lab, records, options.padding, batch_size=size)
        accuracy = partial(pair_accuracy, lab, opened.held, chosen, first, batch_size=size)
        batches = partial(pair_rows, lab, records, batch_size=size, **layout)

        def reference_of(narrow: LanguageLab, part: Records) -> dict[str, np.ndarray]:
            return reference_logps(narrow, first, part, batch_size=size, logps=chosen.logps)

        fixed = chosen.reference and not moving.reference_rate

        def refer() -> dict[str, np.ndarray]:
            return by_length(reference_of, lab, records, batch_size=size)

        return Training(
            lab=lab,
            first=first,
            recipe=preference_recipe(chosen, moving),
            rows=lambda known: batches(reference=known),
            quality=watched(accuracy, corpus),
            reference=refer if fixed else None,
            first_loss=partial(known_first_loss, chosen.loss) if fixed else None,
            export=merge,
        )

    train_offline(command, options, read_pairs, make)


def preference_recipe(chosen: NamedLoss, moving: Reference) -> Callable[..., Params]:
    """Against the model as it was, or against a reference that follows the policy."""
    if not moving.reference_rate:
        return partial(preference, **chosen._asdict())
    rates = {"rate": moving.reference_rate, "every": moving.reference_every}
    return partial(moving_preference, loss=chosen.loss, logps=chosen.logps, **rates)


@dataclass(frozen=True, kw_only=True)
class Reward:
    """A reward model: a new head on the model's trunk, exported as a classifier with one label.

    --kind outcome scores whole answers, by Bradley-Terry on pairs; --kind ensemble does so with
    several heads on one trunk, with --by-annotator one for each annotator. --kind process scores
    each step of an answer, by binary cross-entropy on steps with labels; --kind spans does so for
    each segment of an answer, by several heads on one trunk, on answers with marked spans. --kind
    users scores answers for the user who asks, by variational preference learning on pairs with a
    field "user": networks on the model, which is frozen; --batch-size and --epochs count users.
    --kind mixture finds groups of such users and a reward for each, by EM. --kind features scores
    answers by a few ratings that --features names, and nothing else of them; the model is not read.
    --kind correction trains the model itself to write the chosen answer of a pair where it has read
    either: tokens that it would write too are paid. --kind judge trains a language model, which
    writes what it thinks and then a verdict, on its own right judgements of the pairs; rlhf grpo
    goes on with --reward verdict. --kind principles scores whether an answer follows a principle,
    by binary cross-entropy on answers with a label and a field "principle", which is chosen when
    the reward is used; --kind entailment trains the model itself to say yes or no on the same
    rows. --kind reactions scores the log-odds that a user reacts to an answer, say by
    a heart, on answers with a label. --kind pairwise trains the model to say which of two answers
    is better, in both orders. --kind gap scores an answer beside a reference answer, by four
    comparisons of each pair. --kind ratings predicts several ratings of an answer by least squares,
    from the columns that --ratings names. On pairs, two baselines are measured too: length, and
    n-grams fitted by the same loss. --repair mends labels by a vote first, --contrast and
    --unlabelled train on more than the labels. --robust takes a loss that does not follow length,
    or what holds in one environment alone.
    """

    model: Model
    rows: Rows
    kind: Literal[
        "outcome",
        "process",
        "spans",
        "ensemble",
        "users",
        "mixture",
        "features",
        "correction",
        "judge",
        "principles",
        "entailment",
        "reactions",
        "pairwise",
        "gap",
        "ratings",
    ] = "outcome"
    """What has a score: an answer, each step, segment or token of an answer, an answer for a user
    or for a group of users, features of an answer, an answer under a principle, or the odds of a
    reaction; ensembles and ratings are several scores of an answer, a judge compares two answers in
    text, a gap model an answer with a reference."""
    ensemble: Members = field(default=Members())
    identity_weight: float = 1.0
    """Of writing the chosen answer where it was read itself, in --kind correction; that of
    correcting the rejected one is 1."""
    spans: Spans = field(default=Spans())
    users: Users = field(default=Users())
    mixture: Mixture = field(default=Mixture())
    features: Features = field(default=Features())
    ratings: Ratings = field(default=Ratings())
    judging: Judging = field(default=Judging())
    judge: Verdicts = field(default=Verdicts())
    entailment: Entailment = field(default=Entailment())
    padding: Padding = field(default=Padding())
    repair: Repair = field(default=Repair())
    robust: Robust = field(default=Robust())
    contrast: Contrast = field(default=Contrast())
    unlabelled: Unlabelled = field(default=Unlabelled())
    adapter: Adapter = field(default=Adapter())
    optimizer: Optimizer = field(default=Optimizer(learning_rate=1e-4))
    output: Output

    def __post_init__(self) -> None:
        check_fields(self, "[0, inf)", "identity_weight")
        check_reward(self)


def reward(command: str, options: Reward) -> None:
    """Trains, measures held-out accuracy and calibration, and writes the model."""
    size = options.optimizer.batch_size

    def start_of(opened: Opened) -> Start:
        return start_reward(options.adapter, opened.lab, opened.base)

    def make(opened: Opened) -> Training:
        if options.kind == "users":
            found = user_training(opened, options.users, batch_size=size)
        elif options.kind == "mixture":
            found = mixture_training(opened, options.mixture, batch_size=size)
        elif options.kind == "features":
            found = features_training(opened, options.features, batch_size=size)
        elif options.kind == "judge":
            found = judge_training(opened, options)
        elif options.kind == "entailment":
            found = entailment_training(opened, options)
        elif options.kind == "pairwise":
            found = verdict_training(opened, options.judge, options.padding, batch_size=size)
        elif options.kind == "ensemble":
            found = ensemble_training(opened, options.padding, options.ensemble, batch_size=size)
        elif options.kind == "correction":
            start = start_policy(options.adapter, opened.lab, opened.base)
            sizes = {"identity_weight": options.identity_weight, "batch_size": size}
            found = correction_training(opened, start, options.padding, **sizes)
        elif options.kind == "gap":
            found = gap_training(opened, start_of(opened), options.padding, batch_size=size)
        elif options.kind == "process":
            found = step_training(opened, start_of(opened), batch_size=size)
        elif options.kind == "spans":
            found = segment_training(opened, options.spans.heads, batch_size=size)
        elif options.kind == "ratings":
            found = rating_training(opened, options.ratings.ratings, batch_size=size)
        elif options.kind == "reactions":
            found = reaction_training(opened, start_of(opened), batch_size=size)
        elif options.kind == "principles":
            longest = options.model.prompt_length
            found = principle_training(
                opened, start_of(opened), prompt_length=longest, batch_size=size
            )
        else:
            found = terms_training(opened, start_of(opened), options)
        return found._replace(files={**found.files, **length_file(options.model)})

    readers: dict[str, Callable[..., list[dict]]] = {"process": read_steps, "spans": read_marked}
    readers |= dict.fromkeys(("principles", "entailment", "reactions"), read_labelled)
    readers["ratings"] = partial(read_ratings, names=options.ratings.ratings)
    read = readers.get(options.kind, read_pairs)
    train_offline(command, options, read, make)


def features_training(opened: Opened, options: Features, *, batch_size: int) -> Training:
    """A score for each answer by the features that the options name."""
    named = named_features(options.features)
    features, scorers = zip(*named.values(), strict=True)
    scorers = tuple(map(absolute_scorer, scorers))
    rate = feature_rater(dict(zip(named, scorers, strict=True)), named_reward)
    first = FeatureModel(features, scorers, options.feature_layers, ())
    return feature_training(opened, first, rate, batch_size=batch_size)


def terms_training(opened: Opened, start: Start, options: Reward) -> Training:
    """A score for each answer, from pairs and whatever else the options name."""
    size = options.optimizer.batch_size
    layout = bucketing(start.lab, opened.records, options.padding, batch_size=size)
    plain = pair_training(opened, start, layout, batch_size=size)
    if options.robust.robust != "none":
        return robust_training(plain, opened, layout, options.robust, batch_size=size)
    return with_terms(
        plain,
        opened,
        layout,
        options.optimizer,
        repair=options.repair,
        contrast=options.contrast,
        unlabelled=options.unlabelled,
    )
