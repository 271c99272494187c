"""When a schedule of EventBridge is due: rate(...) and cron(...) expressions.

Times are datetimes in UTC. EventBridge fires on whole minutes at the earliest.
"""

import calendar
import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

_UNITS = {"minute": 60, "hour": 3600, "day": 86400}
_MONTHS = {
    "JAN": 1, "FEB": 2, "MAR": 3, "APR": 4, "MAY": 5, "JUN": 6,
    "JUL": 7, "AUG": 8, "SEP": 9, "OCT": 10, "NOV": 11, "DEC": 12,
}  # fmt: skip
_DAYS = {"SUN": 1, "MON": 2, "TUE": 3, "WED": 4, "THU": 5, "FRI": 6, "SAT": 7}
_MINUTE, _DAY = dt.timedelta(minutes=1), dt.timedelta(days=1)
_LAST_YEAR = 2199
_LONGEST = 256  # characters of an expression


class NotASchedule(ValueError):
    """A ScheduleExpression that EventBridge does not take."""


@dataclass(frozen=True)
class Rate:
    """Every so many seconds, counted from when the rule was made or enabled."""

    seconds: int

    def next(self, after: dt.datetime, since: dt.datetime) -> dt.datetime | None:
        """Return the first time after ``after``, or None where no calendar has it."""
        passed = max(0, int((after - since).total_seconds() // self.seconds))
        try:
            return since + dt.timedelta(seconds=self.seconds * (passed + 1))
        except OverflowError:
            return None


@dataclass(frozen=True)
class Cron:
    """The fields of a cron expression; a day is due when its month's or its week's field has it."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: str
    months: frozenset[int]
    weekdays: str
    years: frozenset[int]

    def next(self, after: dt.datetime, since: dt.datetime) -> dt.datetime | None:
        """Return the first time after ``after``, or None where there is none any more."""
        del since
        moment = after.replace(second=0, microsecond=0) + _MINUTE
        day = moment.date()
        while day.year <= max(self.years):
            if day.year not in self.years or day.month not in self.months:
                day = (day.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
                continue
            if day.day in _days_of(self.days, self.weekdays, day.year, day.month):
                earliest = (moment.hour, moment.minute) if day == moment.date() else (0, 0)
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        if (hour, minute) >= earliest:
                            return dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=dt.UTC)
            day += _DAY
        return None


@lru_cache(256)
def parse(expression: str) -> Rate | Cron:
    """Read a ScheduleExpression. Raises NotASchedule."""
    if len(expression) > _LONGEST:
        raise NotASchedule(f"{expression:.{_LONGEST}}…")
    if found := re.fullmatch(r"rate\(([0-9]+) (minute|hour|day)(s?)\)", expression):
        count, unit, plural = int(found[1]), found[2], found[3]
        if count < 1 or (count == 1) == bool(plural):
            raise NotASchedule(expression)
        return Rate(count * _UNITS[unit])
    fields = re.fullmatch(r"cron\((.*)\)", expression)
    parts = fields[1].split() if fields else []
    if len(parts) != 6 or (parts[2] == "?") == (parts[4] == "?"):
        raise NotASchedule(expression)
    minutes, hours, days, months, weekdays, years = parts
    schedule = Cron(
        _numbers(minutes, 0, 59),
        _numbers(hours, 0, 23),
        days,
        _numbers(months, 1, 12, _MONTHS),
        weekdays.upper(),
        _numbers(years, 1970, _LAST_YEAR),
    )
    _days_of(days, weekdays.upper(), 2024, 1)  # is refused now rather than when it would be due
    return schedule


def _numbers(field: str, least: int, most: int, names: Mapping[str, int] | None = None) -> frozenset[int]:
    """Expand ``*``, lists, ranges and steps."""
    found: set[int] = set()
    for part in field.upper().split(","):
        span, slash, step = part.partition("/")
        if slash and not (step.isascii() and step.isdecimal()):
            raise NotASchedule(field)
        first, dash, last = (str(least), "-", str(most)) if span == "*" else span.partition("-")
        low = _number(first, names)
        high = _number(last, names) if dash else (most if slash else low)
        if not (least <= low <= high <= most) or (slash and int(step) < 1):
            raise NotASchedule(field)
        found.update(range(low, high + 1, int(step) if slash else 1))
    return frozenset(found)


def _number(text: str, names: Mapping[str, int] | None) -> int:
    if names and text in names:
        return names[text]
    if not (text.isascii() and text.isdecimal()):
        raise NotASchedule(text)
    return int(text)


@lru_cache(256)
def _days_of(days: str, weekdays: str, year: int, month: int) -> frozenset[int]:
    """Return the days of a month that a pair of fields names, one of which is ``?``."""
    last = calendar.monthrange(year, month)[1]
    found: set[int] = set()
    if weekdays == "?":
        for part in days.upper().split(","):
            found.update(_days_of_month(part, year, month, last))
    else:
        for part in weekdays.split(","):
            found.update(_days_of_week(part, year, month, last))
    return frozenset(day for day in found if day <= last)


def _days_of_month(part: str, year: int, month: int, last: int) -> Iterator[int]:
    if part == "L":
        yield last
    elif part.endswith("W"):
        wanted = last if part == "LW" else _number(part[:-1], None)
        if not 1 <= wanted <= 31:
            raise NotASchedule(part)
        workdays = [day for day in range(1, last + 1) if dt.date(year, month, day).isoweekday() <= 5]
        # The nearest workday of the same month: Friday for a Saturday, Monday for a Sunday.
        yield min(workdays, key=lambda day: abs(day - min(wanted, last)))
    else:
        yield from _numbers(part, 1, 31)


def _days_of_week(part: str, year: int, month: int, last: int) -> Iterator[int]:
    day, hash_sign, number = part.partition("#")
    if hash_sign:
        nth = _number(number, None)
        if not 1 <= nth <= 5:
            raise NotASchedule(part)
        yield from _every(_weekday(day), year, month, last)[nth - 1 : nth]
    elif part == "L":  # the week's last day
        yield from _every(7, year, month, last)
    elif part.endswith("L"):
        yield _every(_weekday(part[:-1]), year, month, last)[-1]
    else:
        for weekday in _numbers(part, 1, 7, _DAYS):
            yield from _every(weekday, year, month, last)


def _weekday(text: str) -> int:
    (number,) = _numbers(text, 1, 7, _DAYS)
    return number


def _every(weekday: int, year: int, month: int, last: int) -> list[int]:
    """Return the days of a month on a weekday (1: Sunday)."""
    return [day for day in range(1, last + 1) if dt.date(year, month, day).isoweekday() % 7 + 1 == weekday]
