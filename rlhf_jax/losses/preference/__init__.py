"""Direct preference objectives: log-probabilities of answers in, one loss per example out.

A new one is entered in the list below, which `rlhf_jax.losses` takes whole.

| file | what it reads |
|---|---|
| `pairs` | the gap of two log-ratios to a reference |
| `anchored` | each log-ratio of a pair by itself |
| `offsets` | one more number per pair: a score gap, a length, a divergence |
| `scores`, `robust` | what goes into such a loss: scores, weights, a value of beta |
| `reference_free` | log-probabilities of the policy alone |
| `ranking` | K answers to one prompt |
| `segments` | segments of behaviour |
| `unpaired` | single answers with a label or a score |
"""

from rlhf_jax.losses.preference.anchored import aot_loss as aot_loss
from rlhf_jax.losses.preference.anchored import aot_unpaired_loss as aot_unpaired_loss
from rlhf_jax.losses.preference.anchored import apo_down_loss as apo_down_loss
from rlhf_jax.losses.preference.anchored import apo_zero_loss as apo_zero_loss
from rlhf_jax.losses.preference.anchored import bco_pair_loss as bco_pair_loss
from rlhf_jax.losses.preference.anchored import cal_dpo_loss as cal_dpo_loss
from rlhf_jax.losses.preference.anchored import dpop_loss as dpop_loss
from rlhf_jax.losses.preference.anchored import nca_loss as nca_loss
from rlhf_jax.losses.preference.anchored import sppo_hard_loss as sppo_hard_loss
from rlhf_jax.losses.preference.offsets import alpha_dpo_loss as alpha_dpo_loss
from rlhf_jax.losses.preference.offsets import mallows_dpo_loss as mallows_dpo_loss
from rlhf_jax.losses.preference.offsets import odpo_loss as odpo_loss
from rlhf_jax.losses.preference.offsets import r_dpo_loss as r_dpo_loss
from rlhf_jax.losses.preference.offsets import rebel_loss as rebel_loss
from rlhf_jax.losses.preference.offsets import sequence_kl_gaps as sequence_kl_gaps
from rlhf_jax.losses.preference.offsets import tdpo_loss as tdpo_loss
from rlhf_jax.losses.preference.offsets import xpo_loss as xpo_loss
from rlhf_jax.losses.preference.pairs import cdpo_loss as cdpo_loss
from rlhf_jax.losses.preference.pairs import discopop_loss as discopop_loss
from rlhf_jax.losses.preference.pairs import dpo_loss as dpo_loss
from rlhf_jax.losses.preference.pairs import exo_loss as exo_loss
from rlhf_jax.losses.preference.pairs import f_dpo_loss as f_dpo_loss
from rlhf_jax.losses.preference.pairs import geometric_dpo_loss as geometric_dpo_loss
from rlhf_jax.losses.preference.pairs import gpo_loss as gpo_loss
from rlhf_jax.losses.preference.pairs import hinge_dpo_loss as hinge_dpo_loss
from rlhf_jax.losses.preference.pairs import ipo_loss as ipo_loss
from rlhf_jax.losses.preference.pairs import robust_dpo_loss as robust_dpo_loss
from rlhf_jax.losses.preference.pairs import soft_preference_loss as soft_preference_loss
from rlhf_jax.losses.preference.ranking import lipo_loss as lipo_loss
from rlhf_jax.losses.preference.ranking import lire_loss as lire_loss
from rlhf_jax.losses.preference.ranking import pl_dpo_loss as pl_dpo_loss
from rlhf_jax.losses.preference.ranking import pro_loss as pro_loss
from rlhf_jax.losses.preference.ranking import pro_sft_loss as pro_sft_loss
from rlhf_jax.losses.preference.ranking import rrhf_loss as rrhf_loss
from rlhf_jax.losses.preference.reference_free import alpha_po_loss as alpha_po_loss
from rlhf_jax.losses.preference.reference_free import cpo_loss as cpo_loss
from rlhf_jax.losses.preference.reference_free import dft_loss as dft_loss
from rlhf_jax.losses.preference.reference_free import odds_ratio_loss as odds_ratio_loss
from rlhf_jax.losses.preference.reference_free import orpo_loss as orpo_loss
from rlhf_jax.losses.preference.reference_free import sft_loss as sft_loss
from rlhf_jax.losses.preference.reference_free import simper_loss as simper_loss
from rlhf_jax.losses.preference.reference_free import simpo_loss as simpo_loss
from rlhf_jax.losses.preference.reference_free import slic_loss as slic_loss
from rlhf_jax.losses.preference.robust import batch_beta as batch_beta
from rlhf_jax.losses.preference.robust import dr_dpo as dr_dpo
from rlhf_jax.losses.preference.robust import group_weights as group_weights
from rlhf_jax.losses.preference.robust import mixture_loss as mixture_loss
from rlhf_jax.losses.preference.robust import ropo_loss as ropo_loss
from rlhf_jax.losses.preference.scores import alpha_score as alpha_score
from rlhf_jax.losses.preference.scores import chi_squared_score as chi_squared_score
from rlhf_jax.losses.preference.scores import discounted_logps as discounted_logps
from rlhf_jax.losses.preference.scores import forward_kl_score as forward_kl_score
from rlhf_jax.losses.preference.scores import js_score as js_score
from rlhf_jax.losses.preference.scores import ld_logps as ld_logps
from rlhf_jax.losses.preference.scores import sampled_logps as sampled_logps
from rlhf_jax.losses.preference.scores import weighted_logps as weighted_logps
from rlhf_jax.losses.preference.scores import wpo_weights as wpo_weights
from rlhf_jax.losses.preference.segments import cpl_kl_loss as cpl_kl_loss
from rlhf_jax.losses.preference.segments import cpl_loss as cpl_loss
from rlhf_jax.losses.preference.segments import ranked_cpl_loss as ranked_cpl_loss
from rlhf_jax.losses.preference.segments import segment_advantages as segment_advantages
from rlhf_jax.losses.preference.segments import soft_cpl_loss as soft_cpl_loss
from rlhf_jax.losses.preference.unpaired import apo_zero_unpaired_loss as apo_zero_unpaired_loss
from rlhf_jax.losses.preference.unpaired import bco_loss as bco_loss
from rlhf_jax.losses.preference.unpaired import bco_shift as bco_shift
from rlhf_jax.losses.preference.unpaired import dro_loss as dro_loss
from rlhf_jax.losses.preference.unpaired import kto_kl as kto_kl
from rlhf_jax.losses.preference.unpaired import kto_loss as kto_loss
from rlhf_jax.losses.preference.unpaired import npo_loss as npo_loss
from rlhf_jax.losses.preference.unpaired import pmpo_loss as pmpo_loss
from rlhf_jax.losses.preference.unpaired import pointwise_dpo_loss as pointwise_dpo_loss
