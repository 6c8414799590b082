"""What a run makes of its adapter in the end."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.settings.base import Section

__all__ = ["OutputSettings"]


class OutputSettings(Section):
    """What a run makes of its adapter in the end. The adapter itself, with a model card, is always in ``adapter/``."""

    merge: bool = False
    """Also merge it into the base model: ``merged/``, a model in Hugging Face format."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Precision of the merged weights; ``auto`` is the base model's own. Small updates are lost in 16 bits."""
    push: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """Send the merged model, or without ``merge`` the adapter, to this repository (``owner/name``) of the Hugging Face
    hub. Nothing is sent unless this is set. The token is huggingface_hub's own (``HF_TOKEN`` or its login)."""
    public: bool = False
    """Whether a repository that the push makes is public."""
