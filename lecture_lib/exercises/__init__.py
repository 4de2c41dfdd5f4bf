"""The checks behind the notebooks' exercises. Each takes a learner's answer, and tells the likely mistake by its trace.

A check raises `NotAttempted` or `Wrong(hint)`, or returns a sentence of praise that adds something. There is a module
for the exercises of each notebook.
"""

from lecture_lib.exercises.adapters import expert_bits, two_in_one
from lecture_lib.exercises.adaptive_language_model import fixed_sequence, oracle_exit
from lecture_lib.exercises.answers import NotAttempted, Wrong
from lecture_lib.exercises.conditional_computation import batch_budget, share_left
from lecture_lib.exercises.discrete_decisions import block_flops, scan
from lecture_lib.exercises.early_exits import mean_flops, patience_exit
from lecture_lib.exercises.experts_at_scale import groups, intensity
from lecture_lib.exercises.gumbel_softmax import forbid, keep_or_discard
from lecture_lib.exercises.merging import elect_and_merge, soup_members
from lecture_lib.exercises.mixture_of_experts import balance_loss, dropped_by_chance
from lecture_lib.exercises.outlook import pareto_front, random_budget
from lecture_lib.exercises.reinforce import best_baseline, leave_one_out_baseline
from lecture_lib.exercises.sparse_choices import entmax_15, smallest_lead
from lecture_lib.exercises.start_here import run_what_is_chosen

CHECKS = {
    check.__name__: check
    for check in (
        run_what_is_chosen,
        forbid,
        keep_or_discard,
        entmax_15,
        smallest_lead,
        leave_one_out_baseline,
        best_baseline,
        scan,
        block_flops,
        share_left,
        batch_budget,
        patience_exit,
        mean_flops,
        oracle_exit,
        fixed_sequence,
        balance_loss,
        dropped_by_chance,
        elect_and_merge,
        soup_members,
        groups,
        intensity,
        two_in_one,
        expert_bits,
        pareto_front,
        random_budget,
    )
}

__all__ = ["CHECKS", "NotAttempted", "Wrong", *CHECKS]
