"""Which extra of bisieve brings a package that is missing."""

_FOR_TRAINING = {"pandas", "sklearn", "PIL", "huggingface_hub"}  # that the extra train brings as well

EXTRAS = {  # the one that brings an import, for all imports that bisieve itself does not need
    "pyspark": "score", "py4j": "score", "pandas": "score",
    "torch": "train", "ray": "train", "transformers": "train", "deepspeed": "train", "accelerate": "train",
    "peft": "train", "tensorboardX": "train", "safetensors": "train", "tokenizers": "train", "yaml": "train",
    "aiohttp": "train",
    "sklearn": "corpus", "scipy": "corpus", "PIL": "corpus",
    "s3fs": "s3", "botocore": "s3", "gcsfs": "gcs", "adlfs": "azure", "huggingface_hub": "hf",
    "mlflow": "mlflow", "wandb": "wandb", "openlineage": "openlineage",
}  # fmt: skip


def distribution_with(module: str, training: bool = False) -> str:
    """Return what to install for ``module``, such as ``bisieve[train]`` for ``torch.cuda``.

    Args:
        module: the import that failed, with its dots.
        training: whether a command of ``ray_train`` wants it, which needs all of that extra.
    """
    name = module.split(".")[0]
    extra = "train" if training and name in _FOR_TRAINING else EXTRAS.get(name)
    return f"bisieve[{extra}]" if extra else "bisieve"
