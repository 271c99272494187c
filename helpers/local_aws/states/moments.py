"""Times as tasks give them out."""

import datetime as dt


def milliseconds(moment: dt.datetime) -> int:
    """Return a time as the optimized integrations give it: milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def iso(moment: dt.datetime) -> str:
    """Return a time as the SDK integrations give it: ISO 8601 in UTC, with milliseconds where there are any."""
    moment = moment.astimezone(dt.UTC)
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")
