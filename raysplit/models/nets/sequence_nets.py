"""Networks of sequences by name, each an ``nn.Sequential`` of named units that may be cut between any two.

* `text_transformer`: a small causal transformer for tokens, which answers at each place what the next token is.
* `cnn1d`, `lstm`: for time series [channels, steps], such as windows of a sensor.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysplit.options import Count

Shape = tuple[int, ...]


class TokensAndPlaces(nn.Module):
    """The sum of a vector for each token and one for its place, [B, T] to [B, T, width]."""

    def __init__(self, vocabulary: int, positions: int, width: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.empty(positions, width))
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.places, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        h: Tensor = self.dropout(self.tokens(ids) + self.places[: ids.shape[1]])
        return h


class CausalAttention(nn.Module):
    """Attention of each place to itself and the places before, over several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        qkv = self.into(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [3, B, heads, T, width / heads]
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        made: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return made


class Block(nn.Module):
    """A block of a transformer with the norms in front."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.dropout(self.attention(self.norm1(h)))
        out: Tensor = h + self.dropout(self.dense(self.norm2(h)))
        return out


class TextTransformer(nn.Sequential):
    """The units of `text_transformer`, with the limits that its data are checked against."""

    def __init__(self, units: OrderedDict[str, nn.Module], *, vocab_size: int, max_positions: int) -> None:
        super().__init__(units)
        self.vocab_size = vocab_size
        self.max_positions = max_positions


def text_transformer(
    input_shape: Shape,
    num_classes: int,
    *,
    vocab_size: int,
    width: Count = 64,
    blocks: Count = 2,
    heads: Count = 4,
    dropout: float = 0.0,
    positions: Count | None = None,
) -> nn.Sequential:
    """Build a causal transformer, with the units ``embedding``, ``block1`` .. ``blockN`` and ``head``.

    Args:
        input_shape: length of all samples; empty where it differs, and ``positions`` is needed.
        num_classes: number of outputs at each place.
        vocab_size: number of tokens.
        width: length of the vector of a place.
        blocks: number of blocks.
        heads: number of heads of the attention, which divide the width.
        dropout: share of the values that dropout sets to zero.
        positions: largest length of a sample; None takes that of the data.
    """
    if positions is None and not input_shape:
        raise ValueError(
            "the samples differ in length, so that text_transformer does not know how many places there are; set "
            "model.positions, or data.pad_to to max or a number"
        )
    if width % heads or not 0 <= dropout < 1:
        raise ValueError(
            f"model.width is {width}, heads is {heads} and dropout is {dropout:g}; heads must divide the width, and "
            f"dropout is from 0 to below 1"
        )
    places = positions or input_shape[0]
    units: OrderedDict[str, nn.Module] = OrderedDict(embedding=TokensAndPlaces(vocab_size, places, width, dropout))
    for number in range(1, blocks + 1):
        units[f"block{number}"] = Block(width, heads, dropout)
    units["head"] = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))
    return TextTransformer(units, vocab_size=vocab_size, max_positions=places)


def _steps(input_shape: Shape, name: str) -> int:
    """Return the number of channels of a time series."""
    if len(input_shape) != 2:
        raise ValueError(
            f"{name} takes time series (channels, steps), and an input has the shape {input_shape}; set "
            f"data.input_shape, or take the model mlp"
        )
    return input_shape[0]


def _conv1d(num_in: int, num_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(num_in, num_out, kernel, padding=kernel // 2), nn.GroupNorm(8, num_out), nn.ReLU(), nn.MaxPool1d(2)
    )


def cnn1d(input_shape: Shape, num_classes: int) -> nn.Sequential:
    """Build a network of three pooled convolutions over time (32, 64, 64) with group norm, for [channels, steps]."""
    channels = _steps(input_shape, "cnn1d")
    pooled = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten())
    return nn.Sequential(
        OrderedDict(
            conv1=_conv1d(channels, 32, 5),
            conv2=_conv1d(32, 64, 5),
            conv3=nn.Sequential(*_conv1d(64, 64, 3), *pooled),
            output=nn.Linear(64, num_classes),
        )
    )


class LastState(nn.Module):
    """The last state [B, width] of an LSTM that reads [B, channels, steps]."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.lstm(x.transpose(1, 2))[0]
        return states[:, -1]


def lstm(input_shape: Shape, num_classes: int, *, width: Count = 64) -> nn.Sequential:
    """Build an LSTM over time series [channels, steps], with the units ``reader``, ``hidden`` and ``output``.

    Args:
        input_shape: channels and steps.
        num_classes: number of outputs.
        width: length of the state.
    """
    channels = _steps(input_shape, "lstm")
    return nn.Sequential(
        OrderedDict(
            reader=LastState(channels, width),
            hidden=nn.Sequential(nn.Linear(width, width), nn.ReLU()),
            output=nn.Linear(width, num_classes),
        )
    )
