"""HTTP dates (RFC 9110 section 5.6.7): all three forms are read, the first is written. Times are Unix seconds.

The RFC makes dates case-sensitive; reading them in any case costs nothing and keeps what an origin meant.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "|".join(_MONTHS)
_CLOCK = r"(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)"
_FORMS = (
    re.compile(
        rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>\d\d) (?P<month>{_MONTH}) (?P<year>\d{{4}}) {_CLOCK} GMT\Z", re.IGNORECASE
    ),
    re.compile(
        rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-(?P<month>{_MONTH})-(?P<year>\d\d) {_CLOCK} GMT\Z",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?P<month>{_MONTH}) (?P<day>[ \d]\d) {_CLOCK} (?P<year>\d{{4}})\Z", re.IGNORECASE
    ),
)


def parse_http_date(text: str | None, now: float = 0.0) -> float | None:
    """Unix seconds, or None when `text` is no HTTP date. `now` decides the century of the obsolete two-digit year."""
    for form in _FORMS if text else ():
        match = form.match(text or "")
        if match is None:
            continue
        year = int(match["year"])
        if len(match["year"]) == 2:
            year = _century(year, now)
        fields = (year, _MONTHS.index(match["month"].capitalize()) + 1, int(match["day"]), int(match["h"]), int(match["m"]))
        second = min(int(match["s"]), 59)  # a leap second reads as the one before it
        try:
            return float(calendar.timegm(datetime(*fields, second, tzinfo=UTC).timetuple()))
        except ValueError:
            return None
    return None


def _century(two_digits: int, now: float) -> int:
    """A date that appears to be more than 50 years in the future is the most recent past year with these digits."""
    this_year = datetime.fromtimestamp(now, UTC).year
    year = this_year - this_year % 100 + two_digits
    return year - 100 if year > this_year + 50 else year


def format_http_date(seconds: float) -> str:
    moment = datetime.fromtimestamp(int(seconds), UTC)
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02d} {month} {moment.year:04d} {moment:%H:%M:%S} GMT"
