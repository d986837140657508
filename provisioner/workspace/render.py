"""Render a Cookiecutter template in memory, with text from the portal kept inert.

Cookiecutter renders context values as Jinja, so a product's description would be code run in the
service. Free text therefore enters only under keys that start with exactly one underscore, which
are not rendered, and rendered keys hold nothing that the template's Jinja reads as code.

The files are walked and rendered here, with Cookiecutter's own context and environment, rather
than by its `generate_files`: that one changes the directory of the whole process, renders the
output path once more and writes wherever a rendered name leads. Rendering here touches no disk, so
that several workspaces may be rendered at once; how, see `blueprint`. Hooks are never run.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from provisioner import errors
from provisioner.workspace import blueprint

if TYPE_CHECKING:
    from jinja2 import Environment

_KEY = re.compile(r"[a-z][a-z0-9_]*")
_VALUE = re.compile(r"[A-Za-z0-9:/._+=,@~%?&\[\]-]*")
_MARKS = ("{{", "{%", "{#", "[[", "[%", "[#")
_VERSION_KEY = "_version"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}")
_RESERVED = frozenset({"copy_without_render", "extensions", "jinja2_env_vars", "new_lines"})
"""Cookiecutter's own settings, by bare name: no text may take their place."""


_NOTHING: Mapping[str, str] = MappingProxyType({})


class Template:
    """A Cookiecutter template folder, which may change while we run.

    It is looked at before each use, and read and compiled again only where it looks changed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._looks: tuple[object, ...] = ()
        self._digest = ""
        self._blueprint: blueprint.Blueprint | None = None

    def digest(self) -> str:
        """Digest the template as it is now."""
        with self._lock:
            self._look()
            return self._digest

    def name(self) -> str:
        """Return what the template calls its version (`_version`), "" where it does not."""
        name = _declared(self._path).get(_VERSION_KEY, "")
        if name != "" and not (isinstance(name, str) and _VERSION.fullmatch(name)):
            raise _refusal("a version is up to 40 letters, digits and . _ + -", key=_VERSION_KEY)
        return str(name)

    def render(
        self,
        context: Mapping[str, str],
        text: Mapping[str, str],
        choices: Mapping[str, str] = _NOTHING,
    ) -> blueprint.Rendering:
        """Render with `context`, and with `text` under keys with one underscore before them.

        `choices` are values that the platform picked for keys of the template's own. Whatever is
        wrong raises `TemplateError` with the file, relative to the template, and the
        reason; neither holds anything that came from the portal.
        """
        raw = _declared(self._path)
        environment = _environment(raw)
        with self._lock:
            self._look()
            if self._blueprint is None:
                self._blueprint = blueprint.Blueprint(self._path, environment, raw)
            compiled = self._blueprint
        _check_choices(raw, context, choices)
        return compiled.render(_variables(environment, raw, {**context, **choices}, text))

    def _look(self) -> None:
        looks = tuple(
            (rel, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_mode)
            for rel, status in _walk(self._path)
        )
        if looks != self._looks:
            self._digest, self._blueprint = digest(self._path), None
            self._looks = looks


def digest(template: Path) -> str:
    """Digest a template: sorted paths, which files are executable, and what is in them."""
    hashed = sha256()
    for rel, status in _walk(template):
        kind = "x" if status.st_mode & 0o100 else "-"
        try:
            content = sha256((template / rel).read_bytes()).hexdigest()
        except OSError as exc:
            raise errors.TemplateError("the template cannot be read", file=rel) from exc
        hashed.update(f"{rel}\0{kind}\0{content}\n".encode())
    return hashed.hexdigest()


def _walk(template: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the template's files with their status, sorted by relative path."""
    found: list[tuple[str, os.stat_result]] = []
    try:
        if not (template / "cookiecutter.json").is_file():
            raise errors.TemplateError("the template has no such file", file="cookiecutter.json")
        for root, folders, files in os.walk(template, onerror=_raise):
            folders[:] = [name for name in folders if name not in blueprint.IGNORED]
            for name in files:
                path = Path(root, name)
                found.append((path.relative_to(template).as_posix(), path.stat()))
    except OSError as exc:
        raise errors.TemplateError("the template cannot be read") from exc
    yield from sorted(found, key=lambda item: item[0])


def _raise(error: OSError) -> None:
    raise error


def _variables(
    environment: Environment,
    declared: Mapping[str, Any],
    context: Mapping[str, str],
    text: Mapping[str, str],
) -> dict[str, Any]:
    """Return Cookiecutter's variables: the template's defaults, our values, and inert text."""
    from cookiecutter import prompt

    raw = dict(declared)
    for key, value in context.items():
        _check_inert(environment, key, value)
        raw[key] = _chosen(key, value, raw.get(key))
    for key, value in text.items():
        if not _KEY.fullmatch(key) or key in _RESERVED:
            raise _refusal("not a name for text", key=key)
        raw[f"_{key}"] = value
    try:
        rendered: dict[str, Any] = prompt.prompt_for_config({"cookiecutter": raw}, no_input=True)
    except Exception as exc:
        raise _refusal("a default does not render", reason=type(exc).__name__) from exc
    return rendered


def _check_choices(
    declared: Mapping[str, Any], context: Mapping[str, str], choices: Mapping[str, str]
) -> None:
    """Refuse what is not the template's to choose; a typing error must not go unnoticed."""
    own = {key for key in declared if not key.startswith("_")} - context.keys()
    for key in choices:
        if key not in own:
            raise _refusal(
                "PROV_TEMPLATE_CONTEXT names what this template does not declare",
                key=key,
                declared=", ".join(sorted(own)) or "nothing",
            )
        if isinstance(declared[key], dict):
            raise _refusal("no value can be chosen for this key", key=key)


def _declared(template: Path) -> dict[str, Any]:
    if (template / "hooks").exists():
        raise errors.TemplateError("hooks are not run: the template must do without", file="hooks")
    try:
        raw = json.loads((template / "cookiecutter.json").read_bytes())
    except FileNotFoundError as exc:
        raise _refusal("the template has no such file") from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise _refusal("the file is not JSON", line=getattr(exc, "lineno", None)) from exc
    if not isinstance(raw, dict):
        raise _refusal("the file holds no JSON object")
    if "template" in raw or "templates" in raw:
        raise _refusal("a template of templates is not supported")
    return raw


def _chosen(key: str, value: str, default: object) -> object:
    """Return what stands for a value where the template declares choices or a switch."""
    if not _KEY.fullmatch(key):
        raise _refusal("not a name for a rendered value", key=key)
    if isinstance(default, list):
        if value not in default:
            raise _refusal(
                "the template does not offer that choice",
                key=key,
                choices=", ".join(map(str, default)),
            )
        return [value]
    if isinstance(default, bool):
        if value not in ("true", "false"):
            raise _refusal("the template wants true or false", key=key)
        return value == "true"
    return value


def _check_inert(environment: Environment, key: str, value: str) -> None:
    """Refuse a value that this template's Jinja, or ordinary Jinja, would run."""
    plain = _VALUE.fullmatch(value) and not any(mark in value for mark in _MARKS)
    if plain:
        try:
            plain = all(kind == "data" for _, kind, _ in environment.lex(value))
        except Exception:
            plain = False
    if not plain:
        raise _refusal("a rendered value holds more than a plain name or address", key=key)


def _environment(variables: dict[str, Any]) -> Environment:
    from cookiecutter import utils

    try:
        environment: Environment = utils.create_env_with_context({"cookiecutter": variables})
    except Exception as exc:
        raise _refusal("the Jinja settings do not work", reason=type(exc).__name__) from exc
    return environment


def _refusal(message: str, **attributes: object) -> errors.TemplateError:
    given = {name: value for name, value in attributes.items() if value is not None}
    return errors.TemplateError(message, file="cookiecutter.json", **given)
