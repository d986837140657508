"""Whatever users lay into their workspaces, no writer of the service harms anything outside.

One service, a product for each hostile thing, a test for each writer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from provisioner.demo import embedded_s3
from tests import git_remote
from tests.acceptance import besieged, hostile
from tests.acceptance import stand as stands
from tests.acceptance.besieged import OURS, PLAIN, SECRETS, Siege

Products = dict[str, hostile.Thing]
"""What lies, or is to lie, in which workspace."""

_ORDERS, _ADDED, _DROPPED = (f"models/{name}.sql" for name in ("orders", "added", "dropped"))


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory, s3: embedded_s3.EmbeddedS3) -> Iterator[Siege]:
    folder = tmp_path_factory.mktemp("siege")
    with stands.stand(folder, s3, webhooks=False) as stand:  # what is to be done we ask for
        made = Siege(stand)
        made.release(orders="one\n", dropped="one\n")
        made.start()
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def products(siege: Siege) -> Products:
    """Make the products that tests leave as they found them."""
    return siege.many("kept", hostile.THINGS)


def with_things(products: Products, path: str) -> Products:
    """Leave out the products whose thing cannot lie there."""
    fitting = hostile.fitting(path)
    return {name: thing for name, thing in products.items() if thing in fitting}


def tidy_up(siege: Siege, products: Products) -> None:
    """Assert that what was the user's own is there still, and take it away."""
    for name, thing in products.items():
        aside = siege.aside(name)
        if thing.keeps:
            assert aside, name
            assert_kept(aside)
        else:
            for each in aside:
                hostile.clear(each)


def assert_kept(folders: Iterable[Path]) -> None:
    """Assert that a user's folders lie there with what was in them, and take them away."""
    for folder in folders:
        folder.chmod(0o700)
        assert (folder / "kept").read_text() == "mine"
        hostile.clear(folder)


@pytest.mark.parametrize("path", OURS)
def test_a_file_of_ours_comes_back_whatever_lies_in_its_place(
    path: str, siege: Siege, products: Products
) -> None:
    named = with_things(products, path)
    before = {name: siege.files(name) for name in named}
    assert all(all(files.values()) for files in before.values())
    siege.lay(named, path)
    assert not [name for name in named if siege.files(name) == before[name]]
    siege.ask(named)
    siege.check_in_order(named)
    assert {name: siege.files(name) for name in named} == before
    siege.check()
    tidy_up(siege, named)


def test_what_has_the_name_of_a_write_that_was_stopped_goes(
    siege: Siege, products: Products
) -> None:
    before = {name: siege.files(name) for name in products}
    left = [f"{folder}.provisioner-0123456789abcdef.tmp" for folder in ("", ".aws/")]
    named = {name: thing for name, thing in products.items() if not thing.in_parent}
    siege.lay(named, *left)
    siege.ask(named)
    places = [siege.folder(name) / path for name in named for path in left if not named[name].keeps]
    siege.check_in_order(named)
    assert not [each for each in places if os.path.lexists(each)]
    assert {name: siege.files(name) for name in products} == before
    siege.check()
    for name, thing in named.items():
        if thing.keeps:
            assert_kept([siege.folder(name) / path for path in left])


def test_a_rotation_reaches_every_file_whatever_lies_there(
    siege: Siege, products: Products
) -> None:
    old = {name: siege.shown(name)["keys"]["current"]["id"] for name in products}
    before = {name: modes(siege.files(name)) for name in products}
    siege.lay(products, *OURS)
    siege.ask(products, "rotate")
    siege.check_in_order(products)
    for name in products:
        assert siege.key_in_env(name) == siege.shown(name)["keys"]["current"]["id"] != old[name]
        assert siege.works(name)
    assert {name: modes(siege.files(name)) for name in products} == before
    siege.check()
    tidy_up(siege, products)


def test_secrets_are_taken_out_of_an_archived_product_and_nothing_else_is(
    siege: Siege, products: Products
) -> None:
    siege.lay(products, *SECRETS)
    for name in products:
        siege.stand.portal.state.set_status(siege.ids[name], "archived")
    siege.ask(products)
    siege.settle()
    assert not any(siege.conditions(products).values())
    for name, thing in products.items():
        left = [each for path in SECRETS if os.path.lexists(each := siege.folder(name) / path)]
        assert bool(left) is thing.keeps, (name, left)
    siege.check()
    for name in products:
        siege.stand.portal.state.set_status(siege.ids[name], "active")
    siege.ask(products)
    siege.check_in_order(products)
    tidy_up(siege, products)


def test_a_new_workspace_takes_the_place_of_nothing(siege: Siege) -> None:
    named = {f"new-{thing.name}": thing for thing in hostile.IN_PLACE}
    places = {name: siege.folder(name) for name in named}
    for name, thing in named.items():
        thing.put(places[name], siege.victim)
    before = {name: hostile.told_by(place) for name, place in places.items()}
    siege.register(*named)
    assert siege.conditions(named) == {name: ["NotOurs"] for name in named}
    siege.check()
    siege.ask(named, "adopt")
    folders = {name: thing for name, thing in named.items() if thing.keeps}
    siege.check_in_order(folders)
    for name in folders:
        assert (places[name] / "kept").read_text() == "mine"
    others = {name: thing for name, thing in named.items() if not thing.keeps}
    assert siege.conditions(others) == {name: ["NotOurs"] for name in others}
    assert {name: hostile.told_by(places[name]) for name in others} == {
        name: before[name] for name in others
    }
    siege.check()
    for name in others:
        hostile.clear(places[name])
    siege.ask(others)
    siege.check_in_order(others)


def test_what_lies_in_a_folder_that_is_adopted_is_not_followed(siege: Siege) -> None:
    things = {thing.name: thing for thing in hostile.THINGS}
    laid = {
        "ports.json": "pipe",
        "INPUTS.md": "enormous",
        ".env": "link",
        ".env.local": "hard-link",
        ".aws/config": "parent-link",
        "external_models/upstream.yaml": "parent-pipe",
        "README.md": "hard-link",
    }
    folder = siege.folder("adopting")
    folder.mkdir()
    os.chown(folder, hostile.OWNER, hostile.OWNER)
    for path, name in laid.items():
        things[name].put(folder / path, siege.victim)
    siege.register("adopting")
    assert siege.conditions(["adopting"]) == {"adopting": ["NotOurs"]}
    siege.ask(["adopting"], "adopt")
    siege.check_in_order(["adopting"])
    assert (folder / "README.md").stat().st_nlink > 1
    assert siege.works("adopting")
    siege.check()


def test_a_rename_takes_the_place_of_nothing(siege: Siege, products: Products) -> None:
    named = {name: thing for name, thing in products.items() if not thing.in_parent}
    new = {name: f"{name}-2" for name in named}
    before = {name: siege.files(name) for name in named}
    for name, thing in named.items():
        thing.put(siege.folder(new[name]), siege.victim)
        siege.stand.portal.state.rename(siege.ids[name], new[name])
    siege.ask(named)
    siege.settle()
    assert not [name for name, found in siege.conditions(named).items() if "NotOurs" not in found]
    assert {name: siege.files(name) for name in named} == before
    siege.check()
    for name, thing in named.items():
        hostile.clear(siege.folder(new[name]))
        thing.put(siege.folder(name) / ".env", siege.victim)
        siege.ids[new[name]] = siege.ids.pop(name)
        products[new[name]] = products.pop(name)
    siege.ask(new.values())
    siege.check_in_order(new.values())
    assert not [name for name in named if os.path.lexists(siege.folder(name))]
    siege.check()
    tidy_up(siege, {new[name]: thing for name, thing in named.items()})


def test_a_deleted_product_is_put_away_and_purged_with_all_that_lies_in_it(siege: Siege) -> None:
    named = siege.many("mortal", hostile.IN_PARENT)
    siege.lay(named, *OURS)
    for name in named:
        for thing, path in zip(hostile.IN_PLACE, (*PLAIN, *SECRETS, "README.md"), strict=False):
            if "/" not in path:
                thing.put(siege.folder(name) / path, siege.victim)
        for thing in hostile.IN_PLACE:
            thing.put(siege.folder(name) / "models" / thing.name, siege.victim)
    archive = siege.stand.products / ".provisioner" / "archive"
    for name in named:
        siege.stand.portal.state.delete_product(siege.ids[name])
    siege.ask(named)
    siege.settle()
    assert all(siege.shown(name)["released_at"] for name in named)
    for name in named:
        assert not os.path.lexists(siege.folder(name))
        put_away = archive / siege.ids[name]
        assert len(list((put_away / "models").iterdir())) >= len(hostile.IN_PLACE)
        assert not [path for path in SECRETS if hostile.plain(put_away / path) is not None]
    siege.check()
    siege.ask(named, "purge")
    siege.settle()
    assert all(siege.shown(name)["purged_at"] for name in named)
    assert not [name for name in named if os.path.lexists(archive / siege.ids[name])]
    siege.check()


def test_a_new_version_of_the_template_is_put_beside_what_is_no_plain_file(
    siege: Siege, products: Products
) -> None:
    beside = [f"{path}.template-new" for path in (_ORDERS, _ADDED)]
    siege.lay(products, _ORDERS, _ADDED, _DROPPED, *beside)
    laid = {name: told(siege, name, thing) for name, thing in products.items()}
    siege.release(orders="two\n", added="two\n")
    readme = upgraded(siege, products)
    for name, thing in products.items():
        folder, changes = siege.folder(name), changes_of(siege, name)
        assert (changes["README.md"], (folder / "README.md").read_bytes()) == ("updated", readme)
        assert told(siege, name, thing) == laid[name]
        if thing.in_parent:
            assert changes[_ORDERS] in ("kept-edited", "kept-deleted")
            continue
        assert {path: changes[path] for path in (_ORDERS, _ADDED, _DROPPED)} == {
            _ORDERS: "conflict",
            _ADDED: "conflict",
            _DROPPED: "kept-edited",
        }
        assert [hostile.plain(folder / path) for path in beside] == [b"two\n", b"two\n"]
        assert siege.shown(name)["workspace"]["conflicts"] == [_ADDED, _ORDERS]
    siege.check()

    for name, thing in products.items():
        folder = siege.folder(name)
        for path in (_ORDERS, _ADDED, _DROPPED):
            hostile.clear(thing.place(folder / path))
        for path in (_ORDERS, _ADDED) if not thing.in_parent else ():
            (folder / f"{path}.template-new").replace(folder / path)
    siege.release(orders="three\n", added="two\n")
    readme = upgraded(siege, products)
    for name, thing in products.items():
        folder = siege.folder(name)
        assert siege.shown(name)["workspace"]["conflicts"] == []
        assert (folder / "README.md").read_bytes() == readme
        assert hostile.plain(folder / _ORDERS) == (None if thing.in_parent else b"three\n")
    siege.check()
    tidy_up(siege, products)


def told(siege: Siege, name: str, thing: hostile.Thing) -> list[tuple[int, ...]]:
    """Return what tells things of the user's own in the places of models from touched ones."""
    places = [thing.place(siege.folder(name) / path) for path in (_ORDERS, _ADDED, _DROPPED)]
    kept = places if thing.name != "parent-closed" else ()  # it is opened and used as theirs
    return [hostile.told_by(place) for place in kept]


def upgraded(siege: Siege, products: Products) -> bytes:
    """Upgrade all, and return what their README is to be."""
    siege.ask(products, "upgrade")
    siege.check_in_order(products)
    return (siege.template / "README.md").read_bytes()


def changes_of(siege: Siege, name: str) -> dict[str, str]:
    """Return what the last upgrade made of which file."""
    files: dict[str, str] = siege.shown(name)["workspace"]["upgrades"][0]["files"]
    return files


def test_a_restored_store_is_not_misled_by_what_lies_in_workspaces(
    siege: Siege, products: Products
) -> None:
    before = {name: modes(siege.files(name)) for name in products}
    done = siege.stand.provisioner("backup", "taken", **siege.settings())
    assert done.returncode == 0, done.stderr
    siege.stop()
    siege.lay(products, *OURS)
    done = siege.stand.provisioner("restore", "taken", "--replace", "--yes", **siege.settings())
    assert done.returncode == 0, done.stderr
    siege.start()
    siege.ask(products)
    siege.check_in_order(products)
    assert {name: modes(siege.files(name)) for name in products} == before
    assert all(siege.works(name) for name in products)
    siege.check()
    tidy_up(siege, products)


def test_no_git_is_run_by_what_lies_in_a_workspace(stand: stands.Stand) -> None:
    git_remote.needs_git()
    victim = hostile.Victim(stand.folder / "victim", ("config", "HEAD"))
    remotes = stand.folder / "remotes"
    ids = {name: stand.portal.state.create_product(name) for name in ("config", "link", "pipe")}
    with stand.service(PROV_GIT_REMOTE=f"file://{remotes}/{{namespace}}.git"):
        stand.until(lambda: types(stand, ids) == {"RemoteRefused"}, "the conditions")
        places = {name: stand.products / name / ".git" for name in ids}
        first = {name: git_remote.git("rev-parse", "main", cwd=places[name]) for name in ids}
        trap(places["config"], victim)
        for name, lay in (("link", places["link"].symlink_to), ("pipe", os.mkfifo)):
            hostile.clear(places[name])
            lay(victim.folder if name == "link" else places[name])
        there = {name: git_remote.bare(remotes / f"{name}.git") for name in ids}
        headers = {"Authorization": f"Bearer {stands.ADMIN_TOKEN}"}
        for product in ids.values():
            url = f"{stand.url}/api/v1/products/{product}/reconcile"
            httpx.post(url, headers=headers).raise_for_status()
        stand.until(lambda: types(stand, ids) == set(), "the pushes")
    assert {name: git_remote.git("rev-parse", "main", cwd=there[name]) for name in ids} == first
    victim.check()
    git_remote.git("status", cwd=stand.products / "config")
    assert (victim.folder / "trapped").exists()  # so much for whoever does run it there


def trap(folder: Path, victim: hostile.Victim) -> None:
    """Let a repository run a program whatever git is asked to do there."""
    program = folder / "trap"
    program.write_text(f"#!/bin/sh\ntouch {victim.folder}/trapped\n")
    program.chmod(0o755)
    (folder / "hooks").mkdir(exist_ok=True)
    for name in ("pre-push", "post-index-change", "reference-transaction"):
        (folder / "hooks" / name).symlink_to(program)
    with (folder / "config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = {program}\n\tsshCommand = {program}\n")


def types(stand: stands.Stand, ids: Mapping[str, str]) -> set[str]:
    """Return the types of all conditions; of a product that is not known that too."""
    listed = stand.api("products").json()["products"]
    found = {one["type"] for each in listed for one in each["conditions"]}
    return found if len(listed) == len(ids) else {"Unknown"}


def modes(files: Mapping[str, besieged.File | None]) -> dict[str, tuple[int, int] | None]:
    """Leave out what is in the files."""
    return {path: file and file[:2] for path, file in files.items()}
