"""What can be set, typed and watched is written down where a reader of the README finds it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import click
import pytest

from provisioner import cli, settings, telemetry
from provisioner.edge import admin, status
from provisioner.settings import source

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
COMMANDS = sorted(cli.cli.commands)
METRICS = sorted(
    name
    for family in telemetry.Metrics().registry.collect()
    for name in [f"{family.name}_total" if family.type == "counter" else family.name]
)


def linked() -> dict[str, str]:
    """Return the README and every page of docs/ that it links, by path."""
    pages = {"README.md": README}
    for target in _LINK.findall(README):
        if target.startswith("docs/") and target.endswith(".md"):
            pages[target] = (ROOT / target).read_text(encoding="utf-8")
    return pages


def row(setting: source.Setting) -> str:
    """Return a setting's line of docs/settings.md."""
    names = " or ".join(f"`{name}`" for name in (setting.name, *setting.aliases))
    default = setting.unset if setting.default is None else f"`{setting.default}`"
    return f"| {names} | {default} | {setting.doc} |"


def test_the_settings_page_lists_every_setting_as_it_is() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    shown = [line for line in page.splitlines() if line.startswith("| `")]
    assert shown == [row(setting) for setting in settings.SETTINGS]


def test_the_settings_page_is_linked() -> None:
    assert "docs/settings.md" in linked()


def test_the_readme_links_every_page() -> None:
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert pages - set(linked()) == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_written_down(command: str) -> None:
    wanted = re.compile(rf"provisioner {re.escape(command)}\b")
    assert [path for path, text in linked().items() if wanted.search(text)]


def test_every_command_that_is_written_down_exists() -> None:
    named = {
        name
        for text in linked().values()
        for name in re.findall(r"`(?:\.venv/bin/)?provisioner ([a-z]+)", text)
    }
    assert named - set(COMMANDS) == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_that_is_written_down_exists(command: str) -> None:
    known = {
        spelling
        for parameter in cli.cli.commands[command].params
        if isinstance(parameter, click.Option)
        for spelling in parameter.opts
    }
    named = {
        option
        for text in linked().values()
        for rest in re.findall(rf"`provisioner {re.escape(command)}([^`]*)`", text)
        for option in re.findall(r"--[a-z-]+", rest)
    }
    assert named - known == set()


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_written_down(metric: str) -> None:
    assert [path for path, text in linked().items() if f"`{metric}`" in text]


def test_every_metric_that_is_written_down_exists() -> None:
    named = {
        name for text in linked().values() for name in re.findall(r"`(provisioner_[a-z_]+)`", text)
    }
    assert named - set(METRICS) == set()


@pytest.mark.parametrize("page", sorted(linked()))
def test_links_lead_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    targets = [t for t in _LINK.findall(linked()[page]) if "://" not in t]
    assert [target for target in targets if not (folder / target).exists()] == []


@pytest.mark.parametrize("page", sorted(linked()))
def test_settings_that_are_written_down_exist(page: str) -> None:
    known = {name for each in settings.SETTINGS for name in (each.name, *each.aliases)}
    known |= {f"{name}_FILE" for name in known}
    named = set(re.findall(r"`(PROV_[A-Z0-9_]+)\b", linked()[page]))
    assert named - known == set()


def test_settings_without_effect_are_admitted() -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "provisioner").rglob("*.py")
        if path.parent.name != "settings"
    ]
    read = {name for text in sources for name in re.findall(r"\b(?:settings|loaded)\.(\w+)", text)}
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    admitted = {
        name
        for line in page.partition("## Not yet")[2].splitlines()
        if line.startswith("- ")
        for name in re.findall(r"`([A-Z0-9_]+)`", line)
    }
    assert admitted == {each.name for each in settings.SETTINGS if each.attribute not in read}


def test_every_route_is_written_down() -> None:
    unused: Any = None
    tokens = {"admin_tokens": (), "read_tokens": ()}
    served = [
        *status.routes(**dict.fromkeys(inspect.signature(status.routes).parameters, unused)),
        *admin.routes(**dict.fromkeys(inspect.signature(admin.routes).parameters, unused) | tokens),
    ]
    paths = {route.path for route in served} | {"/", "/webhook"}
    written = set(re.findall(r"`(?:GET|POST) (/[^`]*)`", README))
    assert paths - written == set()
    assert written - paths == set()
