"""Print the demo's results and their folders; fail if the model has learned too little."""

import json
import sys
from pathlib import Path

CHANCE = 0.5  # AUC of random scores
CLEARLY = 0.1  # required AUC above chance and above the untrained model


def main(folder: Path) -> int:
    """Compare the trained model with the untrained one; return 1 if it is not clearly better, else 0."""
    manifest = json.loads((folder / "index/manifest.json").read_text())
    card = json.loads((folder / "model/bisieve.json").read_text())
    untrained, trained = (
        json.loads((folder / "metrics" / name / "metrics.json").read_text())
        for name in ("untrained", "trained")
    )
    print(
        f"trained on {card['rollouts']} of {manifest['rollouts']} rollouts, "
        f"the best {card['fraction_asked']:.0%} by BIS"
    )
    print(f"{'':24}  untrained  trained")
    for name, label in (
        ("overall_f1", "macro-F1 by steps"),
        ("pooled_macro_f1", "macro-F1 pooled"),
        ("auc", "AUC"),
    ):
        print(f"{label:24}  {untrained[name]:9.3f}  {trained[name]:7.3f}")
    for part in ("corpus", "index", "model", "metrics"):
        print(f"{part:8} {folder / part}")
    clearly_better = trained["auc"] >= max(CHANCE, untrained["auc"]) + CLEARLY
    if not clearly_better or trained["overall_f1"] <= untrained["overall_f1"]:
        print(
            "demo: expected the trained model to beat chance and its untrained self clearly", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
