"""The 38 sources of VisualPRM400K-v1.1-Raw, as the paper's Table 8 counts them."""

from typing import NamedTuple


class Source(NamedTuple):
    """An annotation file of the real corpus."""

    name: str
    mean_score: float  # of a step
    steps: int
    rollouts: int


_TABLE_8 = """
AI2D .9409 146419 28147
CLEVR .9106 109317 24004
COCO-ReM .8933 55628 18450
ChartQA .9078 136655 28049
DVQA .9453 177352 35367
DocVQA .8663 85589 21049
FigureQA .7615 57601 12345
GEOS .9061 16847 1827
GEOS-open .8217 1563 178
Geo170K .9023 61314 8205
GeoQA-MC .8486 67715 9216
GeoQA-open .5720 45287 7025
GeomVerse .6819 38156 7765
Geometry3K .9243 94624 11756
Geometry3K-open .8707 58569 7090
IconQA .8908 121873 25811
InfographicVQA .7645 78408 17996
KonIQ .8822 72430 13337
M3CoT .8811 115649 19476
MAPQA .7260 48368 12366
MAVIS-Abs .8104 166756 16530
MAVIS-Cos .8057 86393 9174
MAVIS-Geo-0 .9280 78764 13149
MAVIS-Geo-1 .8765 37760 6728
MAVIS-Geo-2 .7990 25851 4801
MAVIS-Geo-3 .7719 19080 3706
MAVIS-Log .7357 162713 15422
MAVIS-Poly .8836 206293 23461
MAVIS-Sin .8231 88130 9675
MAVIS-Tan .8027 60391 6180
MathV360K .8759 107503 20132
NLVR2 .9672 96072 26439
SROIE .8708 83389 18074
ScienceQA .9723 186894 34523
SuperCLEVR-int .7325 37279 12070
SuperCLEVR-yn .7713 33171 10440
UniGeo .6015 41523 6299
VQAv2 .8253 67166 18887
"""


def _source(line: str) -> Source:
    name, mean, steps, rollouts = line.split()
    return Source(name, float(mean), int(steps), int(rollouts))


SOURCES = tuple(map(_source, _TABLE_8.strip().split("\n")))

LISTS_OF_IMAGES = "NLVR2"  # the one source whose records have several images
