"""The language job, once, for any task and any model: recipes on top of `algos`.

    task = text_task(prompts, score, objective="score", heldout=64)
    lab = make_lab(config, vocabulary, prompt_length=32, answer_length=32)
    with open_run(out, slug="mine", config={}) as run:
        sft = run_stage(run, "sft", lambda stage: (supervised(stage, lab, rows, params, fit), {}))

A task knows prompts and scores and no model; a lab knows a model and no task; a recipe is
`(stage, lab, ...) -> params` and knows neither world nor parametrisation.

| recipe | function |
|---|---|
| supervised fine-tuning | `supervised` |
| reward model, pairwise preference model | `reward_model`, `preference_model` |
| the same on labels repaired by a vote | `voted_strengths`, then `repaired_columns` |
| the same with a contrastive term; by MetaRM | `contrastive_reward_model`; `meta_reward_model` |
| no spurious feature: V-REx, group DRO | `robust_reward_model`, `group_dro_reward_model` |
| the same from copies that an editor makes | `copies_reward_model` on `copy_rows` |
| pairs kept, flipped or dropped by two reward models and judges | `curate`, `relabel_doubted` |
| a language model as a judge: SFT on its right judgements | `judge_records`, `trace_records` |
| the same by a rule in `online`; its use | `verdict_reward`; `generative_judge` |
| advantages straight from comparisons | `judged_advantages` with `pairwise_grpo` |
| reward under a principle, from yes and no | `principle_model`, then `scores_by_principle` |
| several ratings of an answer, a head for each (DPA) | `rating_model`, then `rating_scores` |
| the same by a language model that says yes or no | `entailment_model`, `entailment_text_reward` |
| a judge that writes before yes or no, by a rule in `online` | `entailment_rule` |
| principles named in free text, as labelled answers | `feedback_records` |
| pairwise judge (Pairwise-RL); as a reward | `verdict_model`; `anchored_reward` |
| gap reward model, an answer over a reference (PIT) | `gap_model`, then `gap_scores` |
| process reward model, from labels of steps | `process_model`, then `process_reward` |
| fine-grained rewards, heads on their own segments | `segment_model`, then `segment_reward` |
| a policy of pairs as a reward model, or as rewards of tokens | `implicit_lab`; `implied_reward` |
| DPO, IPO, SimPO and every other loss of pairs | `preference` |
| the same against a reference that follows (TR-DPO) | `moving_preference` |
| PRO, Plackett-Luce, RRHF and others on ranked answers | `ranked_records`, then `ranking` |
| KTO, APO-zero; BCO; DRO: labelled or scored single answers | `unpaired`; `bco`; `dro` |
| pairs of a policy's own answers | `sample_pairs` |
| PPO, GRPO, RLOO, online DPO and others on fresh answers | `online`, a method of `methods` |
| the same on episodes of several turns (tools, environments) | a task with a `step` |
| prompts from easy to hard (CRAFT-GUI) | `online` on `curriculum_rows` |
| several tries at a task of single answers (UFO) | `online` on a `retry_task` |
| reward programs ranked by people (ICPL) | `write_compared_answers`, then `ranked_programs` |
| limits on mean costs (HC-RLHF); the test | `online` with `limits`; `safety_test` |
| one policy for every trade-off between rewards (DPA) | `online` on a `directed_task` |
| rewards of groups, of which the worst-off counts (MaxMin) | `online` with `grouped_reward` |
| an agent that answers and one that criticises, together (WaltzRL) | `waltz` on a `waltz_task` |
| Nash-MD, EGPO, INPO, SPO and every other method of `algos.selfplay` | `selfplay` with a judge |
| OSP: comparisons by the model itself as soft labels | `self_judged` with `osp`; `soft_pairs` |
| PIT: a model that improves answers | `online` on an `improving_task`; `improve` |
| scores and KL on held-out prompts, win rates | `measure`, `paired_win_rate`, `best_of_n` |
| what a training forgets, by the loss on earlier texts | `corpus_loss` |
| what pairs cover of a policy's answers, by last states | `pair_vectors`, then `state_coverage` |
| answers of a base model, cut at stop strings | a lab by `stopped_lab` |
| any of these on low-rank adapters of a frozen base | a lab by `lora_lab` |
| exploitability, policies against each other | `tournament` |
"""

from rlhf_jax.exact.safety_test import Limit as Limit
from rlhf_jax.exact.safety_test import Looks as Looks
from rlhf_jax.exact.safety_test import SafetyResult as SafetyResult
from rlhf_jax.exact.safety_test import safety_test as safety_test
from rlhf_jax.exact.upper_bounds import cost_inflation as cost_inflation
from rlhf_jax.recipes.buckets import length_buckets as length_buckets
from rlhf_jax.recipes.buckets import padding_shares as padding_shares
from rlhf_jax.recipes.completions import read_completions as read_completions
from rlhf_jax.recipes.constraints import CostLimits as CostLimits
from rlhf_jax.recipes.contrastive import contrastive_reward_model as contrastive_reward_model
from rlhf_jax.recipes.corrections import correction_model as correction_model
from rlhf_jax.recipes.corrections import correction_reward as correction_reward
from rlhf_jax.recipes.curation import PairConfidence as PairConfidence
from rlhf_jax.recipes.curation import curate as curate
from rlhf_jax.recipes.curation import judge_labels as judge_labels
from rlhf_jax.recipes.curation import lab_confidences as lab_confidences
from rlhf_jax.recipes.curation import relabel_doubted as relabel_doubted
from rlhf_jax.recipes.curriculum import CurriculumRows as CurriculumRows
from rlhf_jax.recipes.curriculum import curriculum_rows as curriculum_rows
from rlhf_jax.recipes.directions import directed_prompt as directed_prompt
from rlhf_jax.recipes.directions import directed_scores as directed_scores
from rlhf_jax.recipes.directions import directed_task as directed_task
from rlhf_jax.recipes.directions import direction_grid as direction_grid
from rlhf_jax.recipes.directions import read_direction as read_direction
from rlhf_jax.recipes.directions import write_direction as write_direction
from rlhf_jax.recipes.ensembles import ensemble_reward as ensemble_reward
from rlhf_jax.recipes.ensembles import first_heads as first_heads
from rlhf_jax.recipes.ensembles import member_scores as member_scores
from rlhf_jax.recipes.ensembles import shared_reward_model as shared_reward_model
from rlhf_jax.recipes.entailment import EntailmentJudge as EntailmentJudge
from rlhf_jax.recipes.entailment import entailment_judge as entailment_judge
from rlhf_jax.recipes.entailment import entailment_model as entailment_model
from rlhf_jax.recipes.entailment import entailment_records as entailment_records
from rlhf_jax.recipes.entailment import entailment_rows as entailment_rows
from rlhf_jax.recipes.entailment import entailment_rule as entailment_rule
from rlhf_jax.recipes.entailment import entailment_scores as entailment_scores
from rlhf_jax.recipes.entailment import entailment_text_reward as entailment_text_reward
from rlhf_jax.recipes.evaluation import BestOf as BestOf
from rlhf_jax.recipes.evaluation import Measured as Measured
from rlhf_jax.recipes.evaluation import best_of_curve as best_of_curve
from rlhf_jax.recipes.evaluation import best_of_n as best_of_n
from rlhf_jax.recipes.evaluation import corpus_loss as corpus_loss
from rlhf_jax.recipes.evaluation import heldout_means as heldout_means
from rlhf_jax.recipes.evaluation import measure as measure
from rlhf_jax.recipes.evaluation import paired_win_rate as paired_win_rate
from rlhf_jax.recipes.evaluation import perplexity as perplexity
from rlhf_jax.recipes.extraction import chat_extractor as chat_extractor
from rlhf_jax.recipes.extraction import feedback_records as feedback_records
from rlhf_jax.recipes.extraction import language_extractor as language_extractor
from rlhf_jax.recipes.files import answer_records as answer_records
from rlhf_jax.recipes.files import jsonl_task as jsonl_task
from rlhf_jax.recipes.files import pair_records as pair_records
from rlhf_jax.recipes.gaps import gap_model as gap_model
from rlhf_jax.recipes.gaps import gap_scores as gap_scores
from rlhf_jax.recipes.gaps import gap_zero as gap_zero
from rlhf_jax.recipes.gaps import pair_gap_table as pair_gap_table
from rlhf_jax.recipes.groups import grouped_reward as grouped_reward
from rlhf_jax.recipes.groups import soft_group_scores as soft_group_scores
from rlhf_jax.recipes.groups import worst_group_scores as worst_group_scores
from rlhf_jax.recipes.guards import guarded as guarded
from rlhf_jax.recipes.guards import known_first_loss as known_first_loss
from rlhf_jax.recipes.implicit import implicit_lab as implicit_lab
from rlhf_jax.recipes.implicit import implied_reward as implied_reward
from rlhf_jax.recipes.improvement import StagedRows as StagedRows
from rlhf_jax.recipes.improvement import fitting_references as fitting_references
from rlhf_jax.recipes.improvement import improve as improve
from rlhf_jax.recipes.improvement import improve_prompt as improve_prompt
from rlhf_jax.recipes.improvement import improvement_records as improvement_records
from rlhf_jax.recipes.improvement import improving_task as improving_task
from rlhf_jax.recipes.improvement import reference_records as reference_records
from rlhf_jax.recipes.judges import generative_judge as generative_judge
from rlhf_jax.recipes.judges import judge_records as judge_records
from rlhf_jax.recipes.judges import judge_verdicts as judge_verdicts
from rlhf_jax.recipes.judges import sample_traces as sample_traces
from rlhf_jax.recipes.judges import trace_records as trace_records
from rlhf_jax.recipes.judges import verdict_reward as verdict_reward
from rlhf_jax.recipes.lab import LanguageLab as LanguageLab
from rlhf_jax.recipes.lab import adamw_cosine as adamw_cosine
from rlhf_jax.recipes.lab import device_mesh as device_mesh
from rlhf_jax.recipes.lab import make_lab as make_lab
from rlhf_jax.recipes.lab import make_prompts as make_prompts
from rlhf_jax.recipes.lab import stage_key as stage_key
from rlhf_jax.recipes.lengths import fitting_records as fitting_records
from rlhf_jax.recipes.lora import lora_lab as lora_lab
from rlhf_jax.recipes.meta import meta_reward_model as meta_reward_model
from rlhf_jax.recipes.meta import meta_rows as meta_rows
from rlhf_jax.recipes.methods import AnswerFilter as AnswerFilter
from rlhf_jax.recipes.methods import Penalty as Penalty
from rlhf_jax.recipes.methods import answer_method as answer_method
from rlhf_jax.recipes.methods import best_of as best_of
from rlhf_jax.recipes.methods import cispo as cispo
from rlhf_jax.recipes.methods import critic_of as critic_of
from rlhf_jax.recipes.methods import dapo as dapo
from rlhf_jax.recipes.methods import dr_grpo as dr_grpo
from rlhf_jax.recipes.methods import gae_of_steps as gae_of_steps
from rlhf_jax.recipes.methods import gae_of_turns as gae_of_turns
from rlhf_jax.recipes.methods import grpo as grpo
from rlhf_jax.recipes.methods import gspo as gspo
from rlhf_jax.recipes.methods import online_pairs as online_pairs
from rlhf_jax.recipes.methods import osp as osp
from rlhf_jax.recipes.methods import p3o as p3o
from rlhf_jax.recipes.methods import pairwise_grpo as pairwise_grpo
from rlhf_jax.recipes.methods import ppo as ppo
from rlhf_jax.recipes.methods import reinforce as reinforce
from rlhf_jax.recipes.methods import reinforce_turns as reinforce_turns
from rlhf_jax.recipes.methods import rloo as rloo
from rlhf_jax.recipes.methods import superhf as superhf
from rlhf_jax.recipes.methods import top_of_batch as top_of_batch
from rlhf_jax.recipes.methods import turn_advantages as turn_advantages
from rlhf_jax.recipes.offline import Fit as Fit
from rlhf_jax.recipes.offline import at_points as at_points
from rlhf_jax.recipes.offline import moving_preference as moving_preference
from rlhf_jax.recipes.offline import on_trunk as on_trunk
from rlhf_jax.recipes.offline import preference as preference
from rlhf_jax.recipes.offline import preference_model as preference_model
from rlhf_jax.recipes.offline import reference_logps as reference_logps
from rlhf_jax.recipes.offline import reward_model as reward_model
from rlhf_jax.recipes.offline import supervised as supervised
from rlhf_jax.recipes.online import online as online
from rlhf_jax.recipes.online import prompt_rows as prompt_rows
from rlhf_jax.recipes.online_method import KLTarget as KLTarget
from rlhf_jax.recipes.online_method import Mix as Mix
from rlhf_jax.recipes.online_method import OnlineMethod as OnlineMethod
from rlhf_jax.recipes.online_method import Scored as Scored
from rlhf_jax.recipes.packing import pack_records as pack_records
from rlhf_jax.recipes.pairs import sample_pairs as sample_pairs
from rlhf_jax.recipes.principles import asked_records as asked_records
from rlhf_jax.recipes.principles import principle_model as principle_model
from rlhf_jax.recipes.principles import principle_rows as principle_rows
from rlhf_jax.recipes.principles import scores_by_principle as scores_by_principle
from rlhf_jax.recipes.process import process_model as process_model
from rlhf_jax.recipes.process import process_reward as process_reward
from rlhf_jax.recipes.process import step_rows as step_rows
from rlhf_jax.recipes.program_rankings import ProgramRanking as ProgramRanking
from rlhf_jax.recipes.program_rankings import compared_answers as compared_answers
from rlhf_jax.recipes.program_rankings import ranked_programs as ranked_programs
from rlhf_jax.recipes.program_rankings import write_compared_answers as write_compared_answers
from rlhf_jax.recipes.rankings import ScoreRange as ScoreRange
from rlhf_jax.recipes.rankings import ranked_records as ranked_records
from rlhf_jax.recipes.rankings import ranking as ranking
from rlhf_jax.recipes.rankings import ranking_reference as ranking_reference
from rlhf_jax.recipes.rankings import ranking_rows as ranking_rows
from rlhf_jax.recipes.rankings import score_range as score_range
from rlhf_jax.recipes.rankings import tied_answers as tied_answers
from rlhf_jax.recipes.ratings import RatingUnits as RatingUnits
from rlhf_jax.recipes.ratings import rating_model as rating_model
from rlhf_jax.recipes.ratings import rating_rows as rating_rows
from rlhf_jax.recipes.ratings import rating_scores as rating_scores
from rlhf_jax.recipes.ratings import rating_units as rating_units
from rlhf_jax.recipes.repair import repaired_columns as repaired_columns
from rlhf_jax.recipes.repair import voted_strengths as voted_strengths
from rlhf_jax.recipes.retries import retry_task as retry_task
from rlhf_jax.recipes.retries import solved_within as solved_within
from rlhf_jax.recipes.rewards import Reward as Reward
from rlhf_jax.recipes.rewards import judged_advantages as judged_advantages
from rlhf_jax.recipes.rewards import judged_reward as judged_reward
from rlhf_jax.recipes.rewards import model_reward as model_reward
from rlhf_jax.recipes.rewards import task_reward as task_reward
from rlhf_jax.recipes.rewards import weighted_reward as weighted_reward
from rlhf_jax.recipes.robust import copies_reward_model as copies_reward_model
from rlhf_jax.recipes.robust import copy_rows as copy_rows
from rlhf_jax.recipes.robust import environment_column as environment_column
from rlhf_jax.recipes.robust import group_dro_reward_model as group_dro_reward_model
from rlhf_jax.recipes.robust import robust_reward_model as robust_reward_model
from rlhf_jax.recipes.rows import answer_rows as answer_rows
from rlhf_jax.recipes.rows import array_rows as array_rows
from rlhf_jax.recipes.rows import pair_rows as pair_rows
from rlhf_jax.recipes.segments import HeadLabels as HeadLabels
from rlhf_jax.recipes.segments import SegmentHead as SegmentHead
from rlhf_jax.recipes.segments import head_of as head_of
from rlhf_jax.recipes.segments import segment_model as segment_model
from rlhf_jax.recipes.segments import segment_reward as segment_reward
from rlhf_jax.recipes.segments import segment_rows as segment_rows
from rlhf_jax.recipes.segments import whole_answer as whole_answer
from rlhf_jax.recipes.self_preference import judged_prefs as judged_prefs
from rlhf_jax.recipes.self_preference import list_prefs as list_prefs
from rlhf_jax.recipes.self_preference import self_judged as self_judged
from rlhf_jax.recipes.self_preference import self_prefs as self_prefs
from rlhf_jax.recipes.self_preference import soft_pairs as soft_pairs
from rlhf_jax.recipes.selfplay import Played as Played
from rlhf_jax.recipes.selfplay import answer_shapes as answer_shapes
from rlhf_jax.recipes.selfplay import decoded_judge as decoded_judge
from rlhf_jax.recipes.selfplay import make_arena as make_arena
from rlhf_jax.recipes.selfplay import mixed_draw as mixed_draw
from rlhf_jax.recipes.selfplay import selfplay as selfplay
from rlhf_jax.recipes.selfplay import task_judge as task_judge
from rlhf_jax.recipes.selfplay import tempered_draw as tempered_draw
from rlhf_jax.recipes.selfplay import texts_judge as texts_judge
from rlhf_jax.recipes.state_coverage import StateCoverage as StateCoverage
from rlhf_jax.recipes.state_coverage import state_coverage as state_coverage
from rlhf_jax.recipes.stops import stopped_lab as stopped_lab
from rlhf_jax.recipes.task import Labels as Labels
from rlhf_jax.recipes.task import Task as Task
from rlhf_jax.recipes.task import compared_teacher as compared_teacher
from rlhf_jax.recipes.task import objective_teacher as objective_teacher
from rlhf_jax.recipes.task import overall as overall
from rlhf_jax.recipes.task import score_answers as score_answers
from rlhf_jax.recipes.task import text_task as text_task
from rlhf_jax.recipes.texts import sample_texts as sample_texts
from rlhf_jax.recipes.tournament import Tournament as Tournament
from rlhf_jax.recipes.tournament import pool_tournament as pool_tournament
from rlhf_jax.recipes.tournament import tournament as tournament
from rlhf_jax.recipes.unpaired import bco as bco
from rlhf_jax.recipes.unpaired import dro as dro
from rlhf_jax.recipes.unpaired import labelled_rows as labelled_rows
from rlhf_jax.recipes.unpaired import unpaired as unpaired
from rlhf_jax.recipes.unpaired import with_mismatched as with_mismatched
from rlhf_jax.recipes.users import UserSizes as UserSizes
from rlhf_jax.recipes.users import embedded_pairs as embedded_pairs
from rlhf_jax.recipes.users import user_model as user_model
from rlhf_jax.recipes.users import user_networks as user_networks
from rlhf_jax.recipes.users import user_rows as user_rows
from rlhf_jax.recipes.vectors import answer_vectors as answer_vectors
from rlhf_jax.recipes.vectors import pair_vectors as pair_vectors
from rlhf_jax.recipes.verdicts import anchored_reward as anchored_reward
from rlhf_jax.recipes.verdicts import verdict_logps as verdict_logps
from rlhf_jax.recipes.verdicts import verdict_model as verdict_model
from rlhf_jax.recipes.verdicts import verdicts_of as verdicts_of
from rlhf_jax.recipes.waltz import WaltzRewards as WaltzRewards
from rlhf_jax.recipes.waltz import waltz as waltz
from rlhf_jax.recipes.waltz import waltz_task as waltz_task
