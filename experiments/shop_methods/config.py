"""Sizes of shop_methods. Each size is a function; every field is an option on the command line."""

from dataclasses import dataclass, field
from itertools import zip_longest

from experiments.shop_methods.names import CHANGED, CHANGES
from experiments.shop_methods.names import CHOSEN as CHOSEN
from experiments.shop_methods.names import CRITICS as CRITICS
from experiments.shop_methods.names import DIRECT as DIRECT
from experiments.shop_methods.names import LIKELIHOOD as LIKELIHOOD
from experiments.shop_methods.names import METHODS as METHODS
from experiments.shop_methods.names import OFFLINE as OFFLINE
from experiments.shop_methods.names import ONLINE as ONLINE
from experiments.shop_methods.names import SEVERAL as SEVERAL
from experiments.shop_methods.names import SINGLE as SINGLE
from rlhf_jax.checks import check_fields
from rlhf_jax.labs.size import Size

# Rates of `--tune`: three, a factor of three apart.
LOW, HIGH = (0.00007, 0.0002, 0.0006), (0.0002, 0.0006, 0.0018)
SWEEP = {name: HIGH if name in LIKELIHOOD else LOW for name in METHODS}
RATES = {name: rates[1] for name, rates in SWEEP.items()} | {
    name: rate for rate, names in CHOSEN.items() for name in names
}


@dataclass(frozen=True, kw_only=True)
class Data:
    """The labels of every seed.

    prompts: with four answers of SFT each, for labels of a seed. labels: choices of the teacher
    that each offline method reads: a pair is one, a ranking of four answers three.
    teacher_beta: inverse temperature of its choices, in units of 1 / objective. tie_gap: answers
    closer than this are ties to it. heldout: prompts of held-out pairs.
    """

    prompts: int = 1450
    labels: int = 1536
    teacher_beta: float = 20.0
    tie_gap: float = 0.1
    heldout: int = 256

    def __post_init__(self):
        check_fields(self, "[2, 60000]", "prompts", "labels", "heldout")
        check_fields(self, "(0, inf)", "teacher_beta")
        check_fields(self, "[0, inf)", "tie_gap")


@dataclass(frozen=True, kw_only=True)
class Offline:
    """Of every method on labels. batch_size: pairs, half as many rankings, twice as many answers.

    beta: KL weight of losses with a reference.
    """

    steps: int = 48
    batch_size: int = 32
    beta: float = 0.3

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps")
        check_fields(self, "[2, inf)", "batch_size")
        check_fields(self, "(0, inf)", "beta")


@dataclass(frozen=True, kw_only=True)
class Reward:
    """The reward that DPO implies, and the scalar head that critics start from.

    steps: of pairs, a batch as large as in `offline`. rate: of both.
    """

    steps: int = 96
    beta: float = 1.0
    rate: float = 0.0005

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps")
        check_fields(self, "(0, inf)", "beta")
        check_fields(self, "(0, 1]", "rate")


@dataclass(frozen=True, kw_only=True)
class Online:
    """Of every method on fresh answers: steps of `answers` answers, `samples` to a prompt.

    pair_beta: KL weight of pairs. penalty: of policy gradients with a KL in the reward, for rewards
    of unit variance on held-out answers. passes: over the answers of a step, of methods with a
    ratio; others take one.
    """

    steps: int = 32
    answers: int = 64
    samples: int = 4
    pair_beta: float = 0.3
    penalty: float = 0.05
    passes: int = 2

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps", "passes")
        check_fields(self, "[2, inf)", "samples")
        check_fields(self, "[4, inf)", "answers")
        check_fields(self, "(0, inf)", "pair_beta")
        check_fields(self, "[0, inf)", "penalty")
        if self.samples % 2 or self.answers % (2 * self.samples):
            raise ValueError(
                f"answers must be a multiple of twice samples, an even number; got {self.answers} "
                f"and {self.samples}"
            )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """prompts: held out, with two answers of each policy. validation: prompts of the sweep.

    best_of: n of best-of-n. texts: of the base model's corpus, for forgetting.
    """

    prompts: int = 256
    validation: int = 128
    best_of: int = 8
    texts: int = 96

    def __post_init__(self):
        check_fields(self, "[2, 100000]", "prompts", "validation", "texts")
        check_fields(self, "[1, 1024]", "best_of")


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Short trainings on a reward and on the same reward changed, for the methods that are about
    it. steps: of each; 0 leaves them out. power: c of exp(c r). shift: standard deviation of what
    is added to a prompt's rewards."""

    steps: int = 8
    power: float = 3.0
    shift: float = 5.0

    def __post_init__(self):
        check_fields(self, "[0, inf)", "steps")
        check_fields(self, "(0, 10]", "power", "shift")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole run. seed: of the world. seeds: replications of the methods of SEVERAL, each with
    prompts, labels, reward model and draws of its own. methods: names of METHODS with commas
    between them, or "all". tune: chooses the rates by the sweep first, in place of RATES.
    model, task: a Hugging Face folder and module:name of a task, to repeat the table on; "" is the
    shop."""

    seed: int = 0
    seeds: int = 3
    methods: str = "all"
    tune: bool = False
    model: str = ""
    task: str = ""
    prompt_length: int = 64
    answer_length: int = 64
    from_scratch: bool = False
    size: Size = field(default_factory=Size)
    data: Data = field(default_factory=Data)
    reward: Reward = field(default_factory=Reward)
    offline: Offline = field(default_factory=Offline)
    online: Online = field(default_factory=Online)
    controls: Controls = field(default_factory=Controls)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[1, 60]", "seeds")
        check_fields(self, "[1, inf)", "prompt_length", "answer_length")
        if unknown := [name for name in self.chosen() if name not in METHODS]:
            raise ValueError(f"methods must be of {', '.join(METHODS)}, got {unknown[0]!r}")
        if bool(self.model) != bool(self.task):
            raise ValueError("model must come with a task, and a task with a model")
        if self.model and any(name in DIRECT for name in self.chosen()):
            raise ValueError(f"methods must be without {DIRECT[0]}, whose base is the shop's")

    def chosen(self) -> tuple[str, ...]:
        """The methods of this run; those with several seeds first."""
        if self.methods != "all":
            return tuple(self.methods.split(","))
        several = tuple(name for name in SEVERAL if not (self.model and name in DIRECT))
        rest = [[name for name in league if name not in SEVERAL] for league in (ONLINE, OFFLINE)]
        return several + tuple(name for pair in zip_longest(*rest) for name in pair if name)

    def changes(self) -> dict[str, tuple[str, ...]]:
        """Method -> the changes of the reward that it is put to; {} where no method is about them.

        PPO, which must fail, is put to all of them.
        """
        if not self.controls.steps:
            return {}
        found = {name: each for name, each in CHANGES.items() if name in self.chosen()}
        every = tuple(dict.fromkeys(change for each in found.values() for change in each))
        return found | ({CHANGED: every} if every else {})


def default() -> Config:
    """Every method from the shipped policy, the main ones with three seeds."""
    return Config()


def quick() -> Config:
    """Six methods with one seed, in less than three minutes: a check that all of it works."""
    return Config(
        seeds=1,
        methods="sft,dpo,simpo,rloo,grpo,online_dpo",
        data=Data(prompts=96, labels=64, heldout=64),
        reward=Reward(steps=6),
        offline=Offline(steps=4, batch_size=16),
        online=Online(steps=2, answers=32),
        controls=Controls(steps=0),
        evaluation=Evaluation(prompts=64, validation=32, best_of=4, texts=16),
    )
