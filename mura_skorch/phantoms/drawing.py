"""Draw one phantom view, with or without a lesion.

Every bone is a tube with a cortex. A pixel is the length of an X-ray's path through the tubes.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mura_skorch.phantoms.anatomy import ASPECT, SHAPES, SITES, TURN, Bone, grow_limb
from mura_skorch.phantoms.tubes import (
    N_STEPS,
    PLATE_GREY,
    Box,
    Lesion,
    Tube,
    box_of,
    injure,
    raster,
)

LONGEST_SIDE = 512  # pixels, as in MURA
KNEE_GREY = (140.0, 175.0)  # of 255: bone brighter than this is rare


def draw_view(
    study_type: str, study_seed: int, view_seed: int, number: int, lesion: Lesion | None = None
) -> tuple[np.ndarray, Box | None]:
    """Draw one view. Size, pose and film depend on the seeds only, not on the lesion.

    Parameters
    ----------
    study_type : str
        One of the keys of `SITES`.
    study_seed, view_seed : int
        Seeds of the limb and of the pose, film and size.
    number : int
        Number of the view within its study, from 0: the first is frontal, the others oblique.
    lesion : Lesion or None
        None means a normal view.

    Returns
    -------
    picture : ndarray of shape (H, W), uint8
    box : tuple of int or None
        Lesion's (x0, y0, x1, y1) in pixels, x1 and y1 exclusive.
    """
    rng = np.random.default_rng(view_seed)
    limb = grow_limb(study_type, np.random.default_rng(study_seed), rng)
    size, place, scale, flip = _pose(study_type, limb.window, number, rng)
    body = np.random.default_rng([study_seed, 1])
    ends = place(np.array([(bone.start, bone.end) for bone in limb.bones.values()]))
    tubes = {
        name: _tube(bone, p, q, scale, flip, body)
        for (name, bone), (p, q) in zip(limb.bones.items(), ends, strict=True)
    }
    reference = max(tubes[bone].radius for bone, _, _ in SITES[study_type] if bone in tubes)
    density = _flesh(limb.flesh, place, scale, size, rng)
    metal, box = np.zeros(size, np.float32), None
    if lesion is not None:
        box = injure(tubes, metal, lesion)
    density += _bones(tubes, size, reference, body.random() < 0.15, rng)
    return _develop(density, metal, rng), box


# ------------------------------------------------------------------ pose


def _pose(
    study_type: str, window: np.ndarray, number: int, rng: np.random.Generator
) -> tuple[tuple[int, int], Callable[..., np.ndarray], float, float]:
    """Return size (H, W), the map from millimetres to pixels, pixels per millimetre and flip."""
    widest = 22 if study_type in ("XR_SHOULDER", "XR_HUMERUS", "XR_ELBOW") else 45
    phi = np.deg2rad(rng.normal(0, 6) if number == 0 else rng.uniform(-widest, widest))
    turns = [rng.normal(0, 6), rng.uniform(-40, 40), rng.uniform(-180, 180)]
    psi = np.deg2rad(rng.choice(turns, p=[0.78, 0.14, 0.08]) + TURN.get(study_type, 0.0))
    aspect = ASPECT.get(study_type, 0.8) * np.exp(rng.normal(0, 0.18))
    if abs(np.sin(psi)) > 0.7:
        aspect = 1 / aspect
    short = int(np.clip(LONGEST_SIDE * min(aspect, 1 / aspect), 140, LONGEST_SIDE))
    size = (LONGEST_SIDE, short) if aspect < 1 else (short, LONGEST_SIDE)
    flip = float(rng.choice([-1.0, 1.0]))
    # First the limb turns about its length, then the picture in its plane.
    flat = np.array([[flip * np.cos(phi), 0, flip * np.sin(phi)], [0, 1, 0]])
    spin = np.array([[np.cos(psi), -np.sin(psi)], [np.sin(psi), np.cos(psi)]])
    seen = window @ (spin @ flat).T
    low, high = seen.min(0), seen.max(0)
    scale = float((np.array(size[::-1]) / (high - low)).min() * rng.uniform(0.86, 0.97))
    shift = np.array(size[::-1]) / 2 - scale * (low + high) / 2 + rng.normal(0, 5, 2)
    matrix = scale * (spin @ flat).T
    return size, lambda points: np.asarray(points) @ matrix + shift, scale, flip


@cache
def _smooth_basis(shape: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the knots of an outline, and for each knot the smooth curve it contributes."""
    knots = np.array(SHAPES[shape])
    u = np.linspace(0, 1, N_STEPS)
    hats = np.array([np.interp(u, knots[:, 0], row) for row in np.eye(len(knots))])
    kernel = np.hanning(81) / np.hanning(81).sum()
    padded = np.pad(hats, ((0, 0), (40, 40)), mode="edge")
    return knots[:, 1:], np.array([np.convolve(row, kernel, "valid") for row in padded])


_ALONG = np.linspace(0, 1, N_STEPS)
_ENDS = np.minimum(_ALONG, 1 - _ALONG)  # distance to the nearer end
_MIDDLE = np.exp(-(((0.5 - _ENDS) / 0.36) ** 6))  # 1 in the shaft, 0 at the ends


def _tube(bone: Bone, p: np.ndarray, q: np.ndarray, scale: float, flip: float, body: Any) -> Tube:
    """Return a bone as it lies in the picture, ends rounded."""
    knots, curves = _smooth_basis(bone.shape)
    radius = bone.radius * scale
    width = (knots[:, 0] * body.normal(1, 0.035, len(knots))) @ curves * radius
    length = float(np.hypot(*(q - p)))
    cap = np.minimum(0.75 * width, 0.5 * length) + 1e-3
    width *= np.sqrt(1 - np.clip(1 - _ENDS * length / cap, 0, 1) ** 2)
    hollow = bone.shape not in ("pebble", "blade")
    return Tube(p, q, width, flip * radius * knots[:, 1] @ curves, radius, bone.density, hollow)


# ------------------------------------------------------------------ rays


def _bones(
    tubes: dict[str, Tube], size: tuple[int, int], reference: float, young: bool, rng: Any
) -> np.ndarray:
    """Return what the bones take from the beam: cortex, marrow and its trabeculae."""
    squares = np.zeros(size, np.float32)
    offsets = rng.integers(0, 256, (64, 2))
    trabeculae = (1 + 0.10 * _noise(256, (0.9, 2.2), 1)).clip(0.5, 1.5)
    for tube, off in zip(tubes.values(), offsets, strict=False):
        found = raster(tube, size)
        if found is None:
            continue
        part, near, k, u, v, length = found
        # Shafts have a thick cortex around dark marrow, ends a thin one around trabeculae.
        shaft = tube.hollow * _MIDDLE
        wall = tube.radius * (0.12 + 0.32 * shaft)
        marrow = (0.45 - 0.2 * shaft) * (tube.radius / np.maximum(tube.width, tube.radius)) ** 0.6
        if young and tube.hollow:
            plate = np.abs(_ALONG * length - 1.5 * tube.radius) < 1.3
            wall, marrow = wall * (1 - 0.6 * plate), marrow * (1 - 0.3 * plate)
        outer, inner = tube.width, np.maximum(tube.width - wall, 0)
        v2 = (v - tube.drift.astype(np.float32)[k]) ** 2
        out = np.sqrt(np.maximum((outer**2).astype(np.float32)[k] - v2, 0))
        hole = np.sqrt(np.maximum((inner**2).astype(np.float32)[k] - v2, 0))
        weave = trabeculae[
            (v + off[0]).astype(np.int32) & 255, (u * 0.6 + off[1]).astype(np.int32) & 255
        ]
        path = out - hole + hole * marrow.astype(np.float32)[k] * weave
        if tube.cut is not None:
            at, slope, gap, side, phase = tube.cut
            rough = 1.8 * np.sin(v * 0.24 + phase) + 1.2 * np.sin(v * 0.55 + 2 * phase)
            beyond = side * (u - at * length - slope * v - rough) - gap / 2
            path *= np.clip(beyond / 1.5 + 0.5, 0, 1)
        own = max(tube.radius, 1.0) ** 0.7 * reference**0.3
        # Squares, as films compress: two bones in line are brighter, but not twice as bright.
        squares[part][near] += (path * np.float32(tube.density / own)) ** 2
    return np.sqrt(squares)


def _flesh(
    flesh: list[tuple[Any, ...]], place: Any, scale: float, size: tuple[int, int], rng: Any
) -> np.ndarray:
    """Return what flesh and scatter take from the beam, drawn at a quarter of the size."""
    h, w = size
    y, x = np.mgrid[0:h:4, 0:w:4].astype(np.float32)
    depths = {1: np.zeros_like(x), -1: np.zeros_like(x)}
    ends = place(np.array([piece[:2] for piece in flesh]))
    for (p, q), (_, _, r0, r1) in zip(ends, flesh, strict=True):
        reach = max(abs(r0), abs(r1)) * scale
        box = box_of(np.array([(p - reach), (p + reach), (q - reach), (q + reach)]) / 4, x.shape)
        if box is None:
            continue
        part = slice(box[1], box[3]), slice(box[0], box[2])
        dx, dy = x[part] - np.float32(p[0]), y[part] - np.float32(p[1])
        ax, ay = (q - p).astype(np.float32)
        t = np.clip((dx * ax + dy * ay) / max(ax * ax + ay * ay, 1), 0, 1)
        r = (r0 + (r1 - r0) * t) * np.float32(scale)
        depth = depths[1 if r0 > 0 else -1][part]
        np.maximum(depth, r * r - (dx - t * ax) ** 2 - (dy - t * ay) ** 2, out=depth)
    body, lung = np.sqrt(depths[1]), np.sqrt(depths[-1])
    body = (body / max(float(np.quantile(body, 0.97)), 1)) ** 0.6 * rng.uniform(0.33, 0.6)
    body *= 1 - 0.5 * lung / max(float(lung.max()), 1)
    top, left = rng.integers(0, 128, 2)
    clouds = _noise(256, (8, 8), 2)
    body *= 1 + 0.08 * clouds[top : top + x.shape[0], left : left + x.shape[1]]
    ramp = rng.normal(0, 0.06, 2)
    scatter = rng.uniform(0.02, 0.1) + ramp[0] * (x / w - 0.5) + ramp[1] * (y / h - 0.5)
    body += np.maximum(scatter, 0.01).astype(np.float32)
    return np.array(Image.fromarray(body).resize((w, h), Image.Resampling.BICUBIC))


# ------------------------------------------------------------------ film


def _develop(density: np.ndarray, metal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the film, exposed so that metal changes neither its mean nor its spread."""
    h, w = density.shape
    # Nearly all bone stays under a knee, so that metal stands out, yet each film reaches white.
    knee, top = np.quantile(density[::2, ::2], (rng.uniform(0.993, 0.997), 0.99985))
    grey, gamma = np.float32(rng.uniform(*KNEE_GREY)), np.float32(rng.uniform(0.8, 1.4))
    film = np.clip(density / np.float32(knee), 0, 1) ** gamma * grey
    film += np.clip((density - np.float32(knee)) / np.float32(top - knee), 0, 1) * (256 - grey)
    if rng.random() < 0.35:
        _collimate(film, rng)
    if rng.random() < 0.45:
        _mark(film, rng)
    blur = np.float32(rng.uniform(0, 0.25))
    film[1:-1] += blur * (film[:-2] + film[2:] - 2 * film[1:-1])
    film[:, 1:-1] += blur * (film[:, :-2] + film[:, 2:] - 2 * film[:, 1:-1])
    grain, (y, x) = np.float32(rng.uniform(0.5, 1.8)), rng.integers(0, 512, 2)
    if metal.any():
        film = _balance(film, metal)
    film += grain * _noise(1024, (0.8, 0.8), 3)[y : y + h, x : x + w]
    return np.clip(film, 0, 255).astype(np.uint8)


def _balance(film: np.ndarray, metal: np.ndarray) -> np.ndarray:
    """Return the film with metal on it and its mean and standard deviation as they were."""
    rest, alpha = film[::3, ::3], metal[::3, ::3]
    mean, std, gain, lift = rest.mean(), rest.std(), np.float32(1), np.float32(0)

    def exposed(film: np.ndarray, metal: np.ndarray) -> np.ndarray:
        bare = 1 - np.minimum(metal / np.float32(PLATE_GREY), 1)
        return np.clip(gain * film + lift, 0, 255) * bare + 255 * metal

    for _ in range(6):
        gain = max(gain * (std / exposed(rest, alpha).std()) ** np.float32(1.5), np.float32(0.45))
        lift += mean - exposed(rest, alpha).mean()
    return exposed(film, metal)


def _collimate(film: np.ndarray, rng: np.random.Generator) -> None:
    """Darken what lies outside the beam's slightly turned rectangle."""
    h, w = film.shape
    turn, edges = np.float32(rng.normal(0, 0.03)), rng.uniform(-0.03, 0.05, 4).astype(np.float32)
    x, y = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
    sides = np.minimum(x + turn * y - edges[0] * w, w - x - turn * y - edges[1] * w)
    ends = np.minimum(y - turn * x - edges[2] * h, h - y + turn * x - edges[3] * h)
    film *= np.clip(np.minimum(sides, ends) / 3, 0.04, 1)


def _mark(film: np.ndarray, rng: np.random.Generator) -> None:
    """Lay a lead letter, L or R, into a corner."""
    h, w = film.shape
    side = int(rng.uniform(24, 40))
    letter = Image.new("L", (96, 96))
    strokes = [(30, 14), (30, 82), (68, 82)]
    if rng.random() < 0.5:
        bowl = [(56, 14), (66, 22), (66, 38), (56, 46), (32, 46)]
        strokes = [(30, 82), (30, 14), *bowl, (68, 82)]
    ImageDraw.Draw(letter).line(strokes, fill=255, width=11, joint="curve")
    letter = letter.rotate(rng.normal(0, 12)).resize((side, side), Image.Resampling.BOX)
    x = int(rng.choice([0.05 * w, 0.95 * w - side]))
    y = int(rng.choice([0.05 * h, 0.95 * h - side]))
    corner = film[y : y + side, x : x + side]
    np.maximum(corner, np.asarray(letter, np.float32), out=corner)


# ------------------------------------------------------------------ textures


# Cached: all pictures are cut from the same few textures, each at its own offset.
@cache
def _noise(side: int, sigma: tuple[float, float], seed: int) -> np.ndarray:
    """Return periodic noise of unit variance, smoothed with a Gaussian of sigma pixels."""
    noise = np.fft.rfft2(np.random.default_rng(seed).normal(size=(side, side)))
    fy, fx = np.fft.fftfreq(side)[:, None] * sigma[0], np.fft.rfftfreq(side) * sigma[1]
    field = np.fft.irfft2(noise * np.exp(-2 * np.pi**2 * (fy**2 + fx**2)), (side, side))
    return ((field - field.mean()) / field.std()).astype(np.float32)
