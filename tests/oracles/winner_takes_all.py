"""Relaxed winner-takes-all, number by number; nothing of the package is used.

Images are nested lists or arrays indexed [image][leaf][color][row][column].
"""


def winner_takes_all(predictions, hr, of, *, epsilon, side):
    """Return the loss for the distance `of(difference)` and patches of `side` pixels."""
    leaves = len(predictions[0])
    total, count = 0.0, 0
    for image, true in zip(predictions, hr, strict=True):
        height, width = len(true[0]), len(true[0][0])
        for top in range(0, height, side):
            for left in range(0, width, side):
                rows = range(top, min(top + side, height))
                columns = range(left, min(left + side, width))
                sums = [distance_sum(leaf, true, of, rows, columns) for leaf in image]
                winner = sums.index(min(sums))
                for leaf, value in enumerate(sums):
                    weight = 1 - epsilon if leaf == winner else epsilon / (leaves - 1)
                    total += leaves * weight * value
                count += 3 * len(rows) * len(columns)
    return total / count


def distance_sum(one, other, of, rows, columns):
    """Return the summed distance of two images inside a patch."""
    return sum(
        of(one[color][y][x] - other[color][y][x])
        for color in range(3)
        for y in rows
        for x in columns
    )
