"""What the papers published: their tables of scores, as printed, to stand beside one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True)
class Published:
    """A table of a paper.

    Attributes:
        source: Paper and table.
        about: What sets it apart from others on the same data; may be empty.
        context: Frames that the models saw.
        horizon: Frames that they predicted.
        columns: Names. Of a metric it is that of :func:`vidpred.metrics.protocols`, in the protocol
            ``paper``; followed by `` t=5`` it is of that frame of a clip alone, the first being 1.
        rows: Of every method its values as printed; ``None`` where the paper prints none.
        note: Where the papers do not agree, or leave open what was tested on; may be empty.
    """

    source: str
    about: str
    context: int
    horizon: int
    columns: Sequence[str]
    rows: Mapping[str, Sequence[str | None]]
    note: str


def published(data: str) -> list[Published]:
    """Return the published tables on a data set.

    Args:
        data: Name of the data set, as for ``vidpred data prepare``.

    Raises:
        ValueError: There are none on such a data set.

    Example:
        >>> table = published("caltech")[1]
        >>> table.source
        'STAU (Chang et al., 2022, arXiv:2204.09456), Table 4'
        >>> dict(zip(table.columns, table.rows["STAU"]))
        {'MSE x1000': '1.19', 'SSIM': '0.944', 'PSNR': '29.9', 'LPIPS x100': '7.54'}
    """
    content = _read()
    if data not in content["tables"]:
        names = ", ".join(content["tables"])
        raise ValueError(f"no published results on {data}: there are some on {names}")
    return [
        Published(
            source=f"{table['paper']} ({content['papers'][table['paper']]}), {table['table']}",
            about=table.get("about", ""),
            context=int(table["context"]),
            horizon=int(table["horizon"]),
            columns=table["columns"],
            rows={
                method: [None if value == "null" else value for value in values]
                for method, values in table["rows"].items()
            },
            note=" ".join(filter(None, [content["gaps"].get(data), table.get("note")])),
        )
        for table in content["tables"][data]
    ]


def differences(data: str, settings: Mapping[str, Any]) -> list[str]:
    """Return in words what sets a test set apart from that of the published results.

    Args:
        data: Name of the data set that the results are on.
        settings: How the test set was made: :attr:`vidpred.data.VideoData.settings`.

    Example:
        >>> made = {"data": "ucf101", "size": [128, 128], "length": 5}
        >>> differences("ucf101", made)
        ['size is [128, 128], not [256, 256]']
        >>> differences("caltech", made)
        ['the data are ucf101, not caltech']
        >>> differences("ucf101", {})
        ['the data are not known to be ucf101: no settings of vidpred data prepare come with them']
    """
    made = settings.get("data")
    if made is None:
        return [
            f"the data are not known to be {data}: no settings of vidpred data prepare come with "
            "them"
        ]
    if made != data:
        return [f"the data are {made}, not {data}"]
    return [
        f"{name} is {json.dumps(settings.get(name))}, not {json.dumps(value)}"
        for name, value in _test_sets()[data].items()
        if settings.get(name) != value
    ]


def data_sets() -> list[str]:
    """Return the names of the data sets that there are published results on."""
    return list(_read()["tables"])


@cache
def _read() -> dict[str, Any]:
    # All as text: 0.870 stays as it is printed.
    return yaml.load(_text(), yaml.BaseLoader)


@cache
def _test_sets() -> dict[str, Any]:
    return yaml.safe_load(_text())["test_sets"]


def _text() -> str:
    return files("vidpred").joinpath("published.yaml").read_text(encoding="utf-8")
