"""Share a policy out over the places that IAM has for it, and say in which order to write. Pure.

Small enough, it is one inline policy. Else it is shared out over managed ones, the parts. What a
part holds stays in it as long as it is wanted, so that a changed grant rewrites one part; what is
new goes where there is room. Parts that have become small are given up to others, with room to
spare, so that growth does not open them again.

The order of the moves is the promise. `old` is what the places allowed before, `new` what they are
to allow; between any two moves everything that is in both is allowed, and nothing that is in
neither:

    inline    all of it at once, then the parts go
    parts     1. what is no longer wanted goes from every place that holds some of it: a part that
                 stays is written as it is to be, one that will go is cut down
              2. other parts that change are written, new ones attached
              3. places whose content has moved go, the inline policy among them

Where it stops in between, what is there is looked at again, and the rest of the moves found anew.
At most `MOST_PARTS` parts are there at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from provisioner import errors
from provisioner.issuers import allowances

INLINE = 0
"""The place of the inline policy; the parts have the numbers from 1 on."""
MOST_PARTS = 10
PART_LIMIT = 6144
"""Characters of a managed policy at AWS, white space not counted."""
_ROOM = PART_LIMIT - 96
"""What is filled: a part that is narrowed may need one statement more than before."""
_ROOM_TO_MOVE = _ROOM * 3 // 4

_Held = Mapping[int, Collection[allowances.Allowance]]


@dataclass(frozen=True, kw_only=True)
class Write:
    """Make this the whole policy in one place."""

    place: int
    document: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Remove:
    """Leave no policy in one place."""

    place: int


Move = Write | Remove


def inline(document: Mapping[str, Any], limit: int) -> dict[str, Any] | None:
    """Return the document as it is written inline; None where it does not fit."""
    whole = allowances.compact(document)
    return whole if allowances.size(whole) <= limit else None


def moves(held: _Held, document: Mapping[str, Any], *, inline_limit: int) -> tuple[Move, ...]:
    """Say what to write where, in order; `held` is what the places hold now.

    Raise `PolicyTooLarge` where it does not fit.
    """
    whole = inline(document, inline_limit)
    if whole is not None:
        parts = sorted(set(held) - {INLINE})
        return (Write(place=INLINE, document=whole), *(Remove(place=each) for each in parts))
    wanted = allowances.read(document)
    if _size(wanted) > MOST_PARTS * PART_LIMIT:  # parts take more than the whole, never less
        raise _too_large()
    shares = _Shares()
    _keep(shares, held, wanted)
    left = wanted - shares.all()
    for group in _groups(left):
        shares.add(group)
    shares.gather()
    return _in_order(held, shares.parts, wanted, inline_limit)


def _keep(shares: _Shares, held: _Held, wanted: Collection[allowances.Allowance]) -> None:
    """Leave what is wanted where it is; of what two parts hold the first keeps it."""
    left = set(wanted)
    for place in sorted(set(held) - {INLINE}):
        kept = left & set(held[place])
        if kept and _size(kept) <= PART_LIMIT:
            shares.parts[place] = kept
            left -= kept


def _groups(found: Collection[allowances.Allowance]) -> list[set[allowances.Allowance]]:
    """Put together what opens the same, in an order that is always the same."""
    groups: dict[str, set[allowances.Allowance]] = {}
    for each in sorted(found):
        groups.setdefault(each.opens, set()).add(each)
    return [groups[opened] for opened in sorted(groups)]


class _Shares:
    """What each part is to hold."""

    def __init__(self) -> None:
        self.parts: dict[int, set[allowances.Allowance]] = {}

    def all(self) -> set[allowances.Allowance]:
        return {each for part in self.parts.values() for each in part}

    def add(self, group: Collection[allowances.Allowance]) -> None:
        """Put a group into the first part that has room, or into a new one."""
        unused = [each for each in range(1, MOST_PARTS + 1) if each not in self.parts]
        for place in (*sorted(self.parts), *unused[:1]):
            if self._takes(place, group, _ROOM):
                self.parts.setdefault(place, set()).update(group)
                return
        raise _too_large()

    def _takes(self, place: int, group: Collection[allowances.Allowance], room: int) -> bool:
        return _size(self.parts.get(place, set()) | set(group)) <= room

    def gather(self) -> None:
        """Give up parts that fit into the others; from the smallest on."""
        for place in sorted(self.parts, key=lambda each: (_size(self.parts[each]), each)):
            before = {number: set(part) for number, part in self.parts.items()}
            if not self._move_out(self.parts.pop(place)):
                self.parts = before

    def _move_out(self, content: Collection[allowances.Allowance]) -> bool:
        for group in _groups(content):
            place = next(
                (each for each in sorted(self.parts) if self._takes(each, group, _ROOM_TO_MOVE)), 0
            )
            if not place:
                return False
            self.parts[place] |= group
        return True


def _too_large() -> errors.PolicyTooLarge:
    return errors.PolicyTooLarge(
        "the grants do not fit into as many policies as a principal may have",
        parts=MOST_PARTS,
        limit=PART_LIMIT,
    )


def _size(found: Collection[allowances.Allowance]) -> int:
    return allowances.size(allowances.write(found))


def _in_order(
    held: _Held,
    parts: Mapping[int, set[allowances.Allowance]],
    wanted: Collection[allowances.Allowance],
    inline_limit: int,
) -> tuple[Move, ...]:
    narrowed: dict[int, Move] = {}
    for place in sorted(held):
        kept = set(held[place]) & set(wanted)
        if kept == set(held[place]):
            continue
        if place in parts:
            narrowed[place] = _write(place, parts[place])
        elif not kept:
            narrowed[place] = Remove(place=place)
        elif _size(kept) <= (PART_LIMIT if place else inline_limit):
            narrowed[place] = _write(place, kept)
    grown = [
        _write(place, part)
        for place, part in sorted(parts.items())
        if place not in narrowed and part != held.get(place)
    ]
    gone = [
        Remove(place=place)
        for place in sorted(held)
        if place not in parts and not isinstance(narrowed.get(place), Remove)
    ]
    return (*narrowed.values(), *grown, *gone)


def _write(place: int, part: Collection[allowances.Allowance]) -> Write:
    return Write(place=place, document=allowances.write(part))
