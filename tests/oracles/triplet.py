"""Eq. 1 to 7 and 9 of the paper, literally, number by number; nothing of the package is used.

Images are nested lists or arrays indexed [image][leaf][color][row][column].
"""

import math

LUMA = {"y": (0.299, 0.587, 0.114), "mean": (1 / 3, 1 / 3, 1 / 3)}


def luma(image, kind):
    """Return one number per pixel, up to the gain and offset that Eq. 2 removes."""
    red, green, blue = image
    rows, columns = range(len(red)), range(len(red[0]))
    weights = LUMA[kind]
    return [
        [
            sum(w * c[y][x] for w, c in zip(weights, (red, green, blue), strict=True))
            for x in columns
        ]
        for y in rows
    ]


def standardized(images, kind):
    """Return the luma of images with their common mean 0 and deviation 1 (Eq. 2)."""
    lumas = [luma(image, kind) for image in images]
    values = [value for one in lumas for row in one for value in row]
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return [[[(value - mean) / deviation for value in row] for row in one] for one in lumas]


def path(leaf, depth, children):
    """Return the child taken at each level, from the root down."""
    steps = []
    for _ in range(depth):
        steps.insert(0, leaf % children)
        leaf //= children
    return steps


def level_of_common_parent(first, second, depth, children):
    """Return l of Eq. 6: 1 where the two part at the root."""
    steps = zip(path(first, depth, children), path(second, depth, children), strict=True)
    for level, (one, other) in enumerate(steps, start=1):
        if one != other:
            return level
    raise ValueError("a leaf has no parent in common with itself")


def residuals(predictions, hr, kind, absolute):
    """Return the error maps of some images' predictions of one leaf (Eq. 3)."""
    ours, theirs = standardized(predictions, kind), standardized(hr, kind)
    maps = []
    for one, other in zip(ours, theirs, strict=True):
        difference = [
            [a - b for a, b in zip(row, true, strict=True)]
            for row, true in zip(one, other, strict=True)
        ]
        maps.append([[abs(v) for v in row] for row in difference] if absolute else difference)
    return maps


def distance(first, second):
    """Return the mean squared difference of two equal lists of maps."""
    squares = [
        (a - b) ** 2
        for one, other in zip(first, second, strict=True)
        for row, twin in zip(one, other, strict=True)
        for a, b in zip(row, twin, strict=True)
    ]
    return sum(squares) / len(squares)


def triplet(anchor, negative, margin):
    """Return Eq. 4 with the zero map as the positive."""
    zero = [[[0.0 for _ in row] for row in one] for one in anchor]
    return max(distance(anchor, zero) - distance(anchor, negative) + margin, 0.0)


def triplet_term(predictions, hr, *, depth, children, margins, theta, kind, statistics, absolute):
    """Return T_D of Eq. 5; per image and then averaged, or over the whole batch at once."""
    images = range(len(predictions))
    groups = [list(images)] if statistics == "batch" else [[image] for image in images]
    leaves = children**depth
    total = 0.0
    for group in groups:
        maps = [
            residuals([predictions[n][leaf] for n in group], [hr[n] for n in group], kind, absolute)
            for leaf in range(leaves)
        ]
        summed = 0.0
        for i in range(leaves):
            for j in range(leaves):
                if i == j:
                    continue
                level = level_of_common_parent(i, j, depth, children)
                margin = margins[level - 1] if len(margins) > 1 else margins[0]
                beta = theta ** (level - 1)
                summed += beta * triplet(maps[i], maps[j], margin)
        total += summed / (leaves * (leaves - 1))
    return total / len(groups)


def predictions_distance(predictions, hr, of):
    """Return Eq. 1, the mean of `of(difference)` summed over the leaves."""
    total = 0.0
    for leaf in range(len(predictions[0])):
        values = [
            of(a - b)
            for image in range(len(hr))
            for color in range(3)
            for row, true in zip(predictions[image][leaf][color], hr[image][color], strict=True)
            for a, b in zip(row, true, strict=True)
        ]
        total += sum(values) / len(values)
    return total


def alpha_in_epoch(epoch, *, alpha, first, on, period, halve_every):
    """Return Eq. 7's alpha by walking through the epochs one by one."""
    weight, since_start, since_halved = alpha, None, 0
    for now in range(epoch + 1):
        if since_halved == halve_every:
            weight, since_halved = weight / 2, 0
        if now == first or since_start == period - 1:
            since_start = 0
        elif since_start is not None:
            since_start += 1
        since_halved += 1
    return weight if since_start is not None and since_start < on else 0.0
