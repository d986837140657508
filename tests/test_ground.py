from __future__ import annotations

import os
import socket
import stat
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.workspace import ground


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Somebody else's folder, with something in it that must stay as it is."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("theirs")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "file")


def _broken_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "nothing")


def _hard_link(path: Path, outside: Path) -> None:
    path.hardlink_to(outside / "file")


def _pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, outside: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def _folder(path: Path, outside: Path) -> None:
    path.mkdir()
    (path / "kept").write_text("mine")


def _enormous(path: Path, outside: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(ground.LIMIT_BYTES + 1)


_STRANGE = [_link, _broken_link, _hard_link, _pipe, _socket, _folder, _enormous]


@pytest.mark.parametrize("make", _STRANGE)
def test_what_is_no_plain_file_is_not_read(
    make: Callable[[Path, Path], None], home: Path, outside: Path
) -> None:
    make(home / ".env", outside)

    with ground.open_tree(home) as tree, pytest.raises(ground.ChangedByUser):
        tree.read(".env")


@pytest.mark.parametrize("make", _STRANGE)
def test_writing_replaces_what_is_no_plain_file_and_follows_nothing(
    make: Callable[[Path, Path], None], home: Path, outside: Path
) -> None:
    make(home / ".env", outside)

    with ground.open_tree(home) as tree:
        tree.write(".env", b"ours", 0o600)
        written = tree.read(".env")

    assert written == ground.File(data=b"ours", mode=0o600, uid=os.geteuid())
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"file": "theirs"}


def test_a_folder_in_the_way_is_set_aside_with_what_is_in_it(home: Path, outside: Path) -> None:
    _folder(home / ".env", outside)

    with ground.open_tree(home) as tree:
        tree.write(".env", b"ours", 0o600)

    [aside] = home.glob(".env.found-*")
    assert (aside / "kept").read_text() == "mine"


def test_a_file_of_the_largest_size_is_read(home: Path) -> None:
    with ground.open_tree(home) as tree:
        tree.write("model.sql", b"x" * ground.LIMIT_BYTES, 0o644)
        read = tree.read("model.sql")

    assert read is not None
    assert len(read.data) == ground.LIMIT_BYTES


def test_what_is_too_large_is_not_even_begun_to_be_read(home: Path, outside: Path) -> None:
    _enormous(home / "model.sql", outside)

    tracemalloc.start()
    try:
        with ground.open_tree(home) as tree, pytest.raises(ground.ChangedByUser):
            tree.read("model.sql")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < ground.LIMIT_BYTES / 4


def test_absence_is_a_value(home: Path) -> None:
    with ground.open_tree(home) as tree:
        assert tree.read("nothing") is None
        assert tree.read("no/folder/either") is None


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(mask: int, home: Path) -> None:
    before = os.umask(mask)
    try:
        with ground.open_tree(home) as tree, tree.make_folder("folder", 0o755) as folder:
            folder.write("file", b"", 0o644)
            folder.add("program", b"", 0o755)
    finally:
        os.umask(before)

    modes = [stat.S_IMODE(path.stat().st_mode) for path in sorted(home.rglob("*"))]
    assert modes == [0o755, 0o644, 0o755]


@pytest.mark.parametrize("rel", ["../outside/file", "/etc/passwd", "", ".", "a//b", "a/./b", "a\0"])
def test_a_path_that_is_not_plain_is_refused(rel: str, home: Path, outside: Path) -> None:
    with ground.open_tree(home) as tree, pytest.raises(ValueError, match="plain components"):
        tree.write(rel, b"ours", 0o644)

    assert (outside / "file").read_text() == "theirs"


@pytest.mark.parametrize("place", ["folder", "folder/inner"])
def test_a_linked_folder_on_the_way_is_not_entered(place: str, home: Path, outside: Path) -> None:
    (outside / "inner").mkdir()
    (home / place).parent.mkdir(exist_ok=True)
    (home / place).symlink_to(outside)

    with ground.open_tree(home) as tree:
        with pytest.raises(ground.ChangedByUser):
            tree.read(f"{place}/file")
        with pytest.raises(ground.ChangedByUser):
            tree.write(f"{place}/file", b"ours", 0o644)

    assert (outside / "file").read_text() == "theirs"


def test_a_folder_swapped_for_a_link_after_it_was_opened_is_still_the_one_opened(
    home: Path, outside: Path
) -> None:
    with ground.open_tree(home) as tree, tree.make_folder(".aws", 0o700) as keys:
        (home / ".aws").rename(home / "moved")
        (home / ".aws").symlink_to(outside)
        keys.write("credentials", b"secret", 0o600)

    assert (home / "moved/credentials").read_bytes() == b"secret"
    assert sorted(path.name for path in outside.iterdir()) == ["file"]


@pytest.mark.parametrize("make", [_link, _broken_link, _pipe, _enormous])
def test_a_folder_of_ours_replaces_what_is_none(
    make: Callable[[Path, Path], None], home: Path, outside: Path
) -> None:
    make(home / ".aws", outside)

    with ground.open_tree(home) as tree, tree.make_folder(".aws", 0o700) as keys:
        keys.write("config", b"", 0o600)

    assert stat.S_IMODE((home / ".aws").lstat().st_mode) == 0o700
    assert len(list(home.glob(".aws.found-*"))) == 1
    assert (outside / "file").read_text() == "theirs"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_somebody_else_is_not_given_away(home: Path) -> None:
    theirs = home / ".aws"
    theirs.mkdir(mode=0o700)
    (theirs / "key").write_text("root's")

    with ground.open_tree(home, ground.Owner(uid=12345, gid=12345)) as tree:
        tree.make_folder(".aws", 0o700).__exit__()

    [aside] = home.glob(".aws.found-*")
    assert aside.stat().st_uid == 0
    assert (home / ".aws").stat().st_uid == 12345


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_is_made_goes_to_the_owner(home: Path) -> None:
    owner = ground.Owner(uid=12345, gid=23456)
    with ground.open_tree(home, owner) as tree, tree.make_folder("folder", 0o755) as folder:
        folder.write("file", b"", 0o600)

    owners = {(path.stat().st_uid, path.stat().st_gid) for path in home.rglob("*")}
    assert owners == {(12345, 23456)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_closed_to_us_counts_as_changed(home: Path) -> None:
    (home / ".env").write_text("closed")
    (home / ".env").chmod(0o000)
    with ground.open_tree(home) as tree:
        os.seteuid(65534)
        try:
            with pytest.raises(ground.ChangedByUser):
                tree.read(".env")
        finally:
            os.seteuid(0)


def test_our_own_folder_is_no_link(home: Path, outside: Path) -> None:
    (home / ".provisioner").symlink_to(outside)

    with ground.open_tree(home) as tree, pytest.raises(ground.ChangedByUser):
        tree.own_folder(".provisioner")


def test_our_own_folder_is_closed_again(home: Path) -> None:
    (home / ".provisioner").mkdir()
    (home / ".provisioner").chmod(0o777)

    with ground.open_tree(home) as tree, tree.own_folder(".provisioner"):
        pass

    assert stat.S_IMODE((home / ".provisioner").stat().st_mode) == 0o700


def test_a_folder_moves_onto_nothing_or_an_empty_folder_only(home: Path) -> None:
    for name in ("first", "second", "third", "empty", "full"):
        (home / name).mkdir()
        (home / name / "from").write_text(name)
    (home / "empty/from").unlink()

    with ground.open_tree(home) as tree:
        tree.move("first", tree, "new")
        tree.move("second", tree, "empty")
        with pytest.raises(FileExistsError):
            tree.move("third", tree, "full")

    assert {p.parent.name: p.read_text() for p in home.rglob("from")} == {
        "new": "first",
        "empty": "second",
        "third": "third",
        "full": "full",
    }


def test_a_folder_does_not_move_onto_a_link(home: Path, outside: Path) -> None:
    (home / "staged").mkdir()
    (home / "sales").symlink_to(outside)

    with ground.open_tree(home) as tree, pytest.raises(FileExistsError):
        tree.move("staged", tree, "sales")

    assert (home / "sales").is_symlink()


def test_removing_takes_links_away_and_leaves_folders(home: Path, outside: Path) -> None:
    _link(home / "link", outside)
    _folder(home / "folder", outside)

    with ground.open_tree(home) as tree:
        for name in ("link", "folder", "nothing"):
            tree.remove(name)
        tree.remove_empty("folder")
        assert tree.names() == ("folder",)

    assert (outside / "file").read_text() == "theirs"


def test_removing_all_follows_no_link(home: Path, outside: Path) -> None:
    (home / "staged").mkdir()
    (home / "staged/link").symlink_to(outside)

    with ground.open_tree(home) as tree:
        tree.remove_all("staged")
        tree.remove_all("staged")

    assert not (home / "staged").exists()
    assert (outside / "file").read_text() == "theirs"


def test_removing_all_takes_away_what_is_too_deep_or_closed(home: Path) -> None:
    descriptor = os.open(home, os.O_RDONLY)
    for _ in range(1500):  # deeper than any stack, and longer than any path
        os.mkdir("deep", dir_fd=descriptor)
        below = os.open("deep", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    (home / "deep/closed/inner").mkdir(parents=True)
    (home / "deep/closed/inner").chmod(0)
    (home / "deep/closed").chmod(0)

    with ground.open_tree(home) as tree:
        tree.remove_all("deep")
        assert tree.names() == ()


def test_a_write_that_fails_leaves_nothing(home: Path) -> None:
    with ground.open_tree(home) as tree:
        tree.add("taken", b"first", 0o644)
        with pytest.raises(FileExistsError):
            tree.add("taken", b"second", 0o644)
        with pytest.raises(TypeError):
            tree.write("file", "text", 0o644)  # type: ignore[arg-type]

        assert tree.names() == ("taken",)
    assert (home / "taken").read_bytes() == b"first"


def test_many_files_are_made_at_once_each_as_it_would_be_alone(home: Path) -> None:
    (home / "below").mkdir()
    names = [f"file-{number}" for number in range(100)] + ["below/program"]
    with ground.open_tree(home) as tree:
        tree.add_all([(name, name.encode(), 0o755) for name in names])
        with pytest.raises(FileExistsError):
            tree.add_all([("new", b"", 0o644), ("file-1", b"other", 0o644)])
    assert all((home / name).read_text() == name for name in names)
    assert {(home / name).stat().st_mode & 0o777 for name in names} == {0o755}


def test_what_an_interrupted_write_left_is_found(home: Path) -> None:
    (home / ".provisioner-0123456789abcdef.tmp").write_text("half")
    (home / ".provisioner-mine.tmp").write_text("the user's")

    with ground.open_tree(home) as tree:
        assert tree.unfinished() == (".provisioner-0123456789abcdef.tmp",)


def test_a_lock_is_held_until_its_tree_is_closed(home: Path) -> None:
    with ground.open_tree(home) as mine, ground.open_tree(home) as theirs:
        assert mine.lock(wait=False)
        assert not theirs.lock(wait=False)
    with ground.open_tree(home) as later:
        assert later.lock(wait=False)


def test_a_file_never_shows_its_content_in_a_repr() -> None:
    assert "secret" not in repr(ground.File(data=b"secret", mode=0o600, uid=0))


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_is_left_open(home: Path, outside: Path) -> None:
    (home / "link").symlink_to(outside)
    before = _open_descriptors()

    with ground.open_tree(home) as tree:
        with tree.make_folder("a", 0o755) as a, a.make_folder("b", 0o755):
            tree.write("a/b/file", b"", 0o644)
            tree.read("a/b/file")
        for rel in ("a/link/file", "link/file", "a/b/file/c"):
            with pytest.raises((ground.ChangedByUser, FileNotFoundError)):
                tree.write(rel, b"", 0o644)

    assert _open_descriptors() == before


def test_a_folder_of_the_users_is_no_interrupted_write(home: Path) -> None:
    (home / ".provisioner-0123456789abcdef.tmp").mkdir()

    with ground.open_tree(home) as tree:
        assert tree.unfinished() == ()


@pytest.mark.parametrize("mode", [0o000, 0o055, 0o500])
def test_a_folder_of_ours_that_was_closed_is_opened_up(home: Path, mode: int) -> None:
    (home / "folder").mkdir()
    (home / "folder").chmod(mode)

    with ground.open_tree(home) as tree, tree.folder("folder") as folder:
        folder.write("file", b"new", 0o644)

    assert stat.S_IMODE((home / "folder").stat().st_mode) == mode | 0o700
