"""Credentials come from the environment alone: URLs end up in manifests and logs, options in `ps`."""

from bisieve.errors import UsageError
from bisieve.masking import CREDENTIALS, SECRET_SETTING, SIGNED, without_secrets


def check_no_secret(url: str) -> None:
    """`UsageError` where ``url``, or a URL in it, carries a password or a signature."""
    signed = SIGNED.search(url)
    if signed or CREDENTIALS.search(url):
        shown = f"{url.partition('?')[0]}?***" if signed else url  # there may be a blank in it
        raise UsageError(
            "URLs without credentials", without_secrets(shown),
            "leave them to the environment (for S3: AWS_PROFILE, AWS_ACCESS_KEY_ID, a role of the machine)",
        )  # fmt: skip


def check_no_secret_property(name: str) -> None:
    """Raise `UsageError` where Spark's property ``name`` is a secret: options are seen in `ps`."""
    if SECRET_SETTING.fullmatch(name):
        raise UsageError(
            "no secret among options, which other users of the machine see", f"--spark-conf {name}=***",
            "for spark.authenticate.secret set _SPARK_AUTH_SECRET in the environment; "
            "others go into spark-defaults.conf in SPARK_CONF_DIR",
        )  # fmt: skip
