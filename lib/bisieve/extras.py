"""Which extra of bisieve brings a package that is missing."""

EXTRAS = {  # the one that brings an import, for all imports that bisieve itself does not need
    "pyspark": "score", "py4j": "score", "pandas": "score",
    "torch": "train", "ray": "train", "transformers": "train", "deepspeed": "train", "accelerate": "train",
    "peft": "train", "tensorboardX": "train", "safetensors": "train", "tokenizers": "train", "yaml": "train",
    "sklearn": "corpus", "PIL": "corpus",
    "s3fs": "s3", "gcsfs": "gcs", "adlfs": "azure", "huggingface_hub": "hf",
    "mlflow": "mlflow", "wandb": "wandb", "openlineage": "openlineage",
}  # fmt: skip


def distribution_with(module: str) -> str:
    """Return what to install for ``module``, such as ``bisieve[train]`` for ``torch.cuda``."""
    extra = EXTRAS.get(module.split(".")[0])
    return f"bisieve[{extra}]" if extra else "bisieve"
