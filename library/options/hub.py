"""Options of uploads to, and states from, the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.declare import opt


@dataclass(frozen=True)
class HubOptions:
    """Hugging Face Hub"""

    huggingface_repo_id: str | None = opt(None, "Upload each save to this repository, as your-name/your-model.")
    huggingface_repo_type: str | None = opt(None, "Kind of that repository: model (when left out), dataset or space.")
    huggingface_path_in_repo: str | None = opt(None, "Folder inside the repository.")
    huggingface_token: str | None = opt(None, "Your access token. Never shown, logged or stored; `hf auth login` is safer.", secret=True)
    huggingface_repo_visibility: str | None = opt(
        None,
        "Whether a new repository is public (visible to all); anything else than public, or nothing, makes it private.",
    )
    save_state_to_huggingface: bool = opt(False, "With --save_state: upload states too.")
    resume_from_huggingface: bool = opt(
        False,
        "With --resume: fetch the state from the Hub, named {repo_id}/{path_in_repo}:{revision}:{repo_type}.",
    )
    async_upload: bool = opt(False, "Upload while training goes on.")
