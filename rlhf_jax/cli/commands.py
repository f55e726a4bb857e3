"""The commands by name, and the manual that `rlhf --help` prints."""

from typing import NamedTuple


class Command(NamedTuple):
    """A command: where its options and its function are, and flags that it begins with."""

    group: str
    line: str
    module: str
    options: str
    function: str
    preset: tuple[str, ...] = ()


_OFFLINE, _ONLINE = "rlhf_jax.cli.offline", "rlhf_jax.cli.online"
_GAMES, _SELECTED = "rlhf_jax.cli.selfplay", "rlhf_jax.cli.selected"
_RANKED = ("rlhf_jax.cli.rankings", "Ranking")
_FITS, _SAMPLES = "Train on data", "Train on fresh answers, scored by --reward or --judge"
_TOOLS, _DATA = "Use a model", "Look at data"


def _pairs(line: str, loss: str) -> Command:
    return Command(_FITS, line, _OFFLINE, "Preference", "train_preference", ("--loss", loss))


def _group(line: str) -> Command:
    return Command(_SAMPLES, line, _ONLINE, "Group", "train_group")


def _game(line: str, method: str) -> Command:
    return Command(_SAMPLES, line, _GAMES, "SelfPlay", "train_selfplay", ("--method", method))


def _data(line: str, module: str, options: str) -> Command:
    return Command(_DATA, line, f"rlhf_jax.cli.{module}", options, options.lower())


COMMANDS = {
    "init": Command(_FITS, "a new model with random weights", "rlhf_jax.cli.init", "Init", "init"),
    "sft": Command(
        _FITS, "supervised fine-tuning on answers or a text file", _OFFLINE, "SFT", "sft"
    ),
    "reward": Command(_FITS, "a reward model from pairs", _OFFLINE, "Reward", "reward"),
    "preference": Command(
        _FITS, "any loss of pairs, by --loss NAME", _OFFLINE, "Preference", "train_preference"
    ),
    "dpo": _pairs("direct preference optimisation", "dpo"),
    "ipo": _pairs("identity preference optimisation", "ipo"),
    "simpo": _pairs("simple preference optimisation, without a reference", "simpo"),
    "orpo": _pairs("odds-ratio preference optimisation, without a reference", "orpo"),
    "cpo": _pairs("contrastive preference optimisation, without a reference", "cpo"),
    "ranking": Command(
        _FITS, "any loss of ranked answers, by --loss NAME", *_RANKED, "train_ranking"
    ),
    "pro": Command(
        _FITS,
        "preference ranking optimisation, without a reference",
        *_RANKED,
        "train_ranking",
        ("--loss", "pro"),
    ),
    "kto": Command(_FITS, "answers marked good or bad", "rlhf_jax.cli.unpaired", "KTO", "kto"),
    "ppo": Command(
        _SAMPLES, "proximal policy optimisation with a critic", _ONLINE, "PPO", "train_ppo"
    ),
    "grpo": _group("group-relative policy optimisation"),
    "dr-grpo": _group("GRPO without its biases of length and difficulty"),
    "rloo": _group("REINFORCE, leave-one-out baseline"),
    "reinforce": _group("REINFORCE, baseline over the batch"),
    "p3o": Command(
        _SAMPLES,
        "pairs of answers: no shift of scores matters",
        "rlhf_jax.cli.p3o",
        "P3O",
        "train_p3o",
    ),
    "dapo": _group("GRPO with clip-higher, token mean and dynamic sampling"),
    "gspo": _group("GRPO with one ratio for a whole answer"),
    "cispo": _group("clipped importance weights: every token keeps its gradient"),
    "best-of-n": Command(
        _SAMPLES, "RAFT: likelihood of the best of n answers", _SELECTED, "BestOf", "best_of_n"
    ),
    "superhf": Command(
        _SAMPLES,
        "the same with a KL prior to the first model",
        _SELECTED,
        "SuperHF",
        "train_superhf",
    ),
    "online-dpo": Command(
        _SAMPLES, "any loss of pairs on two answers", _ONLINE, "OnlineDPO", "online_dpo"
    ),
    "osp": Command(
        _SAMPLES,
        "self-preferring: soft labels on ranked pairs",
        "rlhf_jax.cli.self_preference",
        "SelfPreference",
        "train_osp",
    ),
    "selfplay": Command(
        _SAMPLES, "any preference game, by --method NAME", _GAMES, "SelfPlay", "train_selfplay"
    ),
    "nash-md": _game("Nash mirror descent: wins against a mixture with the first model", "nash-md"),
    "nash-mp": _game("Nash mirror prox: two half rounds of policy gradients", "nash-mp"),
    "egpo": _game("extragradient on regressions of win rates", "egpo"),
    "inpo": _game("iterative Nash policy optimisation: a regression a round", "inpo"),
    "mnpo": _game("multiplayer Nash preference optimisation: several past policies", "mnpo"),
    "spo": _game("self-play: win rates over the other answers of a group", "spo"),
    "sample": Command(_TOOLS, "answers of a model", "rlhf_jax.cli.tools", "Sample", "sample"),
    "eval": Command(
        _TOOLS,
        "perplexity, rewards, win rate; accuracy of a reward model",
        "rlhf_jax.cli.evaluate",
        "Evaluate",
        "evaluate",
    ),
    "safety": Command(
        _TOOLS,
        "whether a model's costs are below a limit, with confidence",
        "rlhf_jax.cli.safety",
        "Safety",
        "safety",
    ),
    "split": Command(
        _TOOLS, "a file into training and held-out rows", "rlhf_jax.cli.split", "Split", "split"
    ),
    "convert": Command(
        _TOOLS, "a model in another precision", "rlhf_jax.cli.tools", "Convert", "convert"
    ),
    "chat": Command(_TOOLS, "talk to a model", "rlhf_jax.cli.chat", "Chat", "chat"),
    "serve": Command(_TOOLS, "an OpenAI-compatible server", "rlhf_jax.cli.serve", "Serve", "serve"),
    "merge": Command(
        _TOOLS,
        "an adapter and its model, or several models",
        "rlhf_jax.cli.merge",
        "Merge",
        "merge",
    ),
    "plan": Command(
        "Before the job",
        "whether a step fits a TPU slice or GPUs, and how fast it can be",
        "rlhf_jax.cli.plan",
        "PlanOptions",
        "plan",
    ),
    "label": Command(
        "Give feedback",
        "a local page where people judge answers",
        "rlhf_jax.cli.label",
        "Label",
        "label",
    ),
    "principles": Command(
        "Give feedback",
        "labelled answers from comments in free text, by a language model",
        "rlhf_jax.cli.extraction",
        "Extraction",
        "principles",
    ),
    "reward-programs": Command(
        "Give feedback",
        "programs that score answers, by which policy people like best",
        "rlhf_jax.cli.reward_programs",
        "RewardPrograms",
        "reward_programs",
    ),
    "ask": Command(
        "Give feedback",
        "which pairs to show to a user next, by a reward of users",
        "rlhf_jax.cli.ask",
        "Ask",
        "ask",
    ),
    "curate": Command(
        _TOOLS,
        "pairs kept, flipped or dropped by two reward models and judges",
        "rlhf_jax.cli.curate",
        "Curate",
        "curate",
    ),
    "data head": _data("the first rows of a file, as they are read", "data_head", "Head"),
    "data stats": _data("lengths, labels and other numbers of a file", "data_head", "Stats"),
    "data audit": _data("what may be wrong with a file", "data_audit", "Audit"),
}

# Papers that are options of the commands, each beside its command.
PAPERS = {
    "PF-PPO": ("ppo --filter", "eval --truth"),
    "RLHF workflow": (
        "selfplay --method iterative-dpo",
        "online-dpo --explore",
        "data audit --states",
    ),
    "Mistral-Plus": ("ppo --stop --watch-corpus",),
    "DPA": ("reward --kind ratings --ratings", "best-of-n --directions"),
    "PIT": ("reward --kind gap", "sft --improve", "ppo --improve --own-answers"),
    "DPO survey": ("preference --loss NAME",),
}

EXAMPLES = """\
  rlhf sft --model Qwen2.5-0.5B --data stories.txt --out runs/sft
  rlhf dpo --model runs/sft/model --data pairs.jsonl --out runs/dpo --epochs 1
  rlhf run runs/dpo/config.json --out runs/longer --epochs 3
  rlhf data audit pairs.jsonl test.jsonl --html audit.html
"""


def manual() -> str:
    """One line for each command, in groups, and examples."""
    lines = ["usage: rlhf COMMAND [options]; rlhf COMMAND --help has the options of one", ""]
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines.append(group)
        lines += [
            f"  {name:<12} {command.line}"
            for name, command in COMMANDS.items()
            if command.group == group
        ]
        lines.append("")
    lines.append("Papers that are options")
    lines += [f"  {paper:<14} {', '.join(uses)}" for paper, uses in PAPERS.items()]
    lines.append("")
    return "\n".join([*lines, "Examples", EXAMPLES])
