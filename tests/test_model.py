from __future__ import annotations

import pytest

from provisioner import model
from tests import builders as b


@pytest.mark.parametrize("text", ["", "sales", "../x", b.SALES.upper() + "A", b.SALES[:-1]])
def test_a_key_holds_nothing_but_a_uuid(text: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        model.Key.product(text)


@pytest.mark.parametrize("kind", model.Kind)
def test_a_key_is_read_as_it_is_written(kind: model.Kind) -> None:
    key = model.Key(kind, b.SALES)
    assert model.Key.parse(str(key)) == key


@pytest.mark.parametrize("text", ["", b.SALES, f"planet:{b.SALES}", "product:", "product"])
def test_what_names_nothing_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"Kind|UUID"):
        model.Key.parse(text)


def test_a_prefix_that_could_match_a_sibling_is_no_location() -> None:
    with pytest.raises(ValueError, match="ends in /"):
        model.Location(bucket="lake", prefix="sales")


def test_no_repr_shows_a_secret() -> None:
    key = model.AccessKey("AKIA", "hush")
    held = model.Credentials(current=key, pending=model.Pending(intent_at=b.NOW, key=key))
    record = model.Record(key=model.Key.product(b.SALES), namespace="sales", credentials=held)
    assert "AKIA" in repr(record)
    assert "hush" not in repr(record)
