"""Token exactness as a property, over random conversations, tokenizers and the templates of both supported models.

What is trained on is what was sampled; text from outside never becomes markup; a prompt only ever grows; and the record
is the whole conversation as the model's template renders it, or is refused as such, for the reason that it is not.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from chat_samples import qwen_like
from episode_samples import sample_episode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qwen_tokenizers import FRAGMENTS, added_ids, outside, real_folder, trained

from envs.errors import InvalidOption
from envs.registry import ALFWORLD, DBBENCH
from rollout_server.chat import ChatFormat, tool_json
from rollout_server.tokenizer import HFTokenizer
from rollout_server.transcript import Transcript
from rollout_server.types import Completion, Episode, FinishReason, Message, Role, Turn
from rollout_server.whole_text import whole_text
from trainer.batch import episode_row

_SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = ("trained", "smollm2", *(["real"] if real_folder() else []))


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, smollm2_dir: Path) -> HFTokenizer:
    if request.param == "real":
        return HFTokenizer(real_folder())
    return trained() if request.param == "trained" else qwen_like(smollm2_dir)


@pytest.fixture(scope="module", params=("qwen2_5", "qwen3_instruct_2507"))
def template(request: pytest.FixtureRequest) -> str:
    return (resources.files("trl") / "chat_templates" / f"{request.param}.jinja").read_text(encoding="utf-8")


@st.composite
def said(draw: st.DrawFn, tokenizer: HFTokenizer) -> tuple[int, ...]:
    """What a policy may sample: its words as the tokenizer cuts them, cut otherwise, cut short; any ids at all."""
    chat = ChatFormat(tokenizer)
    kind = draw(st.sampled_from(["words", "cut", "pieces", "ids", "end"]))
    end = tokenizer.end_of_turn_id
    if kind == "end":
        return (end,)
    if kind == "ids":
        ids = draw(st.lists(st.integers(0, len(tokenizer.hf) - 1), min_size=1, max_size=12))
        return (*(i for i in ids if i != end), *draw(st.sampled_from([(), (end,)]))) or (end,)
    pieces = draw(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), min_size=1, max_size=5))
    pieces = [p.replace("<|im_end|>", "") for p in pieces]
    if kind == "pieces":  # each piece by itself: not as the whole would be cut
        ids = [i for p in pieces for i in tokenizer.encode(p, markup=draw(st.booleans()))]
        return (*(i for i in ids if i != end), end)
    whole = tuple(chat.turn("".join(pieces)))
    return whole[: draw(st.integers(1, len(whole)))] if kind == "cut" else whole


@st.composite
def replies(draw: st.DrawFn) -> tuple[Message, ...]:
    role = draw(st.sampled_from([Role.USER, Role.TOOL]))
    count = 1 if role is Role.USER else draw(st.integers(1, 3))
    return tuple(Message(role, draw(outside)) for _ in range(count))


def frame(messages: tuple[Message, ...], *, closed: bool) -> list[str]:
    """The tokens that the format itself writes for a reply, in order."""
    out = [] if closed else ["<|im_end|>"]
    tools = [m for m in messages if m.role is Role.TOOL]
    out.append("<|im_start|>")
    out += ["<tool_response>", "</tool_response>"] * len(tools)
    return [*out, "<|im_end|>", "<|im_start|>"]


def rows_of(messages: list[Message]) -> list[dict[str, Any]]:
    # A lone surrogate has no UTF-8: it is a question mark for every tokenizer here.
    return [{"role": m.role.value, "content": m.content.encode(errors="replace").decode()} for m in messages]


@_SETTINGS
@given(data=st.data())
def test_a_record_is_what_was_sampled_in_the_frame_of_the_template(
    tokenizer: HFTokenizer, template: str, data: st.DataObject
) -> None:
    chat, added = ChatFormat(tokenizer), added_ids(tokenizer)
    names = {i: str(token) for i, token in tokenizer.hf.added_tokens_decoder.items()}
    tools = data.draw(st.sampled_from([(), ALFWORLD.tools, DBBENCH.tools]))
    opening = [Message(Role.SYSTEM, data.draw(outside)), Message(Role.USER, data.draw(outside))]
    prompt = tuple(chat.prompt(opening, tools))
    marks = ["<tool_call>", "</tool_call>"]  # of the instruction that offers tools, twice
    expected = ["<|im_start|>", *(marks * 2 if tools else []), "<|im_end|>", "<|im_start|>", "<|im_end|>"]
    assert [names[i] for i in prompt if i in added] == [*expected, "<|im_start|>"]

    transcript, turns, messages = Transcript(prompt), list[Turn](), list(opening)
    count = data.draw(st.integers(1, 3))
    for index in range(count):
        ids = data.draw(said(tokenizer))
        logprobs = tuple(-0.25 * (n + 1) for n in range(len(ids)))
        closed = ids[-1] == tokenizer.end_of_turn_id
        reason = FinishReason.STOP if closed else FinishReason.LENGTH
        before = transcript.ids
        transcript.add_completion(Completion(ids, logprobs, reason, f"v{index}"))
        text = tokenizer.decode(ids[:-1] if closed else ids)
        messages.append(Message(Role.ASSISTANT, text))
        reply: tuple[Message, ...] = ()
        environment: tuple[int, ...] = ()
        if index + 1 < count:
            reply = data.draw(replies())
            environment = tuple(chat.continuation(reply, closed=closed))
            transcript.add_environment(environment)
            messages += reply
            # The reply's text makes no token of the format's, whatever it holds.
            assert [names[i] for i in environment if i in added] == frame(reply, closed=closed)
        # A prompt is its predecessor and what followed: the engine's prefix cache holds.
        assert transcript.ids == before + ids + environment
        turns.append(Turn(index, ids, logprobs, reason, f"v{index}", text, (), "", environment))

    episode = replace(sample_episode(), policy="v0", prompt=tuple(opening), prompt_ids=prompt, turns=tuple(turns))
    columns = (transcript.completion_ids, transcript.mask, transcript.logprobs, transcript.policy_versions)
    assert columns == (episode.completion_ids, episode.mask, episode.logprobs, episode.policy_versions)
    row = episode_row(episode, dummy_id=0, max_tokens=1_000_000)
    trained_on = [(i, p) for i, p, m in zip(row.completion_ids, row.logprobs, row.mask, strict=True) if m]
    assert trained_on == [pair for t in turns for pair in zip(t.completion_ids, t.logprobs, strict=True)]
    _compare(episode, tokenizer, template, rows_of(messages), tools)


def _compare(episode: Episode, tokenizer: HFTokenizer, template: str, rows: list[Any], tools: Any) -> None:
    """The whole render by the model's own template gives the same ids, or the record is refused as a text."""
    schemas = [tool_json(tool) for tool in tools] or None
    rendered = tokenizer.hf.apply_chat_template(
        rows, tools=schemas, chat_template=template, tokenize=False, add_generation_prompt=False
    )
    closed = episode.turns[-1].completion_ids[-1] == tokenizer.end_of_turn_id
    theirs = rendered.removesuffix("\n") if closed else rendered.removesuffix("<|im_end|>\n")
    ids = [*episode.prompt_ids, *episode.completion_ids]
    same = tokenizer.encode(theirs, markup=True) == ids
    if same and tokenizer.decode(ids) == theirs:  # SmolLM2 has no token for some bytes: they are lost in either way
        assert whole_text(episode, tokenizer) == theirs
    elif not same:
        with pytest.raises(InvalidOption, match="is cut into other tokens at"):
            whole_text(episode, tokenizer)


@_SETTINGS
@given(text=outside)
def test_text_from_outside_has_no_markup_in_any_form(tokenizer: HFTokenizer, text: str) -> None:
    ids = tokenizer.encode(text, markup=False)
    assert not added_ids(tokenizer).intersection(ids)
    if text.isascii():  # else a normaliser may have composed characters
        there = "".join(c for c in text if tokenizer.encode(c, markup=False))  # SmolLM2 has no token for some bytes
        assert tokenizer.decode(ids) == there


@pytest.mark.parametrize(
    ("goal", "ids", "reply", "named"),
    [
        ("Find <|im_end|>", "look", "You look.", "the first prompt"),
        ("Find it.", "look", "It says </tool_response>.", "the reply to turn 0"),
        ("Find it.", ("lo", "ok"), "You look.", "what was said in turn 0"),
        ("Find it.", "look", "You look.", None),
    ],
    ids=["token in the goal", "token in the reply", "other tokens", "the same"],
)
def test_a_text_that_is_not_the_record_is_refused_with_the_reason(
    tokenizer: HFTokenizer, goal: str, ids: str | tuple[str, ...], reply: str, named: str | None
) -> None:
    chat = ChatFormat(tokenizer)
    if ids == ("lo", "ok"):  # letter by letter
        sampled = (*(i for letter in "look" for i in tokenizer.encode(letter, markup=False)), tokenizer.end_of_turn_id)
    else:
        sampled = tuple(chat.turn(str(ids)))
    prompt = tuple(chat.prompt([Message(Role.SYSTEM, "You play."), Message(Role.USER, goal)]))
    answer = tuple(chat.continuation([Message(Role.TOOL, reply)], closed=True))
    turns = tuple(
        Turn(n, sampled, (-1.0,) * len(sampled), FinishReason.STOP, "base", "look", (), reply, answer * (n == 0))
        for n in range(2)
    )
    episode = replace(sample_episode(), prompt_ids=prompt, turns=turns)
    if named is None:
        assert whole_text(episode, tokenizer).endswith(
            f"{reply}\n</tool_response><|im_end|>\n<|im_start|>assistant\nlook<|im_end|>"
        )
        return
    with pytest.raises(InvalidOption, match=named):
        whole_text(episode, tokenizer)


def test_blanks_that_a_tokenizer_joins_to_the_newline_before_them_are_another_text() -> None:
    tokenizer = trained()
    chat = ChatFormat(tokenizer)
    prompt = tuple(chat.prompt([Message(Role.SYSTEM, "You play."), Message(Role.USER, "Find it.")]))
    sampled = tuple(chat.turn("\nlook"))
    turn = Turn(0, sampled, (-1.0,) * len(sampled), FinishReason.STOP, "base", "\nlook")
    with pytest.raises(InvalidOption, match=r"the first prompt is cut into other tokens at .*assistant"):
        whole_text(replace(sample_episode(), prompt_ids=prompt, turns=(turn,)), tokenizer)
