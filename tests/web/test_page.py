"""The page in a real browser: from dropped photos to downloaded files."""

import io
import shutil
import signal
import zipfile
from urllib.parse import urlsplit

import pytest
from PIL import Image

from d2csr.cli.app import main
from tests.web.conftest import eventually

pytestmark = pytest.mark.timeout(240)
PHOTO = "Straße & Haus.jpg"


def is_local(address: str) -> bool:
    return urlsplit(address).hostname == "127.0.0.1" or address.startswith(("data:", "blob:"))


def test_photos_become_files_with_the_bytes_of_the_command_line(open_tab, server, photos, tmp_path):
    """Dropped together with a broken one, whose error is shown in words; nothing leaves."""
    tab = open_tab()
    page = tab.page
    tab.drop(photos / PHOTO, photos / "broken.jpg", photos / "small.png")
    for name in ("Uncertainty", "Predictions", "Weights"):
        page.get_by_label(name).check()
    page.click("#start")
    tab.wait_for("done")
    assert "2 of 3 photos" in tab.status()
    assert "broken.jpg: " in tab.status()
    assert str(server.temporary) not in tab.status()
    compare = page.locator("#compare d2csr-compare[data-ready]")
    compare.and_(page.locator("[data-size='24 16']")).wait_for()
    page.locator("#result input").click()
    page.get_by_role("option").filter(has_text=PHOTO).click()
    compare.and_(page.locator("[data-size='180 120']")).locator(".stage").wait_for()

    for name in (PHOTO, "small.png"):
        shutil.copy(photos / name, tmp_path)
    main(["upscale", str(tmp_path), "--uncertainty", "--predictions", "--weight-maps"])
    expected = {path.name: path.read_bytes() for path in tmp_path.glob("*_x2*")}
    assert len(expected) == 12
    name = PHOTO.replace(".", "_x2.")
    with page.expect_download() as download:
        page.click(".d2csr-downloads > a:first-child")
    assert download.value.suggested_filename == name
    assert download.value.path().read_bytes() == expected[name]
    assert Image.open(io.BytesIO(expected[name])).getexif()[0x010F] == "a camera"
    with page.expect_download() as download:
        page.click("text=All files, as a zip")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == expected

    assert tab.problems == []
    assert [each for each in tab.requests if not is_local(each)] == []
    told = [line for line in server.errors.read_text().splitlines() if "connects to" in line]
    assert [line for line in told if "127.0.0.1" not in line and "/" not in line] == []


def test_the_slider_shows_both_images_and_the_view_is_kept_in_all_tabs(open_tab, photos):
    tab = open_tab()
    page = tab.page
    tab.drop(photos / PHOTO)
    page.get_by_label("Uncertainty").check()
    page.get_by_label("x3", exact=True).check()
    page.locator("#model", has_text="any camera, x3.").wait_for()
    page.click("#start")
    tab.wait_for("done")
    compare = page.locator("#compare d2csr-compare[data-ready]")
    compare.wait_for()
    handle, stage = compare.locator(".handle"), compare.locator(".stage").bounding_box()
    color = """async (element) => {
        await new Promise((resolve) => setTimeout(resolve, 300));
        const canvas = element.shadowRoot.querySelector("canvas"), {width, height} = canvas;
        const at = (x) => canvas.getContext("2d").getImageData(x, height / 2, 1, 1).data.join();
        return [at(width / 2 - 40), at(width / 2 + 40)];
    }"""
    middle = compare.evaluate(color)
    handle.focus()
    page.keyboard.press("End")
    assert eventually(lambda: handle.get_attribute("aria-valuenow") == "100")
    before = compare.evaluate(color)
    page.keyboard.press("Home")
    after = compare.evaluate(color)
    assert middle == [before[0], after[1]]
    assert before[0] != after[0]

    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(stage["x"] + stage["width"] / 4, box["y"] + 20, steps=3)
    page.mouse.up()
    assert eventually(lambda: handle.get_attribute("aria-valuenow") == "25")
    compare.locator("[data-zoom='2']").click()
    assert eventually(lambda: compare.locator(".zoom").inner_text() == "200 %")
    page.mouse.move(stage["x"] + 200, stage["y"] + 200)
    page.mouse.wheel(0, -300)
    assert eventually(lambda: compare.locator(".zoom").inner_text() == "400 %")

    page.get_by_role("tab", name="Uncertainty").click()
    view = page.locator("#compare-uncertainty d2csr-compare[data-ready]")
    view.wait_for()
    assert view.locator(".zoom").inner_text() == "400 %"
    assert view.locator(".label.right").inner_text() == "Uncertainty"
    assert tab.problems == []


def test_two_tabs_wait_for_each_other_and_forget_their_files(open_tab, server, photos):
    first, second = open_tab(), open_tab()
    first.drop(photos / "large.png")
    first.page.get_by_label("x4", exact=True).check()
    first.page.locator("#model", has_text="any camera, x4.").wait_for()
    first.page.click("#start")
    first.wait_for("%")
    second.drop(photos / PHOTO)
    second.page.click("#start")
    second.wait_for("waiting: another is before it")
    assert "large.png" not in second.status()
    first.page.click("#cancel")
    first.wait_for("cancelled")
    second.wait_for("done")
    assert "large.png" in server.files()
    assert [name for name in server.files() if name.startswith(".") and "png" in name] == []
    assert PHOTO.replace(".", "_x2.") in server.files()
    for tab in (first, second):
        tab.page.close()
    assert eventually(lambda: server.files() == [])


def test_a_pasted_image_is_added_and_what_is_missing_is_said(open_tab):
    page = open_tab().page
    page.click("#start")
    page.get_by_text("Drop one on the left").wait_for()
    page.evaluate("""async () => {
        const canvas = new OffscreenCanvas(20, 10);
        canvas.getContext("2d").fillRect(0, 0, 20, 10);
        const transfer = new DataTransfer();
        const contents = [await canvas.convertToBlob()];
        transfer.items.add(new File(contents, "image.png", {type: "image/png"}));
        document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer}));
    }""")
    page.locator("#photos tr.file", has_text="image").wait_for()


def test_a_signal_ends_the_server_and_removes_its_temporary_files(server):
    assert list(server.temporary.glob(".d2csr-*/uploads")) != []
    assert server.end(signal.SIGTERM) == 0
    assert list(server.temporary.iterdir()) == []
