"""Play the story of the portal's demo, and say at each step what a person can open and check.

Two teams: sales publishes daily revenue, marketing wants to read it. The portal in it is a small
one of our own that signs and answers like the real one; the provisioner is the real program.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from provisioner import errors
from provisioner.demo import consumer, embedded_s3, picture, stage

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PORT = "daily-revenue"
_OBJECT = f"sales/{_PORT}/data.parquet"
_QUERY = "SELECT count(*) AS days FROM upstream.sales__daily_revenue"
_DENIED, _ALLOWED = 403, 200


class Story:
    """Tell and check the story on a stage that is set."""

    def __init__(self, made: stage.Stage, out: Console) -> None:
        self._stage = made
        self._out = out
        self._portal = httpx.Client(base_url=f"{made.portal_url}/api/v2", timeout=10)
        self._calls: list[tuple[str, consumer.Call]] = []
        self._when = ""
        self._times: dict[str, float] = {}
        self._number = 0
        self.sales = consumer.Workspace(made.products / "sales")
        self.marketing = consumer.Workspace(made.products / "marketing")

    def tell(self) -> bool:
        """Play every scene; tell whether every call was answered as promised."""
        self._forgery()
        sales, port = self._producer()
        self._publication()
        marketing = self._consumer(port)
        self._approval(sales, port, marketing)
        self._revocation(sales, port, marketing)
        self._deletion(marketing)
        self._summary()
        return all(call.as_expected for _, call in self._calls)

    # --- the scenes ---------------------------------------------------------------------------

    def _forgery(self) -> None:
        self._scene("Somebody who does not know the secret sends a webhook", when="no proof")
        forged = {"method": "POST", "url": "/api/v2/data_products", "query": ""}
        forged |= {"response": "{}", "status_code": "200"}
        answer = httpx.post(
            self._stage.provisioner_url, content=json.dumps(forged), headers={"Sign": "0" * 128}
        )
        self._note(
            consumer.Call(
                who="nobody", what="forged webhook", answer=answer.status_code, expected=401
            )
        )

    def _producer(self) -> tuple[str, str]:
        self._scene("The sales team creates its data product in the portal")
        sales = self._create("sales", "Sales", "Orders and revenue. {{ 7*7 }} stays as it is.")
        port = self._post(
            f"data_products/{sales}/output_ports",
            {"name": "Daily revenue", "namespace": _PORT, "access_type": "restricted"},
        )["id"]
        self._wait("workspace ready", lambda: (self.sales.folder / ".env").exists())
        self._wait("output port known", lambda: _PORT in self._ports("sales")["outputs"])
        self._look(self.sales.folder, "the workspace: open README.md, config.yaml, models/")
        self._look(self.sales.folder / ".env", "its own key, mode 0600, in no log and no git")
        return str(sales), str(port)

    def _publication(self) -> None:
        self._scene(
            "Sales runs `sqlmesh plan`: tables are built, audited and published", when="published"
        )
        started = time.monotonic()
        self.sales.sqlmesh("plan", "--auto-apply", "--no-prompts")
        self._times["sqlmesh plan"] = time.monotonic() - started
        self._say(f"planned and published after {self._times['sqlmesh plan']:.1f} s")
        self._note(self.sales.get(_OBJECT, expected=_ALLOWED))
        self._note(self.sales.put("sales/notes.txt", expected=_ALLOWED))
        self._note(self.sales.put("marketing/notes.txt", expected=_DENIED))
        self._look(
            f"s3://{stage.BUCKET}/{_OBJECT}", f"the output port, on {self._stage.s3_endpoint}"
        )

    def _consumer(self, port: str) -> str:
        self._scene(
            "Marketing has a product too and asks for access; nobody has approved yet",
            when="before approval",
        )
        marketing = self._create("marketing", "Marketing", "Campaigns")
        self._wait("second workspace", lambda: (self.marketing.folder / ".env").exists())
        self._post(
            f"data_products/{marketing}/input_ports",
            {"output_ports": [port], "justification": "campaign planning"},
        )
        self._note(self.marketing.get(_OBJECT, expected=_DENIED))
        return marketing

    def _approval(self, sales: str, port: str, marketing: str) -> None:
        self._scene("Sales approves in the portal", when="after approval")
        self._decide(sales, port, marketing, "approve")
        self._wait("access opened", lambda: self._reads() == _ALLOWED)
        self._note(self.marketing.get(_OBJECT, expected=_ALLOWED))
        self._note(self.marketing.put(f"sales/{_PORT}/forged.parquet", expected=_DENIED))
        self._note(self.marketing.get("sales/notes.txt", expected=_DENIED))
        self._wait("input named", lambda: bool(self._ports("marketing")["inputs"]))
        self._say(f"INPUTS.md of marketing: {self._input_row()}")
        started = time.monotonic()
        self.marketing.sqlmesh("plan", "--auto-apply", "--no-prompts")
        rows = self.marketing.sqlmesh("fetchdf", _QUERY)
        self._times["marketing plans and reads"] = time.monotonic() - started
        self._say(f"{_QUERY} answers {rows.split()[-1]}")

    def _revocation(self, sales: str, port: str, marketing: str) -> None:
        self._scene("Sales revokes the access again", when="after revocation")
        self._decide(sales, port, marketing, "revoke")
        self._wait("access closed", lambda: self._reads() == _DENIED)
        self._note(self.marketing.get(_OBJECT, expected=_DENIED))
        self._note(self.marketing.put("marketing/notes.txt", expected=_ALLOWED))

    def _deletion(self, marketing: str) -> None:
        self._scene(
            "Marketing's product is deleted in the portal: its keys die", when="after deletion"
        )
        client = self.marketing.client()
        self._portal.delete(f"data_products/{marketing}").raise_for_status()
        self._wait("product released", lambda: not self.marketing.folder.exists())
        try:
            answer = client.get_object(Bucket=stage.BUCKET, Key="marketing/notes.txt")
        except Exception as error:  # botocore's ClientError, whose class is made at run time
            answer = getattr(error, "response", None)
            if answer is None:
                raise
        status = int(answer["ResponseMetadata"]["HTTPStatusCode"])
        self._note(
            consumer.Call(
                who="marketing", what="the old key, after deletion", answer=status, expected=_DENIED
            )
        )
        archive = self._stage.products / ".provisioner" / "archive" / marketing
        self._look(archive, "its files, out of reach and without a key")

    # --- what the scenes are made of ----------------------------------------------------------

    def _create(self, namespace: str, name: str, description: str) -> str:
        body = {"name": name, "namespace": namespace, "description": description, "about": ""}
        return str(self._post("data_products", body)["id"])

    def _decide(self, sales: str, port: str, marketing: str, decision: str) -> None:
        self._post(
            f"data_products/{sales}/output_ports/{port}/input_ports/{decision}",
            {"consuming_data_product_id": marketing, "decision_note": "as agreed"},
        )

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self._portal.post(path, json=body)
        if answer.is_error:
            raise errors.PortalRejected("the demo's portal refused", path=path, said=answer.text)
        return answer.json()

    def _ports(self, namespace: str) -> Any:
        return json.loads((self._stage.products / namespace / "ports.json").read_text())

    def _reads(self) -> int:
        return self.marketing.get(_OBJECT, expected=_ALLOWED).answer

    def _input_row(self) -> str:
        lines = (self.marketing.folder / "INPUTS.md").read_text().splitlines()
        return next((line for line in lines if _PORT in line), "nothing yet")

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        seconds = stage.wait_until(condition, what)
        self._times[what] = seconds
        self._say(f"{what} after {seconds * 1000:.0f} ms")

    # --- telling ------------------------------------------------------------------------------

    def _scene(self, title: str, *, when: str = "") -> None:
        self._number += 1
        self._when = when
        self._out.print(f"\n[bold cyan]{self._number}. {title}[/]")

    def _say(self, line: str) -> None:
        self._out.print(f"   {line}", markup=False)

    def _look(self, where: Path | str, what: str) -> None:
        self._out.print(f"   look: {where}  ({what})", markup=False, soft_wrap=True)

    def _note(self, call: consumer.Call) -> None:
        self._calls.append((self._when, call))
        good = "as it should be" if call.as_expected else f"WRONG, should be {call.expected}"
        self._say(f"{call.who}: {call.what} -> {call.answer} ({good})")

    def _summary(self) -> None:
        self._out.print()
        self._out.print(self.tried())
        times = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in self._times.items())
        self._out.print(f"Times: {times}", markup=False, soft_wrap=True)
        self._out.print("\nThe embedded S3 is for looking, not for trusting. It does not enforce:")
        for line in embedded_s3.NOT_ENFORCED:
            self._out.print(f"  - {line}", markup=False, soft_wrap=True)

    def tried(self) -> Table:
        """Return every call and its answer."""
        return picture.tried(self._calls)


def play(root: Path, out: Console, *, keep: bool, drawn: Path | None = None) -> bool:
    """Set the stage, tell the story, and with `keep` leave all of it running until Ctrl-C.

    `drawn` is where a picture of what was tried goes.
    """
    started = time.monotonic()
    out.print("[bold]The provisioner's demo[/]: embedded S3, a small portal, and the real service")
    with (
        stage.ended_by_signals(),
        stage.stage(root, on_ready=lambda line: out.print(f"   {line}", markup=False)) as made,
    ):
        story = Story(made, out)
        good = story.tell()
        if drawn is not None:
            picture.save(drawn, story.tried(), title="provisioner demo")
            out.print(f"\nPicture: {drawn}", markup=False, soft_wrap=True)
        out.print(f"\nThe story took {time.monotonic() - started:.0f} seconds.")
        _verdict(out, good=good)
        if keep:
            _wait_for_interrupt(made, out)
    out.print(f"Everything has ended. Files stay in {root}", markup=False, soft_wrap=True)
    return good


def _verdict(out: Console, *, good: bool) -> None:
    right = "[green]Every call was answered as promised.[/]"
    out.print(right if good else "[bold red]Some calls were not answered as promised.[/]")


def _wait_for_interrupt(made: stage.Stage, out: Console) -> None:
    """Say what is running where, and wait."""
    command = Path(sys.executable).with_name("provisioner")
    out.print("\nEverything keeps running; Ctrl-C ends it.")
    for line in (
        f"portal       {made.portal_url}/api/v2/data_products",
        f"provisioner  {made.provisioner_url}/healthz, /metrics, /api/v1/products",
        f"admin token  {made.admin_token}",
        f"S3 and IAM   {made.s3_endpoint}",
        f"workspaces   {made.products}",
        f"log          {made.log}",
        f"commands     cd {made.root} && . ./{made.settings.name} && {command} status",
    ):
        out.print(f"   {line}", markup=False, soft_wrap=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
    out.print("\nEnding.")
