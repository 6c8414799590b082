"""Attention over ``KvPool``: many sequences in one row of tokens, each token looking at those of its own sequence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from envs.errors import ConfigError
from rollout_server.engines.kv_pool import KvPool, Piece, RaggedBatch

if TYPE_CHECKING:
    import torch

__all__ = ["ragged_attention", "use_ragged_attention"]

_NAME = "envloop_ragged"  # in transformers' list of attention functions


def ragged_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    ragged: RaggedBatch,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer, in the form that transformers calls. ``query``: (1, H, N, D); the result (1, N, H, D).

    ``key`` and ``value``: (1, h, N, D), where each of the h heads serves H / h queries.
    """
    import torch

    keys, values = ragged.pool.layer(module.layer_idx, key[0].transpose(0, 1))
    keys[ragged.rows, :, ragged.positions] = key[0].transpose(0, 1)
    values[ragged.rows, :, ragged.positions] = value[0].transpose(0, 1)
    heads, width = key.shape[1], query.shape[-1]
    share = query.shape[1] // heads
    scale = 1 / math.sqrt(width) if scaling is None else scaling
    asked = (query[0] * scale).reshape(heads, share, -1, width)  # (h, H / h, N, D)
    out = torch.empty_like(asked)
    if n := ragged.singles:
        low, high, seen = ragged.low, ragged.high, ragged.width
        at = ragged.rows[:n] - low
        full = asked.new_zeros(high - low, heads, share, width)
        full[at] = asked[:, :, :n].permute(2, 0, 1, 3)
        scores = full @ keys[low:high, :, :seen].transpose(-1, -2)
        assert ragged.bias is not None, "there is one wherever there are single tokens"
        weights = (scores.float() + ragged.bias).softmax(-1).to(values.dtype)
        out[:, :, :n] = (weights @ values[low:high, :, :seen])[at].permute(1, 2, 0, 3)
    for row, start, count, past in ragged.spans:
        total = past + count
        part = asked[:, :, start : start + count].reshape(heads, share * count, width)
        scores = (part @ keys[row, :, :total].transpose(-1, -2)).float().view(heads, share, count, total)
        later = torch.ones(count, total, dtype=torch.bool, device=scores.device).triu_(past + 1)
        weights = scores.masked_fill_(later, -torch.inf).softmax(-1).to(values.dtype)
        answer = weights.view(heads, share * count, total) @ values[row, :, :total]
        out[:, :, start : start + count] = answer.view(heads, share, count, width)
    return out.flatten(0, 1).transpose(0, 1).unsqueeze(0), None


def use_ragged_attention(net: Any, model: str) -> None:
    """Give a model the attention of ``KvPool``, once it was held against the model's own. Raises ConfigError."""
    import torch
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, ragged_attention)
    ids = torch.arange(8, device=net.device) % net.config.vocab_size
    pool = KvPool(2, max_length=8)
    try:
        with torch.inference_mode():
            own = net(input_ids=ids[None], use_cache=False).logits[0, -1]
            net.set_attn_implementation(_NAME)
            for part in (ids[:3], ids[3:7], ids[7:]):  # a first prompt, more of it, a single token
                slot = pool.slots[1]
                pieces = [Piece(slot, part.tolist())]
                batch = pool.batch(pieces, net.device)
                positions = batch.positions[None]
                out = net(input_ids=part[None], position_ids=positions, use_cache=False, ragged=batch)
                pool.fed(pieces)
    except (TypeError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise ConfigError(
            f"the model {model} does not take transformers' attention interface: {error}", hint="use the vllm engine"
        ) from error
    apart = float((own.log_softmax(-1) - out.logits[0, -1].log_softmax(-1)).abs().max())
    if not apart < (1e-3 if net.dtype == torch.float32 else 0.5):
        raise ConfigError(
            f"the model {model} attends otherwise than to all tokens before (logprobs differ by {apart:.3g})",
            hint="use the vllm engine",
        )
