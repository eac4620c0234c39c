"""Publish a trained model on the Hugging Face hub, with its page.

folder of train ──files of the model──▶ one commit of a repository of the hub
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

from bisieve import console
from bisieve._redact import without_secrets
from bisieve._text import one_line, pluralize, rounded
from bisieve.errors import TrainingError, UsageError
from bisieve.io.errors import disk_error
from bisieve.io.storage import read_bytes
from bisieve.io.urls import canonical
from ray_train.model.files import TOKENIZERS, check_weights, hub_answers, hub_library, local_copy
from ray_train.model.metadata import CARD, MODEL, trained_card
from ray_train.model.model_card import README, named_after

# Patterns of the names of a model's files that not every model has: in a repository, those of an earlier
# model would be loaded with this one.
_OWN = ("model*.safetensors", "model.safetensors.index.json", "kappa.safetensors", "vllm.yaml")
# And of all its files: what else is in its folder, such as results, notes and keys, is not for others.
_FILES = (
    README, "LICENSE*", CARD, MODEL, "generation_config.json", *_OWN, "chat_template.jinja",
    "*processor_config.json", *TOKENIZERS, "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "merges.txt", "vocab.txt", "*.model", "*.tiktoken",
)  # fmt: skip
_PATIENCE = 100.0  # seconds without a byte from the hub; its library would wait for ever


def push(
    model: str,
    repo: str,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload a process reward model trained by bisieve",
) -> str:
    """Upload a model that bisieve trained to a repository of the hub, which is made if it is missing.

    All files go into one commit, so no one sees a part of the model; it removes the weights of an earlier
    model that this one does not replace. Subfolders, such as checkpoints, stay.

    Args:
        model: Folder or URL that ``bisieve train`` wrote.
        repo: ``NAME`` or ``OWNER/NAME`` on the hub.
        private: Whether a new repository is private.
        revision: Branch, which must exist; None: main.
        message: Of the commit.

    Returns:
        The URL of the commit.

    Raises:
        UsageError: ``repo`` is not a name that the hub takes.
        TrainingError: There is no such model, it is damaged or incomplete, or the hub refuses it or does not
            answer.
        StorageError: The store of ``model`` fails, or a file of it cannot be read.
    """
    _check_name(repo)
    url = canonical(model)
    trained_card(model)
    check_weights(url, "--model")  # what others would fetch in vain is not uploaded
    hub = hub_library()
    endpoint = without_secrets(hub.constants.ENDPOINT)
    if not hub_answers():
        raise TrainingError(
            f"the hub at {endpoint}",
            "no answer, or HF_HUB_OFFLINE is set",
            "check the network, and unset HF_HUB_OFFLINE",
        )
    folder = Path(local_copy(url))
    names = _names(folder, model)
    page = _page(folder / README)
    gigabytes = sum((folder / name).stat().st_size for name in names) / 1e9
    files = f"{pluralize(len(names), 'file')}, {rounded(gigabytes)} GB"
    console.phase(f"uploading {files} to {repo} at {endpoint}", on_stderr=True)
    try:
        hub.get_session().timeout = _PATIENCE
        api = hub.HfApi()
        made = api.create_repo(repo, private=private, exist_ok=True)
        contents: dict[str, Any] = {name: str(folder / name) for name in names}
        if page is not None:
            contents[README] = named_after(page, made.repo_id).encode()
        there = api.list_repo_files(made.repo_id, revision=revision)
        changes = [hub.CommitOperationAdd(name, content) for name, content in contents.items()]
        changes += [
            hub.CommitOperationDelete(name) for name in _matching(there, _OWN) if name not in contents
        ]
        commit = api.create_commit(made.repo_id, changes, commit_message=message, revision=revision)
    except Exception as error:  # the hub's library raises any type
        if isinstance(error, OSError) and (of_disk := disk_error(str(folder), error)):
            raise of_disk from error
        found = one_line(str(error).partition("For more information")[0]).rstrip(".")
        raise TrainingError(f"to write to {repo} on the hub", found, _hint(error)) from error
    return str(commit.commit_url)


def _check_name(repo: str) -> None:
    try:
        import_module("huggingface_hub.utils").validate_repo_id(repo)
    except ValueError as error:
        raise UsageError(
            "--repo as NAME or OWNER/NAME of the hub",
            repr(repo),
            "use letters, digits and single -, _ and . alone, as in some-lab/mprm",
        ) from error


def _names(folder: Path, model: str) -> list[str]:
    """Return the names of the model's files in ``folder``, sorted; raise if it has no tokenizer."""
    found = (file.name for file in folder.iterdir() if file.is_file())
    names = sorted(_matching(found, _FILES))
    if not set(TOKENIZERS).intersection(names):
        raise TrainingError(
            f"a tokenizer, such as {TOKENIZERS[0]}, at {model}", "none", "copy the folder again"
        )
    return names


def _matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns) and "/" not in name]


def _page(file: Path) -> str | None:
    """Return the content of the page, or None if there is none."""
    if not file.is_file():
        console.show_on_stderr(f"note: no {README}, so the model has no page on the hub")
        return None
    try:
        return read_bytes(str(file)).decode()
    except UnicodeDecodeError as error:
        raise TrainingError(f"UTF-8 in {file}", str(error), "save it as UTF-8") from error


def _hint(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    # What cannot be encoded is the token, in the header of a request.
    names_token = re.search(r"\btoken\b", str(error), re.IGNORECASE)
    if status in (401, 403) or names_token or isinstance(error, UnicodeEncodeError):
        return "log in with hf auth login, or set HF_TOKEN to a token that may write there"
    return "check --repo and --revision, or try again"
