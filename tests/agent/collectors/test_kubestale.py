from agent.collectors.kubestale import STANDSTILL_SECONDS, StaleSummaries
from tests.agent.kubernetes import rfc3339

NOW = 1_800_000_000.0


def read(at):
    return {"node": {"cpu": {"time": rfc3339(at)}, "memory": {"time": rfc3339(at - 10)}}}


def test_a_summary_whose_times_move_is_believed_however_wrong_its_clock_is():
    stale = StaleSummaries()
    for after in range(0, 600, 15):
        assert stale.why_stale("n1", read(NOW - 7200 + after), NOW + after) == ""


def test_a_summary_whose_times_stand_still_is_believed_for_three_minutes():
    stale = StaleSummaries()
    assert stale.why_stale("n1", read(NOW), NOW) == ""
    assert stale.why_stale("n1", read(NOW), NOW + STANDSTILL_SECONDS - 1) == ""
    why = stale.why_stale("n1", read(NOW), NOW + STANDSTILL_SECONDS)
    assert why == "it repeats those of 2027-01-15 08:00:00 UTC"


def test_a_summary_without_times_is_believed():
    stale = StaleSummaries()
    for after in range(0, 600, 15):
        assert stale.why_stale("n1", {"node": {"cpu": {}}}, NOW + after) == ""


def test_a_clock_that_goes_back_begins_anew():
    stale = StaleSummaries()
    stale.why_stale("n1", read(NOW), NOW)
    assert stale.why_stale("n1", read(NOW), NOW - 7200) == ""
    assert stale.why_stale("n1", read(NOW), NOW - 7100) == ""
