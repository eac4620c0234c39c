"""Find the extra of bisieve that installs a missing package."""

_OF_TRAINING = {  # import → the extra that a command of ``ray_train`` needs where it is missing
    **dict.fromkeys(("pandas", "sklearn", "PIL", "huggingface_hub"), "train"),
    **dict.fromkeys(("starlette", "uvicorn"), "serve"),
}

EXTRAS = {  # import → the extra that installs it; for all imports that are not requirements of bisieve itself
    "pyspark": "score", "py4j": "score", "pandas": "score",
    "torch": "train", "ray": "train", "transformers": "train", "deepspeed": "train", "accelerate": "train",
    "peft": "train", "tensorboardX": "train", "safetensors": "train", "tokenizers": "train",
    "aiohttp": "train",
    "fastapi": "serve", "grpc_reflection": "serve", "prometheus_client": "serve",
    "sklearn": "corpus", "scipy": "corpus", "PIL": "corpus",
    "s3fs": "s3", "botocore": "s3", "gcsfs": "gcs", "adlfs": "azure", "huggingface_hub": "hf",
    "duckdb": "explore", "starlette": "explore", "uvicorn": "explore",
    "mlflow": "mlflow", "wandb": "wandb", "openlineage": "openlineage",
}  # fmt: skip


def distribution_with(module: str, training: bool = False) -> str:
    """Return the distribution to install for ``module``, such as ``bisieve[train]`` for ``torch.cuda``.

    Args:
        module: The dotted name of the import that failed.
        training: Whether a command of ``ray_train`` needs it: then the extra of that command is named if it
            has the package, because such a command needs the whole extra.
    """
    name = module.split(".")[0]
    extra = _OF_TRAINING.get(name) if training and name in _OF_TRAINING else EXTRAS.get(name)
    return f"bisieve[{extra}]" if extra else "bisieve"
