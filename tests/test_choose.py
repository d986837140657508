from __future__ import annotations

import contextlib
import json
import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest

from provisioner import errors, model, s3
from provisioner.issuers import choose, signed
from tests import canned_server, memory_s3

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

    from tests import engines

pytest_plugins = ["tests.engines"]
SECRET = "s3cr3t/of+the+admin/which+nobody+may+see"
PRINCIPAL = model.Principal(
    name="dp-sales-6f1e2d3c", product_id="6f1e2d3c-0000-4000-8000-000000000001"
)
NOBODY = "http://127.0.0.1:9"


def client_of(endpoint: str) -> IAMClient:
    return s3.connect(
        endpoint=endpoint,
        region="us-east-1",
        access_key="AKIAADMIN",
        secret_key=SECRET,
        service="iam",
    )


def engine_of(endpoint: str) -> choose.Engine:
    account = signed.Account(
        endpoint=endpoint, region="us-east-1", access_key="AKIAADMIN", secret_key=SECRET
    )
    return choose.Engine(account=account, iam=client_of(endpoint), versioned=lambda: False)


def asking(endpoint: str) -> Any:
    issuer, _ = choose.choose(
        "auto", client=client_of(endpoint), endpoint=endpoint, engine=engine_of(endpoint)
    )
    return issuer


def closed_endpoint() -> str:
    """Return an address that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize(
    ("name", "endpoint", "settles"),
    [
        ("iam", None, 10.0),
        ("auto", None, 10.0),
        ("iam", "https://iam.amazonaws.com", 10.0),
        ("auto", "https://iam.cn-north-1.amazonaws.com.cn", 10.0),
        ("iam", "http://rgw:8080", 0.0),
        ("iam", "http://amazonaws.com.example:8080", 0.0),
    ],
)
def test_only_aws_is_given_time_to_settle(name: str, endpoint: str | None, settles: float) -> None:
    issuer, how = choose.choose(name, client=client_of(NOBODY), endpoint=endpoint)
    assert (issuer.name, issuer.settle_seconds, issuer.chooses_key_ids) == ("iam", settles, False)
    assert how.startswith("iam")


def test_the_issuer_that_is_named_is_given_without_a_question() -> None:
    for name in ("iam", "rgw", "rustfs", "minio"):
        issuer, how = choose.choose(
            name, client=client_of(NOBODY), endpoint=NOBODY, engine=engine_of(NOBODY)
        )
        assert issuer.name == name
        assert how == f"{name}, as PROV_ISSUER says"


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("rgw", "an S3_ENDPOINT"),
        ("rustfs", "an S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY"),
        ("minio", "an S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY"),
    ],
)
def test_an_issuer_of_a_self_hosted_engine_says_what_it_needs(name: str, needs: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        choose.choose(name, client=client_of(NOBODY), endpoint=None)
    assert str(caught.value) == f"PROV_ISSUER: {name} needs {needs}"


def test_an_unknown_issuer_is_refused_without_its_value() -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        choose.choose("mystery", client=client_of(NOBODY), endpoint=None)
    assert str(caught.value) == "PROV_ISSUER: expects auto or one of iam, rgw, rustfs, minio"


def user_of(*keys: object) -> bytes:
    return json.dumps({"user_id": "admin", "keys": keys}).encode()


@pytest.mark.parametrize(
    ("status", "said", "content_type"),
    [
        (405, b"<Error><Code>MethodNotAllowed</Code></Error>", "application/xml"),
        (
            403,
            b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>",
            "text/xml",
        ),
        (403, b'{"Code":"AccessDenied"}', "application/json"),
        (404, b'{"Code":"NoSuchUser"}', "application/json"),
        (404, b"not found", "text/plain"),
        (501, b"<Error><Code>NotImplemented</Code></Error>", "application/xml"),
        (200, b"", "text/plain"),
        (200, b"<html><body>a console</body></html>", "text/html"),
        (200, b'{"json": true}', "application/json"),
        (200, b"null", "application/json"),
        (200, b"[]", "application/json"),
        (200, b'["AKIAADMIN"]', "application/json"),
        (200, b"[" * 100_000, "application/json"),
        (200, b'{"keys": "AKIAADMIN"}', "application/json"),
        (200, b'{"keys": ["AKIAADMIN"], "truncated": "false", "count": 1}', "application/json"),
        (200, user_of(), "application/json"),
        (200, user_of({"access_key": "AKIAANOTHER"}), "application/json"),
        (200, user_of({"access_key": None}, "AKIAADMIN", 7), "application/json"),
    ],
)
def test_what_does_not_prove_itself_is_refused_and_the_choices_are_named(
    status: int, said: bytes, content_type: str
) -> None:
    with canned_server.canned(status, said, content_type) as endpoint:
        issuer = asking(endpoint)
        with pytest.raises(errors.IssuerRejected) as caught:
            issuer.list_keys(PRINCIPAL)
    assert issuer.chosen is None
    assert all(
        each in caught.value.message for each in ("IAM_ENDPOINT", "iam", "rustfs", "minio", "rgw")
    )
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (500, b"<html>oh no</html>", errors.IssuerUnavailable),
        (503, b"<Error><Code>ServiceUnavailable</Code></Error>", errors.IssuerUnavailable),
        (429, b"", errors.RateLimited),
    ],
)
def test_an_engine_that_fails_is_asked_again_and_not_guessed(
    status: int, said: bytes, expected: type[errors.TemporaryError]
) -> None:
    with canned_server.canned(status, said) as endpoint:
        issuer = asking(endpoint)
        for _ in range(2):
            with pytest.raises(expected):
                issuer.list_keys(PRINCIPAL)
    assert (issuer.name, issuer.chosen) == ("auto", None)


def test_an_engine_that_is_down_is_unavailable() -> None:
    issuer = asking(closed_endpoint())
    with pytest.raises(errors.IssuerUnavailable):
        issuer.list_keys(PRINCIPAL)
    assert issuer.name == "auto"


def test_an_endpoint_for_iam_alone_is_asked_for_nothing_else() -> None:
    with canned_server.canned(200, user_of({"access_key": "AKIAADMIN"})) as endpoint:
        issuer, _ = choose.choose("auto", client=client_of(endpoint), endpoint=endpoint)
        with pytest.raises(errors.IssuerRejected) as caught:
            issuer.list_keys(PRINCIPAL)
    assert list(caught.value.attributes) == ["iam"]


def test_moto_is_taken_for_iam(moto: engines.Engine) -> None:
    issuer, _ = choose.choose(
        "auto",
        client=moto.iam(),
        endpoint=moto.endpoint,
        engine=moto.as_chosen_from(),
    )
    assert issuer.list_keys(PRINCIPAL) == ()
    assert (issuer.name, issuer.chooses_key_ids) == ("iam", False)


class Answering:
    """A kind of engine that says what it is told to say."""

    def __init__(self, name: str, *says: errors.ReconcileError | None) -> None:
        self.asked = 0
        self._says = list(says)
        issuer = memory_s3.MemoryIssuer(chooses_key_ids=True, settle_seconds=3.0)
        issuer.name = name
        self.candidate = choose.Candidate(issuer=issuer, prove=self._prove)

    def _prove(self) -> None:
        self.asked += 1
        said = self._says.pop(0)
        if said is not None:
            raise said


def asking_of(*kinds: Answering) -> Any:
    return choose.AskingIssuer([each.candidate for each in kinds])


def no(**attributes: object) -> errors.ReconcileError:
    return errors.IssuerRejected("no such API", **attributes)


def test_the_first_that_is_there_is_taken_and_remembered(caplog: pytest.LogCaptureFixture) -> None:
    kinds = [Answering("iam", no()), Answering("rgw", None), Answering("rustfs")]
    issuer = asking_of(*kinds)
    with caplog.at_level(logging.INFO, "provisioner"):
        assert issuer.list_keys(PRINCIPAL) == ()
        assert (issuer.chooses_key_ids, issuer.settle_seconds) == (True, 3.0)
    assert [each.asked for each in kinds] == [1, 1, 0]
    assert (issuer.name, issuer.chosen) == ("rgw", "rgw")
    assert [record.message for record in caplog.records] == ["issuer chosen"]


def test_one_that_does_not_answer_keeps_the_next_from_being_taken() -> None:
    down = errors.IssuerUnavailable("down")
    kinds = [Answering("iam", down, no()), Answering("rgw", None)]
    issuer = asking_of(*kinds)
    with pytest.raises(errors.IssuerUnavailable):
        issuer.list_keys(PRINCIPAL)
    assert [each.asked for each in kinds] == [1, 0]
    assert issuer.list_keys(PRINCIPAL) == ()
    assert issuer.chosen == "rgw"


def test_a_refusal_says_what_each_engine_answered() -> None:
    issuer = asking_of(
        Answering("iam", no(status=405)),
        Answering("rgw", no(status=403, code="Denied")),
        Answering("minio", no()),
    )
    with pytest.raises(errors.IssuerRejected) as caught:
        issuer.list_keys(PRINCIPAL)
    assert caught.value.attributes == {"iam": "405", "rgw": "403 Denied", "minio": "no such API"}


def test_nobody_is_asked_for_the_name_or_for_what_no_issuer_has() -> None:
    issuer = asking_of()
    assert (issuer.name, issuer.chosen) == ("auto", None)
    assert not hasattr(issuer, "held")


def test_the_kind_of_an_engine_is_asked_for_where_it_is_not_known() -> None:
    down = errors.IssuerUnavailable("down")
    issuer = asking_of(Answering("iam", down, no()), Answering("rgw", None))
    with pytest.raises(errors.IssuerUnavailable):
        choose.kind(issuer)
    assert issuer.name == "auto"
    assert choose.kind(issuer) == "rgw"
    assert choose.kind(memory_s3.MemoryIssuer()) == "memory"


def information(**server: object) -> bytes:
    return json.dumps({"servers": [{"version": "1.0.0", **server}]}).encode()


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        ({"/rustfs/admin/v3/info": information(rustfs_env_vars={})}, "rustfs"),
        (
            {
                "/rustfs/admin/v3/info": information(rustfs_env_vars={}),
                "/minio/admin/v3/info": information(rustfs_env_vars={}),
            },
            "rustfs",
        ),
        ({"/rustfs/admin/v3/info": information(version="1.0.0-alpha.60")}, "rustfs"),
        ({"/minio/admin/v3/info": information()}, "minio"),
        ({"/minio/admin/v3/info": information(rustfs_env_vars={})}, None),
        ({"/minio/admin/v3/info": b'{"servers": "many"}'}, None),
        ({"/admin/user": user_of({"access_key": "AKIAADMIN"})}, "rgw"),
        (
            {
                "/admin/user": user_of({"access_key": "AKIAADMIN"}),
                "/minio/admin/v3/info": information(),
            },
            "rgw",
        ),
        ({"/admin/user": user_of({"access_key": "AKIAANOTHER"})}, None),
    ],
)
def test_engines_are_told_apart_by_what_only_they_answer(
    answers: dict[str, bytes], chosen: str | None
) -> None:
    with canned_server.canned_by_path(answers) as endpoint:
        issuer = asking(endpoint)
        with contextlib.suppress(errors.ReconcileError):
            issuer.list_keys(PRINCIPAL)
    assert issuer.chosen == chosen


@pytest.mark.parametrize(
    "code", ["AccessDenied", "NoSuchKey", "SignatureDoesNotMatch", "NoSuchBucket"]
)
def test_an_engine_that_refuses_everything_is_taken_for_none(code: str) -> None:
    said = json.dumps({"Code": code}).encode()
    with canned_server.canned(403, said, "application/json") as endpoint:
        issuer = asking(endpoint)
        with pytest.raises(errors.IssuerRejected) as caught:
            issuer.list_keys(PRINCIPAL)
    assert issuer.chosen is None
    assert list(caught.value.attributes) == ["iam", "rgw", "rustfs", "minio"]
