"""Measure how many images a second have their sizes read from their headers, as a run does before it starts.

    PYTHONPATH=tests python -m bench.training.image_headers

The images are JPEG and PNG files of noise on this machine's disk, just written.
"""

import tempfile
import time
from pathlib import Path

from PIL import Image

from ray_train.data.token_estimate import image_sizes

IMAGES, DIFFERENT = 4000, 20  # files, and different ones of them
TRIES = 3


def main() -> None:
    """Write the images, read all sizes, print the best of three tries."""
    with tempfile.TemporaryDirectory(prefix="bisieve-headers-") as name:
        files = [_encoded(Path(name), number) for number in range(DIFFERENT)]
        names = []
        for number in range(IMAGES):
            suffix, data = files[number % DIFFERENT]
            names.append(f"{number}{suffix}")
            Path(name, names[-1]).write_bytes(data)
        times = []
        for _ in range(TRIES):
            start = time.perf_counter()
            sizes = image_sizes(name, names)
            times.append(time.perf_counter() - start)
            assert None not in sizes.values()
    size = sum(len(data) for _, data in files) / DIFFERENT / 1000
    print(f"{IMAGES} images of {size:.0f} kB: {IMAGES / min(times):,.0f} a second")


def _encoded(folder: Path, number: int) -> tuple[str, bytes]:
    """Return the suffix and the bytes of an image of 448 to 1,018 pixels a side."""
    file = folder / f"made{'.jpg' if number % 2 else '.png'}"
    side = 448 + 30 * number
    Image.effect_noise((side, side * 3 // 4), 90).convert("RGB").save(file)
    data = file.read_bytes()
    file.unlink()
    return file.suffix, data


if __name__ == "__main__":
    main()
