"""Route explorations of a small portal, in the versions that know them."""

from __future__ import annotations

from typing import Any

from provisioner.demo.portal import answers
from provisioner.demo.portal.call import Listed, demand, wanted_port
from provisioner.demo.portal.entities import Refused
from provisioner.demo.portal.state import PortalState

_ALL = "/api/v2/explorations"
_ONE = f"{_ALL}/{{exploration}}"
_LINKS = f"{_ONE}/input_ports"


class ExplorationRoutes:
    """Answer calls about explorations; finalizers are for an exploration's owner alone."""

    def __init__(self, state: PortalState, *, owner: bool) -> None:
        self._state = state
        self._owner = owner

    def listed(self) -> list[Listed]:
        """List the routes of this version."""
        if not self._state.style.modern:
            return []
        return [
            ("GET", _ALL, self._get_all),
            ("POST", _ALL, self._create),
            ("GET", _ONE, self._get),
            ("DELETE", _ONE, self._delete),
            ("GET", _LINKS, self._get_links),
            ("POST", _LINKS, self._request),
            ("POST", f"{_LINKS}/{{port}}/revoke", self._revoke),
            ("DELETE", f"{_LINKS}/{{port}}", self._remove),
            ("POST", f"{_ONE}/finalizers", self._add_finalizer),
            ("DELETE", f"{_ONE}/finalizers/{{name}}", self._remove_finalizer),
        ]

    def _get_all(self, *, body: Any) -> Any:
        found = tuple(self._state.explorations.values())
        return {"explorations": [answers.exploration_entry(one) for one in found]}

    def _create(self, *, body: Any) -> Any:
        demand(body, "name", "namespace", "description", "domain_id")
        exploration_id = self._state.create_exploration(
            body["namespace"], name=body["name"], description=body["description"]
        )
        if body.get("input_ports"):
            self._request(body=body["input_ports"], exploration=exploration_id)
        return answers.exploration_entry(self._state.exploration(exploration_id))

    def _get(self, *, body: Any, exploration: str) -> Any:
        return answers.exploration_page(self._state.exploration(exploration))

    def _delete(self, *, body: Any, exploration: str) -> Any:
        return (200 if self._state.delete_exploration(exploration) else 202, None)

    def _get_links(self, *, body: Any, exploration: str) -> Any:
        self._state.exploration(exploration)
        return answers.consumer_links(self._state, exploration)

    def _request(self, *, body: Any, exploration: str) -> Any:
        demand(body, "output_ports", "justification")
        self._state.exploration(exploration)
        ports = [wanted_port(one, self._state.style) for one in body["output_ports"]]
        justification = str(body["justification"])
        return {
            "input_port_ids": [
                self._state.request_access(exploration, port, justification=justification)
                for port in ports
            ]
        }

    def _revoke(self, *, body: Any, exploration: str, port: str) -> Any:
        self._state.revoke(port, exploration)
        return {"input_port_id": self._state.first_link(port, exploration).id}

    def _remove(self, *, body: Any, exploration: str, port: str) -> None:
        self._state.remove(port, exploration)

    def _add_finalizer(self, *, body: Any, exploration: str) -> None:
        demand(body, "finalizer")
        self._check_owner(exploration)
        self._state.add_exploration_finalizer(exploration, body["finalizer"])

    def _remove_finalizer(self, *, body: Any, exploration: str, name: str) -> None:
        self._check_owner(exploration)
        self._state.remove_exploration_finalizer(exploration, name)

    def _check_owner(self, exploration: str) -> None:
        self._state.exploration(exploration)
        if not self._owner:
            raise Refused(403, "You are not the owner of this exploration")
