"""The picture of the demo stands alone, wherever it is shown."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from provisioner.demo import consumer, picture

CALLS = [
    ("before approval", consumer.Call(who="ann", what="read  a/b", answer=403, expected=403)),
    ("after approval", consumer.Call(who="ann", what="read  a/b", answer=200, expected=200)),
]


def drawn(folder: Path, calls: list[tuple[str, consumer.Call]] = CALLS) -> str:
    picture.save(folder / "new" / "tried.svg", picture.tried(calls), title="a demo")
    return (folder / "new" / "tried.svg").read_text(encoding="utf-8")


def words(svg: str) -> str:
    root = ElementTree.fromstring(svg)
    return " ".join("".join(root.itertext()).replace("\xa0", " ").split())


def test_a_picture_names_nothing_that_is_elsewhere(tmp_path: Path) -> None:
    svg = drawn(tmp_path)
    assert set(re.findall(r"https?://[^\"' )<]+", svg)) == {"http://www.w3.org/2000/svg"}
    assert "@font-face" not in svg
    assert "<!--" not in svg


def test_a_picture_shows_every_call_and_its_answer(tmp_path: Path) -> None:
    shown = words(drawn(tmp_path))
    assert "a demo" in shown
    assert re.search(r"before approval\s*ann\s*read  ?a/b\s*403 ?denied", shown)
    assert re.search(r"after approval\s*ann\s*read  ?a/b\s*200 ?allowed", shown)


def test_the_same_calls_give_the_same_picture(tmp_path: Path) -> None:
    assert drawn(tmp_path / "one") == drawn(tmp_path / "two")


def test_the_picture_of_the_readme_stands_alone_too() -> None:
    svg = (Path(__file__).parents[1] / "docs" / "demo.svg").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"' )<]+", svg)) == {"http://www.w3.org/2000/svg"}
    assert "after revocation" in words(svg)
    assert "WRONG" not in words(svg)
