"""The corpora of the study and their indexes, made when a run needs them and then kept."""

import shutil
from pathlib import Path

import bisieve
from bench.study.control import write_control
from bench.study.grid import CONTROL, Run
from bench.study.recipe import REGIMES
from bisieve.io.disk import locked
from bisieve.synthetic.corpus import write_corpus


def corpus_of(run: Run, work: Path) -> Path:
    """Return the folder of the run's corpus; regimes with the same corpus share it."""
    config = REGIMES[run.regime].corpus(run.corpus)
    solver = config.solver
    stop = "stop" if config.early_stop else "full"
    folder = work / f"corpus-{run.corpus}-{config.rollouts}-{stop}-{solver.correction_rate:g}"
    work.mkdir(parents=True, exist_ok=True)
    with locked(f"{folder}.lock"):
        if not (folder / "corpus.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            write_corpus(str(folder), config)
            bisieve.score(str(folder / "annotations"), str(folder / "index"), engine="local")
    return folder


def index_of(run: Run, work: Path) -> str:
    """Return the index that the run selects from, whose seed is the run's."""
    corpus = corpus_of(run, work)
    name = f"index-seed-{run.seed}"
    if run.strategy == CONTROL:
        name = f"control-{run.fraction:g}-{run.alpha:g}-seed-{run.seed}"
    folder = corpus / name
    with locked(f"{folder}.lock"):
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            index = bisieve.open_index(str(corpus / "index"))
            if run.strategy == CONTROL:
                url = write_control(index, run.fraction, run.alpha, run.seed, folder)
            else:
                url = bisieve.rerank(index, str(folder / "index"), engine="local", seed=run.seed).url
            (folder / "ready").write_text(url)
        return (folder / "ready").read_text()
