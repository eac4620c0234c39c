"""What stores raise, turned into one line that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bisieve.disk_errors import disk_error, is_of_this_machine
from bisieve.errors import BisieveError, StorageError
from bisieve.patience import replaced_while_read

# Which extra of this package brings the driver of a URL scheme.
DRIVERS = {
    "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure",
    "hf": "hf",
}  # fmt: skip

# Of botocore, which need not be there: nobody has signed in, or only by halves.
_NOT_SIGNED_IN = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turns whatever a store raises about ``url`` into one `StorageError`."""
    try:
        yield
    except BisieveError:
        raise
    except Exception as error:  # stores raise what they like: botocore, aiohttp, OSError, ValueError
        raise _said(url, error) from error


def reason(error: Exception) -> str:
    """The first line of what an exception says, without a full stop, or its name."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300].rstrip(".")


def _said(url: str, error: Exception) -> StorageError:
    if isinstance(error, FileNotFoundError):
        name = str(error.filename or "")  # a link that leads nowhere is told by its own name
        missing = url if url.endswith(name) else name
        return StorageError(f"a file or folder at {missing}", "nothing", "check the URL")
    if isinstance(error, IsADirectoryError):
        return StorageError(f"a file at {url}", "a folder", "name a file inside it, or another one")
    if isinstance(error, NotADirectoryError | FileExistsError):
        return StorageError(f"a folder at {_file_in_the_way(error, url)}", "a file", "name a folder")
    if type(error).__name__ in _NOT_SIGNED_IN:
        mend = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        return StorageError(f"credentials for {url}", reason(error), mend)
    on_disk = "://" not in url or url.startswith("file://")
    if isinstance(error, OSError) and (on_disk or is_of_this_machine(error)):
        place = url if on_disk else _copy(url, error)
        said = f"{type(error).__name__}: {reason(error)}"
        return disk_error(place, error) or StorageError(f"a disk that serves {place}", said, "check the disk")
    if isinstance(error, PermissionError):
        mend = "check the credentials in the environment"
        return StorageError(f"permission to use {url}", reason(error), mend)
    if isinstance(error, ImportError):
        extra = DRIVERS.get(url.split("://")[0])
        mend = f"pip install 'bisieve[{extra}]'" if extra else "install the fsspec package for this store"
        return StorageError(f"a driver for {url}", reason(error), mend)
    if replaced_while_read(error):
        return StorageError(
            f"{url} to stay as it is while it is read", "another file there", "run again when it is complete"
        )
    return StorageError(
        f"an answer from the store of {url}",
        f"{type(error).__name__}: {reason(error)}",
        "check the URL, the network, the endpoint and the credentials",
    )


def _copy(url: str, error: OSError) -> str:
    """Where on this machine a disk refused what belongs to ``url``, a file in a store."""
    if url.startswith("hdfs://"):  # a file system, which has quotas and a mode to read only
        return str(error.filename or url)
    return str(error.filename or f"a copy of {url} on this machine")


def _file_in_the_way(error: OSError, url: str) -> str:
    """The file that lies where a folder should, of a path on a disk."""
    path = Path(str(error.filename or url.removeprefix("file://")))
    return str(next((part for part in (path, *path.parents) if part.is_file()), url))
