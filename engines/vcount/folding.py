"""The network as engines take it best: batch normalisation folded into convolutions, and padding
that does not depend on the input's size."""

import torch


def fold(network):
    """Batch normalisation into the convolutions before it, so that activations stay whole in the
    graph. timm's blocks hold the activation in the normalisation layer (BatchNormAct2d): the layer
    becomes its activation alone."""
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    pairs = []
    for module in network.modules():
        children = list(module.named_children())
        for (name, conv), (other, norm) in zip(children, children[1:]):
            if isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                pairs.append((module, name, conv, other, norm))
    for module, _, conv, other, norm in pairs:
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        after = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
        setattr(
            module,
            other,
            torch.nn.Sequential(
                *[part for part in after if not isinstance(part, torch.nn.Identity)]
            ),
        )
    return network


class PaddedConvolution(torch.autograd.Function):
    """A convolution with zeros around its input, in ONNX one node: exported as a node of its own,
    padding depends on shapes, and engines that quantize do not look through it."""

    @staticmethod
    def forward(_context, images, weight, bias, stride, pads, groups):
        top, left, bottom, right = pads
        return torch.nn.functional.conv2d(
            torch.nn.functional.pad(images, (left, right, top, bottom)),
            weight,
            bias,
            stride,
            groups=groups,
        )

    @staticmethod
    def symbolic(graph, images, weight, bias, stride, pads, groups):
        return graph.op("Conv", images, weight, bias, strides_i=stride, pads_i=pads, group_i=groups)


class Same(torch.nn.Module):
    """TensorFlow's SAME padding for inputs whose sides the stride divides: half of kernel - stride
    before, the larger half behind."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv
        before = [
            max(kernel - stride, 0) // 2 for kernel, stride in zip(conv.kernel_size, conv.stride)
        ]
        behind = [
            max(kernel - stride, 0) - first
            for kernel, stride, first in zip(conv.kernel_size, conv.stride, before)
        ]
        self.pads = before + behind

    def forward(self, images):
        return PaddedConvolution.apply(
            images,
            self.conv.weight,
            self.conv.bias,
            list(self.conv.stride),
            self.pads,
            self.conv.groups,
        )


def fix_padding(module):
    """Padding that depends on the input's size, as in timm's networks from TensorFlow, becomes
    constant: sides are multiples of 32."""
    for name, child in module.named_children():
        if type(child).__name__ == "Conv2dSame":
            setattr(module, name, Same(child))
        else:
            fix_padding(child)
    return module


def write(network, images, path):
    """The network as an ONNX file, for any batch and size; it is traced with `images`."""
    axes = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        network,
        (images,),
        str(path),
        input_names=["images"],
        output_names=["density"],
        opset_version=17,
        dynamo=False,
        dynamic_axes={"images": axes, "density": axes},
    )
