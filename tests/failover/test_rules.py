"""What holds, always (docs/failover.md), and the tests that fail where it does not.

Each rule was broken in the code on purpose, in every way that is named, and the test beside it was
seen to fail.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MODEL = "failover/test_run.py"
FAULTS = "e2e/failover/test_faults.py"
ORIGINAL = "e2e/failover/test_original_fault.py"
FROZEN = "e2e/failover/test_frozen.py"
LAB = "e2e/failover/test_failover.py"
CLI = "cli/test_failover.py"

RULES = {
    "Yes never powers the source off, unless that was chosen, and then the point says crash": {
        "a shutdown that is a power-off": f"{ORIGINAL} yes_keeps_every_transaction",
        "abort that pulls the plug": f"{MODEL} a_guest_that_does_not_shut_down",
        "wait that pulls it in the end": f"{MODEL} waiting_on_is_what_wait_does",
        "a pulled plug that is called clean": f"{MODEL} a_guest_that_does_not_shut_down",
    },
    "A final sync has a point of its own, and what was there stays bootable": {
        "a final sync into point A": f"{MODEL} yes_shuts_the_guest_down",
        "use-quiesced that boots another point": f"{MODEL} a_guest_that_does_not_shut_down",
        "retention before the commit": f"{FAULTS} a_guest_that_does_not_shut_down",
    },
    "Never both: the source is seen off right before the replica's power-on": {
        "no look": f"{MODEL} a_source_that_comes_back_is_never_joined",
        "no last look after the preparations": f"{MODEL} what_prepares_the_replica",
        "a state that was read before": f"{LAB} a_source_that_somebody_starts_again",
        "a state that vCenter only remembers": f"{FAULTS} a_fault_stops_it_as_documented",
        "an undo that starts the source first": f"{MODEL} a_source_whose_cards_were_disconnected",
        "any of it, at any kill": "e2e/failover/test_matrix.py killed_anywhere",
    },
    "The job is switched off first, once no sync is in flight": {
        "a job that stays on": f"{MODEL} yes_shuts_the_guest_down",
        "a sync that is not waited for": f"{LAB} a_sync_in_flight_ends_before_anything_else",
        "a run by somebody else": f"{LAB} a_job_in_a_failover_runs_for_nobody_else",
    },
    "Journalled before it acts, found done after a kill; an old epoch does nothing": {
        "no intent before an effect": f"{MODEL} killed_at_any_call_of_an_undo",
        "a point that is made twice": f"{MODEL} killed_at_any_call_it_ends",
        "a running replica that is started again": f"{MODEL} killed_at_any_call_it_ends",
        "an effect outside of the fence": f"{FROZEN} inside_an_effect_nobody_takes_over",
        "an epoch that is not compared, or not raised": f"{FROZEN} who_was_taken_over_makes",
        "a batch that does not ask": f"{FROZEN} a_copy_that_only_reads_asks_at_every_batch",
        "a step of a sync that does not ask": f"{FROZEN} who_was_taken_over_makes",
        "a taken-over sync that puts back": f"{FROZEN} in_a_synchronisation_only_an_undo",
    },
    "What was done is in the record, and can be held against vCenter's own": {
        "calls without their tasks": f"{CLI} the_record_is_compared",
        "a call past the record": f"{CLI} the_record_is_compared",
        "results that are not written": f"{CLI} yes_then_undo",
    },
    "Tools, reachable level and expected loss are shown before the decision": {
        "Tools that are taken to run": f"{CLI} what_can_be_reached_and_what_would_be_lost",
        "a level that is promised": f"{CLI} what_can_be_reached_and_what_would_be_lost",
        "a point of No that is not shown": f"{CLI} what_can_be_reached_and_what_would_be_lost",
    },
}


@pytest.mark.parametrize("rule", RULES)
def test_the_tests_of_every_rule_are_there(rule: str) -> None:
    for where in RULES[rule].values():
        file, name = where.split()
        assert f"def test_{name}" in (TESTS / file).read_text(), where
