"""Print the demo's results and their folders; fail if a trained model has learned too little."""

import json
import sys
from pathlib import Path

CLEARLY = 0.03  # required AUC above that of the untrained model
MODELS = ("untrained", "random", "best")
METRICS = {
    "overall_f1": "macro-F1 by steps",
    "pooled_macro_f1": "macro-F1 pooled",
    "auc": "AUC",
}


def main(folder: Path) -> int:
    """Compare the trained models with the untrained one; return 1 if one is not clearly better, else 0."""
    manifest = json.loads((folder / "index/manifest.json").read_text())
    card = json.loads((folder / "models/best/bisieve.json").read_text())
    found = {name: json.loads((folder / "metrics" / name / "metrics.json").read_text()) for name in MODELS}
    print(
        f"trained on {card['rollouts']:,} of {manifest['rollouts']:,} rollouts: the best "
        f"{card['fraction_asked']:.0%} by BIS, and as many random ones"
    )
    print(f"{'':20}  " + "  ".join(f"{name:>9}" for name in MODELS))
    for metric, label in METRICS.items():
        print(f"{label:20}  " + "  ".join(f"{found[name][metric]:9.3f}" for name in MODELS))
    print("One seed shows no difference between selections; docs/study.md has many.")
    for part in ("corpus", "index", "report.html", "models", "metrics"):
        print(f"{part:12} {folder / part}")
    untrained = found["untrained"]["auc"]
    if min(found[name]["auc"] for name in ("random", "best")) < untrained + CLEARLY:
        print("demo: expected trained models that clearly beat the untrained one", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
