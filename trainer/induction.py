"""Weights that can copy before anything is trained: an induction circuit for models made from scratch.

A pretrained model says again what it has read: the name in a question, the number after a word. One from random weights
has to find out first that this can be done at all, and that takes most of an hour on a CPU. So here two attention heads
are given what training would end in (Olsson et al. 2022, In-context Learning and Induction Heads): one in the first
layer writes beside each token which one came before it; one in the second looks for where the same token stood before,
and says what followed there. A model with a second head of keys and values gets a third: it looks from a word at the
same word further up and writes down what came before it there, so that a thing which is asked for is told from others
where it is seen. Everything else stays random, and every weight is trained like any other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from envs.errors import ConfigError

if TYPE_CHECKING:
    import torch

__all__ = ["plant_induction"]

_CONSTANT = 4.0  # of the embeddings' spread: one coordinate that is the same for all words, for heads that only count
_SHARP = 2.0  # of the queries: the token before gets nine tenths of the first head's attention
_BEFORE = 3.0  # how loud it is written down beside the token's own embedding
_QUIET = 0.1  # what the random heads and MLPs of these layers keep: they would drown the two
_GAIN = 2.0  # of the logits
_AWAY = 0.65  # of the constant in queries and keys: what the third head sets against a word's sight of itself
_MARK = 0.5  # of what the third head writes, a length for a length
_WHERE = 4  # pairs of a head's numbers that turn fastest with the position, and so tell neighbours apart
_WHAT = 10  # pairs from here on turn so slowly that they tell words apart at any distance


def plant_induction(model: Any, *, seed: int) -> None:
    """Write the circuit into a Qwen3 model with random weights, in place: one query head in the first layer, and one
    for each of up to two heads of keys and values in the second.

    Args:
        model: a ``Qwen3ForCausalLM`` of at least two layers.
        seed: of the directions in which words are told apart.

    Raises ConfigError for a model that is too small.
    """
    import torch

    config = model.config
    width, hidden = config.head_dim, config.hidden_size
    pairs = width // 2
    wide = 2 * (pairs - _WHAT)
    if config.num_hidden_layers < 2 or wide <= 0 or 2 * wide >= hidden:
        raise ConfigError(
            f"no room for copying in {config.num_hidden_layers} layers of {hidden} with heads of {width}",
            hint=f"take two layers, heads wider than {2 * _WHAT} and a hidden size above {2 * wide}",
        )
    draw = torch.Generator().manual_seed(seed)
    told_apart = [*range(_WHAT, pairs), *range(pairs + _WHAT, width)]
    with torch.no_grad():
        words = model.model.embed_tokens.weight
        spread = words.std()
        words[:, 0] = _CONSTANT * spread
        # Two sets of directions that share none: what a token is, and what the one before it was.
        basis = torch.zeros(hidden, 2 * wide)
        basis[1:] = torch.linalg.qr(torch.randn(hidden - 1, 2 * wide, generator=draw))[0]
        own, before = basis[:, :wide], basis[:, wide:]
        reads_own = torch.zeros(width, hidden)
        reads_own[told_apart] = own.T

        first, second = model.model.layers[:2]
        for layer in (first, second):
            layer.mlp.down_proj.weight.mul_(2 * _QUIET)
            layer.self_attn.o_proj.weight.mul_(_QUIET)
            layer.self_attn.q_norm.weight.fill_(_SHARP)

        # Rotary embedding turns pair i by position x speed: a query turned back by one meets the key before it.
        rope = getattr(config, "rope_parameters", None) or {"rope_theta": config.rope_theta}
        query, key = torch.zeros(width, hidden), reads_own / 2
        for pair in range(_WHERE):
            speed = rope["rope_theta"] ** (-pair / pairs)
            key[pair, 0] = 1.0
            query[pair, 0], query[pair + pairs, 0] = math.cos(speed), -math.sin(speed)
        said = torch.zeros(hidden, width)
        said[:, told_apart] = before * _BEFORE * spread
        _set_head(first.self_attn, width, query=query, key=key, value=reads_own, said=said)

        key = torch.zeros(width, hidden)
        key[told_apart] = before.T
        names = torch.randn(width, hidden, generator=draw) / math.sqrt(hidden)
        names[:, 0] = 0.0
        names -= names @ before @ before.T
        _set_head(second.self_attn, width, query=reads_own, key=key, value=names, said=names.T)
        if config.num_key_value_heads > 1:
            query, key = reads_own.clone(), reads_own.clone()
            query[:_WHERE, 0], key[:_WHERE, 0] = -_AWAY, _AWAY
            mark = torch.linalg.qr(torch.randn(hidden, width, generator=draw))[0] * _MARK
            before_it = torch.zeros(width, hidden)
            before_it[told_apart] = before.T
            own_query = config.num_attention_heads // config.num_key_value_heads  # the first that reads these keys
            _set_head(second.self_attn, width, query=query, key=key, value=before_it, said=mark, heads=(own_query, 1))
        model.model.norm.weight.fill_(_GAIN)


def _set_head(
    attention: Any,
    width: int,
    *,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    said: torch.Tensor,
    heads: tuple[int, int] = (0, 0),
) -> None:
    """A query head and a head of keys and values, by number: matrices of shape (width, hidden), ``said`` turned."""
    asks, told = (slice(head * width, (head + 1) * width) for head in heads)
    attention.q_proj.weight[asks] = query
    attention.k_proj.weight[told] = key
    attention.v_proj.weight[told] = value
    attention.o_proj.weight[:, asks] = said
