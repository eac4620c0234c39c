"""Write docs/images/report.png: parts of a report, beside each other, as Chromium shows them.

``PYTHONPATH=tests python infra/docs/report_image.py .demo/report.html``, after `make demo`.
"""

import io
import sys
from pathlib import Path

from PIL import Image
from support.browser import chromium, opened

TARGET = Path(__file__).parents[2] / "docs/images/report.png"
WIDTH = 1080  # pixels of a column, before both are made smaller
COLUMNS = (  # parts of each column: where they begin, and their height in pixels
    (("header.top", 1500),),
    (("section:has(> h2:text-is('Score'))", 620), ("section:has(> h2:text-is('Rollouts'))", 880)),
)
SCALE, COLOURS = 0.66, 256


def main(report: Path) -> None:
    """Put the columns together and write them with few colours."""
    with chromium() as browser, opened(browser, report, WIDTH, color_scheme="light") as page:
        whole = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        places = [
            [(int(page.locator(begin).bounding_box()["y"]), height) for begin, height in parts]
            for parts in COLUMNS
        ]
    image = Image.new("RGB", (2 * WIDTH, sum(height for _, height in COLUMNS[0])), "white")
    for column, parts in enumerate(places):
        below = 0
        for top, height in parts:
            image.paste(whole.crop((0, top, WIDTH, top + height)), (column * WIDTH, below))
            below += height
    size = int(image.width * SCALE), int(image.height * SCALE)
    image.resize(size, Image.Resampling.LANCZOS).quantize(COLOURS, kmeans=1).save(TARGET, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
