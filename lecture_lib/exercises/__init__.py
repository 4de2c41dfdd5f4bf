"""A module for the exercises of each notebook; what is imported from it is a check.

A check takes an answer, raises `NotAttempted` or `Wrong(hint)`, or returns a sentence of praise.
"""
# ruff: noqa: F401

from types import FunctionType

from lecture_lib.exercises.adapters import (
    fair_baseline,
    memory_factor,
    out_of_reach,
    same_first_step,
    two_in_one,
)
from lecture_lib.exercises.adaptive_language_model import (
    byte_cost,
    fixed_sequence,
    head_price,
    kept_bytes,
    oracle_exit,
    texts_needed,
)
from lecture_lib.exercises.answers import NotAttempted, Wrong
from lecture_lib.exercises.architecture_and_types import (
    dense_units,
    interaction,
    lost_by_pooling,
    reordered_head,
    scan,
    steps_of_the_fold,
)
from lecture_lib.exercises.conditional_computation import (
    batch_budget,
    break_even,
    equal_training,
    share_left,
    three_losses,
)
from lecture_lib.exercises.discrete_decisions import (
    block_flops,
    boundary_slope,
    hidden_pair,
    together,
    tries,
)
from lecture_lib.exercises.early_exits import equal_compute, exit_cost, own_network, patience_exit, stick_weight
from lecture_lib.exercises.experts_at_scale import bytes_away, groups, intensity, lost_best, padding, users
from lecture_lib.exercises.gumbel_softmax import fooled, forbid, keep_or_discard, mean_error, surely
from lecture_lib.exercises.merging import elect_and_merge, same_function, scaled_unit, soup_members, spread
from lecture_lib.exercises.mixture_of_experts import (
    balance_loss,
    below_one,
    dropped_by_chance,
    equal_cost,
    half_loads,
    read_the_loss,
)
from lecture_lib.exercises.modalities import (
    above_chance,
    expert_bits,
    global_on_paper,
    hidden_collapse,
    lowest_loss,
)
from lecture_lib.exercises.outlook import pareto_front, random_budget
from lecture_lib.exercises.reinforce import (
    best_baseline,
    enough_samples,
    leave_one_out_baseline,
    one_estimate,
    times_fewer,
)
from lecture_lib.exercises.sparse_choices import (
    dead_loss,
    entmax_15,
    inclusion,
    smallest_lead,
    sparsemax_threshold,
    whole_saving,
)
from lecture_lib.exercises.start_here import (
    late_share,
    run_what_is_chosen,
    skipped_flops,
    supported,
    why_not_faster,
)

CHECKS = {name: check for name, check in globals().items() if isinstance(check, FunctionType)}

__all__ = ["CHECKS", "NotAttempted", "Wrong", *CHECKS]
