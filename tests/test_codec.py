from __future__ import annotations

import dataclasses
import types
import typing
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner import model
from provisioner.store import codec
from tests import opened_store

_texts = st.text(st.characters(codec=None, categories=None), max_size=8)
_LEAVES: dict[object, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(),
    str: _texts,
    date: st.dates(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    model.AccessKey: st.builds(model.AccessKey, _texts, st.text(min_size=1, max_size=8)),
    model.Key: st.builds(
        lambda kind, n: model.Key(kind, str(n)), st.sampled_from(model.Kind), st.uuids()
    ),
    model.Location: st.builds(
        lambda bucket, path: model.Location(bucket=bucket, prefix=f"{path}/"), _texts, _texts
    ),
}


def _any(kind: Any) -> st.SearchStrategy[Any]:
    """Make values of a type of the model, every field filled."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return st.none() | _any(arguments[0])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(_any(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(_any, arguments))
    if kind in _LEAVES:
        return _LEAVES[kind]
    if dataclasses.is_dataclass(kind):
        fields = typing.get_type_hints(kind).items()
        return st.builds(typing.cast("Any", kind), **{name: _any(hint) for name, hint in fields})
    return st.sampled_from(kind)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(record=_any(model.Record))
def test_every_record_survives_the_round_trip(record: model.Record) -> None:
    text, secrets = codec.encode(record)
    assert codec.decode(text, secrets) == record
    assert text.isascii()


def test_a_record_of_an_older_or_newer_version_is_read() -> None:
    text, _ = codec.encode(model.Record(key=opened_store.A, namespace="sales", name="Sales"))
    changed = text.replace('"name":"Sales"', '"unknown":{"a":[1]}')
    assert codec.decode(changed, {}) == model.Record(key=opened_store.A, namespace="sales")


def test_days_come_back_as_days() -> None:
    grant = model.Grant(
        producer_id="p",
        producer_namespace="p",
        port_id="o",
        port_namespace="o",
        access=model.Access.READ,
        locations=(),
        valid_until=date(2026, 12, 31),
    )
    text, _ = codec.encode(model.Record(key=opened_store.A, namespace="n", grants=(grant,)))
    assert codec.decode(text, {}).grants == (grant,)
