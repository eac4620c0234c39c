"""Write docs/images/explore.png: a rollout, opened in `bisieve explore`, as Chromium shows it.

``PYTHONPATH=tests python infra/docs/explore_image.py .demo/index .demo/corpus``, after `make demo`.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from support.browser import chromium, visited
from support.explored import exploring

TARGET = Path(__file__).parents[2] / "docs/images/explore.png"
WIDTH, HEIGHT = 1200, 900  # pixels of the page
SCALE, COLOURS = 0.8, 128


def main(index: str, images: str) -> None:
    """Show the mixed rollouts, open one, and write the page with few colours."""
    with (
        tempfile.TemporaryDirectory() as folder,
        exploring(index, "--image-root", images, log=Path(folder) / "log") as url,
        chromium() as browser,
        visited(browser, url, "html[data-loaded]", WIDTH, color_scheme="light") as page,
    ):
        page.wait_for_timeout(3000)  # until the questions are read
        page.select_option("#filters [name=kind]", "mixed")
        page.wait_for_selector("html[data-loaded='2']", state="attached")
        page.evaluate("window.scrollTo(0, 60)")
        page.locator("#rollouts tbody tr").nth(3).click()
        page.wait_for_selector("#pictures img")
        page.locator("dialog").evaluate("box => { box.style.width = '640px'; }")
        shown = page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT})
    image = Image.open(io.BytesIO(shown)).convert("RGB")
    size = int(image.width * SCALE), int(image.height * SCALE)
    image.resize(size, Image.Resampling.LANCZOS).quantize(COLOURS, kmeans=1).save(TARGET, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
