"""TRL's own ``environment_factory`` against our rollouts, both through a tunnel with 150 ms of round-trip time.

    python benchmarks/environment_factory.py [--json] [--quick]

A tiny model is taught to say one thing, a tool call with a random number (AgentBench's protocol ends an episode that
repeats itself), so that on both sides every episode has as many turns and every turn as many sampled tokens, from
the same weights, in the same process. The tasks are the same too, and so is the env server; TRL's GRPOTrainer asks for
a batch of episodes and scores it:

factory   ``environment_factory``: ``trainer.environment_tools.AlfworldTools``, TRL's own loop and ``generate``
rollouts  ``rollout_func``: ``RolloutBridge``, the agent loop, the ``transformers`` engine, the client's streams

``seconds`` is the time from TRL's call to the scored batch, without the update of the weights, which is the same.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _figures import Figure, at_least, run, value
from env_tunnel import ROUND_TRIP_S, Tunnel

from envs.client import EnvClient
from envs.server_process import server_process
from envs.sync_client import SyncEnvClient
from envs.types import Action
from rollout_server.engines.transformers import TransformersEngine
from rollout_server.local import LocalRollouts
from rollout_server.protocols.hermes import render_tool_call
from rollout_server.protocols.prompts import prompt_text
from rollout_server.types import RolloutRequest, SamplingParams
from trainer.environment_tools import AlfworldTools
from trainer.loops import LoopThread
from trainer.rollouts import RolloutBatch, RolloutBridge, prompt_of, training_reward
from trainer.sampler import TaskSampler
from trainer.settings import TaskSource
from trainer.tiny_model import save_tiny_model
from trainer.trl_seams import OutsideEngineTrainer, experimental_silenced

SPLIT = "generated_very_easy"
NUMBERS = range(10, 100)
SURE = 0.9  # top-p: what the model is sure of is certain, and the number stays open
CONTEXT = 8_192
LESSONS = 300
FASTER = 5


@dataclass(frozen=True, slots=True)
class Play:
    """One batch: its seconds, how many episodes, turns and sampled tokens."""

    seconds: float
    episodes: int
    turns: int
    tokens: int


class TimedTrainer(OutsideEngineTrainer):
    """Notes how long TRL takes from asking for a batch to having it scored, and the batch's masks."""

    seconds = 0.0
    mask: Any = None

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        began = time.perf_counter()
        batch = super()._generate_and_score_completions(inputs)
        self.seconds += time.perf_counter() - began
        self.mask = batch["tool_mask"] * batch["completion_mask"]
        return batch


def turn(number: int) -> str:
    """What the model says."""
    return f"{render_tool_call(Action('take_action', {'action': f'look {number}'}))}<|im_end|>"


def teach(folder: Path) -> None:
    """Make the tiny model say a ``turn`` whatever came before; give it Qwen2.5's template, which TRL can read."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.chat_template_utils import qwen2_5_chat_template

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = qwen2_5_chat_template
    # Tokens that each occur once in a turn: what follows one hangs on nothing before it.
    numbers = [f" {number}" for number in NUMBERS]
    tokenizer.add_tokens([*re.findall(r"<tool_call>\n| ?[^ ]+(?= )| ?[^ ]+$", turn(0).partition(" 0")[0]), *numbers])
    tokenizer.add_tokens(['"}}', "\n</tool_call>"])
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    lead = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    for layer in model.model.layers:  # computed, and without effect: what is said hangs on the last token alone
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight).requires_grad_(False)
    draw = random.Random(0)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(LESSONS):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / LESSONS)
        turns = [turn(draw.choice(NUMBERS)) for _ in range(8)]
        said = torch.tensor([tokenizer.encode(text, add_special_tokens=False) for text in turns])
        ids = torch.cat([torch.tensor(lead).expand(8, -1), said], dim=1)
        labels = ids.clone()
        labels[:, : -said.shape[1]] = -100
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)


@contextmanager
def tunnel(port: int) -> Iterator[str]:
    """The proxy on a loop of its own: the benchmark's own thread is busy sampling."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    proxy = Tunnel(port)
    try:
        yield asyncio.run_coroutine_threadsafe(proxy.start(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(proxy.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def arguments_of(folder: Path, episodes: int, turns: int) -> Any:
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(folder / "run"),
        max_steps=1,
        learning_rate=0.0,
        per_device_train_batch_size=episodes,
        num_generations=episodes // 2,
        max_completion_length=CONTEXT,
        max_tool_calling_iterations=turns - 1,
        generation_kwargs={"max_new_tokens": 64},
        temperature=1.0,
        top_p=SURE,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        shuffle_dataset=False,
        dataloader_pin_memory=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
    )


def play(model: Path, folder: Path, rows: list[dict[str, Any]], episodes: int, turns: int, **side: Any) -> Play:
    """A step of TRL's trainer on one side. Raises RuntimeError where a turn was not the one that was taught."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    with experimental_silenced():
        trainer = TimedTrainer(
            model=AutoModelForCausalLM.from_pretrained(model),
            args=arguments_of(folder, episodes, turns),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            **side,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    tokens = int(trainer.mask.sum())
    each = len(tokenizer.encode(turn(10), add_special_tokens=False))
    if tokens != episodes * turns * each:
        raise RuntimeError(f"{tokens} tokens were sampled, expected {episodes} * {turns} * {each}")
    return Play(trainer.seconds, episodes, episodes * turns, tokens)


def by_factory(model: Path, folder: Path, url: str, episodes: int, turns: int) -> Play:
    prompt = [{"role": "system", "content": prompt_text("alfworld_fc")}, {"role": "user", "content": ""}]
    rows = [{"prompt": prompt, "split": SPLIT, "sample_seed": seed} for seed in range(2)]
    with SyncEnvClient(url) as client:
        factory = lambda: AlfworldTools(client)  # noqa: E731 - as a notebook would write it
        return play(model, folder, rows, episodes, turns, environment_factory=factory)


def by_rollouts(model: Path, folder: Path, url: str, episodes: int, turns: int) -> Play:
    seen: list[RolloutBatch] = []
    with ExitStack() as stack:
        loop = stack.enter_context(LoopThread())
        client = loop.run(EnvClient(url, streams=8).__aenter__())
        stack.callback(lambda: loop.run(client.__aexit__(None, None, None)))
        engine = TransformersEngine(str(model), max_batch=episodes, max_model_len=CONTEXT, device="cpu")
        loop.run(engine.start())
        service = LocalRollouts(client, engine, max_concurrency=episodes)
        stack.callback(lambda: loop.run(service.close()))
        request = RolloutRequest(
            tasks=(),
            group_size=episodes // 2,
            sampling=SamplingParams(temperature=1.0, top_p=SURE, max_tokens=64),
            max_turns=turns,
            max_episode_tokens=CONTEXT,
        )
        tasks = SeedsInOrder([TaskSource(env="alfworld", split=SPLIT)], seed=0)
        dummy = engine.tokenizer.end_of_turn_id
        bridge = RolloutBridge(service, loop, sampler=tasks, template=request, dummy_id=dummy, on_batch=seen.append)
        rows = [{"prompt": prompt_of(row)} for row in range(2)]
        played = play(model, folder, rows, episodes, turns, rollout_func=bridge, reward_funcs=training_reward)
    if {len(e.turns) for e in seen[0].episodes} != {turns}:
        raise RuntimeError("an episode ended early")
    return played


class SeedsInOrder(TaskSampler):
    """The tasks that the other side has, too."""

    def task(self, row: int) -> Any:
        from rollout_server.types import TaskRef

        return TaskRef("alfworld", split=SPLIT, sample_seed=row)


def measure(arguments: argparse.Namespace) -> Iterator[Figure]:
    import torch

    torch.set_num_threads(1)
    episodes, turns = (8, 3) if arguments.quick else (32, 10)
    with tempfile.TemporaryDirectory(prefix="envloop-factory-") as name, ExitStack() as stack:
        folder = Path(name)
        model = save_tiny_model(folder / "model")
        teach(model)
        server = stack.enter_context(server_process(["--env", "alfworld"]))
        url = stack.enter_context(tunnel(int(server.url.rpartition(":")[2])))
        sides = {
            side.__name__.removeprefix("by_"): side(model, folder, url, episodes, turns)
            for side in (by_rollouts, by_factory)
        }
    yield value("factory.round_trip", ROUND_TRIP_S, "s")
    yield value("factory.episodes", episodes, "episodes")
    yield value("factory.turns", episodes * turns, "turns")
    yield value("factory.sampled_tokens", sides["factory"].tokens, "tokens")
    for side, played in sides.items():
        yield value(f"factory.{side}.seconds", played.seconds, "s")
        yield value(f"factory.{side}.episodes_per_s", played.episodes / played.seconds, "1/s")
    yield at_least("factory.faster", sides["factory"].seconds / sides["rollouts"].seconds, "ratio", FASTER)


if __name__ == "__main__":
    run(__doc__ or "", measure)
