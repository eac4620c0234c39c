"""Publish a trained model on the Hugging Face hub, with its page.

folder of train ──files of the model──▶ one commit of a repository of the hub
"""

from pathlib import Path

from bisieve import console
from bisieve._text import one_line, pluralize, rounded
from bisieve.errors import TrainingError
from bisieve.io.urls import canonical
from ray_train.model.files import SMALL, WEIGHTS, check_weights, hub_answers, hub_library, local_copy
from ray_train.model.metadata import trained_card
from ray_train.model.model_card import README, named_after
from ray_train.registry.files import BEST_OF, LEASE, METRICS, RUN

# Files of a run that are beside its model, and say nothing about it.
_OF_THE_RUN = (RUN, LEASE, METRICS, BEST_OF)
_TEXTS = (README, "vllm.yaml")


def push(
    model: str,
    repo: str,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload a process reward model trained by bisieve",
) -> str:
    """Upload a model that bisieve trained to a repository of the hub, which is made if it is missing.

    All files go into one commit, so no one sees a part of the model. Subfolders, such as checkpoints, stay.

    Args:
        model: Folder or URL that ``bisieve train`` wrote.
        repo: ``NAME`` or ``OWNER/NAME`` on the hub.
        private: Whether a new repository is private.
        revision: Branch, which must exist; None: main.
        message: Of the commit.

    Returns:
        The URL of the commit.

    Raises:
        TrainingError: There is no such model, its weights are damaged, or the hub refuses it or does not
            answer.
        StorageError: The store of ``model`` fails.
    """
    url = canonical(model)
    trained_card(model)
    check_weights(url, "--model")  # what others would fetch in vain is not uploaded
    hub = hub_library()
    endpoint = hub.constants.ENDPOINT
    if not hub_answers():
        raise TrainingError(
            f"the hub at {endpoint}",
            "no answer, or HF_HUB_OFFLINE is set",
            "check the network, and unset HF_HUB_OFFLINE",
        )
    folder = Path(local_copy(url))
    names = _names(folder)
    gigabytes = sum((folder / name).stat().st_size for name in names) / 1e9
    files = f"{pluralize(len(names), 'file')}, {rounded(gigabytes)} GB"
    console.phase(f"uploading {files} to {repo} at {endpoint}", on_stderr=True)
    try:
        api = hub.HfApi(endpoint=endpoint)
        made = api.create_repo(repo, private=private, exist_ok=True)
        additions = [hub.CommitOperationAdd(name, _content(folder / name, made.repo_id)) for name in names]
        commit = api.create_commit(made.repo_id, additions, commit_message=message, revision=revision)
    except Exception as error:  # the hub's library raises any type
        found = one_line(str(error).partition("For more information")[0])
        raise TrainingError(f"to write to {repo} on the hub", found, _hint(error)) from error
    return str(commit.commit_url)


def _names(folder: Path) -> list[str]:
    """Return the names of the model's files in ``folder``, sorted."""
    return sorted(
        file.name
        for file in folder.iterdir()
        if file.is_file()
        and (file.name.endswith((WEIGHTS, *SMALL)) or file.name in _TEXTS)
        and file.name not in _OF_THE_RUN
        and not file.name.startswith(".")
    )


def _content(file: Path, repo: str) -> bytes | str:
    """Return the path of ``file``, or the content of the page, whose examples load the model of ``repo``."""
    return named_after(file.read_text("utf-8"), repo).encode() if file.name == README else str(file)


def _hint(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or "token" in str(error).lower():
        return "log in with hf auth login, or set HF_TOKEN to a token that may write there"
    return "check --repo and --revision, or try again"
