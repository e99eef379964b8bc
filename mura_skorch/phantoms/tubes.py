"""Rasterize bones as tubes, and add fractures and metal implants; all lengths in pixels."""

from typing import Any, NamedTuple

import numpy as np

# Sizes of lesions in pixels of a 512-pixel picture, so that they survive a downscale to 96.
GAP = (10.0, 15.0)  # width of a fracture
STEP = (8.0, 12.0)  # sideways step of a fracture line
SHIFT = (18.0, 30.0)  # sideways step of a displaced fragment
PLATE_WIDTH, PLATE_LENGTH = (18.0, 26.0), (140.0, 220.0)
WIRE_WIDTH, WIRE_LENGTH = (8.0, 11.0), (140.0, 220.0)
NAIL_WIDTH, NAIL_LENGTH = (14.0, 20.0), (160.0, 280.0)
SCREW_WIDTH = 6.0
PLATE_GREY = 0.92  # of white, so that screws stand out against their plate
LESIONS = ("line", "fragment", "plate", "wires", "nail")
LESION_WEIGHTS = (0.04, 0.08, 0.46, 0.14, 0.28)

N_STEPS = 512  # entries of a table along a bone

Box = tuple[int, int, int, int]


class Lesion(NamedTuple):
    """Abnormality of a study: kind, bone, place along it (0 to 1) and the seed of its details."""

    kind: str
    bone: str
    at: float
    seed: int


class Tube(NamedTuple):
    """Bone or rod in one picture, in pixels: its ends, half-width and midline along it."""

    p: np.ndarray
    q: np.ndarray
    width: np.ndarray
    drift: np.ndarray
    radius: float
    density: float = 1.0
    hollow: bool = False
    cut: tuple[float, ...] | None = None  # position, slope, gap, side, phase


def raster(tube: Tube, size: tuple[int, int], margin: float = 0.0) -> tuple[Any, ...] | None:
    """Return the part of the picture near a tube; for its pixels: table entry, along, across."""
    axis = tube.q - tube.p
    length = float(np.hypot(*axis))
    if length < 2:
        return None
    e = axis / length
    n = np.array([-e[1], e[0]])
    half = float(tube.width.max() + np.abs(tube.drift).max()) + margin
    corners = np.array([end + side * half * n for end in (tube.p, tube.q) for side in (-1, 1)])
    box = box_of(corners, size)
    if box is None:
        return None
    x = np.arange(box[0], box[2], dtype=np.float32) - np.float32(tube.p[0])
    y = (np.arange(box[1], box[3], dtype=np.float32) - np.float32(tube.p[1]))[:, None]
    u = x * np.float32(e[0]) + y * np.float32(e[1])
    v = x * np.float32(n[0]) + y * np.float32(n[1])
    near = (np.abs(v) < half) & (u >= 0) & (u < length)
    u, v = u[near], v[near]
    k = np.minimum((u * np.float32(N_STEPS / length)).astype(np.int32), N_STEPS - 1)
    return (slice(box[1], box[3]), slice(box[0], box[2])), near, k, u, v, length


def injure(tubes: dict[str, Tube], metal: np.ndarray, lesion: Lesion) -> Box | None:
    """Add a lesion to a bone in place and return the lesion's box; None if it is not visible."""
    rng = np.random.default_rng(lesion.seed)
    name = lesion.bone if lesion.bone in tubes else "proximal"  # a thumb has no middle phalanx
    tube, at = tubes[name], lesion.at
    length = float(np.hypot(*(tube.q - tube.p)))
    e = (tube.q - tube.p) / length
    n = np.array([-e[1], e[0]])
    half = float(tube.width[int(at * (N_STEPS - 1))])
    spot = tube.p + at * length * e + tube.drift[int(at * (N_STEPS - 1))] * n
    if lesion.kind not in ("line", "fragment"):
        ends = (-at * length, (1 - at) * length)
        for rod in _hardware(lesion.kind, (spot, e, n), half, ends, rng):
            _lay(rod, metal)
        pixels = np.argwhere(metal)[:, ::-1]
        return box_of(pixels, metal.shape) if len(pixels) else None
    gap, phase = rng.uniform(*GAP), rng.uniform(0, 6)
    slope = rng.choice([-1, 1]) * rng.uniform(0.15, 0.6)
    step = rng.choice([-1, 1]) * rng.uniform(*(STEP if lesion.kind == "line" else SHIFT))
    # The fragment moves at the fracture and turns about its joint, so its neighbours do not move.
    moved = tube.p + step / (1 - at) * n
    tubes[name] = tube._replace(cut=(at, slope, gap, -1.0, phase))
    drop = slope * step / length  # as the step slides along the slope, it would close the gap
    tubes["fragment"] = tube._replace(p=moved, cut=(at + drop, slope, gap, 1.0, phase))
    along, across = gap / 2 + 4 + abs(slope) * half, half + abs(step)
    corners = [spot + s * along * e + t * across * n for s in (-1, 1) for t in (-1, 1)]
    return box_of(np.array(corners), metal.shape)


def _hardware(
    kind: str, frame: tuple[Any, Any, Any], half: float, ends: tuple[float, float], rng: Any
) -> list[tuple[np.ndarray, np.ndarray, float, float, float]]:
    """Return rods of metal: two points, half-width in pixels, depth of the thread, brightness."""
    spot, e, n = frame

    def point(along: float, across: float) -> np.ndarray:
        return spot + along * e + across * n

    side, screw = rng.choice([-1, 1]), SCREW_WIDTH / 2
    if kind == "wires":
        turns = rng.choice([-1, 1]) * np.array([0.16, -0.2, 0.05])[: rng.integers(2, 4)]
        rods = []
        for turn in turns + rng.normal(0, 0.03, len(turns)):
            reach = min(rng.uniform(*WIRE_LENGTH), 1.1 * (ends[1] - ends[0])) / 2
            a, b = reach * np.cos(turn), reach * np.sin(turn)
            c, wide = rng.uniform(-0.3, 0.3) * half, rng.uniform(*WIRE_WIDTH) / 2
            rods.append((point(-a, c - b), point(a, c + b), wide, 0.0, 1.0))
        return rods
    reach = rng.uniform(*(PLATE_LENGTH if kind == "plate" else NAIL_LENGTH)) / 2
    low, high = max(-reach, 0.92 * ends[0]), min(reach, 0.92 * ends[1])
    if kind == "plate":
        wide, c = rng.uniform(*PLATE_WIDTH) / 2, side * half * rng.uniform(0.3, 1.0)
        rods = [(point(low, c), point(high, c), wide, 0.0, PLATE_GREY)]
        for a in np.linspace(low + wide, high - wide, int(np.clip((high - low) / 26, 2, 6))):
            tip = point(a + rng.normal(0, 2), -side * 0.95 * half)
            rods.append((point(a, c + side * wide), tip, screw, 0.25, 1.0))
        return rods
    wide = rng.uniform(*NAIL_WIDTH) / 2
    rods = [(point(low, 0), point(high, 0), wide, 0.0, 0.95)]
    for a in (low + 12, low + 28, high - 14):
        rods.append((point(a, 1.2 * half), point(a, -1.2 * half), screw, 0.25, 1.0))
    return rods


def _lay(rod: tuple[np.ndarray, np.ndarray, float, float, float], metal: np.ndarray) -> None:
    """Draw one rod onto the picture of the metal."""
    p, q, half, thread, level = rod
    turns = np.linspace(0, 2 * np.pi * np.hypot(*(q - p)) / 5, N_STEPS)
    width = (half * (1 + thread * np.sin(turns))).astype(np.float32)
    found = raster(Tube(p, q, width, np.zeros(N_STEPS), half), metal.shape, 1.0)
    if found is not None:
        part, near, k, _, v, _ = found
        alpha = level * np.clip(width[k] - np.abs(v) + 0.5, 0, 1)
        metal[part][near] = np.maximum(metal[part][near], alpha)


def box_of(corners: np.ndarray, size: tuple[int, int]) -> Box | None:
    """Return the bounding box of points (x, y) within the picture; None if it is empty."""
    x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, size[::-1])
    return (int(x0), int(y0), int(x1), int(y1)) if x0 < x1 and y0 < y1 else None
