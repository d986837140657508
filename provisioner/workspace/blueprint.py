"""Hold a Cookiecutter template read and compiled once, ready to be rendered many times.

Names and contents are rendered into memory, in the order and by the rules of Cookiecutter. A name
that comes out empty leaves its file or folder out; one that leads out of the workspace, or that
two files share, is refused.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from provisioner import errors

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2 import Template as JinjaTemplate

IGNORED = frozenset({"__pycache__", ".git"})
"""Folders that are no part of a template."""

_Variables = Mapping[str, Any]
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class RenderedFile:
    """One file of a workspace."""

    path: str
    """Relative, with `/`."""
    data: bytes = field(repr=False)
    executable: bool = False


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """A rendered template: what lies below its top folder."""

    folders: tuple[str, ...]
    """Every folder, parents first."""
    files: tuple[RenderedFile, ...]


@dataclass(frozen=True, kw_only=True)
class _Text:
    """A name or a content; `template` is None where it is taken as it is."""

    rel: str
    source: str
    template: JinjaTemplate | None
    newline: str = "\n"

    def render(self, variables: _Variables) -> str:
        if self.template is None:
            return self.source
        with_variables = self.template.render
        return _run(self.rel, self.source, lambda: with_variables(cookiecutter=variables))


@dataclass(frozen=True, kw_only=True)
class _Folder:
    name: _Text
    entries: tuple[_Folder | _File, ...]


@dataclass(frozen=True, kw_only=True)
class _File:
    name: _Text
    content: _Text | bytes
    executable: bool


class Blueprint:
    """A template's one templated folder, compiled; `render` may run in many threads."""

    def __init__(self, template: Path, environment: Environment, settings: _Variables) -> None:
        from jinja2 import FileSystemLoader

        self._environment = environment
        self._settings = settings
        self._top = _find_top(template, environment)
        environment.loader = FileSystemLoader([self._top, template / "templates"])
        try:
            self._entries = self._read("", copied=False)
        except OSError as exc:
            raise errors.TemplateError("the template cannot be read") from exc

    def render(self, variables: _Variables) -> Rendering:
        """Render with Cookiecutter's variables; `TemplateError` names the file and the reason."""
        made = _Made(variables)
        made.add(self._entries, "")
        return Rendering(folders=tuple(made.folders), files=tuple(made.files.values()))

    def _read(self, folder: str, *, copied: bool) -> tuple[_Folder | _File, ...]:
        """Compile what lies in a folder; in one that is only copied, names are copied too."""
        from cookiecutter.generate import is_copy_only_path

        entries: list[_Folder | _File] = []
        for path in sorted((self._top / folder).iterdir()):
            if path.name in IGNORED:
                continue
            rel = f"{folder}{path.name}"
            name = self._name(rel, path.name, copied=copied)
            only_copied = copied or is_copy_only_path(rel, {"cookiecutter": self._settings})
            if path.is_dir():
                entries.append(
                    _Folder(name=name, entries=self._read(f"{rel}/", copied=only_copied))
                )
            else:
                content = self._content(rel, path, copied=only_copied)
                executable = bool(path.stat().st_mode & 0o100)
                entries.append(_File(name=name, content=content, executable=executable))
        return tuple(entries)

    def _name(self, rel: str, name: str, *, copied: bool) -> _Text:
        template = None
        if not copied:
            template = _run(rel, name, lambda: self._environment.from_string(name))
        return _Text(rel=rel, source=name, template=template)

    def _content(self, rel: str, path: Path, *, copied: bool) -> _Text | bytes:
        from binaryornot.check import is_binary

        raw = path.read_bytes()
        if copied or is_binary(str(path)):
            return raw
        text = raw.decode(errors="replace")
        template = _run(rel, text, lambda: self._environment.get_template(rel))
        newline = self._settings.get("_new_lines") or _newline(text)
        return _Text(rel=rel, source=text, template=template, newline=newline)


class _Made:
    """Collect what one rendering makes."""

    def __init__(self, variables: _Variables) -> None:
        self._variables = variables
        self.folders: dict[str, None] = {}
        self.files: dict[str, RenderedFile] = {}

    def add(self, entries: tuple[_Folder | _File, ...], folder: str) -> None:
        for entry in entries:
            name = entry.name.render(self._variables)
            if not name:
                continue
            if any(part in ("", ".", "..") or "\0" in part for part in name.split("/")):
                raise errors.TemplateError(
                    "a rendered name leads out of the workspace", file=entry.name.rel
                )
            path = f"{folder}{name}"
            if isinstance(entry, _Folder):
                self._add_folders(entry.name.rel, path)
                self.add(entry.entries, f"{path}/")
            else:
                self._add_folders(entry.name.rel, path.rpartition("/")[0])
                self._add_file(entry, path)

    def _add_folders(self, rel: str, path: str) -> None:
        parts = path.split("/") if path else []
        for length in range(1, len(parts) + 1):
            parent = "/".join(parts[:length])
            if parent in self.files:
                raise errors.TemplateError("a file and a folder get one name", file=rel)
            self.folders.setdefault(parent)

    def _add_file(self, entry: _File, path: str) -> None:
        if path in self.files or path in self.folders:
            raise errors.TemplateError(
                "two files of the template get one name", file=entry.name.rel
            )
        content = entry.content
        if isinstance(content, _Text):
            rendered = content.render(self._variables).replace("\n", content.newline)
            # Half of a surrogate pair may come from the portal; a file cannot hold it.
            content = rendered.encode(errors="replace")
        self.files[path] = RenderedFile(path=path, data=content, executable=entry.executable)


def _find_top(template: Path, environment: Environment) -> Path:
    marks = ("cookiecutter", environment.variable_start_string, environment.variable_end_string)
    tops = [
        path
        for path in template.iterdir()
        if path.is_dir() and all(mark in path.name for mark in marks)
    ]
    if len(tops) != 1:
        raise errors.TemplateError(
            "the template must have one top folder named by a variable of cookiecutter",
            found=len(tops),
        )
    return tops[0]


def _run(rel: str, source: str, action: Callable[[], _T]) -> _T:
    try:
        return action()
    except Exception as exc:
        raise errors.TemplateError(
            "the template does not render", file=rel, **_reason(exc, source)
        ) from exc


def _newline(text: str) -> str:
    found = re.search(r"\r\n|\n|\r", text)
    return found[0] if found else "\n"


def _reason(error: Exception, source: str) -> dict[str, object]:
    """Describe an error by what stands in the template, never by values that were rendered."""
    described: dict[str, object] = {"reason": type(error).__name__}
    line = getattr(error, "lineno", None)
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.name in ("top-level template code", "template") or "block" in frame.name:
            line = frame.lineno
    if line is not None:
        described["line"] = line
    name = re.search(r"'([A-Za-z_]\w*)'(?: is undefined)?$", str(error).partition("\n")[0])
    if name and re.search(rf"\b{name[1]}\b", source):
        described["name"] = name[1]
    return described
