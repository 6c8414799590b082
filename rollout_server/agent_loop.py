"""One episode: observe, generate, parse, step, until it ends. The only place where a policy meets an environment."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType

from envs.client import EnvClient, EpisodeView
from envs.errors import InfrastructureError
from envs.types import EnvSpec, EpisodeStatus, JsonObject, Observation, Task
from rollout_server.chat import ChatFormat
from rollout_server.constraints import Constrain, Constraint
from rollout_server.engines.base import ChatContext, Engine, GenerationRequest, ScriptContext
from rollout_server.env_episode import EnvEpisode
from rollout_server.prefix import Prefix
from rollout_server.protocols.base import AgentProtocol, Opening, ParsedTurn, ProtocolSession
from rollout_server.repetition import RepetitionWatch
from rollout_server.rewards import reward_parts, shaping_options
from rollout_server.transcript import Transcript
from rollout_server.turn_sampling import Repin, TurnSampler, check_constrain
from rollout_server.types import (
    Episode,
    FinishReason,
    Message,
    PolicyVersion,
    RepetitionRule,
    RewardWeights,
    Role,
    SamplingParams,
    StepRecord,
    Turn,
    TurnConstraint,
)

__all__ = ["EpisodePlan", "play_episode", "turn_seed"]

type _Played = tuple[Turn, ParsedTurn, list[EpisodeView]]

_EMPTY: JsonObject = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodePlan:
    """Everything that decides an episode before it begins. ``member`` numbers a request's episodes of one task.

    ``prefix``: turns of an earlier episode that are played again first (same task, seed, options and protocol); the
    policy goes on from there. They count as turns. The other fields are those of ``RolloutRequest``.
    """

    env: EnvSpec
    task: Task
    protocol: AgentProtocol
    policy: PolicyVersion
    sampling: SamplingParams = field(default_factory=SamplingParams)
    group_id: str = ""
    member: int = 0
    seed: int = 0
    options: JsonObject = field(default_factory=lambda: _EMPTY)
    max_turns: int | None = None
    max_episode_tokens: int = 4096
    rewards: RewardWeights = field(default_factory=RewardWeights)
    metadata: JsonObject = field(default_factory=lambda: _EMPTY)
    prefix: Prefix | None = None
    max_turn_s: float | None = None
    max_episode_s: float | None = None
    max_invalid_turns: int | None = None
    repetition: RepetitionRule | None = None
    constrain: Constrain = Constrain.NONE


def turn_seed(seed: int, task_id: str, member: int, turn: int) -> int:
    """The sampling seed of one turn, in [0, 2^32): the same run samples the same, and no two turns share a stream."""
    digest = hashlib.sha256(f"{seed}\0{task_id}\0{member}\0{turn}".encode()).digest()
    return int.from_bytes(digest[:4])


async def play_episode(
    client: EnvClient,
    engine: Engine,
    plan: EpisodePlan,
    *,
    on_cancelled: Callable[[Episode], None] | None = None,
    repin: Repin | None = None,
) -> Episode:
    """Play one episode through the env server and close it there, whatever happens.

    Ends: COMPLETED by the environment; TRUNCATED_TURNS at ``max_turns`` (or the environment's own limit);
    TRUNCATED_TOKENS where another whole turn would not fit into ``max_episode_tokens``; TRUNCATED_TIME where a turn or
    the episode took too long; REPETITION and INVALID_ACTION by the protocol's rules or the plan's;
    INFRASTRUCTURE_ERROR, with the reason and no reward, where the env server or the engine failed. Where the engine has
    lost the plan's policy, ``repin`` gives the version to go on with; without it that is such a failure.

    Where cancelled, ``on_cancelled`` gets what was played so far, then the cancellation goes on. Other exceptions
    propagate: InvalidOption where the plan's constraint cannot be held to; Conflict where the plan's ``prefix`` is
    answered otherwise than it was recorded or gives other tokens, or where the episode ends before it does.

    The record's metadata has ``invalid_turns`` beside the plan's: indices of turns with an invalid or missing action;
    ``text_only`` where the engine tells no ids of its own; and, where the environment tells them, the ``backend`` that
    played it and, by name, how often each of its ``limits`` was met.
    """
    check_constrain(engine, plan.protocol, plan.env, plan.constrain)
    sampler = TurnSampler(
        engine, plan.policy, max_turn_s=plan.max_turn_s, max_episode_s=plan.max_episode_s, repin=repin
    )
    player = _Player(client, engine, plan, sampler)
    try:
        async with sampler:
            return await player.play()
    except asyncio.CancelledError:
        if on_cancelled is not None:
            on_cancelled(player.record(EpisodeStatus.CANCELLED))
        raise


class _Player:
    """The mutable state of one episode in play."""

    def __init__(self, client: EnvClient, engine: Engine, plan: EpisodePlan, sampler: TurnSampler) -> None:
        self._env = EnvEpisode(client)
        self._engine = engine
        self._sampler = sampler
        self._watch = RepetitionWatch(plan.repetition)
        self._plan = plan
        self._chat = ChatFormat(engine.tokenizer)
        self._options = {**plan.protocol.env_options(plan.env), **plan.options}
        self._options |= shaping_options(plan.rewards, plan.env.name)
        self._initial = Observation("")
        self._opening = Opening(())
        self._prompt_ids: tuple[int, ...] = ()
        self._turns: list[Turn] = []
        self._text_only = bool(getattr(engine, "text_only", False))
        self._said: list[Message] = []
        self._invalid: list[int] = []
        self._went_on = False
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._started = time.perf_counter()

    async def play(self) -> Episode:
        error = ""
        try:
            plan = self._plan
            view = await self._env.begin(plan.env.name, task_id=plan.task.id, seed=plan.seed, options=self._options)
            try:
                status, error = await self._play(view)
                if plan.prefix and not self._went_on:
                    raise plan.prefix.ended(status, error)
            finally:
                await self._env.close()
        except InfrastructureError as failure:
            status, error = EpisodeStatus.INFRASTRUCTURE_ERROR, str(failure)
        return self.record(status, error)

    async def _play(self, view: EpisodeView) -> tuple[EpisodeStatus, str]:
        plan = self._plan
        session = plan.protocol.session(plan.env, view)
        self._initial = view.observation
        self._opening = session.opening()
        self._said = list(self._opening.messages)
        self._prompt_ids = tuple(self._chat.prompt(self._opening.messages, self._opening.tools))
        prefix = plan.prefix
        if prefix:
            prefix.check_start(self._initial, self._prompt_ids)
        transcript = Transcript(self._prompt_ids)
        max_turns = plan.protocol.max_turns(plan.env) if plan.max_turns is None else plan.max_turns
        if not self._fits(len(transcript)):
            room = f"the first prompt has {len(transcript)} tokens, which leaves no room for a turn of "
            limits = f"{plan.sampling.max_tokens} in an episode of {plan.max_episode_tokens}"
            return EpisodeStatus.TRUNCATED_TOKENS, room + limits
        for index in range(max_turns):
            given = prefix if prefix and index < prefix.length else None
            played = await (
                self._again(index, given, transcript, session) if given else self._turn(index, transcript, session)
            )
            if played is None:
                return EpisodeStatus.TRUNCATED_TIME, f"turn {index} was not sampled in time"
            turn, parsed, views = played
            self._turns.append(turn)
            ends = self._ending(index, parsed, given=given is not None)
            if ends is not None:
                return await self._end(ends, session)
            if index + 1 == max_turns:
                break
            reply = session.reply(parsed, views)
            self._said += (Message(Role.ASSISTANT, turn.text), *reply)
            closed = turn.completion_ids[-1] == self._engine.tokenizer.end_of_turn_id
            ids = self._chat.continuation(reply, closed=closed)
            text = "\n".join(message.content for message in reply)
            if given:
                given.check_reply(index, text, ids)
            if not self._fits(len(transcript) + len(ids)):
                return await self._end(EpisodeStatus.TRUNCATED_TOKENS, session)
            transcript.add_environment(ids)
            self._turns[-1] = replace(turn, reply=text, environment_ids=tuple(ids))
        return await self._end(EpisodeStatus.TRUNCATED_TURNS, session)

    def _ending(self, index: int, parsed: ParsedTurn, *, given: bool) -> EpisodeStatus | None:
        """How a turn that was just played ends the episode: by the protocol, the environment, a rule; None: not."""
        plan = self._plan
        repeats = self._watch.saw(parsed, self._turns[index].text)
        if parsed.ends is not None:
            return parsed.ends
        if self._env.view.status.over:
            return self._env.view.status
        if given:
            return None
        if repeats:
            return EpisodeStatus.REPETITION
        most = plan.max_invalid_turns
        own = [i for i in self._invalid if not self._turns[i].given]
        if most is not None and index + 1 >= most and own[-most:] == [*range(index + 1 - most, index + 1)]:
            return EpisodeStatus.INVALID_ACTION
        return None

    async def _turn(self, index: int, transcript: Transcript, session: ProtocolSession) -> _Played | None:
        """Sample a turn and do what it says; None where its time was over before anything of it is known."""
        before = time.perf_counter()
        self._went_on = True
        request = self._request(index, transcript)
        async with self._env.kept():
            completion = await self._sampler.sample(request)
        if completion is None:
            return None
        transcript.add_completion(completion)
        generated = time.perf_counter()
        text = self._text(completion.token_ids)
        parsed = _parsed(session, text, completion.finish_reason)
        views, steps = await self._act(index, parsed)
        turn = Turn(
            index=index,
            completion_ids=completion.token_ids,
            logprobs=completion.logprobs,
            finish_reason=completion.finish_reason,
            policy=completion.policy,
            text=text,
            steps=tuple(steps),
            generate_s=generated - before,
            environment_s=time.perf_counter() - generated,
            constraint=_recorded(request.constraint),
        )
        return turn, parsed, views

    async def _again(self, index: int, prefix: Prefix, transcript: Transcript, session: ProtocolSession) -> _Played:
        """Play a given turn again: its words, with what the environment answers now."""
        turn = prefix.turn(index, self._text)
        transcript.add_environment(turn.completion_ids)
        parsed = _parsed(session, turn.text, turn.finish_reason)
        views, steps = await self._act(index, parsed)
        prefix.check_steps(index, steps)
        again = replace(turn, index=index, steps=tuple(steps), reply="", environment_ids=(), given=True)
        return again, parsed, views

    async def _act(self, index: int, parsed: ParsedTurn) -> tuple[list[EpisodeView], list[StepRecord]]:
        """Do what a turn says, and note where that was invalid or nothing."""
        views, steps, refused = await self._env.step_all(parsed.actions)
        missing = not parsed.actions or bool(parsed.errors) or parsed.ends is EpisodeStatus.INVALID_ACTION
        cut = parsed.ends is EpisodeStatus.TRUNCATED_TIME
        if not cut and (missing or refused or not all(step.valid for step in steps)):
            self._invalid.append(index)
        return views, steps

    def _request(self, index: int, transcript: Transcript) -> GenerationRequest:
        plan, view = self._plan, self._env.view
        base = plan.seed if plan.sampling.seed is None else plan.sampling.seed
        seed = turn_seed(base, plan.task.id, plan.member, index)
        script = ScriptContext(
            env=plan.env,
            initial=self._initial,
            steps=tuple(step for turn in self._turns for step in turn.steps),
            observation=view.observation,
            turn=index,
            seed=seed,
            expert=self._env.expert_action,
            render=lambda action, thought: plan.protocol.render_action(plan.env, action, thought),
            episode_seed=turn_seed(base, plan.task.id, plan.member, 0),
        )
        constraint = plan.protocol.constraint(plan.env, plan.constrain, view.observation)
        sampling = plan.sampling.with_seed(seed)
        chat = ChatContext(tuple(self._said), self._opening.tools) if self._text_only else None
        return GenerationRequest(transcript.ids, sampling, self._sampler.policy, script, constraint, chat=chat)

    def _text(self, ids: tuple[int, ...]) -> str:
        tokenizer = self._engine.tokenizer
        return tokenizer.decode(ids[:-1] if ids[-1] == tokenizer.end_of_turn_id else ids)

    async def _end(self, status: EpisodeStatus, session: ProtocolSession) -> tuple[EpisodeStatus, str]:
        """End by a limit or a rule, after what the protocol itself still does; its steps join the last turn's."""
        if not self._env.view.status.over and self._turns:
            _, steps, _ = await self._env.step_all(session.closing())
            self._turns[-1] = replace(self._turns[-1], steps=(*self._turns[-1].steps, *steps))
        return status, ""

    def _fits(self, tokens: int) -> bool:
        return tokens + self._plan.sampling.max_tokens <= self._plan.max_episode_tokens

    def _parts(self, reward: float) -> dict[str, float]:
        steps = [step for turn in self._turns if not turn.given for step in turn.steps]
        invalid = sum(not self._turns[index].given for index in self._invalid)
        return reward_parts(reward, invalid, self._plan.rewards, env=self._plan.env.name, steps=steps)

    def record(self, status: EpisodeStatus, error: str = "") -> Episode:
        """What was played so far, as ended with ``status``."""
        plan = self._plan
        reward = self._env.reward if status.scored else None
        return Episode(
            id=uuid.uuid4().hex,
            group_id=plan.group_id,
            env=plan.env.name,
            task=plan.task,
            seed=plan.seed,
            options=self._options,
            protocol=plan.protocol.name,
            engine=self._engine.name,
            model=self._engine.model,
            policy=plan.policy.name,
            sampling=plan.sampling,
            status=status,
            reward=reward,
            reward_parts={} if reward is None else self._parts(reward),
            initial=self._initial,
            prompt=self._opening.messages,
            prompt_ids=self._prompt_ids,
            turns=tuple(self._turns),
            error=error,
            started_at=self._started_at,
            duration_s=time.perf_counter() - self._started,
            metadata={
                **plan.metadata,
                "invalid_turns": list(self._invalid),
                **self._env.told,
                **({"text_only": True} if self._text_only else {}),
            },
        )


def _recorded(constraint: Constraint | None) -> TurnConstraint | None:
    return TurnConstraint(constraint.kind, constraint.digest, constraint.choices) if constraint else None


def _parsed(session: ProtocolSession, text: str, finish: FinishReason) -> ParsedTurn:
    """What a turn asks for. What time has cut is recorded and not acted on."""
    return ParsedTurn(ends=EpisodeStatus.TRUNCATED_TIME) if finish is FinishReason.TIME else session.parse(text)
