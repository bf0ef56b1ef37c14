"""The whole network in numpy, for one image, from the paper's and DESIGN's words; no torch.

`weights` maps the names of the weights file to arrays; images are (color, row, column).
"""

import numpy as np

RGB_MEAN = np.array([0.4488, 0.4371, 0.4040]).reshape(3, 1, 1)


def convolve(image, kernel, bias=None):
    """Return a zero-padded convolution (as networks have it: not mirrored), tap by tap."""
    outputs, _, height, width = kernel.shape
    padded = np.pad(image, ((0, 0), (height // 2,) * 2, (width // 2,) * 2))
    rows, columns = image.shape[1:]
    total = np.zeros((outputs, rows, columns))
    for y in range(height):
        for x in range(width):
            total += np.tensordot(kernel[:, :, y, x], padded[:, y : y + rows, x : x + columns], 1)
    return total if bias is None else total + bias.reshape(-1, 1, 1)


def layer(image, weights, name):
    return convolve(image, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def relu(image):
    return np.maximum(image, 0)


def shuffled(image, factor):
    """Return channels laid out as factor x factor pixels."""
    channels, rows, columns = image.shape
    out = np.zeros((channels // factor**2, rows * factor, columns * factor))
    for channel in range(channels):
        color, place = divmod(channel, factor**2)
        out[color, place // factor :: factor, place % factor :: factor] = image[channel]
    return out


def window_mean(image, window):
    """Return the mean over the whole image, or around every pixel over what lies inside."""
    if window is None:
        return image.mean((1, 2), keepdims=True)
    reach = window // 2
    out = np.zeros_like(image)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            rows = slice(max(0, y - reach), y + reach + 1)
            columns = slice(max(0, x - reach), x + reach + 1)
            out[:, y, x] = image[:, rows, columns].mean((1, 2))
    return out


def attention(image, weights, name, window):
    gate = layer(
        relu(layer(window_mean(image, window), weights, f"{name}.squeeze")),
        weights,
        f"{name}.excite",
    )
    return image / (1 + np.exp(-gate))


def packed(image, factor):
    """Return factor x factor pixels laid out as channels, what `shuffled` undoes."""
    channels, rows, columns = image.shape
    out = np.zeros((channels * factor**2, rows // factor, columns // factor))
    for channel in range(len(out)):
        color, place = divmod(channel, factor**2)
        out[channel] = image[color, place // factor :: factor, place % factor :: factor]
    return out


def branch(image, weights, name, config, groups):
    features = image
    for group in range(groups):
        before = features
        for block in range(config["blocks"]):
            place = f"{name}.groups.{group}.blocks.{block}"
            inner = layer(
                relu(layer(features, weights, f"{place}.conv1")), weights, f"{place}.conv2"
            )
            if config["attention"]:
                inner = attention(inner, weights, f"{place}.attention", config["pooling_px"])
            features = features + inner
        features = before + layer(features, weights, f"{name}.groups.{group}.conv")
    return layer(features, weights, f"{name}.conv")


def tail(features, weights, name, config):
    factors = {2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}[config["scale"]]
    pad = 2 if config["tail_border"] == "features" else 0
    image = np.pad(features, ((0, 0), (pad, pad), (pad, pad)))
    for stage, factor in enumerate(factors):
        image = shuffled(layer(image, weights, f"{name}.up.{stage}"), factor)
    image = layer(image, weights, f"{name}.out")
    cut = pad * config["scale"]
    return image[:, cut : image.shape[1] - cut, cut : image.shape[2] - cut]


def keys(distance):
    """Return the cubic kernel with a = -0.5."""
    x = abs(distance)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def bicubic(image, scale):
    """Return the enlargement pixel by pixel, coordinates outside clamped to the frame."""
    _, rows, columns = image.shape
    out = np.zeros((3, rows * scale, columns * scale))
    for y in range(rows * scale):
        for x in range(columns * scale):
            at_y, at_x = (y + 0.5) / scale - 0.5, (x + 0.5) / scale - 0.5
            for from_y in range(int(np.floor(at_y)) - 1, int(np.floor(at_y)) + 3):
                for from_x in range(int(np.floor(at_x)) - 1, int(np.floor(at_x)) + 3):
                    weight = keys(at_y - from_y) * keys(at_x - from_x)
                    inside = min(max(from_y, 0), rows - 1), min(max(from_x, 0), columns - 1)
                    out[:, y, x] += weight * image[:, inside[0], inside[1]]
    return out


def leaf_features(lr, weights, config):
    """Return each leaf's features: down the tree, then the sums with the ancestors."""
    trained = config["mean"] == "convolution"
    shifted = layer(lr, weights, "divergence.sub_mean") if trained else lr - RGB_MEAN
    head = layer(shifted, weights, "divergence.head")
    if config["trunk_groups"]:
        head = head + branch(head, weights, "divergence.trunk", config, config["trunk_groups"])
    levels = [[([], [head])]]  # per level: (path, features of the node and of all its ancestors)
    for _ in range(config["depth"]):
        below = []
        for path, nodes in levels[-1]:
            for child in range(config["children"]):
                name = "-".join(map(str, [*path, child]))
                place = f"divergence.branches.{name}"
                grown = branch(nodes[0], weights, place, config, config["groups"])
                below.append(([*path, child], [grown, *nodes]))
        levels.append(below)
    leaves = []
    for index, (_, nodes) in enumerate(levels[-1]):
        features, *ancestors = nodes
        for step, ancestor in enumerate(ancestors if config["deep_residual"] else [head]):
            features = ancestor + layer(features, weights, f"divergence.residuals.{index}.{step}")
        leaves.append(features)
    return leaves


def predictions(lr, weights, config):
    images = []
    for index, features in enumerate(leaf_features(lr, weights, config)):
        image = tail(features, weights, f"divergence.tails.{index}", config)
        if config["mean"] == "convolution":
            image = layer(image, weights, "divergence.add_mean")
        if config["base"] == "bicubic":
            image = image + bicubic(lr, config["scale"])
        elif config["mean"] == "fixed":
            image = image + RGB_MEAN
        images.append(image)
    return np.stack(images)


def forward(lr, weights, config):
    """Return SR, predictions and weight maps of one image."""
    images = predictions(lr, weights, config)
    if config["convergence_channels"] == 0:
        return images.mean(0), images, np.full((len(images), *images.shape[2:]), 1 / len(images))
    step = config["scale"] if config["convergence_grid"] == "lr" else 1
    features = packed(np.concatenate(images), step)
    for index in range(3):
        features = layer(features, weights, f"convergence.convs.{index}")
        if index == 2:
            features = shuffled(features, step)
        if index < 2 or config["convergence_last_relu"]:
            features = relu(features)
    raised = np.exp(features - features.max(0))
    maps = raised / raised.sum(0)
    sr = sum(image * one for image, one in zip(images, maps, strict=True))
    return sr, images, maps
