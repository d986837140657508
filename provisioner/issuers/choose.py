"""Choose the issuer for an engine; nothing is asked before the issuer is first used.

The engine may be down when the service starts, so `auto` asks it on first use, and again until it
has said what it is. It is asked by signed calls that change nothing, in an order in which no
engine is taken for another, and each answer has to prove itself: IAM's by its form, Ceph's by
telling us our own key, that of rustfs and MinIO by telling of their servers. rustfs comes before
MinIO, whose routes it answers as well. An engine that does not answer one of them stops the
asking: it is asked all over again later, since a guess would make keys that nobody finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from provisioner import errors, model, ports, telemetry
from provisioner.issuers import adminops, iam, madmin, rgw, signed
from provisioner.issuers.madmin import admin as madmin_admin
from provisioner.issuers.madmin import versions

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

_AWS_SETTLE_SECONDS = 10.0
_NAMES = ("iam", "rgw", "rustfs", "minio")
_MEMBERS = frozenset(name for name in vars(ports.Issuer) if not name.startswith("_"))
_log = telemetry.Log(__name__)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An issuer, and how its kind of engine proves to be there."""

    issuer: ports.Issuer
    prove: Callable[[], None]
    """Raise `IssuerRejected` where another engine answers, or one that we may not use."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An S3 engine as its admin reaches it."""

    account: signed.Account
    iam: IAMClient
    """IAM at the same endpoint."""
    versioned: Callable[[], bool]
    """Tell whether the bucket keeps versions."""


def choose(
    name: str,
    *,
    client: IAMClient,
    endpoint: str | None,
    engine: Engine | None = None,
    clock: ports.Clock = lambda: datetime.now(UTC),
) -> tuple[ports.Issuer, str]:
    """Return the issuer that PROV_ISSUER names, and how it was chosen.

    `client` speaks to `endpoint`, None for AWS; without an `engine` S3 is AWS's too. Raise
    `ConfigurationError` for an issuer that is none, or lacks what it needs.
    """
    makes = _makes(client, endpoint, engine, clock)
    if name == "auto" and _is_aws(endpoint):
        return makes["iam"]().issuer, "iam, since the endpoint is AWS's"
    if name == "auto":
        asking = AskingIssuer([make() for make in makes.values()])
        return cast(ports.Issuer, asking), "by what the endpoint answers on first use"
    if name in makes:
        return makes[name]().issuer, f"{name}, as PROV_ISSUER says"
    if name in _NAMES:
        needs = "an S3_ENDPOINT" + ("" if name == "rgw" else ", S3_ACCESS_KEY and S3_SECRET_KEY")
        raise errors.ConfigurationError((f"PROV_ISSUER: {name} needs {needs}",))
    raise errors.ConfigurationError((f"PROV_ISSUER: expects auto or one of {', '.join(_NAMES)}",))


def _makes(
    client: IAMClient, endpoint: str | None, engine: Engine | None, clock: ports.Clock
) -> Mapping[str, Callable[[], Candidate]]:
    """Return what makes each issuer there can be, in the order in which `auto` asks."""
    makes = {"iam": lambda: _iam(client, endpoint)}
    if engine is None:
        return makes
    makes["rgw"] = lambda: _rgw(engine, clock)
    account = engine.account
    if account.access_key and account.secret_key:
        admin = model.AccessKey(account.access_key, account.secret_key)
        makes["rustfs"] = lambda: _rustfs(engine, admin, clock)
        makes["minio"] = lambda: _minio(account, admin, clock)
    return makes


def _iam(client: IAMClient, endpoint: str | None) -> Candidate:
    settle = _AWS_SETTLE_SECONDS if _is_aws(endpoint) else 0.0
    issuer = iam.IamIssuer(client, settle_seconds=settle)
    return Candidate(issuer=issuer, prove=issuer.ask)


def _is_aws(endpoint: str | None) -> bool:
    host = urlsplit(endpoint or "https://iam.amazonaws.com").hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _rgw(engine: Engine, clock: ports.Clock) -> Candidate:
    caller = signed.Caller(engine.account, keeps_connections=False)
    issuer = rgw.RgwIssuer(adminops.AdminOps(caller), engine.iam, clock=clock)
    return Candidate(issuer=issuer, prove=issuer.ask)


def _rustfs(engine: Engine, admin: model.AccessKey, clock: ports.Clock) -> Candidate:
    at: Any = {"endpoint": engine.account.endpoint, "region": engine.account.region, "admin": admin}
    issuer = madmin.RustfsIssuer(**at, versioned=engine.versioned, clock=clock)
    calls = madmin_admin.Admin(madmin_admin.RUSTFS, **at)
    return Candidate(issuer=issuer, prove=lambda: _tells(calls.info()))


def _minio(account: signed.Account, admin: model.AccessKey, clock: ports.Clock) -> Candidate:
    at: Any = {"endpoint": account.endpoint, "region": account.region, "admin": admin}
    calls = madmin_admin.Admin(madmin_admin.MINIO, **at)

    def prove() -> None:
        info = calls.info()
        _tells(info)
        if versions.is_rustfs(info):
            raise errors.IssuerRejected("what answers is rustfs, not MinIO")

    return Candidate(issuer=madmin.MinioIssuer(**at, clock=clock), prove=prove)


def _tells(info: object) -> None:
    """Refuse an engine that does not tell of its servers, be it only that we may not know.

    An unsafe release is told too: its issuer says so when it is used, and no other one is tried.
    """
    if not versions.is_info(info):
        raise errors.IssuerRejected("the engine does not tell of its servers")


def kind(issuer: ports.Issuer) -> str:
    """Name the kind of engine, which is asked for it first where `auto` has to find out."""
    chosen: object = issuer
    return (chosen.asked() if isinstance(chosen, AskingIssuer) else issuer).name


class AskingIssuer:
    """Be the first of the candidates whose engine is there, from its first use on.

    It has every member of `ports.Issuer`, and each of them asks until there was an answer.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = candidates
        self._answered: ports.Issuer | None = None

    @property
    def chosen(self) -> str | None:
        """Name the kind of engine, None until it has answered; this alone asks nobody."""
        return self._answered.name if self._answered else None

    @property
    def name(self) -> str:
        """Name the kind of engine, `auto` until it has answered."""
        return self.chosen or "auto"

    def __getattr__(self, member: str) -> Any:
        if member not in _MEMBERS:
            raise AttributeError(member)
        return getattr(self.asked(), member)

    def asked(self) -> ports.Issuer:
        """Return the issuer whose engine is there; `IssuerRejected` where it is none we know."""
        if self._answered is None:
            self._answered = self._ask()
        return self._answered

    def _ask(self) -> ports.Issuer:
        """Ask one after the other; only an answer that says no leads on to the next."""
        said = {}
        refused = None
        for candidate in self._candidates:
            name = candidate.issuer.name
            try:
                candidate.prove()
            except (errors.IssuerRejected, errors.IssuerGarbled) as exc:
                known = [exc.attributes.get(each) for each in ("status", "code")]
                said[name] = " ".join(str(each) for each in known if each) or exc.message
                refused = exc
            else:
                _log.info("issuer chosen", issuer=name, how="the engine answered as one")
                return candidate.issuer
        raise errors.IssuerRejected(
            "the engine does not say what it is: set PROV_ISSUER to iam, rustfs, minio or rgw,"
            " and IAM_ENDPOINT where IAM is elsewhere; look at the rights of S3_ACCESS_KEY",
            **said,
        ) from refused
