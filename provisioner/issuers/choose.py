"""Choose the issuer for an engine; nothing is asked before the issuer is first used.

The engine may be down when the service starts, so `auto` asks it on first use, and again until it
has said what it is. It is asked by signed calls that change nothing, in an order in which no
engine is taken for another, and each answer has to prove itself: IAM's by its form, Ceph's by
telling us our own key. An engine that does not answer one of them stops the asking: it is asked
all over again later, since a guess would make keys that nobody finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

from provisioner import errors, ports, telemetry
from provisioner.issuers import adminops, iam, rgw, signed

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

_AWS_SETTLE_SECONDS = 10.0
_NAMES = ("iam", "rgw", "rustfs", "minio")
_LATER = frozenset({"rustfs", "minio"})
_MEMBERS = frozenset(name for name in vars(ports.Issuer) if not name.startswith("_"))
_log = telemetry.Log(__name__)


class Candidate(ports.Issuer, Protocol):
    """An issuer that can ask whether its kind of engine is there."""

    def ask(self) -> None:
        """Return where it is; raise `IssuerRejected` where it is not, or not for us."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An S3 engine as its admin reaches it: the account, and IAM at the same endpoint."""

    account: signed.Account
    iam: IAMClient


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
    `ConfigurationError` for an issuer that does not fit or that this release does not have.
    """
    makes = _makes(client, endpoint, engine, clock)
    if name == "auto" and _is_aws(endpoint):
        return makes["iam"](), "iam, since the endpoint is AWS's"
    if name == "auto":
        asking = AskingIssuer([make() for make in makes.values()])
        return cast(ports.Issuer, asking), "by what the endpoint answers on first use"
    if name in makes:
        return makes[name](), f"{name}, as PROV_ISSUER says"
    if name in _LATER:
        raise errors.ConfigurationError((f"PROV_ISSUER: {name} comes in a later release",))
    if name in _NAMES:
        raise errors.ConfigurationError((f"PROV_ISSUER: {name} needs an S3_ENDPOINT",))
    raise errors.ConfigurationError((f"PROV_ISSUER: expects auto or one of {', '.join(_NAMES)}",))


def _makes(
    client: IAMClient, endpoint: str | None, engine: Engine | None, clock: ports.Clock
) -> Mapping[str, Callable[[], Candidate]]:
    """Return what makes each issuer there can be, in the order in which `auto` asks."""
    settle = _AWS_SETTLE_SECONDS if _is_aws(endpoint) else 0.0
    makes: dict[str, Callable[[], Candidate]] = {
        "iam": lambda: iam.IamIssuer(client, settle_seconds=settle)
    }
    if engine is not None:
        caller = signed.Caller(engine.account)
        makes["rgw"] = lambda: rgw.RgwIssuer(adminops.AdminOps(caller), engine.iam, clock=clock)
    return makes


def _is_aws(endpoint: str | None) -> bool:
    host = urlsplit(endpoint or "https://iam.amazonaws.com").hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


class AskingIssuer:
    """Be the first of the candidates whose engine is there, from its first use on.

    It has every member of `ports.Issuer`, and each of them asks until there was an answer.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = candidates
        self._answered: Candidate | None = None

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
        if self._answered is None:
            self._answered = self._ask()
        return getattr(self._answered, member)

    def _ask(self) -> Candidate:
        """Ask one after the other; only an answer that says no leads on to the next."""
        said = {}
        for candidate in self._candidates:
            try:
                candidate.ask()
            except errors.IssuerRejected as exc:
                known = [exc.attributes.get(each) for each in ("status", "code")]
                said[candidate.name] = " ".join(str(each) for each in known if each) or exc.message
                refused = exc
            else:
                _log.info("issuer chosen", issuer=candidate.name, how="the engine answered")
                return candidate
        raise errors.IssuerRejected(
            "the engine does not say what it is: set PROV_ISSUER to iam, rustfs, minio or rgw,"
            " and IAM_ENDPOINT where IAM is elsewhere; look at the rights of S3_ACCESS_KEY",
            **said,
        ) from refused
