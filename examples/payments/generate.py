"""Payments of a week with fraud on its last day: `python -m payments.generate DSN --day 2026-01-11`.

The same seed gives the same payments on each day, so that a day may be generated twice, or be the history of
another. The frauds are known: they are written as labels.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random

import psycopg

CARDS = 200
HISTORY = timedelta(days=6)
FRAUDS_OF_A_KIND = 6
COUNTRIES = ("AT", "BE", "DE", "ES", "FR", "IE", "IT", "NL", "PL", "PT")
ABROAD = ("BR", "CA", "ID", "JP", "KE", "MX")
LOOKBACK = timedelta(minutes=60)
INSERT = """
insert into shop.payments (payment_id, paid_at, card, amount, country)
values (%s, %s, %s, %s, %s) on conflict do nothing
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One row of `shop.payments`; `paid_at` is UTC."""

    payment_id: str
    paid_at: datetime
    card: str
    amount: float
    country: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fraud:
    """What was planted on a card: all of its payments, or the last alone, are not its owner's."""

    kind: str
    card: str
    payments: tuple[Payment, ...]

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The cycles in whose window there is a false payment."""
        first = self.payments[-1] if self.kind == "cloned" else self.payments[0]
        return first.paid_at, self.payments[-1].paid_at + LOOKBACK


def week(last: date, seed: int = 1) -> tuple[list[Payment], list[Fraud]]:
    """Return the payments of the days up to `last`, in order of time, and the frauds of that day."""
    frauds = planted(last, seed)
    days = [last - timedelta(days=n) for n in range(HISTORY.days + 1)]
    payments = [payment for day in days for number in range(CARDS) for payment in honest(number, day, seed)]
    payments += [payment for fraud in frauds for payment in fraud.payments]
    return sorted(payments, key=lambda p: (p.paid_at, p.payment_id)), frauds


def owner(number: int, seed: int) -> tuple[float, str]:
    """Return the usual amount of a card's owner, and the country of their home."""
    rng = Random(f"{seed} {number}")
    return rng.uniform(8, 80), rng.choice(COUNTRIES)


def honest(number: int, day: date, seed: int) -> Iterator[Payment]:
    """Yield what the owner of a card pays on a day: more by day than by night, three at once now and then.

    One owner in twenty is abroad every other day, with a night in between.
    """
    rng, (usual, home) = Random(f"{seed} {number} {day}"), owner(number, seed)
    is_abroad = number % 20 == 0 and day.toordinal() % 2 == 0
    country = ABROAD[number % len(ABROAD)] if is_abroad else home
    minutes = [rng.triangular(7 * 60, 23 * 60, 14 * 60) for _ in range(rng.randint(3, 8))]
    if rng.random() < 0.1:
        minutes += [minutes[0] + 3, minutes[0] + 7]
    for n, minute in enumerate(minutes):
        amount = usual * math.exp(rng.gauss(0, 0.4))
        yield _payment(f"{n}", number, day, minute, amount, country)


def planted(day: date, seed: int) -> list[Fraud]:
    """Return the frauds of a day, each on a card of its own."""
    rng = Random(f"{seed} frauds {day}")
    makers = (_tested, _stolen, _cloned)
    numbers = rng.sample([n for n in range(CARDS) if n % 20], len(makers) * FRAUDS_OF_A_KIND)
    return [
        makers[n % len(makers)](number, day, rng.uniform(8 * 60, 21 * 60), rng, seed)
        for n, number in enumerate(numbers)
    ]


def _tested(number: int, day: date, minute: float, rng: Random, seed: int) -> Fraud:
    """Many small payments in a few minutes: somebody tries which cards still work."""
    minutes = sorted(minute + rng.uniform(0, 6) for _ in range(rng.randint(12, 20)))
    _, home = owner(number, seed)
    return _fraud("tested", number, day, [(m, rng.uniform(0.5, 2), home) for m in minutes])


def _stolen(number: int, day: date, minute: float, rng: Random, seed: int) -> Fraud:
    """One to three amounts that are 25 to 60 times the usual."""
    usual, home = owner(number, seed)
    minutes = [minute + 4 * n for n in range(rng.randint(1, 3))]
    return _fraud("stolen", number, day, [(m, usual * rng.uniform(25, 60), home) for m in minutes])


def _cloned(number: int, day: date, minute: float, rng: Random, seed: int) -> Fraud:
    """A payment at home, and another on another continent 5 to 25 minutes later."""
    usual, home = owner(number, seed)
    later = minute + rng.uniform(5, 25)
    return _fraud("cloned", number, day, [(minute, usual, home), (later, usual, rng.choice(ABROAD))])


def _fraud(kind: str, number: int, day: date, made: Iterable[tuple[float, float, str]]) -> Fraud:
    payments = tuple(
        _payment(f"{kind}-{n}", number, day, minute, amount, country)
        for n, (minute, amount, country) in enumerate(made)
    )
    return Fraud(kind=kind, card=payments[0].card, payments=payments)


def _payment(name: str, number: int, day: date, minute: float, amount: float, country: str) -> Payment:
    midnight = datetime.combine(day, time(), UTC)
    return Payment(
        payment_id=f"{day:%Y%m%d}-{number:04d}-{name}",
        paid_at=midnight + timedelta(seconds=round(60 * minute)),
        card=f"card-{number:04d}",
        amount=round(amount, 2),
        country=country,
    )


def write_labels(path: Path, day: date, frauds: Iterable[Fraud]) -> None:
    """Write what is true: the frauds, and of twenty other cards that they were honest all day."""
    midnight = datetime.combine(day, time(), UTC)
    frauds = sorted(frauds, key=lambda fraud: fraud.span)
    touched = {fraud.card for fraud in frauds}
    honest_cards = [card for card in (f"card-{n:04d}" for n in range(CARDS)) if card not in touched][:20]
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("entity_id", "valid_from", "valid_to", "is_positive", "note"))
        for fraud in frauds:
            start, end = fraud.span
            lines.writerow((fraud.card, start.isoformat(), end.isoformat(), "true", fraud.kind))
        for card in honest_cards:
            lines.writerow(
                (card, midnight.isoformat(), (midnight + timedelta(days=1)).isoformat(), "false", "")
            )


def load(dsn: str, payments: Iterable[Payment]) -> int:
    """Make the table where it is missing, and return how many payments were new in it."""
    with psycopg.connect(dsn) as conn, conn.cursor() as cursor:
        cursor.execute((Path(__file__).parent / "schema.sql").read_bytes())
        cursor.executemany(INSERT, [(p.payment_id, p.paid_at, p.card, p.amount, p.country) for p in payments])
        return cursor.rowcount


def main() -> None:
    """Generate, load, and write the labels."""
    parser = argparse.ArgumentParser(
        prog="python -m payments.generate", description="Payments with known fraud."
    )
    parser.add_argument("dsn", help="the database, such as postgresql://user:password@host/database")
    parser.add_argument(
        "--day", type=date.fromisoformat, default=date(2026, 1, 11), help="the day with the frauds"
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same payments")
    parser.add_argument("--labels", type=Path, help="write the frauds to this CSV file")
    args = parser.parse_args()
    payments, frauds = week(args.day, args.seed)
    count = load(args.dsn, payments)
    print(f"{count} of {len(payments)} payments are new, with {len(frauds)} frauds on {args.day}")
    if args.labels:
        write_labels(args.labels, args.day, frauds)
        print(f"{args.labels}: {len(frauds)} frauds, and 20 cards that were honest")


if __name__ == "__main__":
    main()
