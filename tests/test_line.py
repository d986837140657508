"""A connection that is kept: as long as it is used, and not once something failed on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy

from provisioner.store import line


@pytest.fixture
def engine() -> Iterator[sqlalchemy.Engine]:
    """Return an engine with a pool whose connections are told apart by what is set on them."""
    made = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.QueuePool)
    yield made
    made.dispose()


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def used(kept: line.Line) -> object:
    """Write something; return the connection that did it."""
    with kept.begin() as connection:
        connection.exec_driver_sql("SELECT 1")
        return connection.connection.driver_connection


def test_what_is_used_again_and_again_is_taken_once(engine: sqlalchemy.Engine) -> None:
    taken: list[object] = []
    sqlalchemy.event.listen(engine, "checkout", lambda *_: taken.append(1))
    kept = line.Line(engine, monotonic=Watch())

    assert used(kept) is used(kept)
    assert taken == [1]


def test_what_rested_goes_through_the_pool_which_looks_at_it(engine: sqlalchemy.Engine) -> None:
    taken: list[object] = []
    sqlalchemy.event.listen(engine, "checkout", lambda *_: taken.append(1))
    watch = Watch()
    kept = line.Line(engine, monotonic=watch)

    used(kept)
    watch.now += 1.5
    used(kept)

    assert taken == [1, 1]


def test_a_connection_on_which_something_failed_is_not_used_again(
    engine: sqlalchemy.Engine,
) -> None:
    kept = line.Line(engine, monotonic=Watch())
    before = used(kept)

    with pytest.raises(RuntimeError), kept.begin():
        raise RuntimeError("a bug")

    assert used(kept) is not before


def test_what_is_closed_is_back_in_the_pool(engine: sqlalchemy.Engine) -> None:
    kept = line.Line(engine, monotonic=Watch())
    used(kept)
    assert isinstance(engine.pool, sqlalchemy.QueuePool)
    assert engine.pool.checkedout() == 1

    kept.close()

    assert engine.pool.checkedout() == 0
