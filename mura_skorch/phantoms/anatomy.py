"""Model the bones and flesh of one limb, and the part of it that each study type shows.

All lengths are in millimetres. x points to the little finger, y from the fingers to the shoulder,
z to the viewer; the wrist is the origin. Each study type shows the same limb through its window.
"""

from typing import Any, NamedTuple

import numpy as np

# Possible places of a lesion: bone, and range along it from 0 to 1.
SITES: dict[str, list[tuple[str, float, float]]] = {
    "XR_ELBOW": [("humerus", 0.13, 0.18), ("radius", 0.77, 0.84), ("ulna", 0.76, 0.83)],
    "XR_FINGER": [("proximal", 0.4, 0.6), ("middle", 0.42, 0.58)],
    "XR_FOREARM": [("radius", 0.25, 0.75), ("ulna", 0.25, 0.75)],
    "XR_HAND": [(f"metacarpal{ray}", 0.42, 0.6) for ray in range(2, 6)],
    "XR_HUMERUS": [("humerus", 0.3, 0.76)],
    "XR_SHOULDER": [("humerus", 0.74, 0.83), ("clavicle", 0.3, 0.5)],
    "XR_WRIST": [("radius", 0.08, 0.15), ("ulna", 0.08, 0.15)],
}  # fmt: skip
ASPECT = {"XR_FINGER": 0.52, "XR_FOREARM": 0.52, "XR_HUMERUS": 0.6}  # width / height, else 0.8
TURN = {"XR_ELBOW": 180.0, "XR_HUMERUS": 180.0, "XR_SHOULDER": 180.0}  # degrees, else 0

# Outline of a bone: position along it; half-width and drift of the midline, in shaft radii.
SHAPES: dict[str, list[tuple[float, float, float]]] = {
    "phalanx": [(0, 1.5, 0), (0.1, 1.5, 0), (0.3, 1.05, 0), (0.6, 0.88, 0), (0.85, 1.15, 0),
                (1, 1.2, 0)],
    "tuft": [(0, 1.7, 0), (0.12, 1.5, 0), (0.45, 0.8, 0), (0.7, 0.75, 0), (0.85, 1.2, 0),
             (1, 1.1, 0)],
    "metacarpal": [(0, 1.6, 0), (0.1, 1.5, 0), (0.3, 1, 0), (0.6, 0.9, 0), (0.82, 1.35, 0),
                   (0.93, 1.55, 0), (1, 1.4, 0)],
    "radius": [(0, 2.2, 0.1), (0.04, 2.15, 0.1), (0.1, 1.5, 0.1), (0.2, 1.05, 0), (0.35, 1, -0.4),
               (0.5, 1, -0.7), (0.65, 0.95, -0.5), (0.8, 0.9, 0.1), (0.94, 0.95, 0.2),
               (0.97, 1.55, 0), (1, 1.6, 0)],
    "ulna": [(0, 1.2, 0), (0.03, 1.35, 0), (0.1, 0.85, 0), (0.4, 0.95, 0.3), (0.7, 1.15, 0.1),
             (0.86, 1.7, 0), (0.92, 2, 0.1), (1, 1.5, 0.1)],
    "humerus": [(0, 1.9, 0), (0.02, 2.2, 0), (0.055, 2.7, 0.3), (0.1, 2.1, 0.15), (0.15, 1.5, 0),
                (0.25, 1.1, 0), (0.6, 1, 0), (0.82, 1.25, 0), (0.9, 1.7, -0.1),
                (0.95, 2, -0.2), (1, 1.8, -0.3)],
    "clavicle": [(0, 1.6, 0), (0.1, 1.4, -0.3), (0.3, 1, -0.9), (0.5, 0.95, 0), (0.75, 1, 1.1),
                 (0.92, 1.4, 0.6), (1, 1.6, 0.2)],
    "rib": [(0, 1, 0), (0.25, 1, -2), (0.5, 1, -3), (0.75, 1, -2.4), (1, 1, 0)],
    "pebble": [(0, 0.85, 0), (0.3, 1, 0.05), (0.65, 0.95, -0.05), (1, 0.8, 0)],
    "blade": [(0, 0.5, 0), (0.15, 0.7, 0), (0.5, 1, 0), (0.8, 0.7, 0.35), (1, 0.3, 0.6)],
}  # fmt: skip
CARPALS = [  # x, y, length, radius, turn in degrees
    (-12, -5, 18, 6.6, 40), (-1, -4, 13, 6.6, 85), (9, -7, 12, 5.6, 30), (12, -4, 7, 3.8, 0),
    (-18, -15, 12, 6, 60), (-10, -17, 10, 5.2, 90), (-1, -15, 21, 6, 90), (9, -17, 15, 6.6, 65),
]  # fmt: skip
# Base of the metacarpal, angle in degrees, lengths from the metacarpal to the tip.
RAYS: list[tuple[float, float, float, tuple[float, ...]]] = [
    (-23, -14, -42, (45, 32, 0, 23)), (-13.5, -23, -9, (65, 41, 24, 18)),
    (-3, -25, -1, (63, 45, 29, 19)), (6.5, -23, 7, (57, 42, 27, 19)),
    (14.5, -20, 15, (53, 34, 20, 17)),
]  # fmt: skip
SEGMENTS = [("metacarpal", 4.6), ("proximal", 4.4), ("middle", 3.8), ("distal", 3.0)]  # radius
GIRDLE = [  # name, from, to as (x to the body, distance below the shoulder), radius, shape, density
    ("head", (10, 26), (20, 0), 22, "pebble", 0.85),
    ("glenoid", (47, -10), (44, 36), 8, "pebble", 0.7),
    ("neck", (45, 14), (76, 12), 13, "phalanx", 0.28),
    ("blade", (58, 0), (90, 128), 34, "blade", 0.3),
    ("border", (49, 30), (90, 128), 4.0, "rib", 0.45),
    ("spine", (4, -32), (122, -6), 5.5, "rib", 0.45),
    ("acromion", (-16, -24), (18, -36), 8, "pebble", 0.6),
    ("coracoid", (24, 0), (46, -14), 7, "pebble", 0.6),
    ("clavicle", (16, -38), (160, -54), 6.8, "clavicle", 1.0),
]


class Bone(NamedTuple):
    """Tube between two points, in millimetres."""

    start: np.ndarray
    end: np.ndarray
    radius: float
    shape: str
    density: float = 1.0


class Limb(NamedTuple):
    """Bones by name, flesh as (start, end, radius, radius), and the corners of the window.

    Radii of air, in the lungs, are negative.
    """

    bones: dict[str, Bone]
    flesh: list[tuple[Any, Any, float, float]]
    window: np.ndarray


def grow_limb(study_type: str, body: np.random.Generator, rng: np.random.Generator) -> Limb:
    """Return a limb with random proportions and pose.

    Parameters
    ----------
    study_type : str
        One of the keys of `SITES`.
    body : Generator
        Draws what all views of a study share, such as the lengths of bones.
    rng : Generator
        Draws what differs between views, such as the flexion.

    Returns
    -------
    limb : Limb
    """
    limb = Limb({}, [], np.empty(0))
    fat, thick = body.uniform(0.9, 1.25), body.uniform(0.93, 1.13)
    picked = int(body.integers(5)) if study_type == "XR_FINGER" else None
    tips = _grow_hand(limb, picked, fat, thick, body, rng)
    if picked is not None:
        return limb._replace(window=_corners(tips, 12))
    arm, length = body.uniform(225, 250), body.uniform(285, 320)
    limb.bones["radius"] = Bone(_p(-7, 3, 4), _p(-12, arm - 1, 5), 6.8 * thick, "radius")
    limb.bones["ulna"] = Bone(_p(13, 5, -4), _p(9, arm + 17, -6), 6.2 * thick, "ulna")
    for y0, y1, r0, r1 in [(-20, 45, 26, 28), (45, arm - 40, 28, 42), (arm - 40, arm + 15, 42, 41)]:
        limb.flesh.append((_p(0, y0), _p(0, y1), r0 * fat, r1 * fat))
    bent = {"XR_ELBOW": 105, "XR_FOREARM": 50}.get(study_type, 10)  # degrees at most
    degrees = rng.uniform(0, bent)
    flex = np.deg2rad(degrees if rng.random() < 0.7 else 0.0)
    elbow, along = _p(0, arm + 5), _p(np.sin(flex), np.cos(flex))
    across = _p(np.cos(flex), -np.sin(flex))

    def up(x: float, below: float, z: float = 0.0) -> np.ndarray:
        return elbow + (length - below) * along + x * across + _p(0, 0, z)

    if study_type in ("XR_ELBOW", "XR_FOREARM", "XR_HUMERUS", "XR_SHOULDER"):
        limb.bones["humerus"] = Bone(elbow, up(0, 3), 10.6 * thick, "humerus")
        limb.flesh.append((elbow, up(0, 90), 41 * fat, 48 * fat))
        limb.flesh.append((up(0, 90), up(4, 10), 48 * fat, 52 * fat))
    if study_type in ("XR_HUMERUS", "XR_SHOULDER"):
        _grow_trunk(limb, up, fat, thick, body)
    corners = {
        "XR_WRIST": _corners([_p(0, -45), _p(0, 55)], 27),
        "XR_FOREARM": _corners([_p(0, -22), _p(0, arm + 22)], 29),
        "XR_ELBOW": [*_corners([_p(0, arm - 72)], 32), up(-32, length - 72), up(32, length - 72)],
        "XR_HUMERUS": [up(-40, -38), up(45, -38), up(-38, length + 22), up(38, length + 22)],
        "XR_SHOULDER": [up(-48, -56), up(108, -56), up(-48, 95), up(108, 95)],
        "XR_HAND": [*tips, _p(-24, 14), _p(24, 14)],
    }[study_type]  # fmt: skip
    return limb._replace(window=np.array(corners))


def _p(x: float, y: float, z: float = 0.0) -> np.ndarray:
    return np.array([x, y, z], dtype=float)


def _corners(points: Any, half: float) -> np.ndarray:
    return np.array([point + _p(side, 0) for point in points for side in (-half, half)])


def _grow_hand(
    limb: Limb,
    picked: int | None,
    fat: float,
    thick: float,
    body: np.random.Generator,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Add the bones of the fingers and return their tips; a finger study shows one or three."""
    spread, alone = rng.uniform(0.5, 1.3), body.random() < 0.6
    tips = []
    for ray, (x, y, degrees, lengths) in enumerate(RAYS):
        angle = np.deg2rad(degrees) * (spread if ray else 1)
        at = _p(x, y, -3.0 * abs(ray - 2))
        for (name, radius), length in zip(SEGMENTS, lengths, strict=True):
            length *= body.normal(1, 0.03)
            radius *= thick * body.normal(1.18 if ray == 0 else 1.03, 0.03)  # thumbs are thicker
            angle += rng.normal(0, 0.035)
            step = _p(np.sin(angle), -np.cos(angle), rng.normal(0.03, 0.08))
            gone = picked is not None and ray != picked and (alone or abs(ray - picked) > 1)
            if length == 0 or gone:
                continue
            end = at + length * step
            shape = {"metacarpal": "metacarpal", "distal": "tuft"}.get(name, "phalanx")
            limb.bones[name if ray == picked else f"{name}{ray + 1}"] = Bone(at, end, radius, shape)
            if name == "metacarpal" and picked is None:
                limb.flesh.append((at, end, 16 * fat, 11 * fat))
            wide = fat * (7.5 + 0.5 * radius)
            beyond = 4 if name == "distal" else 0  # the finger tip
            limb.flesh.append((at, end + beyond * step, wide * 1.05, wide * 0.92))
            if ray == picked and name == "metacarpal":
                tips.append(at + 0.45 * length * step)
            at = end + 1.8 * step
        if picked in (None, ray):
            tips.append(at)
    for k, (x, y, length, radius, turn) in enumerate(CARPALS if picked is None else []):
        angle = np.deg2rad(turn + body.normal(0, 8))
        half = _p(np.cos(angle), np.sin(angle)) * length / 2 * body.normal(1, 0.05)
        at = _p(x + body.normal(0, 0.5), y + body.normal(0, 0.5), body.normal(0, 3))
        limb.bones[f"carpal{k}"] = Bone(at - half, at + half, radius, "pebble", 0.85)
    return tips


def _grow_trunk(limb: Limb, up: Any, fat: float, thick: float, body: np.random.Generator) -> None:
    """Add the shoulder girdle, the ribs and the lung."""
    for name, start, end, radius, shape, density in GIRDLE:
        turn = body.normal(0, 1.5, 4)
        limb.bones[name] = Bone(
            up(start[0] + turn[0], start[1] + turn[1], 4),
            up(end[0] + turn[2], end[1] + turn[3]),
            radius * thick,
            shape,
            density,
        )
    gap = body.uniform(26, 31)
    for k in range(7):
        y, side = -30 + gap * k, 98 - 4 * k
        limb.bones[f"rib{k}"] = Bone(up(190, y), up(side, y + 28), 4.6, "rib", 0.38)
        limb.bones[f"front{k}"] = Bone(up(side, y + 28), up(170, y + 84), 4.2, "rib", 0.25)
    limb.flesh.append((up(150, -10), up(140, 330), 92, 92))
    limb.flesh.append((up(0, 5), up(140, -40), 52 * fat, 58 * fat))
    limb.flesh.append((up(158, 45), up(155, 330), -54, -58))
