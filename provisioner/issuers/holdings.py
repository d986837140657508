"""Keep all that one user or role may do: inline as long as it fits, else in managed policies.

`arrangement` says what is written where and in which order. Whatever is there that we did not
write goes, for the portal says all that a product may do: foreign policies are detached and never
deleted, a user leaves its groups. A permissions boundary stays: it only takes away. A managed
policy that a crash left detached allows nothing to anybody; to look for such at every change would
cost a call, so they go when managed ones are next needed, at the latest with their owner.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from provisioner import errors, model
from provisioner.domain import policy
from provisioner.issuers import allowances, arrangement, iam_api, managed

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

POLICY = "dp"


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What an owner holds."""

    inline: Collection[str]
    attached: Collection[str]
    parts: Mapping[int, managed.Part]
    """All of ours, attached or not."""
    held: Mapping[int, frozenset[allowances.Allowance]]
    """What ours allow, as far as they are attached."""

    def foreign(self) -> list[str]:
        """List what is attached and not ours."""
        ours = {part.arn for part in self.parts.values()}
        return [arn for arn in self.attached if arn not in ours]


class Holdings:
    """Write, read back and take away what users, or roles, may do.

    `inline_limit` is what AWS gives all inline policies of one together. `stem` keeps the names of
    managed policies of roles apart from those of users.
    """

    def __init__(
        self,
        client: IAMClient,
        kind: Literal["user", "role"],
        *,
        inline_limit: int,
        path: str = iam_api.PATH,
        stem: str = "",
    ) -> None:
        self._client = client
        self._kind = kind
        self._limit = inline_limit
        self._managed = managed.ManagedPolicies(client, path=path, stem=stem)

    def put(
        self, owner: model.Principal, document: Mapping[str, Any], *, fresh: bool = False
    ) -> None:
        """Make this all that the owner may do; `PolicyTooLarge` where nothing was changed.

        What we did not write goes last, so that nothing it opened too is missed in between. A
        `fresh` owner holds nothing yet: then one call is enough.
        """
        name = owner.name
        whole = arrangement.inline(document, self._limit)
        if whole is not None or not self._put_parts(owner, document):
            # Engines without managed policies have another limit for inline ones, or none.
            self._put_inline(name, whole or allowances.compact(document))
            if not fresh:
                self._sweep(name, self._inline(name), self._attached(name))

    def allowed(self, name: str) -> frozenset[allowances.Allowance] | None:
        """Read back all that the owner may do; None where some of it is not ours."""
        inline = self._inline(name)
        if set(inline) - {POLICY} or self._groups(name):
            return None
        attached = self._attached(name)
        if not attached:
            return self._read_inline(name) if inline else frozenset()
        found = self._found(name, inline, attached)
        if found is None or found.foreign():
            return None
        return frozenset(each for part in found.held.values() for each in part)

    def clear(self, name: str) -> None:
        """Take everything away from the owner, and delete what is ours of it."""
        for each in self._inline(name):
            self._drop("delete_{}_policy", name, PolicyName=each)
        self._sweep(name, (), self._attached(name))
        self.delete_parts(name)

    def delete_parts(self, name: str) -> None:
        """Delete managed policies of ours that are attached no more."""
        for part in (self._managed.find(name) or {}).values():
            self._managed.delete(part.arn)

    def _put_inline(self, name: str, document: Mapping[str, Any]) -> None:
        """Replace the inline policy; foreign ones share its room, so they go if need be."""
        if self._write_inline(name, document):
            return
        foreign = [each for each in self._inline(name) if each != POLICY]
        for each in foreign:
            self._drop("delete_{}_policy", name, PolicyName=each)
        if not (foreign and self._write_inline(name, document)):
            raise errors.PolicyTooLarge(
                "the engine has no room for the policy", size=allowances.size(document)
            )

    def _write_inline(self, name: str, document: Mapping[str, Any]) -> bool:
        """Replace the inline policy; False where the engine has no room."""
        text = policy.text(document)
        operation = "put_{}_policy"
        full = iam_api.FULL
        done = self._of(operation, name, tolerate=full, PolicyName=POLICY, PolicyDocument=text)
        return done is not None

    def _put_parts(self, owner: model.Principal, document: Mapping[str, Any]) -> bool:
        """Share the policy out over managed ones; False where the engine has none."""
        name = owner.name
        inline = self._inline(name, tolerate=())
        found = self._found(name, inline, self._attached(name))
        if found is None:
            return False
        moves = arrangement.moves(found.held, document, inline_limit=self._limit)
        parts = self._with_new_parts(owner, moves, found.parts)
        foreign = found.foreign()
        if len(foreign) + len(parts) > arrangement.MOST_PARTS:
            self._take_off(name, foreign)  # they take the room of ours
            foreign = []
        for move in moves:
            self._make(move, name, parts, found)
        written = {move.place for move in moves if isinstance(move, arrangement.Write)}
        for place, part in found.parts.items():
            if place not in found.held and place not in written:
                self._managed.delete(part.arn)
        self._sweep(name, inline, foreign)
        return True

    def _with_new_parts(
        self,
        owner: model.Principal,
        moves: Collection[arrangement.Move],
        parts: Mapping[int, managed.Part],
    ) -> Mapping[int, managed.Part]:
        """Make the parts that are missing: unattached, they allow nothing to anybody.

        Where the account has no room those just made are deleted again.
        """
        made: dict[int, managed.Part] = {}
        for move in moves:
            if isinstance(move, arrangement.Remove) or move.place in {arrangement.INLINE, *parts}:
                continue
            part = self._managed.create(owner, move.place, move.document)
            if part is None:
                for each in made.values():
                    self._managed.delete(each.arn)
                raise errors.PolicyTooLarge("the account has no room for another policy")
            made[move.place] = part
        return {**parts, **made}

    def _make(
        self,
        move: arrangement.Move,
        name: str,
        parts: Mapping[int, managed.Part],
        found: _Found,
    ) -> None:
        """Make one move; a part is written before it is attached."""
        inline = move.place == arrangement.INLINE
        if isinstance(move, arrangement.Remove):
            if inline:
                self._drop("delete_{}_policy", name, PolicyName=POLICY)
            else:
                self._take_off(name, [parts[move.place].arn])
        elif inline:
            self._put_inline(name, move.document)
        else:
            part = parts[move.place]
            if move.place in found.parts:
                self._managed.rewrite(part.arn, move.document)
            if move.place not in found.held:
                self._of("attach_{}_policy", name, PolicyArn=part.arn)

    def _take_off(self, name: str, attached: Collection[str]) -> None:
        """Detach policies; those that are ours are deleted."""
        for arn in attached:
            self._drop("detach_{}_policy", name, PolicyArn=arn)
            if self._managed.is_ours(name, arn):
                self._managed.delete(arn)

    def _sweep(self, name: str, inline: Collection[str], attached: Collection[str]) -> None:
        """Take off everything in `attached`, inline policies but ours, and groups."""
        self._take_off(name, attached)
        for each in inline:
            if each != POLICY:
                self._drop("delete_{}_policy", name, PolicyName=each)
        for group in self._groups(name):
            self._drop("remove_{}_from_group", name, GroupName=group)

    def _found(
        self, name: str, inline: Collection[str], attached: Collection[str]
    ) -> _Found | None:
        """Read what the owner holds; None where the engine has no managed policies."""
        parts = self._managed.find(name)
        if parts is None:
            return None
        held = {
            place: self._managed.read(part) for place, part in parts.items() if part.arn in attached
        }
        if POLICY in inline:
            held[arrangement.INLINE] = self._read_inline(name)
        return _Found(inline=inline, attached=attached, parts=parts, held=held)

    def _read_inline(self, name: str) -> frozenset[allowances.Allowance]:
        answer = self._of("get_{}_policy", name, tolerate=iam_api.GONE, PolicyName=POLICY)
        return allowances.read(answer["PolicyDocument"]) if answer else frozenset()

    def _inline(self, name: str, tolerate: Collection[str] = iam_api.GONE) -> list[str]:
        return self._pages("list_{}_policies", "PolicyNames", name, tolerate)

    def _attached(self, name: str) -> list[str]:
        tolerate = iam_api.GONE | iam_api.UNKNOWN_CALL
        listed = self._pages("list_attached_{}_policies", "AttachedPolicies", name, tolerate)
        return [each["PolicyArn"] for each in listed]

    def _groups(self, name: str) -> list[str]:
        if self._kind == "role":
            return []
        tolerate = iam_api.GONE | iam_api.UNKNOWN_CALL
        listed = self._pages("list_groups_for_{}", "Groups", name, tolerate)
        return [each["GroupName"] for each in listed]

    def _pages(
        self, operation: str, member: str, name: str, tolerate: Collection[str]
    ) -> list[Any]:
        listing, owner = operation.format(self._kind), self._named(name)
        return iam_api.pages(self._client, listing, member, tolerate=tolerate, **owner) or []

    def _of(
        self, operation: str, name: str, *, tolerate: Collection[str] = (), **parameters: str
    ) -> Any:
        called = getattr(self._client, operation.format(self._kind))
        return iam_api.call(lambda: called(**self._named(name), **parameters), tolerate=tolerate)

    def _drop(self, operation: str, name: str, **parameters: str) -> None:
        self._of(operation, name, tolerate=iam_api.GONE, **parameters)

    def _named(self, name: str) -> dict[str, str]:
        return {f"{self._kind.title()}Name": name}
