"""The page of ``vidpred evaluate`` in a browser: pytest -m browser, with Chrome or Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from vidpred import results
from vidpred.data import MovingMNISTData
from vidpred.evaluation import evaluate
from vidpred.metrics import protocols
from vidpred.published import published
from vidpred.tasks.forecast import copy_last_frame

if TYPE_CHECKING:
    from selenium.webdriver import Chrome  # pyright: ignore[reportMissingImports]

pytestmark = pytest.mark.browser

PHONE, DESKTOP = (390, 844), (1280, 900)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything that there may be on it, and names that are long."""

    def half(known: Tensor, horizon: int) -> Tensor:
        return 0.5 * copy_last_frame(known, horizon)

    def broken(known: Tensor, horizon: int) -> Tensor:
        return copy_last_frame(known, horizon) * torch.nan

    models = [
        ("moving_mnist/checkpoints/epoch=00012-step=004875.ckpt", half),
        ("copy last frame", copy_last_frame),
        ("a broken <model>", broken),
    ]
    data = MovingMNISTData(length=20, test_size=3, batch_size=3)
    found = evaluate(models, data, 10, 10, protocols())
    facts = {"Command": "vidpred evaluate --ckpt " + "long/" * 60, "Data": "x" * 300}
    folder = tmp_path_factory.mktemp("report")
    tables = [*published("moving_mnist"), *published("ucf_sports")]
    return results.write(found, folder, tables, facts=facts)


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    from selenium import webdriver  # pyright: ignore[reportMissingImports]
    from selenium.webdriver.chrome.service import (  # pyright: ignore[reportMissingImports]
        Service,
    )

    options = webdriver.ChromeOptions()
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Neither is downloaded: those of the system, or the test fails.
    names = ("chromium", "chromium-browser", "google-chrome")
    found = [path for name in names if (path := shutil.which(name))]
    driver = shutil.which("chromedriver")
    assert found, f"no browser: expected one of {', '.join(names)}"
    assert driver, "no chromedriver, which comes with the browser"
    options.binary_location = found[0]
    browser = webdriver.Chrome(options, Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_page_reads_well_and_needs_nothing_else(
    page: Path, chrome: Chrome, size: tuple[int, int], tmp_path: Path
) -> None:
    width, height = size
    alone = shutil.copy(page, tmp_path)  # without the pictures beside it
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    chrome.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    chrome.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    chrome.get(Path(alone).as_uri())
    assert chrome.get_log("browser") == []
    requested = chrome.execute_script(
        "return performance.getEntriesByType('resource').map(x => x.name)"
    )
    assert [name for name in requested if not name.startswith("data:")] == []
    # Every picture has its pixels, those in what is folded too.
    chrome.execute_script("document.querySelectorAll('details').forEach(x => x.open = true)")
    drawn = chrome.execute_script(
        "return Array.from(document.images, x => x.complete && x.naturalWidth > 0 && x.width > 0)"
    )
    assert len(drawn) == 3 + 3 * 3
    assert all(drawn)
    # Nothing is wider than the screen, but within what scrolls by itself.
    wide = chrome.execute_script(
        """return Array.from(document.querySelectorAll('body *'))
            .filter(x => !x.parentElement.closest('.wide'))
            .filter(x => x.getBoundingClientRect().right > arguments[0])
            .map(x => x.outerHTML.slice(0, 80))""",
        width,
    )
    assert wide == []
    # A phone shrinks a page that is wider: it would see more than its own pixels.
    assert chrome.execute_script("return innerWidth") == width
    assert chrome.execute_script("return document.documentElement.scrollWidth") == width
    # The names of the rows leave room for numbers, and stay when a table scrolls.
    names = chrome.execute_script(
        "return Array.from(document.querySelectorAll('tr > :first-child'), x => x.offsetWidth)"
    )
    assert max(names) <= max(0.5 * width, 300)
