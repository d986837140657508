from __future__ import annotations

import pytest

from provisioner.domain import paths

_ID = "aaaaaaaa-0000-4000-8000-00000000000a"
_TABLE = paths.Patterns(
    [
        ("PUT", "/products/{product}"),
        ("PUT DELETE", "/products/{product}/about|usage"),
        ("DELETE", "/products/{product}/finalizers/{name}"),
        ("DELETE", "/products/**"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("PUT", f"products/{_ID}", (0, "products/{id}", {"product": _ID})),
        ("PUT", f"products/{_ID.upper()}", (0, "products/{id}", {"product": _ID})),
        ("DELETE", f"products/{_ID}/usage", (1, "products/{id}/usage", {"product": _ID})),
        (
            "DELETE",
            f"products/{_ID}/finalizers/x",
            (2, "products/{id}/finalizers/{name}", {"product": _ID}),
        ),
        ("DELETE", f"products/{_ID}/x/y", (3, "products/*", {})),
        ("DELETE", "products", (3, "products/*", {})),
        ("PUT", "products", None),
        ("PUT", "products/{id}", None),
        ("PUT", f"products/{_ID}/{_ID}", None),
        ("PUT", f"{_ID}/{_ID}", None),
        ("GET", f"products/{_ID}", None),
        ("PUT", f"products/{'a' * 36}", None),
        ("DELETE", f"products/{_ID}/{'x' * 1000}", (3, "products/*", {})),
    ],
)
def test_the_first_pattern_that_fits_counts(method: str, path: str, expected: object) -> None:
    for _ in range(2):  # the second time by what was remembered
        assert _TABLE.find(method, path) == expected


def test_two_paths_of_one_shape_keep_their_own_ids() -> None:
    other = _ID.replace("a", "b")
    found = [_TABLE.find("PUT", f"products/{each}/about") for each in (_ID, other)]
    assert [each[2]["product"] for each in found if each] == [_ID, other]


def test_what_senders_choose_is_remembered_only_within_bounds() -> None:
    table = paths.Patterns([("PUT", "/products/**")])
    for number in range(3000):
        table.find("PUT", f"products/{number}")
        table.find(f"PUT{number}", "products")
        table.find("PUT", "products/" + "x" * 500 + str(number))
    kept = table._remembered.cache_info()
    assert (kept.currsize, kept.misses) == (1024, 3000)
