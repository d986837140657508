"""Keep explorations, which only read, by the rules of the versions that know them."""

from __future__ import annotations

from provisioner.demo.portal.entities import Exploration, Refused
from provisioner.demo.portal.records import PortalRecords, new_id


class ExplorationRules(PortalRecords):
    """Change explorations as the real portals do."""

    def create_exploration(
        self, namespace: str, *, name: str | None = None, description: str = ""
    ) -> str:
        """Make an exploration and return its id."""
        self.check_namespace(namespace)
        exploration_id = new_id()
        self.explorations[exploration_id] = Exploration(
            id=exploration_id,
            namespace=namespace,
            name=namespace if name is None else name,
            description=description,
        )
        self.note("exploration", id=exploration_id)
        return exploration_id

    def delete_exploration(self, exploration_id: str) -> bool:
        """Delete an exploration; False where finalizers hold it back."""
        exploration = self.exploration(exploration_id)
        if exploration.finalizers:
            exploration.status = "deleting"
            self.note("exploration", id=exploration_id)
            return False
        for link in tuple(self.links.values()):
            if link.consumer_id == exploration_id:
                self.drop_link(link)
        del self.explorations[exploration_id]
        self.note("exploration", id=exploration_id)
        return True

    def add_exploration_finalizer(self, exploration_id: str, name: str) -> None:
        """Hold the deletion back."""
        exploration = self.exploration(exploration_id)
        if exploration.status == "deleting":
            raise Refused(409, f"explorations '{exploration.name}' is pending deletion")
        if name not in exploration.finalizers:
            exploration.finalizers.append(name)
            self.note("exploration", id=exploration_id)

    def remove_exploration_finalizer(self, exploration_id: str, name: str) -> None:
        """Let go; removing the last one from what is deleting is its deletion."""
        exploration = self.exploration(exploration_id)
        if name not in exploration.finalizers:
            raise Refused(404, f"Finalizer '{name}' not found")
        exploration.finalizers.remove(name)
        self.note("exploration", id=exploration_id)
        if exploration.status == "deleting" and not exploration.finalizers:
            self.delete_exploration(exploration_id)
