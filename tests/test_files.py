import re
import stat
from pathlib import Path

import pytest
from full_disk import error_on_a_full_disk

from vidpred.files import check_new_folder, output_folder, replacing, replacing_files


def test_success_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def write_too_much(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("more than ten bytes")


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    error = error_on_a_full_disk(10, write_too_much, path)
    assert isinstance(error, OSError)
    assert str(error).endswith(f"File too large: '{path}'")
    with pytest.raises(OSError, match=r"^no$"), replacing(path):
        raise OSError("no")
    assert not list(tmp_path.iterdir())


def test_files_of_a_folder_are_replaced_all_or_none(tmp_path: Path) -> None:
    for name in ("table.csv", "clips/best.png", "clips/best-2.gif", "clips/own.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")

    def content() -> dict[str, str]:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {path.relative_to(tmp_path).as_posix(): path.read_text() for path in files}

    def write(error: type[BaseException] | None = None) -> None:
        with replacing_files(tmp_path, stale=["clips/best*"]) as temporary:
            (temporary / "clips").mkdir()
            (temporary / "clips" / "best.png").write_text("new")
            if error is not None:
                raise error
            (temporary / "table.csv").write_text("new")
            assert {*content().values()} == {"old", "new"}

    before = content()
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error):
            write(error)
        assert content() == before
    write()
    assert content() == {"table.csv": "new", "clips/best.png": "new", "clips/own.gif": "old"}
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize("taken", ["report.html", "clips"])
def test_what_is_in_the_way_is_seen_before_any_file_is_replaced(tmp_path: Path, taken: str) -> None:
    for number in range(8):
        (tmp_path / f"{number}.csv").write_text("old")
    if taken == "clips":
        (tmp_path / taken).write_text("old")
        message = f"{tmp_path / taken} is a file: give the path of a folder"
    else:
        (tmp_path / taken).mkdir()
        message = f"{tmp_path / taken} is a folder: no file can take its place"
    before = sorted(tmp_path.iterdir())

    def write() -> None:
        with replacing_files(tmp_path) as temporary:
            (temporary / "clips").mkdir()
            for name in (*(f"{number}.csv" for number in range(8)), "report.html", "clips/a.png"):
                (temporary / name).write_text("new")

    with pytest.raises(OSError, match=re.escape(message)) as raised:
        write()
    assert str(raised.value) == message
    assert sorted(tmp_path.iterdir()) == before
    assert {path.read_text() for path in before if path.is_file()} == {"old"}


def test_folders_of_another_stay_though_named_as_stale_files(tmp_path: Path) -> None:
    (tmp_path / "best.png").mkdir()
    with replacing_files(tmp_path, stale=["*.png"]) as temporary:
        (temporary / "worst.png").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.png", "worst.png"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_folders_made_for_nothing_are_removed(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), replacing_files(tmp_path / "runs" / "one") as temporary:  # noqa: PT012
        assert temporary.name.startswith(".vidpred-")
        (temporary / "half").touch()
        raise error
    assert not list(tmp_path.iterdir())


def test_missing_folders_are_made_and_permissions_are_the_usual_ones(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "demo" / "notes.txt"
    with replacing(str(path)) as temporary:
        temporary.write_text("x")
    plain = tmp_path / "plain.txt"
    plain.write_text("x")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"), replacing(tmp_path):
        pass


@pytest.mark.parametrize("inside", ["", "results"])
def test_a_file_is_no_folder_for_results(tmp_path: Path, inside: str) -> None:
    (tmp_path / "taken").touch()
    assert output_folder(tmp_path / "new") == tmp_path / "new"
    with pytest.raises(NotADirectoryError, match="taken is a file: give the path of a folder"):
        output_folder(tmp_path / "taken" / inside)


@pytest.mark.parametrize("path", ["/proc/results", "/proc/results/one", "/proc"])
def test_where_even_a_superuser_cannot_write_is_no_folder_for_results(path: str) -> None:
    with pytest.raises(OSError, match=f"^cannot write to {path}: "):
        output_folder(path)


def test_looking_for_a_folder_leaves_nothing(tmp_path: Path) -> None:
    output_folder(tmp_path / "new" / "results")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_not_in_the_way(tmp_path: Path) -> None:
    for name in (".vidpred-0123", ".vidpred-4567"):
        (tmp_path / name).mkdir()
    check_new_folder(tmp_path)
    (tmp_path / "picture.png").touch()
    for taken in (tmp_path, tmp_path / "picture.png"):
        with pytest.raises(FileExistsError, match="is there already: give a folder that is new or"):
            check_new_folder(taken)
