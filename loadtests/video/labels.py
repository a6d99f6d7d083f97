"""People in the first 111 frames of vtest.avi, labelled by eye on every tenth frame.

The frames were drawn at twice their size with a grid of 50 pixels; head, feet and middle were read off it, to about 5
pixels. Between two labels a person's place is interpolated, so that a box is good to about a tenth of a person's height.
Persons who are hidden for the most part (behind the sign, or another) are labelled where they must be.
"""

import numpy as np

from posewire.types import FloatArray

LAST_FRAME = 110
_EVERY = 10
_WIDTH = 0.38  # of a person's height

# Person: first labelled frame, then (x of the middle, y of the head, y of the feet), pixels, for every tenth frame.
_LABELS: dict[str, tuple[int, list[tuple[int, int, int]]]] = {
    "grey hood, paper": (
        0,
        [
            *((268, 220, 307), (331, 208, 293), (379, 194, 276), (390, 187, 264), (411, 185, 262), (419, 182, 262)),
            *((414, 184, 262), (420, 182, 262), (420, 182, 263), (418, 182, 262), (438, 182, 256), (424, 182, 258)),
        ],
    ),
    "brown jacket, jeans": (
        0,
        [
            *((515, 158, 233), (483, 169, 245), (421, 175, 252), (399, 179, 256), (388, 179, 257), (385, 180, 258)),
            *((388, 181, 260), (386, 181, 258), (385, 181, 259), (389, 180, 257), (391, 179, 256), (385, 177, 254)),
        ],
    ),
    "black coat": (
        0,
        [
            *((667, 241, 320), (565, 239, 325), (459, 233, 317), (416, 225, 293), (450, 190, 271), (445, 176, 245)),
            *((374, 169, 235), (308, 170, 233), (272, 174, 244), (304, 189, 262), (361, 201, 274), (442, 206, 281)),
        ],
    ),
    "red and navy jacket": (
        20,
        [
            *((707, 272, 360), (648, 253, 352), (587, 236, 332), (525, 217, 309), (484, 204, 292)),
            *((460, 191, 276), (460, 173, 252), (476, 160, 234), (506, 148, 219), (538, 139, 207)),
        ],
    ),
    "blonde, black coat": (
        20,
        [
            *((743, 270, 360), (684, 249, 344), (617, 232, 324), (567, 214, 301), (518, 201, 283)),
            *((492, 188, 268), (487, 173, 249), (503, 163, 231), (528, 152, 217), (561, 142, 210)),
        ],
    ),
    "bald, jeans": (
        50,
        [(692, 257, 359), (633, 234, 340), (603, 210, 306), (584, 187, 283), (584, 172, 258), (604, 154, 233), (632, 140, 217)],
    ),
    "far away on the grass": (80, [(279, 53, 83), (256, 57, 88), (230, 61, 93), (201, 66, 98)]),
}

# Stands and talks, and is seen whole, in these frames.
STANDING = ("brown jacket, jeans", 40, 110)


def people_in(frame: int) -> dict[str, FloatArray]:
    """Everyone labelled in a frame, as x y w h, pixels."""
    people = {}
    for name, (first, labels) in _LABELS.items():
        frames = first + _EVERY * np.arange(len(labels))
        if frames[0] <= frame <= frames[-1]:
            x, top, bottom = (float(np.interp(frame, frames, column)) for column in zip(*labels, strict=True))
            width = _WIDTH * (bottom - top)
            people[name] = np.array([x - width / 2, top, width, bottom - top], np.float32)
    return people
