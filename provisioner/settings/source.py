"""Find each setting's text: under its name, in the file that `NAME_FILE` names, or by an alias.

What is wrong is gathered, not raised, so that one start shows every mistake. A line names the
setting and what it expects; neither a value nor the path in a `…_FILE` is ever shown, because
secrets get pasted into both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from provisioner.settings import types

_FILE_LIMIT = 64 * 1024


@dataclass(frozen=True)
class Setting:
    """Declare one row of the table of settings."""

    name: str
    parse: Callable[[str], Any]
    doc: str
    """What it is for, as `docs/settings.md` says it."""
    _: KW_ONLY
    default: str | None = None
    """Text that stands for an unset setting, parsed like any other."""
    unset: str = "none"
    """What the documentation shows where there is no `default`."""
    absent: Any = None
    """The value where nothing is set and there is no `default`."""
    aliases: tuple[str, ...] = ()
    secret: bool = False
    """Whether the value is kept out of every repr."""
    empty_counts: bool = False
    """Whether empty text says something; for all others it is the same as unset."""

    @property
    def attribute(self) -> str:
        """Name the attribute of `Settings`."""
        return self.name.removeprefix("PROV_").lower()

    @property
    def required(self) -> bool:
        """Tell whether the start stops without it."""
        return self.unset == "required"


@dataclass(kw_only=True)
class Findings:
    """Gather values by attribute and problems by setting, at most one a setting."""

    values: dict[str, Any] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    """Names that were set, rightly or wrongly."""
    files: dict[str, Path] = field(default_factory=dict)
    """The file that a setting was read from, where it was."""
    problems: dict[str, str] = field(default_factory=dict)

    def refuse(self, name: str, expectation: str, *, source: str = "") -> None:
        """Note that a setting is wrong; `source` is the variable in which it was found."""
        self.problems.setdefault(name, f"{source or name}: expects {expectation}")


def read(settings: Iterable[Setting], environ: Mapping[str, str], cwd: Path) -> Findings:
    """Read every setting; paths become absolute."""
    findings = Findings()
    for setting in settings:
        value = _value(setting, environ, cwd, findings)
        if isinstance(value, Path):
            value = absolute(value, cwd)
        findings.values[setting.attribute] = value
    return findings


def unknown(settings: Iterable[Setting], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the `PROV_` names that no setting has: most are typing errors."""
    known = {name for each in settings for name in (each.name, *each.aliases)}
    known |= {f"{name}_FILE" for name in known}
    return tuple(sorted(n for n in environ if n.startswith("PROV_") and n not in known))


def absolute(path: Path, cwd: Path) -> Path:
    """Return a path from the root, without `.` and `..`; links are left as they are."""
    return Path(os.path.normpath(cwd / path))


def _value(setting: Setting, environ: Mapping[str, str], cwd: Path, findings: Findings) -> Any:
    """Return a setting's value, or what stands for it; note what is wrong."""
    source, text = _find(setting, environ, cwd, findings)
    if text is not None and setting.name not in findings.problems:
        try:
            return setting.parse(text)
        except types.Unfit as exc:
            findings.refuse(setting.name, str(exc), source=source)
    elif setting.required:
        findings.problems.setdefault(
            setting.name, f"{setting.name}: missing, expects {_wants(setting)}"
        )
    return setting.absent if setting.default is None else setting.parse(setting.default)


def _find(
    setting: Setting, environ: Mapping[str, str], cwd: Path, findings: Findings
) -> tuple[str, str | None]:
    """Return the variable that sets it and its text; its own name goes before an alias."""
    for name in (setting.name, *setting.aliases):
        plain, file = environ.get(name), environ.get(f"{name}_FILE")
        if plain == "" and not (setting.empty_counts and not file):
            plain = None
        if plain is None and not file:
            continue
        findings.given.add(setting.name)
        if plain is not None and file:
            findings.refuse(setting.name, f"either {name} or {name}_FILE, not both", source=name)
        elif plain is not None:
            return name, _without_line_end(plain)
        elif file:
            return f"{name}_FILE", _read_file(setting, f"{name}_FILE", cwd / file, findings)
        return name, None
    return setting.name, None


def _read_file(setting: Setting, source: str, path: Path, findings: Findings) -> str | None:
    """Return a file's text, or note that there is none."""
    findings.files[setting.name] = path
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
        if len(content) > _FILE_LIMIT:
            raise ValueError
        text = _without_line_end(content.decode("utf-8"))
    except (OSError, ValueError):
        findings.refuse(
            setting.name, "the path of a readable UTF-8 file of at most 64 KiB", source=source
        )
        return None
    if not text and not setting.empty_counts:
        findings.refuse(setting.name, "the path of a file that is not empty", source=source)
    return text


def _without_line_end(text: str) -> str:
    """Drop one trailing line end: editors and `echo` add it."""
    return text.removesuffix("\n").removesuffix("\r")


def _wants(setting: Setting) -> str:
    """Return what a setting's parser expects, in its own words."""
    try:
        setting.parse("")
    except types.Unfit as exc:
        return str(exc)
    return "a value"
