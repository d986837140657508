"""Hold grants and policy together: what a whole portal's words open, judged by another hand.

Whatever namespaces, ports, links, assets and modes there are, the document lets a key do what a
second, simpler reading of the rules allows, and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from provisioner import model, names
from provisioner.domain import grants, inputs, policy
from tests import builders as b
from tests import policy_evaluator

BUCKETS = ("lake", "ext")
WRITES = ("s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
NEVER = (
    "s3:ListBucketVersions",
    "s3:GetObjectVersion",
    "s3:DeleteObjectVersion",
    "s3:PutObjectAcl",
    "s3:PutBucketPolicy",
    "s3:DeleteBucket",
    "iam:CreateAccessKey",
)

Space = tuple[str, str]
"""A bucket and a prefix in it."""

# Short and alike, so that one is often the beginning of another.
PLAIN = ("a", "a-b", "a.b", "ab", "a_b", "1", "1=")
namespaces = st.sampled_from([*PLAIN, *PLAIN, "_a", "a,b", "a+b", "a@b"])
segments = st.one_of(
    namespaces, st.sampled_from(["x", "x", "A", "x=1", "*", "?", "..", "${x}", "\u00e9", ""])
)
port_names = st.one_of(namespaces, namespaces, namespaces, segments)
words = st.sampled_from([*["active"] * 5, "pending", "archived", "ACTIVE", "new"])
kinds = st.sampled_from([*[grants.S3_ASSET] * 5, "GlueTechnicalAssetConfiguration"])
some_days = st.integers(min_value=-2, max_value=2).map(lambda n: b.TODAY + timedelta(days=n))
days = st.one_of(st.none(), st.none(), st.none(), some_days)


def an_asset(known: Sequence[str] = ("sales", "a")) -> st.SearchStrategy[model.Asset]:
    """Describe an asset that opens if it lies in the right place, or any other."""
    folder = st.sampled_from([*known, *known, "raw"])
    good = st.builds(
        b.an_asset,
        st.builds("{}{}".format, folder, st.sampled_from(["", "/", "/x", "/a", "/x/y/"])),
        bucket=st.sampled_from(["lake", "lake", "ext"]),
    )
    return st.one_of(good, any_asset(known))


@st.composite
def any_asset(draw: st.DrawFn, known: Sequence[str]) -> model.Asset:
    """Describe an asset of any status, type, bucket and path."""
    first = draw(st.sampled_from([*known, "raw", draw(segments)]))
    rest = draw(st.lists(segments, max_size=2))
    in_suffix = draw(st.booleans())
    path = "/".join(rest if in_suffix else [first, *rest])
    return b.an_asset(
        path,
        bucket=draw(st.sampled_from([*["lake"] * 4, "ext", "*", ""])),
        status=draw(words),
        configuration_type=draw(kinds),
        suffix=first if in_suffix else "",
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """A consumer, what the portal says of it, and the settings."""

    view: model.PortalView
    produces: bool
    scope: grants.Scope
    allowed: tuple[str, ...]
    owned: dict[str, str]
    """Producers that have a prefix."""

    def judged(self) -> grants.Judgement:
        return grants.judge(
            self.view,
            bucket="lake",
            scope=self.scope,
            allowed_locations=self.allowed,
            namespaces={identity: (name,) for identity, name in self.owned.items()},
            taken=[self.view.product.namespace, *(p.namespace for p in self.view.producers)],
            now=b.NOW,
        )

    def own(self) -> list[str]:
        return [names.prefix(self.view.product.namespace)] if self.produces else []

    def document(self) -> dict[str, object]:
        return policy.document(bucket="lake", own=self.own(), grants=self.judged().grants)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    found = draw(st.lists(namespaces, min_size=3, max_size=4, unique=True))
    consumer, *rest = (b.a_product(b.an_id(n), name) for n, name in enumerate(found, start=1))
    producers, ports, links = [], [], []
    for number, product in enumerate(rest, start=1):
        going = draw(st.integers(min_value=0, max_value=5)) == 5
        status = model.ProductStatus.DELETING if going else model.ProductStatus.ACTIVE
        producers.append(dataclasses.replace(product, status=status))
        assets = tuple(draw(st.lists(an_asset(found), min_size=1, max_size=4)))
        port = b.a_port(b.an_id(10 + number), draw(port_names), product.id, assets)
        ports.append(port)
        for each in range(draw(st.integers(min_value=1, max_value=2))):
            links.append(
                b.a_link(
                    draw(st.sampled_from([*[model.LinkStatus.APPROVED] * 20, *model.LinkStatus])),
                    number=100 * number + each,
                    producer=product.id,
                    port=port.id,
                    valid_from=draw(days),
                    valid_until=draw(days),
                    mode=draw(st.sampled_from(["read", "write", "admin", ""])),
                )
            )
    return Case(
        view=model.PortalView(
            product=consumer,
            links=tuple(links),
            producers=tuple(producers),
            granted_ports=tuple(ports),
        ),
        produces=draw(st.booleans()),
        scope=draw(st.sampled_from(list(grants.Scope))),
        allowed=tuple(
            draw(
                st.sets(
                    st.sampled_from(["lake/raw/", "ext/a/", *(f"lake/{n}/" for n in found)]),
                    min_size=2,
                )
            )
        ),
        owned={e.id: e.namespace for e in producers if draw(st.integers(0, 4))},
    )


def opened(case: Case) -> tuple[set[Space], set[Space]]:
    """Read the rules once more, plainly: what may be read and what may be written."""
    readable: set[Space] = {("lake", prefix) for prefix in case.own()}
    writable = set(readable)
    ports = {port.id: port for port in case.view.granted_ports}
    producers = {product.id: product for product in case.view.producers}
    for link in case.view.links:
        starts, ends = link.valid_from or b.TODAY, link.valid_until or b.TODAY
        port, producer = ports[link.port_id], producers[link.producer_id]
        if (
            link.status is not model.LinkStatus.APPROVED
            or not starts <= b.TODAY <= ends
            or producer.status is model.ProductStatus.DELETING
            or producer.id not in case.owned
            or not names.is_namespace(port.namespace)
        ):
            continue
        places = _places(case, port, case.owned[producer.id])
        readable |= places
        writable |= places if link.mode == "write" else set()
    return readable, writable


def _places(case: Case, port: model.OutputPort, producer: str) -> set[Space]:
    whole = case.scope is grants.Scope.PRODUCT
    places = {("lake", f"{producer}/" if whole else f"{producer}/{port.namespace}/")}
    products = {each.namespace for each in (case.view.product, *case.view.producers)}
    for each in port.assets:
        path = "/".join(p.removesuffix("/") for p in (each.suffix, each.path) if p) + "/"
        plain = names.is_asset_path(path[:-1])
        if not plain or each.status != "active" or each.configuration_type != grants.S3_ASSET:
            continue
        below = each.bucket == "lake" and path.startswith(f"{producer}/")
        first = path.split("/")[0]
        elsewhere = any(f"{each.bucket}/{path}".startswith(pattern) for pattern in case.allowed)
        if below and path == f"{producer}/":
            continue
        if below or (elsewhere and not (each.bucket == "lake" and first in products)):
            places.add((each.bucket, path))
    return places


def _near(case: Case, spaces: set[Space], noise: Sequence[str]) -> set[str]:
    """Return keys within, beside and above everything that anybody has."""
    found = {"", "/", "x", ".provisioner/owners/a.json", *noise}
    known = [case.view.product, *case.view.producers]
    for prefix in {prefix for _, prefix in spaces} | {f"{each.namespace}/" for each in known}:
        found |= {prefix, f"{prefix}x", f"{prefix}x/y", f"{prefix}../x", f"{prefix}raw/x"}
        found |= {prefix[:-1], f"{prefix[:-1]}-b/x", f"{prefix[:-1]}x", prefix.upper(), prefix[:1]}
    assets = [each for port in case.view.granted_ports for each in port.assets]
    found |= {
        f"{each.suffix}/{each.path}/x" if each.suffix else f"{each.path}/x" for each in assets
    }
    return found


@settings(max_examples=60, deadline=None)
@given(case=cases(), noise=st.lists(st.text(max_size=6), max_size=4))
def test_a_key_may_do_what_the_rules_say_and_nothing_else(case: Case, noise: list[str]) -> None:
    document = case.document()
    readable, writable = opened(case)
    allowed = policy_evaluator.allowed
    for bucket in (*BUCKETS, "third"):
        arn = f"arn:aws:s3:::{bucket}"
        for key in _near(case, readable, noise):
            read = any(bucket == where and key.startswith(prefix) for where, prefix in readable)
            write = any(bucket == where and key.startswith(prefix) for where, prefix in writable)
            assert allowed(document, "s3:GetObject", f"{arn}/{key}") is read
            assert allowed(document, "s3:ListBucket", arn, prefix=key) is read
            for action in WRITES:
                assert allowed(document, action, f"{arn}/{key}") is write
        for action in NEVER:
            assert not allowed(document, action, f"{arn}/{case.view.product.namespace}/x")
        assert not allowed(document, "s3:ListBucket", arn)
    assert not allowed(document, "s3:ListAllMyBuckets", "*")


@settings(deadline=None)
@given(case=cases())
def test_everything_that_is_opened_can_be_listed_named_and_written_down(case: Case) -> None:
    judged = case.judged()
    for grant in judged.grants:
        assert all(policy.is_safe(place) for place in grant.locations)
        assert not any(place.prefix.startswith(".") for place in grant.locations)
    named = inputs.assign(judged.grants, ())
    assert len(inputs.rows(judged.grants, named)) == len(judged.grants)


@settings(deadline=None)
@given(case=cases(), hostile=st.lists(an_asset(), max_size=3))
def test_an_asset_more_takes_nothing_away(case: Case, hostile: list[model.Asset]) -> None:
    first, *rest = case.view.granted_ports
    more = dataclasses.replace(first, assets=(*first.assets, *hostile))
    wider = dataclasses.replace(
        case, view=dataclasses.replace(case.view, granted_ports=(more, *rest))
    )
    before = {(p, g.access) for g in case.judged().grants for p in g.locations}
    after = {(p, g.access) for g in wider.judged().grants for p in g.locations}
    assert before <= after


@given(text=st.text(max_size=12), bucket=st.text(max_size=6), suffix=st.text(max_size=4))
@example(text="a/../b", bucket="lake", suffix="")
@example(text="b", bucket="lake", suffix="a/..")
@example(text="b\n", bucket="lake", suffix="a")
@example(text="/", bucket="lake", suffix="a/")
def test_no_text_of_an_asset_makes_a_policy_impossible(text: str, bucket: str, suffix: str) -> None:
    hostile = b.an_asset(text, bucket=bucket, suffix=suffix)
    view = b.a_consumer_view(b.a_link(), port=b.a_port(assets=(hostile,)))
    judged = grants.judge(
        view,
        bucket="lake",
        scope=grants.Scope.OUTPUT_PORT,
        allowed_locations=("*/*/", "lake/*/"),
        namespaces={b.SALES: ("sales",)},
        now=b.NOW,
    )
    document = policy.document(bucket="lake", own=["marketing/"], grants=judged.grants)
    orders = "arn:aws:s3:::lake/sales/orders/x"
    assert policy_evaluator.allowed(document, "s3:GetObject", orders)
    assert not policy_evaluator.allowed(
        document, "s3:GetObject", "arn:aws:s3:::lake/.provisioner/x"
    )
