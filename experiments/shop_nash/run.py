"""SFT in three voices, RLHF on Bradley-Terry scores, Nash methods, and what exploits them."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.shop_nash.claims import competence_claims, conclude
from experiments.shop_nash.config import Config
from experiments.shop_nash.controls import (
    fit_pairwise,
    fit_reward,
    improve_offline,
    labelled,
    online_rlhf,
)
from experiments.shop_nash.evaluate import (
    Facts,
    Method,
    Models,
    as_method,
    competence,
    evaluate,
    fit_exploiter,
    unstacked,
)
from experiments.shop_nash.methods import (
    Entry,
    bits_at_points,
    counter_of,
    entries,
    fit_method,
    learned_entry,
)
from experiments.shop_nash.report import write_report
from experiments.shop_nash.world import (
    VoiceShares,
    game_prompts,
    make_shares,
    short_lab,
    start,
    voice_prefs,
)
from rlhf_jax.labs.shop import shop_lab
from rlhf_jax.labs.shop_models import shipped
from rlhf_jax.recipes import LanguageLab, stage_key
from rlhf_jax.recipes.lab import check_batches
from rlhf_jax.recipes.offline import preference_of
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.rewards import preference_judge
from rlhf_jax.training import Run, run_stage
from rlhf_jax.types import Params

BRADLEY_TERRY = "bradley_terry"


def run(config: Config, job: Run) -> Outcome:
    """Trains every method with as many bits, and measures how exploitable each is."""
    lab = short_lab(shop_lab(config.size, job.out / "data", seed=config.seed))
    check_batches(lab, config)
    first = starting_params(lab, config)
    sft = run_stage(job, "sft", lambda stage: start(stage, lab, config, first)).arrays
    gate = run_stage(job, "competence", lambda _: competence(lab, config, sft, first)).arrays
    shares = make_shares(lab, game_prompts(config))

    methods = {BRADLEY_TERRY: online_method(job, lab, config, sft, shares)}
    offline, models = offline_methods(job, lab, config, sft, shares)
    for name, entry in entries(lab, config).items():
        methods[name] = game_method(job, lab, config, sft, shares, name=name, entry=entry)
    methods |= offline
    if len(bits := {one.bits for one in methods.values()}) > 1:
        raise ValueError(f"methods have asked for different numbers of bits: {sorted(bits)}")

    played = {name: one.params[0] for name, one in methods.items()}
    exploited = exploit(job, lab, config, sft, methods)
    found = run_stage(job, "evaluation", lambda stage: evaluate(lab, config, sft, played, models))
    facts = Facts(
        prefs=voice_prefs(config.game.judge_beta),
        sft=np.asarray(shares(sft)),
        measured=found.arrays["policies"],
        accuracies=found.arrays["accuracies"],
        exploited=exploited,
        seconds=dict(job.spent),
    )
    claims = [
        *competence_claims(gate["voiced"], gate["listed"], float(gate["untrained"])),
        *conclude(config, methods, facts),
    ]
    return write_report(job, config, methods, facts, claims)


def starting_params(lab: LanguageLab, config: Config) -> Params:
    """The shipped SFT policy, which uses no voice, or random weights."""
    return lab.policy.init(stage_key(lab, "start")) if config.from_scratch else shipped(lab, "sft")


def online_method(
    job: Run, lab: LanguageLab, config: Config, sft: Params, shares: VoiceShares
) -> Method:
    """Online RLHF on a Bradley-Terry model, refitted in phases, for every seed."""
    done = [
        online_rlhf(job, lab, config, sft, shares, name=f"{BRADLEY_TERRY}_{seed}")
        for seed in range(config.seeds)
    ]
    arrays = [each for each, _ in done]
    phases = config.control.phases
    return Method(
        "Bradley-Terry RLHF",
        config.control.beta,
        max(bits for _, bits in done),
        config.game.bits // phases * np.arange(1, phases + 1),
        [each["params"] for each in arrays],
        np.stack([each["shares"] for each in arrays]),
    )


def offline_methods(
    job: Run, lab: LanguageLab, config: Config, sft: Params, shares: VoiceShares
) -> tuple[dict[str, Method], Models]:
    """All bits about SFT's own answers: PPO on scores, and Nash-MD on a pairwise model of them."""
    counter = counter_of(config, "offline")
    pairs = labelled(job, lab, config, sft, counter, "offline_pairs", config.game.bits)
    given = {"lab": lab, "config": config.control.model, "sft": sft, "pairs": pairs}
    reward = run_stage(job, "offline_reward", partial(fit_reward, **given))
    pairwise = run_stage(job, "pairwise", partial(fit_pairwise, **given)).arrays
    work = partial(improve_offline, lab=lab, config=config, sft=sft, shares=shares, reward=reward)
    ppo = run_stage(job, "ppo", work)
    entry = learned_entry(lab, config)
    judge = preference_judge(preference_of(lab), pairwise)
    nash = run_stage(
        job,
        "learned",
        lambda stage: fit_method(stage, lab, config, sft, shares, entry=entry, learned=judge),
    )
    spent = counter.spent
    ends, points = np.array([spent]), np.full(config.game.points, spent)
    name, beta = "PPO on offline Bradley-Terry", config.control.ppo_beta
    return {
        "ppo": as_method(name, beta, spent, ends, [ppo]),
        "learned": as_method(entry.name, entry.beta, spent, points, [nash]),
    }, Models(reward.arrays, pairwise)


def game_method(
    job: Run,
    lab: LanguageLab,
    config: Config,
    sft: Params,
    shares: VoiceShares,
    *,
    name: str,
    entry: Entry,
) -> Method:
    """Every training run of a game method."""
    done = [
        run_stage(
            job,
            f"{name}_{seed}",
            partial(fit_method, lab=lab, config=config, sft=sft, shares=shares, entry=entry),
        )
        for seed in range(entry.seeds)
    ]
    bits = max(one.info["bits"] for one in done)
    return as_method(entry.name, entry.beta, bits, bits_at_points(config.game), done)


def exploit(
    job: Run, lab: LanguageLab, config: Config, sft: Params, methods: Mapping[str, Method]
) -> dict[tuple[str, str], np.ndarray]:
    """Exploiters' gaps [N] of four policies, by method and "last" or "average"."""
    average = methods["spo_low"].policies
    targets = {
        (BRADLEY_TERRY, "last"): [methods[BRADLEY_TERRY].params[0]],
        ("spo_low", "last"): [methods["spo_low"].params[0]],
        ("spo_low", "average"): unstacked(average),
        ("nash_mp", "last"): [methods["nash_mp"].params[0]],
    }
    found = {}
    for (name, which), policies in targets.items():
        work = partial(fit_exploiter, lab=lab, config=config, sft=sft, policies=policies)
        found[name, which] = run_stage(job, f"exploiter_{name}_{which}", work).arrays["gaps"]
    return found
