"""Print the demo's results and their folders; fail if a trained model has learned too little."""

import json
import sys
from pathlib import Path

CLEARLY = 0.03  # required AUC above that of the untrained model, and of a guess by the position of a step
MODELS = ("untrained", "random", "best")
METRICS = {
    "overall_f1": "macro-F1 by steps",
    "pooled_macro_f1": "macro-F1 pooled",
    "auc": "AUC",
}


def main(folder: Path) -> int:
    """Compare the trained models with the untrained one and with a guess; return 1 if one is no better."""
    manifest = json.loads((folder / "index/manifest.json").read_text())
    card = json.loads((folder / "models/best/bisieve.json").read_text())
    found = {name: json.loads((folder / "metrics" / name / "metrics.json").read_text()) for name in MODELS}
    print(
        f"trained on {card['rollouts']:,} of {manifest['rollouts']:,} rollouts: the best "
        f"{card['fraction_asked']:.0%} by BIS, and as many random ones"
    )
    position = found["best"]["position_baseline"]
    print(f"{'':20}  " + "  ".join(f"{name:>9}" for name in ("position", *MODELS)))
    for metric, label in METRICS.items():
        values = (position[metric], *(found[name][metric] for name in MODELS))
        print(f"{label:20}  " + "  ".join(f"{value:9.3f}" for value in values))
    print("Position: a guess by the number of a step alone; a model that is no better has learned nothing.")
    print("One seed shows no difference between selections; docs/study.md has many.")
    for part in ("corpus", "index", "report.html", "models", "metrics"):
        print(f"{part:12} {folder / part}")
    least = min(found[name]["auc"] for name in ("random", "best"))
    for name, auc in (("untrained one", found["untrained"]["auc"]), ("position of a step", position["auc"])):
        if least < auc + CLEARLY:
            print(f"demo: expected trained models that clearly beat the {name}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
