"""When schedules of EventBridge are due, and which expressions it takes."""

import datetime as dt

import pytest

from helpers.local_aws.schedules import NotASchedule, parse

MADE = dt.datetime(2026, 3, 2, 10, 15, 30, tzinfo=dt.UTC)  # a Monday


def due(expression, count=3, after=MADE):
    found = []
    while len(found) < count and (after := parse(expression).next(after, MADE)):
        found.append(f"{after:%Y-%m-%d %H:%M:%S}")
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rate(1 minute)", ["2026-03-02 10:16:30", "2026-03-02 10:17:30", "2026-03-02 10:18:30"]),
        ("rate(5 minutes)", ["2026-03-02 10:20:30", "2026-03-02 10:25:30", "2026-03-02 10:30:30"]),
        ("rate(1 day)", ["2026-03-03 10:15:30", "2026-03-04 10:15:30", "2026-03-05 10:15:30"]),
        ("cron(* * * * ? *)", ["2026-03-02 10:16:00", "2026-03-02 10:17:00", "2026-03-02 10:18:00"]),
        ("cron(0/15 10 * * ? *)", ["2026-03-02 10:30:00", "2026-03-02 10:45:00", "2026-03-03 10:00:00"]),
        ("cron(15 10 * * ? *)", ["2026-03-03 10:15:00", "2026-03-04 10:15:00", "2026-03-05 10:15:00"]),
        ("cron(0 18 ? * MON-FRI *)", ["2026-03-02 18:00:00", "2026-03-03 18:00:00", "2026-03-04 18:00:00"]),
        ("cron(0 8 1 * ? *)", ["2026-04-01 08:00:00", "2026-05-01 08:00:00", "2026-06-01 08:00:00"]),
        ("cron(0 8 L * ? *)", ["2026-03-31 08:00:00", "2026-04-30 08:00:00", "2026-05-31 08:00:00"]),
        ("cron(0 8 1W * ? *)", ["2026-04-01 08:00:00", "2026-05-01 08:00:00", "2026-06-01 08:00:00"]),
        ("cron(0 8 15W 8 ? *)", ["2026-08-14 08:00:00", "2027-08-16 08:00:00", "2028-08-15 08:00:00"]),
        ("cron(0 8 ? * 6L *)", ["2026-03-27 08:00:00", "2026-04-24 08:00:00", "2026-05-29 08:00:00"]),
        ("cron(0 8 ? * 2#1 *)", ["2026-04-06 08:00:00", "2026-05-04 08:00:00", "2026-06-01 08:00:00"]),
        ("cron(0 0 29 2 ? *)", ["2028-02-29 00:00:00", "2032-02-29 00:00:00", "2036-02-29 00:00:00"]),
        ("cron(0 10 1 jan ? 2027-2028)", ["2027-01-01 10:00:00", "2028-01-01 10:00:00"]),
        ("cron(0 10 1 1 ? 2020)", []),
        ("rate(999999999999999 days)", []),
    ],
)
def test_when_a_schedule_is_due(expression, expected):
    assert due(expression) == expected


def test_a_rate_counts_from_when_the_rule_was_made_however_late_somebody_looks():
    late = MADE + dt.timedelta(hours=3, minutes=2)
    assert parse("rate(5 minutes)").next(late, MADE) == MADE + dt.timedelta(hours=3, minutes=5)


@pytest.mark.parametrize(
    "expression",
    [
        "", "rate(0 minutes)", "rate(1 minutes)", "rate(5 minute)", "rate(30 seconds)", "rate(-1 minutes)",
        "rate(1 minute) ", "at(2026-01-01T00:00:00)", "cron(* * * * *)", "cron(* * * * * *)", "cron(* * ? * ? *)",
        "cron(60 * * * ? *)", "cron(* 24 * * ? *)", "cron(* * 0 * ? *)", "cron(* * * 13 ? *)", "cron(* * ? * 8 *)",
        "cron(* * ? * MON#6 *)", "cron(*/0 * * * ? *)", "cron(5-1 * * * ? *)", "cron(a * * * ? *)",
        "cron(0 0 32W * ? *)", "cron(0 0 ? * FRIDAY *)", "cron(0 0 * * ? 2500)", f"rate({'9' * 5000} days)",
        "rate(\u0663 days)", "cron(0 0 \u0663 * ? *)", "cron(0/\u0663 0 * * ? *)",
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(expression):
    with pytest.raises(NotASchedule):
        parse(expression)
