#!/usr/bin/env python3
"""Writes the windows that the tests of package quota compare with.

Needs Python 3.9 or later and a time zone database (zoneinfo), and takes some ten
minutes. Run it here:

    python3 generate.py

It shares no code and no method with the package: it walks through time in
steps of a quarter of an hour, reads the local clock at each step, and notes a
window's start when the clock for the first time shows the wanted date and time
or a later one; a step in which the clock was changed is walked through second by
second. Which dates are wanted is counted forward on Python's calendar.

Only history that is settled is covered (to the end of 2024, or of 2022 for the
file of all zones), so that the version of the database does not matter.

Each row of a file is a period and consecutive windows of it:
    zone,unit,every,week_start,anchor,first,seconds
first is the start of the first window, seconds the lengths of the windows in
turn, "86400*5" meaning five of 86400.
"""

import calendar
import sys
import zoneinfo
from datetime import date, datetime, timedelta, timezone

UTC = timezone.utc
EPOCH = datetime(1970, 1, 1)
STEP = 900
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


def unix(*when):
    return calendar.timegm(datetime(*when).timetuple())


def text(sec):
    return datetime.fromtimestamp(sec, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def wall(zone, sec):
    """What the local clock shows, as seconds of a calendar without zones."""
    shown = datetime.fromtimestamp(sec, zone).replace(tzinfo=None)
    return round((shown - EPOCH).total_seconds())


class History:
    """The readings of a zone's clock at each step of a range."""

    def __init__(self, name, begin, end):
        self.name, self.zone = name, zoneinfo.ZoneInfo(name)
        self.begin, self.end = begin, end
        self.readings = [(s, wall(self.zone, s)) for s in range(begin, end, STEP)]

    def first_seconds(self, wanted):
        """Start of every window: wanted is an ascending iterator of readings."""
        starts = []
        wanted = iter(wanted)
        want = next(wanted)
        before = None
        for sec, shown in self.readings:
            while shown >= want:
                if before is not None:
                    at = self.second(sec, before, shown, want)
                    if not starts or starts[-1] != at:
                        starts.append(at)
                want = next(wanted)
            before = shown
        return starts

    def second(self, sec, before, shown, want):
        """The second of the step before sec in which the clock first shows want or later."""
        if shown - before == STEP:  # nobody touched the clock
            return sec - (shown - want)
        return next(s for s in range(sec - STEP + 1, sec + 1) if wall(self.zone, s) >= want)

    def clock_hours(self):
        """Every full hour of the clock, and every change by less or more than whole hours."""
        starts, before = [], None
        for sec, shown in self.readings:
            if before is not None:
                jump = shown - before - STEP
                if jump % 3600:
                    offset = before - (sec - STEP)
                    starts.append(next(s for s in range(sec - STEP + 1, sec + 1) if wall(self.zone, s) - s != offset))
                    if shown % 3600 == 0 and starts[-1] != sec:
                        starts.append(sec)
                elif shown % 3600 == 0:
                    starts.append(sec)
                elif (shown % 3600) < STEP:  # a clock that is not on quarters, before 1973
                    starts.append(sec - shown % 3600)
            before = shown
        return starts


def seconds(day, time_of_day=0):
    return (day - date(1970, 1, 1)).days * 86400 + time_of_day


def every_days(start, n, time_of_day=0):
    while True:
        yield seconds(start, time_of_day)
        start += timedelta(days=n)


def every_months(anchor, n, time_of_day, begin_year):
    """Every n months from the anchor's date, from begin_year on, day clamped to the month."""
    turn = 0
    while anchor.year + (anchor.month - 1 + turn * n) // 12 >= begin_year:
        turn -= 1
    while True:
        turn += 1
        months = anchor.month - 1 + turn * n
        year, month = anchor.year + months // 12, months % 12 + 1
        day = min(anchor.day, calendar.monthrange(year, month)[1])
        yield seconds(date(year, month, day), time_of_day)


def lengths(starts):
    out, run, last = [], 0, None
    for length in [b - a for a, b in zip(starts, starts[1:])] + [None]:
        if length == last:
            run += 1
            continue
        if run:
            out.append(str(last) if run == 1 else f"{last}*{run}")
        last, run = length, 1
    return " ".join(out)


def windows(history, unit, every=1, week_start="", anchor=None):
    """The starts of a period's windows within a history."""
    first_day = datetime.fromtimestamp(history.begin, UTC).date() - timedelta(days=2)
    if unit == "hour" and anchor is None:
        return history.clock_hours()
    if unit == "hour":
        # Elapsed time: back to before the range in whole turns, then forward.
        at, starts = anchor, []
        while at >= history.begin:
            at -= every * 3600
        while at < history.end:
            if at >= history.begin:
                starts.append(at)
            at += every * 3600
        return starts
    if anchor is None:
        start, time_of_day = first_day, 0
        if unit == "week":
            while DAYS[start.weekday()] != (week_start or "monday"):
                start -= timedelta(days=1)
        elif unit != "day":
            start = date(1970, 1, 1)
    else:
        local = wall(history.zone, anchor)
        start, time_of_day = date(1970, 1, 1) + timedelta(days=local // 86400), local % 86400
    if unit in ("day", "week"):
        n = every * (7 if unit == "week" else 1)
        while start > first_day:
            start -= timedelta(days=n)
        return history.first_seconds(every_days(start, n, time_of_day))
    n = every * {"month": 1, "quarter": 3, "year": 12}[unit]
    return history.first_seconds(every_months(start, n, time_of_day, first_day.year - 1))


def at_local(history, *when):
    """The first quarter of an hour in UTC at which the clock shows so or later."""
    want = round((datetime(*when) - EPOCH).total_seconds())
    sec = want - 30 * 3600
    while wall(history.zone, sec) < want:
        sec += STEP
    return sec


class File:
    def __init__(self, name, about):
        self.out = open(name, "w", encoding="ascii", newline="\n")
        self.out.write(f"# {about}\n# tzdata {version()}, written by generate.py\n")
        self.out.write("zone,unit,every,week_start,anchor,first,seconds\n")

    def row(self, history, unit, every=1, week_start="", anchor=None):
        starts = windows(history, unit, every, week_start, anchor)
        if len(starts) < 2:
            sys.exit(f"{history.name} {unit} {every}: no window in the range")
        self.out.write(f"{history.name},{unit},{every},{week_start},"
                       f"{text(anchor) if anchor is not None else ''},{text(starts[0])},{lengths(starts)}\n")


def version():
    for tree in zoneinfo.TZPATH:
        try:
            with open(tree + "/tzdata.zi", encoding="ascii") as f:
                return f.readline().split()[-1]
        except OSError:
            continue
    import tzdata
    return tzdata.IANA_VERSION


# Zones for their clocks: missing and doubled midnights, half and quarter hours,
# changes of two hours, of half an hour and of the whole zone, no changes at all.
ZONES = """
UTC Etc/GMT+12 Etc/GMT-14 Europe/Berlin Europe/London Europe/Dublin Europe/Lisbon Europe/Istanbul
Europe/Moscow Europe/Samara Europe/Volgograd Europe/Simferopol Atlantic/Azores Atlantic/Reykjavik
America/New_York America/Chicago America/Los_Angeles America/St_Johns America/Goose_Bay America/Havana
America/Sao_Paulo America/Campo_Grande America/Cuiaba America/Asuncion America/Santiago America/Montevideo
America/Caracas America/Mexico_City America/Nuuk America/Scoresbysund America/Whitehorse America/Port-au-Prince
America/Argentina/San_Luis America/Metlakatla Africa/Cairo Africa/Casablanca Africa/El_Aaiun Africa/Juba
Africa/Sao_Tome Africa/Tripoli Africa/Windhoek Africa/Johannesburg Asia/Amman Asia/Baku Asia/Beirut
Asia/Chita Asia/Damascus Asia/Dhaka Asia/Gaza Asia/Hebron Asia/Hovd Asia/Jerusalem Asia/Kabul Asia/Karachi
Asia/Kathmandu Asia/Kolkata Asia/Colombo Asia/Pyongyang Asia/Tehran Asia/Tokyo Asia/Ulaanbaatar Asia/Yangon
Australia/Adelaide Australia/Eucla Australia/Lord_Howe Australia/Sydney Antarctica/Casey Antarctica/Davis
Antarctica/Macquarie Antarctica/Troll Pacific/Apia Pacific/Auckland Pacific/Chatham Pacific/Easter
Pacific/Fakaofo Pacific/Fiji Pacific/Kiritimati Pacific/Marquesas Pacific/Norfolk Pacific/Tongatapu
""".split()

# Dates that were left out, and clocks that were not on whole minutes, in
# ranges of their own.
EVENTS = [
    ("Pacific/Kwajalein", (1993, 7, 1), (1993, 10, 15)),
    ("Pacific/Apia", (2011, 11, 1), (2012, 2, 15)),
    ("Pacific/Fakaofo", (2011, 11, 1), (2012, 2, 15)),
    ("Pacific/Kiritimati", (1994, 11, 1), (1995, 2, 15)),
    ("Pacific/Kanton", (1994, 11, 1), (1995, 2, 15)),
    ("Africa/Monrovia", (1971, 11, 15), (1972, 2, 15)),
    ("Asia/Kathmandu", (1985, 11, 15), (1986, 2, 15)),
    ("Asia/Colombo", (1996, 5, 1), (1996, 12, 1)),
    ("America/St_Johns", (1988, 3, 1), (1988, 12, 1)),  # two hours of summer time
    ("America/Havana", (1998, 3, 1), (1998, 12, 1)),
    ("Asia/Beirut", (1993, 3, 1), (1993, 11, 1)),
    ("Africa/Cairo", (2010, 4, 1), (2010, 11, 1)),  # summer time twice in a year
]


def natural():
    """Every unit without an anchor, from 2005 to the end of 2024."""
    f = File("natural.csv", "Windows of the natural calendar, 2005 to 2024")
    for n, name in enumerate(ZONES):
        h = History(name, unix(2004, 12, 29), unix(2025, 1, 1))
        for unit in ("hour", "day", "week", "month", "quarter", "year"):
            f.row(h, unit)
        f.row(h, "week", week_start=DAYS[n % 7])


def anchored():
    """Anchored periods, before and after their anchors."""
    f = File("anchored.csv", "Windows counted from an anchor, 2005 to 2024, the anchor in their midst")
    for n, name in enumerate(ZONES):
        h = History(name, unix(2004, 12, 29), unix(2025, 1, 1))
        f.row(h, "month", 1, anchor=at_local(h, 2012, 1, 31))
        f.row(h, "year", 1, anchor=at_local(h, 2016, 2, 29, n % 24, 0))
        # One shape of each zone, so that the file stays small; times of day
        # around the hours at which clocks change.
        minutes = 15 * (n % 16)
        tod = (minutes // 60, minutes % 60)
        shapes = [("month", 3, (2011, 8, 31, *tod)), ("month", 5, (2012, 10, 30, *tod)), ("quarter", 1, (2013, 11, 30, *tod)),
                  ("quarter", 3, (2014, 5, 31, *tod)), ("year", 4, (2008, 2, 29, *tod)), ("year", 3, (2012, 2, 29, *tod)),
                  ("week", 2, (2013, 3, 27, *tod)), ("week", 1, (2015, 3, 29, *tod)), ("day", 10, (2012, 3, 25, *tod)),
                  ("day", 1, (2011, 12, 31, *tod)), ("hour", 6, (2010, 6, 1, *tod)), ("hour", 1, (2010, 6, 1, *tod)),
                  ("hour", 1000, (2010, 6, 1, *tod)), ("day", 1000, (2010, 6, 1, *tod))]
        for k in range(5):
            unit, every, when = shapes[(5 * n + k) % len(shapes)]
            f.row(h, unit, every, anchor=at_local(h, *when))
        f.row(h, "day", 1, anchor=at_local(h, 2010, 3, 14, 2, 30))
        f.row(h, "day", 1, anchor=at_local(h, 2010, 11, 7, 0, 30))


def events():
    """Dates left out and odd clocks."""
    f = File("events.csv", "Dates that were left out and clocks that changed oddly")
    for name, begin, end in EVENTS:
        h = History(name, unix(*begin), unix(*end))
        for unit in ("hour", "day", "week", "month"):
            f.row(h, unit)
        middle = datetime.fromtimestamp((h.begin + h.end) // 2, UTC)
        for hour, minute in ((0, 0), (0, 30), (12, 15), (23, 45)):
            for every in (1, 2, 3):
                anchor = at_local(h, middle.year, middle.month, middle.day, hour, minute)
                f.row(h, "day", every, anchor=anchor)
        f.row(h, "month", 1, anchor=at_local(h, begin[0], begin[1], 30, 0, 30))
        f.row(h, "week", 1, anchor=at_local(h, begin[0], begin[1], 30, 23, 0))


def everywhere():
    """Days and hours of every zone that people live in."""
    f = File("days.csv", "Days and hours of every zone of zone1970.tab, 2015 to 2022")
    names = []
    for tree in zoneinfo.TZPATH:
        try:
            with open(tree + "/zone1970.tab", encoding="utf-8") as tab:
                names = sorted(line.split("\t")[2].strip() for line in tab if not line.startswith("#"))
                break
        except OSError:
            continue
    if not names:
        sys.exit("zone1970.tab not found")
    for name in names:
        h = History(name, unix(2014, 12, 29), unix(2023, 1, 1))
        f.row(h, "day")
        f.row(h, "hour")


if __name__ == "__main__":
    events()
    everywhere()
    anchored()
    natural()
