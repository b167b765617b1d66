"""The published tables: whole, readable, and in columns that we measure under the same names."""

import inspect
import re

import pytest
import yaml

from vidpred.data import sources
from vidpred.metrics import LPIPS, protocols
from vidpred.published import _read, _test_sets, differences, published

NAMES = list(_read()["tables"])


@pytest.mark.parametrize("name", NAMES)
def test_every_row_has_a_value_or_none_for_every_column(name: str) -> None:
    for table in published(name):
        assert table.rows
        assert len(set(table.columns)) == len(table.columns)
        assert table.context >= 1
        assert table.horizon >= 1
        for method, values in table.rows.items():
            assert len(values) == len(table.columns), (table.source, method)
            assert any(values)
            assert all(value is None or float(value) > 0 for value in values)


@pytest.mark.parametrize("name", NAMES)
def test_scores_have_the_names_and_ranges_of_the_protocol(name: str) -> None:
    """So a column that is none of ours is a cost, an accuracy or the score of a variant."""
    largest = {
        "MSE": 110, "MSE x1000": 5, "PSNR": 40, "SSIM": 1, "LPIPS x100": 100, "FVD": 3000,
    }  # fmt: skip
    assert largest.keys() == protocols(LPIPS, LPIPS)["paper"].keys()
    found = set()
    for table in published(name):
        for index, column in enumerate(table.columns):
            metric, _, frame = column.partition(" t=")
            if metric in largest:
                found.add(metric)
                values = [float(value) for row in table.rows.values() if (value := row[index])]
                assert max(values) <= largest[metric]
                if frame:
                    assert table.context < int(frame) <= table.context + table.horizon
            else:
                assert re.search(r", (MB|M|G|s|%|2\^20)$| at tau \d$", column), column
    assert found


def test_what_the_papers_print() -> None:
    first, *_, last = published("moving_mnist")
    assert first.rows["IPRNN"] == ["0.965", "9.80", "782", "14"]
    assert last.source.startswith("OpenSTL (Tan et al.")
    assert published("caltech")[0].rows["CrevNet"] == [None, "0.925", "29.2"]
    assert published("sjtu4k")[0].rows["STRPM"] == ["24.37", "57.12", "19.77", "66.68", "39.84"]


def test_an_unknown_data_set_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"on kitti: there are some on moving_mnist, c"):
        published("kitti")


def test_file_is_plain_yaml() -> None:
    from importlib.resources import files

    text = files("vidpred").joinpath("published.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["papers"].keys() == _read()["papers"].keys()


@pytest.mark.parametrize("name", NAMES)
def test_published_test_sets_are_what_is_prepared_by_default(name: str) -> None:
    settings = inspect.signature(getattr(sources, name)).parameters
    for setting, value in _test_sets()[name].items():
        default = settings[setting].default
        if name != "moving_mnist":  # whose published sequences are a file
            assert value == (list(default) if isinstance(default, tuple) else default)


def test_a_test_set_is_the_published_one_or_differs_in_words() -> None:
    made = {"data": "caltech", **_test_sets()["caltech"], "length": 11}
    assert differences("caltech", made) == []
    other = {**made, "fps": 30, "size": [64, 64]}
    assert differences("caltech", other) == [
        "fps is 30, not 10",
        "size is [64, 64], not [128, 160]",
    ]
    (words,) = differences("moving_mnist", other)
    assert words == "the data are caltech, not moving_mnist"
    (words,) = differences("caltech", {})
    assert words.startswith("the data are not known to be caltech")


def test_what_stays_open_of_a_test_set_is_noted_with_every_table() -> None:
    assert all("test windows share frames" in table.note for table in published("ucf_sports"))
    assert published("ucf_sports")[2].note.endswith("The caption says STRPM, the text STIP.")
    assert published("moving_mnist")[1].note == ""
