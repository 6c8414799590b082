"""Is the memory plan right? Small real models are trained, and their peaks held against the plan's arithmetic.

On a CPU the peak is what torch's allocator reports (bar: every case within 15 %). With ``--device cuda`` the same
models run in bfloat16 under autocast on four times the tokens, against ``torch.cuda.max_memory_allocated`` (bar: 10 %).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import replace

import _figures
from _memory_runs import Case, measured_peak

from trainer.memory import Job, step_memory
from trainer.model_shapes import KNOWN_SHAPES, ModelShape

_QUICK = 3


QWEN3 = ModelShape("qwen3-6M", "qwen3", 256, 6, 4, 2, 64, 768, 2048, tied=True)
LLAMA = ModelShape("llama-9M", "llama", 256, 10, 4, 2, 64, 768, 4096, tied=True)
QWEN2 = ModelShape("qwen2-11M", "qwen2", 320, 6, 5, 1, 64, 1024, 4096, tied=False)
WIDE = ModelShape("llama-wide-13M", "llama", 256, 2, 4, 4, 64, 8192, 1024, tied=True)
SMOL = replace(KNOWN_SHAPES["smollm2"], name="smollm2-135M")
JOB = Job("sft", 512, micro_batch=2, lora_rank=16, weight_bytes=4, autocast=False, device="cpu", checkpointing=True)


def cases() -> Iterator[Case]:
    """Every shape, recipe and switch of the plan at least once."""
    short = replace(JOB, tokens=256)
    for shape, job in (
        (QWEN3, short),
        (WIDE, replace(short, micro_batch=1)),
        (QWEN3, replace(short, recipe="grpo")),
        (QWEN2, replace(JOB, lora_rank=None)),
        (WIDE, replace(short, micro_batch=1, tokens=128, weight_bytes=2, autocast=True)),
        (WIDE, replace(short, micro_batch=1, lora_rank=None)),
        (WIDE, replace(short, recipe="dpo", micro_batch=1, tokens=128)),
        (QWEN3, replace(short, checkpointing=False)),
        (QWEN3, replace(short, lora_rank=None, checkpointing=False)),
        (LLAMA, replace(short, recipe="grpo", reference=False, checkpointing=False)),
        (LLAMA, replace(short, recipe="dpo", micro_batch=1, checkpointing=False)),
        (QWEN2, replace(short, padded=True, checkpointing=False)),
        (QWEN2, replace(short, tokens=128, micro_batch=4, lora_rank=64)),
        (LLAMA, replace(short, lora_rank=None, accumulation=1, checkpointing=False)),
        (LLAMA, replace(short, tokens=512, micro_batch=1, attention="eager", checkpointing=False)),
        (QWEN3, replace(short, weight_bytes=2, autocast=True, checkpointing=False)),
        (SMOL, replace(short, tokens=96, micro_batch=1)),
        (SMOL, replace(short, tokens=96, micro_batch=1, lora_rank=None)),
    ):
        yield Case(_name(shape, job), shape, job)


def _name(shape: ModelShape, job: Job) -> str:
    words = [shape.name, job.recipe, "full" if job.full else f"LoRA {job.lora_rank}"]
    words += [f"{job.micro_batch}x{job.tokens}" + (f" ({job.accumulation} passes)" if job.accumulation > 1 else "")]
    words += ["checkpointing"] * job.checkpointing + ["padded"] * job.padded + ["autocast"] * job.autocast
    words += [job.attention] * (job.attention != "sdpa") + ["no reference"] * (not job.reference)
    return ", ".join(words)


def on_cuda(case: Case) -> Case:
    """The same case as a GPU would have it."""
    job = replace(case.job, weight_bytes=2, autocast=True, device="cuda", tokens=4 * case.job.tokens)
    return Case(_name(case.shape, job), case.shape, job)


def measure(arguments: argparse.Namespace) -> Iterator[_figures.Figure]:
    chosen = itertools.islice(cases(), _QUICK if arguments.quick else None)
    bar = 10 if arguments.device == "cuda" else 15
    worst = worst_moving = 0.0
    for case in chosen if arguments.device == "cpu" else map(on_cuda, chosen):
        peak, plan = measured_peak(case, device=arguments.device), step_memory(case.shape, case.job)
        off = 100 * abs(plan.total / peak - 1)
        moving = 100 * abs((plan.total - plan.weights) / (peak - plan.weights) - 1)
        worst, worst_moving = max(worst, off), max(worst_moving, moving)
        yield _figures.value(f"measured, {case.name}", peak / 2**20, "MiB")
        yield _figures.value(f"planned, {case.name}", plan.total / 2**20, "MiB")
        yield _figures.at_most(f"difference, {case.name}", off, "%", bar)
    yield _figures.at_most("largest difference of a case", worst, "%", bar)
    yield _figures.value("largest difference of a case, weights left out", worst_moving, "%")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the models are trained")


if __name__ == "__main__":
    assert __doc__ is not None
    _figures.run(__doc__, measure, options=_options)
