"""Adapter folders as PEFT writes them, with made-up weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_adapter(path: Path, **changes: Any) -> Path:
    config = {
        "peft_type": "LORA",
        "r": 8,
        "target_modules": ["v_proj", "q_proj"],
        "base_model_name_or_path": "models/Small",
        "bias": "none",
    }
    path.mkdir(parents=True, exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps(config | changes))
    (path / "adapter_model.safetensors").write_bytes(b"weights")
    return path
