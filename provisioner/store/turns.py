"""Let one replica at a time do what is done once for all, and not more often than it is due.

A turn is held like a lease: by a token and an end in its row, by the database's clock, extended
while its holder lives. Whoever dies in the middle is replaced half a minute later, for a turn
that was never ended is due.
"""

from __future__ import annotations

import secrets
import threading
from datetime import timedelta

from sqlalchemy import and_, or_, true, update

from provisioner.store import database, schema

_turns = schema.turns
_HELD_FOR = timedelta(seconds=30)


class SqlTurns:
    """Implement `ports.Turns`, for one process."""

    def __init__(self, base: database.Database) -> None:
        self._database = base
        self._token = secrets.token_hex(16)
        self._held: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def take(self, name: str, *, urgent: bool = False, since_seconds: float | None = None) -> bool:
        """Take a turn that is due, or urgent, and that nobody has."""
        with self._database.writing() as connection:
            now = self._database.now(connection)
            new = database.insert(connection, _turns).values(name=name)
            connection.execute(new.on_conflict_do_nothing())
            free = _turns.c.token.is_(None)
            set_back = _turns.c.taken_at > now  # the clock: no moment in the row means anything
            due = [true()] if urgent else [_turns.c.due_at.is_(None), _turns.c.due_at <= now]
            if since_seconds is not None:
                before = now - timedelta(seconds=since_seconds)
                due += [_turns.c.taken_at.is_(None), _turns.c.taken_at < before]
            died = or_(_turns.c.held_until <= now, _turns.c.held_until > now + _HELD_FOR)
            taking = (
                update(_turns)
                .where(_turns.c.name == name, or_(died, and_(free, or_(set_back, *due))))
                .values(token=self._token, held_until=now + _HELD_FOR, taken_at=now)
            )
            taken = connection.execute(taking).rowcount > 0
        if taken:
            with self._lock:  # each kind of turn is taken by a thread of its own
                self._held |= {name}
        return taken

    def keep(self) -> None:
        """Extend the turns that this process has; called every second, written every ten."""
        if not self._held:
            return
        with self._database.writing() as connection:
            now = self._database.now(connection)
            old = and_(_turns.c.token == self._token, _turns.c.held_until < now + _HELD_FOR * 2 / 3)
            connection.execute(update(_turns).where(old).values(held_until=now + _HELD_FOR))

    def end(self, name: str, *, again_seconds: float | None) -> None:
        """Give a turn back, due again then; None leaves it as due as it was.

        One that somebody else has by now is left alone.
        """
        with self._lock:
            self._held -= {name}
        with self._database.writing() as connection:
            changes = {"token": None, "held_until": None}
            due = {}
            if again_seconds is not None:
                due = {"due_at": self._database.now(connection) + timedelta(seconds=again_seconds)}
            ours = and_(_turns.c.name == name, _turns.c.token == self._token)
            connection.execute(update(_turns).where(ours).values({**changes, **due}))
