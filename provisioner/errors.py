"""Say what a caller should do about a failure, not where it came from.

ProvisionerError
 * ConfigurationError         the start stops: exit code 2, one line for each setting
 * DeliveryError              an HTTP answer to whoever delivered
   + PayloadTooLarge          413
   + PayloadError             400
   + SignatureError           401
   + SourceLimited            429, too much from this source was refused
   + Overfull                 503, too much is arriving at once
 * ReconcileError
   + TemporaryError           retry after `delay_seconds`, or by backoff where that is None
     - PortalUnavailable      the portal did not answer, or not with what its API promises
     - StoreUnavailable       the database cannot be read or written now
     - StorageUnavailable     the S3 engine did not answer
     - IssuerUnavailable      the engine that makes keys did not answer
       * IssuerGarbled          what it answered is not its API: a gateway's page, or half of it
     - RateLimited            somebody asked us to come back later
     - Conflict               somebody else changed it meanwhile
     - NotProven              a new key does not work yet
     - DiskUnavailable        the output folder cannot be written now (full, read-only)
   + PermanentError           a condition a person sees; tried again on the next change or resync
     - PortalRejected         the portal understood and refused
     - NameRejected           a name that could escape a folder, a prefix or a policy
     - NotOurs                a folder, prefix or bucket that belongs to somebody else
     - TemplateError          the template does not render
     - PolicyTooLarge         the engine cannot hold a policy for that many grants
     - IssuerRejected         the engine understood and refused
     - RemoteRefused          a git remote does not take a workspace's first commit
     - MassDeletion           many products would go at once: a person has to confirm it
   + LeaseLost                stop, no further effect

Messages are constant sentences; what varies travels in `attributes`, which is logged and shown.
No secret ever enters either.
"""

from __future__ import annotations

from typing import ClassVar

_LONGEST_SHOWN = 300


def printable(text: str) -> str:
    """Escape what a terminal or a log would obey: control characters, changes of direction."""
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(escaped)


class ProvisionerError(Exception):
    """Carry a constant message and attributes that are safe to show."""

    def __init__(self, message: str, **attributes: object) -> None:
        super().__init__(message)
        self.message = message
        self.attributes = attributes

    def __str__(self) -> str:
        # Some attributes are the words of an engine or a portal, which may be anything.
        shown = ", ".join(
            f"{name}={printable(str(value)[:_LONGEST_SHOWN])}"
            for name, value in self.attributes.items()
        )
        return f"{self.message} ({shown})" if shown else self.message


class ConfigurationError(ProvisionerError):
    """Stop the start; `problems` holds one line for each setting, never its value."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("settings are missing or wrong")
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class DeliveryError(ProvisionerError):
    """Answer a delivery with `status_code`."""

    status_code: ClassVar[int] = 400


class PayloadTooLarge(DeliveryError):
    """Refuse a body over the limit."""

    status_code = 413


class PayloadError(DeliveryError):
    """Refuse a body that is not JSON or has no shape we know."""

    status_code = 400


class SignatureError(DeliveryError):
    """Refuse a delivery that does not prove where it comes from."""

    status_code = 401


class SourceLimited(DeliveryError):
    """Refuse to look, for some seconds, at what a source sends that was refused too often."""

    status_code = 429

    def __init__(self, message: str, *, wait_seconds: int) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class Overfull(DeliveryError):
    """Give up a body that arrives slowly while too many do."""

    status_code = 503


class ReconcileError(ProvisionerError):
    """Tell the worker how a reconcile ended."""

    @property
    def condition(self) -> str:
        """Name the condition that a person sees: the class's own name."""
        return type(self).__name__


class TemporaryError(ReconcileError):
    """Ask for a retry after `delay_seconds`, by backoff where that is None."""

    def __init__(
        self, message: str, *, delay_seconds: float | None = None, **attributes: object
    ) -> None:
        super().__init__(message, **attributes)
        self.delay_seconds = delay_seconds


class PortalUnavailable(TemporaryError):
    """Report a portal that did not answer, or not with what its API promises."""


class StoreUnavailable(TemporaryError):
    """Report a database that cannot be read or written now."""


class StorageUnavailable(TemporaryError):
    """Report an S3 engine that did not answer."""


class IssuerUnavailable(TemporaryError):
    """Report an engine for keys that did not answer."""


class IssuerGarbled(IssuerUnavailable):
    """Report an answer that is none of the engine's: it may be back, or never have been there."""


class RateLimited(TemporaryError):
    """Report that somebody asked us to come back later."""


class Conflict(TemporaryError):
    """Report that somebody else changed it meanwhile."""


class NotProven(TemporaryError):
    """Report a new key that does not work yet."""


class Stopping(TemporaryError):
    """Report work that was left because the service ends; whoever serves next does it."""


class DiskUnavailable(TemporaryError):
    """Report an output folder that cannot be written now."""


class PermanentError(ReconcileError):
    """Become a condition; nothing is retried until something changes."""


class PortalRejected(PermanentError):
    """Report that the portal understood and refused."""


class NameRejected(PermanentError):
    """Report a name that could escape a folder, a prefix or a policy."""


class NotOurs(PermanentError):
    """Report a folder, prefix or bucket that belongs to somebody else."""


class TemplateError(PermanentError):
    """Report a template that does not render."""


class PolicyTooLarge(PermanentError):
    """Report grants that no policy of this engine can hold."""


class IssuerRejected(PermanentError):
    """Report that the engine for keys understood and refused."""


class RemoteRefused(PermanentError):
    """Report that a git remote does not take a workspace's first commit."""


class MassDeletion(PermanentError):
    """Report a release that waits until a person confirms that many products are to go."""


class LeaseLost(ReconcileError):
    """Stop without any further effect: another worker has this key."""
