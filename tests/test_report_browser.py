"""A folder of photos to a report in one command, opened in a real browser."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from clustering_common.report import write_report
from clustering_common.report_html import PAGE

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)
LIMIT = 180  # seconds, from the command to the report
DESKTOP, PHONE = (1280, 1600), (390, 1600)
# Chromium's own complaints about the machine that it runs on, such as a missing D-Bus.
CONSOLE = re.compile(r":CONSOLE[:(]|Uncaught|Refused to|ERR_[A-Z_]+|net::")
# A page that loads another in a frame as wide as a phone, and writes what it sees into itself.
PROBE = """<!doctype html><title>waiting</title><body><iframe id="frame" src="report.html"
 style="width:{width}px;height:900px;border:0"></iframe><pre id="found"></pre><script>
frame.onload = () => {{
  const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
  const images = [...page.images];
  const outside = [...page.querySelectorAll("svg text")].filter((text) => {{
    const own = text.getBoundingClientRect(), at = text.ownerSVGElement.getBoundingClientRect();
    return own.left < at.left - 1 || own.right > at.right + 1 || own.bottom > at.bottom + 2;
  }});
  found.textContent = JSON.stringify({{
    wide: root.scrollWidth, view: root.clientWidth, images: images.length,
    broken: images.filter((image) => !image.naturalWidth).length,
    loaded: view.performance.getEntriesByType("resource").filter(
      (entry) => !entry.name.startsWith("data:")).map((entry) => entry.name),
    outside: outside.map((text) => text.textContent),
  }});
}};
</script>"""

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def browser():
    """Fail without a browser where one is asked for, as by `make slow`; skip elsewhere."""
    if BROWSER is None:
        stop = pytest.fail if os.environ.get("NEEDS_BROWSER") else pytest.skip
        stop(f"none of {', '.join(BROWSERS)} is here: apt-get install chromium")


def browse(tmp_path, *argv):
    """Run the browser without a window; return what it says on both streams."""
    common = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--hide-scrollbars", "--enable-logging=stderr", "--no-first-run",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip
    done = subprocess.run(
        [BROWSER, *common, *map(str, argv)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if CONSOLE.search(line)]
    assert not complaints, complaints
    return done.stdout


def screenshot(tmp_path, page, name, size, *more):
    """Take a picture of a page; return its path and its pixels."""
    path = tmp_path / f"{name}.png"
    width, height = size
    browse(tmp_path, f"--screenshot={path}", f"--window-size={width},{height}", *more, page)
    with Image.open(path) as image:
        return path, np.asarray(image.convert("L"), float)


def probe(tmp_path, folder, width):
    """Return what a browser measures of a report that is so many pixels wide."""
    (folder / "probe.html").write_text(PROBE.format(width=width))
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/probe.html"
        dom = browse(tmp_path, "--dump-dom", "--virtual-time-budget=8000", address)
        server.shutdown()
        thread.join()
    (folder / "probe.html").unlink()
    return json.loads(re.search(r'<pre id="found">(.+?)</pre>', dom, re.S)[1])


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def photos(tmp_path_factory, browser):
    """500 PNG files of five digits, the command that clusters them, and how long it took."""
    folder = tmp_path_factory.mktemp("photos")
    digits = load_digits()
    few = np.flatnonzero(digits.target < 5)[:500]
    for number, i in enumerate(few):
        image = Image.fromarray((digits.images[i] * 15.9).astype(np.uint8))
        place = folder / "photos" / f"{number:03d}.png"
        place.parent.mkdir(exist_ok=True)
        image.resize((28, 28), Image.Resampling.BILINEAR).save(place)
    np.save(folder / "y.npy", digits.target[few])
    begin = time.monotonic()
    subprocess.run(
        [
            sys.executable, str(ROOT / "main.py"), "--method", "ConvDEC-DA", "--data", "photos",
            "--labels", "y.npy", "--image-size", "28", "--n-clusters", "5", "--batch-size", "32",
            "--pretrain-epochs", "60", "--maxiter", "280", "--report", "--save-dir", "out",
            "-v", "0",
        ],
        cwd=folder, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return folder / "out", time.monotonic() - begin


def test_from_a_folder_to_a_report_in_time(photos, tmp_path):
    folder, seconds = photos
    assert seconds < LIMIT
    page = (folder / "report.html").as_uri()
    dom = browse(tmp_path, "--dump-dom", page)
    final = json.loads((folder / "results.json").read_text())["metrics"]["final"]
    for value in final.values():
        assert f"<dd>{value:.4f}</dd>" in dom
    path, pixels = screenshot(tmp_path, page, "desktop", DESKTOP)
    assert path.stat().st_size > 50_000 and pixels.shape == (1600, 1280) and pixels.std() > 15


def test_it_fits_a_phone_and_a_desktop(photos, tmp_path):
    folder, _ = photos
    for width in (320, 390, 820, 1280):
        found = probe(tmp_path, folder, width)
        assert found["wide"] <= found["view"] == width, found
        assert found["images"] >= 60 and found["broken"] == 0
        assert found["loaded"] == [] and found["outside"] == []
    _, pixels = screenshot(tmp_path, (folder / "report.html").as_uri(), "phone", PHONE)
    assert pixels.std() > 15


def test_dark_and_light_differ(photos, tmp_path):
    page = (photos[0] / "report.html").as_uri()
    dark = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")
    _, light = screenshot(
        tmp_path, page, "light", DESKTOP, "--blink-settings=preferredColorScheme=1"
    )
    _, night = screenshot(tmp_path, page, "dark", DESKTOP, *dark)
    assert light.mean() > 200 and night.mean() < 80


def test_it_prints(photos, tmp_path):
    path = tmp_path / "report.pdf"
    page = (photos[0] / "report.html").as_uri()
    browse(tmp_path, f"--print-to-pdf={path}", "--no-pdf-header-footer", page)
    content = path.read_bytes()
    assert content.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type ?/Page\b", content)) <= 8


def test_a_grid_in_the_browser(tmp_path):
    folder = tmp_path / "grid"
    subprocess.run(
        [
            sys.executable, str(ROOT / "run_exp.py"), "--methods", "FcDEC", "FcIDEC-DA",
            "--datasets", "digits", "--trials", "2", "--pretrain-epochs", "2", "--maxiter", "20",
            "--report", "-d", str(folder), "-v", "0",
        ],
        cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    dom = browse(tmp_path, "--dump-dom", (folder / "report.html").as_uri())
    for method in ("FcDEC", "FcIDEC-DA"):
        assert f'href="digits/{method}/trial1/report.html"' in dom
    for width in (320, 1280):
        found = probe(tmp_path, folder, width)
        assert found["wide"] <= width and found["loaded"] == [] and found["outside"] == []
    assert write_report(folder).exists()


def test_the_browser_would_tell(tmp_path):
    """What the other tests rely on: errors are seen, so are things that are too wide."""
    body = '<img src="http://127.0.0.1:9/x.png"><p style="width:2000px">wide</p>'
    page = PAGE.substitute(title="t", subtitle="", style="", links="", footer="", body=body)
    (tmp_path / "report.html").write_text(page)
    with pytest.raises(AssertionError, match=r"CONSOLE|ERR_"):
        browse(tmp_path, "--dump-dom", (tmp_path / "report.html").as_uri())
    (tmp_path / "report.html").write_text(page.replace("http://127.0.0.1:9/x.png", "data:,"))
    found = probe(tmp_path, tmp_path, 390)
    assert found["wide"] > 1900 and found["broken"] == 1
