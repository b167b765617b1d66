import csv
import os
from pathlib import Path

import pytest
import torch

from vidpred import tables, visual


def test_table_has_a_row_per_step_a_mean_and_enough_digits() -> None:
    table = tables.metric_table(
        {
            "MSE": torch.tensor([132.25, 1.5]),
            "SSIM": [0.93123, 0.9],
            "MSE x": [0.00123, 0.00345],
            "none": [float("nan"), 0.0],
            "wide": [1234.5, 0.0125],
        }
    )
    assert table.splitlines() == [
        "step    MSE    SSIM     MSE x   none      wide",
        "   1  132.2  0.9312  0.001230    nan  1234.500",
        "   2    1.5  0.9000  0.003450  0.000     0.013",
        "mean   66.9  0.9156  0.002340    nan   617.256",
    ]


def test_csv_holds_full_precision(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    per_step = {"MSE": [1 / 3, 2 / 3], "SSIM, paper": torch.tensor([0.1, 0.2])}
    tables.write_csv(per_step, path)
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["step", "MSE", "SSIM, paper"]
    assert [row[0] for row in rows] == ["1", "2", "mean"]
    assert [float(row[1]) for row in rows] == [1 / 3, 2 / 3, 0.5]
    assert torch.tensor([float(row[2]) for row in rows[:2]]).equal(torch.tensor([0.1, 0.2]))


@pytest.mark.parametrize("per_step", [{}, {"MSE": []}, {"MSE": [1.0], "SSIM": [1.0, 2.0]}])
def test_tables_without_a_value_for_every_step_are_refused(
    per_step: dict[str, list[float]], tmp_path: Path
) -> None:
    for use in (
        tables.metric_table,
        lambda columns: tables.write_csv(columns, tmp_path / "metrics.csv"),
        lambda columns: visual.plot_curves({"model": columns}),
    ):
        with pytest.raises(ValueError, match="one value per predicted step"):
            use(per_step)
    assert os.listdir(tmp_path) == []
