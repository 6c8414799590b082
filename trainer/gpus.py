"""The GPUs that plans are made for."""

from __future__ import annotations

from dataclasses import dataclass

from envs.errors import ConfigError

__all__ = ["GIB", "GPUS", "Gpu", "gpu_named"]

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as torch sees it. ``memory`` is in bytes: what CUDA reports as total, below the figure on the box."""

    name: str
    title: str
    memory: int
    bfloat16: bool

    @property
    def dtype(self) -> str:
        """The precision that ``model.dtype = "auto"`` takes on it."""
        return "bfloat16" if self.bfloat16 else "float16"


def _gpu(name: str, title: str, gib: float, *, bfloat16: bool = True) -> Gpu:
    return Gpu(name, title, int(gib * GIB), bfloat16)


GPUS = {
    gpu.name: gpu
    for gpu in (
        # Source: "GPU 0 has a total capacity of … GiB" in torch's own messages; of several, the smallest seen.
        _gpu("t4", "T4, 16 GB", 14.74, bfloat16=False),
        _gpu("l4", "L4, 24 GB", 22.03),
        _gpu("a100-40", "A100, 40 GB", 39.38),
        _gpu("a100-80", "A100, 80 GB", 79.14),
        _gpu("h100", "H100, 80 GB", 79.10),
        _gpu("h200", "H200, 141 GB", 139.80),
    )
}


def gpu_named(name: str) -> Gpu:
    """The GPU of this name. Raises ConfigError for any other."""
    try:
        return GPUS[name.lower()]
    except KeyError:
        raise ConfigError(f"no GPU is called {name!r} here", hint=f"known: {', '.join(GPUS)}") from None
