"""The vocabulary of words, and the model that is made for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.errors import ConfigError
from rollout_server.chat import ChatFormat
from rollout_server.chat_template import check_template
from rollout_server.tokenizer import HFTokenizer
from rollout_server.types import Message, Role
from trainer.small_model import ModelShape, save_small_model, word_tokenizer

TEXTS = ["You arrive at desk 12. On the desk 12, you see a mug 3.", "go to desk 12", "take mug 3 from desk 12"]


@pytest.fixture(scope="module")
def words() -> HFTokenizer:
    return HFTokenizer(word_tokenizer(TEXTS, at_least=1))


def test_a_known_word_is_one_token(words: HFTokenizer) -> None:
    text = "take mug 3 from desk 12"
    ids = words.encode(text, markup=False)
    assert [words.decode([i]) for i in ids] == ["take", " mug", " 3", " from", " desk", " 12"]


@pytest.mark.parametrize(
    "text", ["", " ", "\n\n  x", "desk 123456", "naïve \U0001f600 text", "<|im_end|>", "a\tb\x00c"]
)
def test_any_text_decodes_to_itself(words: HFTokenizer, text: str) -> None:
    ids = words.encode(text, markup=False)
    assert words.decode(ids) == text
    assert words.end_of_turn_id not in ids


def test_it_is_chatml(words: HFTokenizer) -> None:
    check_template(words)
    prompt = ChatFormat(words).prompt([Message(Role.SYSTEM, "desk"), Message(Role.USER, "go to desk 12")])
    shown = [words.decode([i]) for i in prompt]
    assert shown[:3] == ["<|im_start|>", "system\n", "d"]
    assert shown[-7:] == [" 12", "<|im_end|>", "\n", "<|im_start|>", "assistant\n"][-5:] or shown[-2:] == [
        "<|im_start|>",
        "assistant\n",
    ]


def test_the_same_texts_give_the_same_ids() -> None:
    again, other = (word_tokenizer(TEXTS, at_least=1).get_vocab() for _ in range(2))
    assert again == other


def test_rare_words_and_those_beyond_the_limit_are_written_in_bytes() -> None:
    common = HFTokenizer(word_tokenizer(TEXTS, at_least=2))
    assert len(common.encode(" desk", markup=False)) == 1
    assert len(common.encode("take", markup=False)) == len("take")
    assert len(word_tokenizer(TEXTS, limit=1, at_least=1).get_vocab()) == 256 + 3 + 1 + 3


def test_no_text_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="no text"):
        word_tokenizer([])


def test_a_model_has_its_sizes_and_its_seed(tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoConfig

    words = word_tokenizer(TEXTS, at_least=1)
    shape = ModelShape(hidden=16, intermediate=24, layers=1, heads=2, key_value_heads=1, head_width=8, context=64)
    folders = [save_small_model(tmp_path / str(n), words, shape=shape, seed=n // 2) for n in range(3)]
    config = AutoConfig.from_pretrained(folders[0])
    assert config.model_type == "qwen3"
    assert (config.hidden_size, config.num_hidden_layers, config.max_position_embeddings) == (16, 1, 64)
    first, same, other = (load_file(folder / "model.safetensors")["model.norm.weight"].shape for folder in folders)
    assert first == same == other
    weights = [load_file(folder / "model.safetensors")["model.embed_tokens.weight"] for folder in folders]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


ENDS = ("bin", "cup", "dog", "fan", "hat", "jam", "kit", "lid", "map", "net")
WORDS = " ".join(a + b for a in "badge" for b in ENDS)


@pytest.mark.parametrize(("copies", "least", "most"), [(True, 0.6, 1.0), (False, 0.0, 0.1)])
def test_it_can_say_again_what_it_has_read_before_it_is_trained(
    tmp_path: Path, copies: bool, least: float, most: float
) -> None:
    """Random words twice: in the second round each is told by the one before it, as nothing else could tell it."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = word_tokenizer([WORDS], at_least=1)
    folder = save_small_model(tmp_path, tokenizer, shape=ModelShape(layers=2), seed=3, copies=copies)
    model = AutoModelForCausalLM.from_pretrained(folder)
    words = torch.tensor(tokenizer.encode(WORDS))
    draw = torch.Generator().manual_seed(0)
    once = words[torch.randint(len(words), (16, 30), generator=draw)]
    with torch.no_grad():
        said = model(input_ids=torch.cat([once, once], 1)).logits[:, 30:-1].argmax(-1)
    share = (said == once[:, 1:]).float().mean().item()
    assert least <= share <= most


@pytest.mark.parametrize(("copies", "least", "most"), [(True, 0.5, 1.0), (False, 0.0, 0.1)])
def test_with_a_second_head_of_keys_it_sees_a_word_that_it_has_read_before(
    tmp_path: Path, copies: bool, least: float, most: float
) -> None:
    """The words again in another order, so that nothing but the word itself tells where it stood before."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = word_tokenizer([WORDS], at_least=1)
    shape = ModelShape(layers=2, heads=6, key_value_heads=2)
    folder = save_small_model(tmp_path, tokenizer, shape=shape, seed=3, copies=copies)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    words = torch.tensor(tokenizer.encode(WORDS))
    draw = torch.Generator().manual_seed(0)
    first = torch.stack([torch.randperm(len(words), generator=draw)[:24] for _ in range(16)])
    order = torch.stack([torch.randperm(24, generator=draw) for _ in range(16)])
    with torch.no_grad():
        ids = words[torch.cat([first, first.gather(1, order)], 1)]
        looks = model(input_ids=ids, output_attentions=True).attentions[1][:, 3, 24:, :24]
    share = looks.gather(2, order[:, :, None]).mean().item()
    assert least <= share <= most


def test_a_model_too_small_to_copy_is_refused(tmp_path: Path) -> None:
    for shape in (ModelShape(layers=1), ModelShape(head_width=16), ModelShape(hidden=64, heads=1)):
        with pytest.raises(ConfigError, match="no room for copying"):
            save_small_model(tmp_path, word_tokenizer(TEXTS, at_least=1), shape=shape, copies=True)
