"""What is equal in all runs of the study: corpora, recipe, bases. Chosen on corpus `TUNED_ON` alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisieve.synthetic.corpus_config import CorpusConfig
from bisieve.synthetic.solver import Solver

HERE = Path(__file__).parent
TUNED_ON = 100  # seed of a corpus that no run of the study uses

# One optimizer step sees 8 rollouts; the learning rate is not chosen by strategy or fraction.
RECIPE: dict[str, Any] = {
    "system": "none", "zero_stage": 1, "global_batch": 8, "pack_tokens": 2560, "prompts_together": False,
    "learning_rate": 1.5e-4, "warmup": 0.1, "max_length": 512, "max_tiles": 1, "track": "none",
    "gradient_checkpointing": False, "data_workers": 0, "device": "cpu", "precision": "fp32",
}  # fmt: skip


@dataclass(frozen=True)
class Regime:
    """A kind of corpus, and the base that is trained on it."""

    name: str
    says: str  # for a table
    rollouts: int = 2000
    early_stop: bool = True
    correction_rate: float = 0.005
    base: str = "judging"

    def corpus(self, seed: int) -> CorpusConfig:
        """Return the settings of the corpus with this seed."""
        return CorpusConfig(
            rollouts=self.rollouts, seed=seed, images=self.rollouts // 4, benchmark=300,
            early_stop=self.early_stop, solver=Solver(0.05, self.correction_rate),
        )  # fmt: skip

    @property
    def backbone(self) -> Path:
        """Return the folder of the base."""
        return HERE / "bases" / self.base


MAIN = Regime("main", "errors absorbing, annotation stopped early, a base that has judged statements")
REGIMES = {
    regime.name: regime
    for regime in (
        MAIN,
        Regime("full-annotation", "as main, but every step is annotated", early_stop=False),
        Regime("corrected", "as full-annotation, but later steps correct errors",
               early_stop=False, correction_rate=0.3),
        Regime("reading", "as main, but the base only reads", base="reading"),
        Regime("large", "as main, with 100,000 rollouts", rollouts=100_000),
    )
}  # fmt: skip
