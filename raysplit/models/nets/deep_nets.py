"""The deep networks of the papers, as chains of the units at which the papers cut.

* `resnet18_cifar`: 3x3 stem, no max-pool; Huang, Tian, Tang (2023), arXiv 2308.11953. Cut L_c = k lies after k units:
  the stem belongs to the first one.
* `resnet101_mpsl`, `vgg19_mpsl`: the 37 and 25 units of MP-SL: Tirana, Lalis, Chatzopoulos (2024),
  arXiv 2402.00208. That "ResNet-101" has basic blocks in the 3/4/23/3 layout and 3x3 shortcuts, pools before the first
  batch norm; that VGG-19 pads its max-pools by 1. The published profiles were measured on these networks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

Shape = tuple[int, ...]
Norm = Callable[[int], nn.Module]


def _group_norm(num_channels: int) -> nn.Module:
    return nn.GroupNorm(32, num_channels)


NORMS: dict[str, Norm] = {"batch": nn.BatchNorm2d, "group": _group_norm}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut around them (He, Zhang, Ren, Sun, 2016, arXiv 1512.03385).

    Args:
        num_in: input channels.
        num_out: output channels.
        stride: stride of the first convolution and of the shortcut.
        shortcut_kernel: kernel size of the shortcut's convolution, present where size or channels change.
        norm: builder of a normalization layer from its number of channels.
    """

    def __init__(self, num_in: int, num_out: int, stride: int, shortcut_kernel: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride, padding=1, bias=False)
        self.norm1 = norm(num_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.norm2 = norm(num_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or num_in != num_out:
            padding = shortcut_kernel // 2
            conv = nn.Conv2d(num_in, num_out, shortcut_kernel, stride, padding, bias=False)
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, norm=norm(num_out)))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu1(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        return self.relu2(h + self.shortcut(x))  # type: ignore[no-any-return]


def _stage(num_blocks: int, num_in: int, num_out: int, stride: int, kernel: int, norm: Norm) -> list[nn.Module]:
    first = BasicBlock(num_in, num_out, stride, kernel, norm)
    return [first, *(BasicBlock(num_out, num_out, 1, kernel, norm) for _ in range(num_blocks - 1))]


def resnet18_cifar(input_shape: Shape, num_classes: int, *, norm: str = "batch") -> nn.Sequential:
    """Build ResNet-18 for small images, with the five units ``stage1 .. stage4, output``.

    Args:
        input_shape: shape of one image (channels, height, width).
        num_classes: number of outputs.
        norm: "batch" for batch normalization, or "group" for group normalization with 32 groups.

    Raises:
        ValueError: for another ``norm``.
    """
    if norm not in NORMS:
        raise ValueError(f"norm of resnet18_cifar must be {' or '.join(map(repr, NORMS))}, got {norm!r}")
    make = NORMS[norm]
    stem = nn.Sequential(
        OrderedDict(conv=nn.Conv2d(input_shape[0], 64, 3, padding=1, bias=False), norm=make(64), relu=nn.ReLU())
    )
    units: OrderedDict[str, nn.Module] = OrderedDict()
    blocks = _stage(2, 64, 64, stride=1, kernel=1, norm=make)
    units["stage1"] = nn.Sequential(OrderedDict(stem=stem, block1=blocks[0], block2=blocks[1]))
    for number, width in enumerate((128, 256, 512), start=2):
        blocks = _stage(2, width // 2, width, stride=2, kernel=1, norm=make)
        units[f"stage{number}"] = nn.Sequential(OrderedDict(block1=blocks[0], block2=blocks[1]))
    units["output"] = nn.Sequential(
        OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(512, num_classes))
    )
    return nn.Sequential(units)


def resnet101_mpsl(input_shape: Shape, num_classes: int) -> nn.Sequential:
    """Build MP-SL's "ResNet-101", with the 37 units ``conv, pool, block2 .. block34, mean, output``."""
    units: OrderedDict[str, nn.Module] = OrderedDict()
    units["conv"] = nn.Conv2d(input_shape[0], 64, 7, stride=2, padding=3)
    units["pool"] = nn.Sequential(nn.MaxPool2d(3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU())
    num_in = 64
    for num_blocks, width in ((3, 64), (4, 128), (23, 256), (3, 512)):
        stride = 1 if width == num_in else 2
        for block in _stage(num_blocks, num_in, width, stride, kernel=3, norm=nn.BatchNorm2d):
            units[f"block{len(units)}"] = block
        num_in = width
    units["mean"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    units["output"] = nn.Linear(512, num_classes)
    return nn.Sequential(units)


def vgg19_mpsl(input_shape: Shape, num_classes: int) -> nn.Sequential:
    """Build MP-SL's VGG-19, with the 25 units ``conv0, conv1, pool2, .. mean21, dense22, dense23, output``."""
    units: OrderedDict[str, nn.Module] = OrderedDict()
    num_in = input_shape[0]
    for num_convs, width in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
        for _ in range(num_convs):
            units[f"conv{len(units)}"] = nn.Sequential(nn.Conv2d(num_in, width, 3, padding=1), nn.ReLU())
            num_in = width
        units[f"pool{len(units)}"] = nn.MaxPool2d(2, stride=2, padding=1)
    units["mean21"] = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten())
    units["dense22"] = nn.Sequential(nn.Linear(512 * 7 * 7, 4096), nn.ReLU())
    units["dense23"] = nn.Sequential(nn.Dropout(0.5), nn.Linear(4096, 4096), nn.ReLU())
    units["output"] = nn.Sequential(nn.Dropout(0.5), nn.Linear(4096, num_classes))
    return nn.Sequential(units)
