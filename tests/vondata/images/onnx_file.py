"""Writes small ONNX networks by hand: the file format is protocol buffers, and few fields are needed."""

import struct


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def varint(value):
    digits = b""
    while value > 127:
        digits += bytes([value & 127 | 128])
        value >>= 7
    return digits + bytes([value])


def tensor(name, shape, values):
    dims = b"".join(number(1, size) for size in shape)
    return dims + number(2, 1) + block(8, name) + block(9, struct.pack(f"<{len(values)}f", *values))


def value_info(name, shape):
    dims = b"".join(block(1, number(1, size)) for size in shape)
    return block(1, name) + block(2, block(1, number(1, 1) + block(2, dims)))


def ints(name, values):
    return block(1, name) + b"".join(number(8, value) for value in values) + number(20, 7)


def node(operator, inputs, output, attributes=()):
    named = b"".join(block(1, each) for each in inputs) + block(2, output) + block(3, f"{operator}_{output}")
    return named + block(4, operator) + b"".join(block(5, each) for each in attributes)


def colour_network(weights, bias, size_px, *, sigmoid=True):
    """Bytes of a network that weighs red, green and blue of every pixel: a 1 x 1 convolution, then a sigmoid."""
    kernel = ints("kernel_shape", [1, 1])
    nodes = [node("Conv", ["picture", "weights", "bias"], "logit" if sigmoid else "map", [kernel])]
    if sigmoid:
        nodes.append(node("Sigmoid", ["logit"], "map"))
    graph = b"".join(block(1, each) for each in nodes) + block(2, "colour")
    graph += block(5, tensor("weights", [1, 3, 1, 1], weights)) + block(5, tensor("bias", [1], [bias]))
    graph += block(11, value_info("picture", [1, 3, size_px, size_px]))
    graph += block(12, value_info("map", [1, 1, size_px, size_px]))
    return number(1, 8) + block(7, graph) + block(8, block(1, "") + number(2, 13))
