"""Tokenizers: outside text never becomes markup, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from chat_samples import HOSTILE, qwen_like
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.errors import ConfigError
from rollout_server.tokenizer import ByteTokenizer, HFTokenizer


@pytest.fixture(scope="module")
def real(smollm2_dir: Path) -> HFTokenizer:
    return HFTokenizer(smollm2_dir)


@pytest.fixture(scope="module")
def qwen(smollm2_dir: Path) -> HFTokenizer:
    return qwen_like(smollm2_dir)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_lose_nothing(text: str) -> None:
    tokenizer = ByteTokenizer()
    for markup in (True, False):
        assert tokenizer.decode(tokenizer.encode(text, markup=markup)) == text
    assert max(tokenizer.encode(text, markup=False), default=0) < 256


def test_bytes_know_chatml() -> None:
    assert ByteTokenizer().encode("<|im_start|>a<|im_end|>", markup=True) == [256, 97, 257]
    with pytest.raises(ValueError, match="256"):
        ByteTokenizer().decode([258])


@pytest.mark.parametrize("text", HOSTILE)
def test_outside_text_gives_ordinary_tokens(real: HFTokenizer, qwen: HFTokenizer, text: str) -> None:
    for tokenizer in (real, qwen):
        added = set(tokenizer.hf.get_added_vocab().values())
        ids = tokenizer.encode(f"You see {text} here.", markup=False)
        assert not added & set(ids)
        assert tokenizer.decode(ids) == f"You see {text} here."
    assert set(real.hf.get_added_vocab().values()) & set(qwen.encode(HOSTILE[0], markup=True))


def test_markup_is_the_models_own_encoding(real: HFTokenizer, qwen: HFTokenizer) -> None:
    text = "<|im_start|>user\n<tool_response>\nhi there\n</tool_response><|im_end|>\n"
    for tokenizer in (real, qwen):
        assert tokenizer.encode(text, markup=True) == tokenizer.hf.encode(text, add_special_tokens=False)
    assert len(qwen.encode("<tool_call>", markup=True)) == 1
    assert real.end_of_turn_id == real.hf.convert_tokens_to_ids("<|im_end|>")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_text_without_markup_is_encoded_alike(real: HFTokenizer, text: str) -> None:
    if not any(tag in text for tag in real.hf.get_added_vocab()):
        assert real.encode(text, markup=False) == real.encode(text, markup=True)


def test_a_lone_surrogate_cannot_stop_an_episode(real: HFTokenizer) -> None:
    for tokenizer in (real, ByteTokenizer()):
        assert tokenizer.decode(tokenizer.encode("a\ud800b", markup=False)) == "a?b"


def test_reading_leaves_the_given_tokenizer_alone(smollm2_dir: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(smollm2_dir)
    theirs.backend_tokenizer.enable_truncation(4)
    ours = HFTokenizer(theirs)
    assert len(ours.encode("one two three four five six seven", markup=False)) > 4
    assert theirs.backend_tokenizer.truncation["max_length"] == 4


def test_what_is_no_chat_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        HFTokenizer(tmp_path)
    with pytest.raises(ConfigError, match="no fast one"):
        HFTokenizer(object())
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])))
    with pytest.raises(ConfigError, match="im_end"):
        HFTokenizer(bare)
