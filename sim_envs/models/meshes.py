"""Splits Wavefront OBJ files by the colours of their materials, as MuJoCo gives a mesh one colour only."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wpg.sim_envs.models.scene import RGBA

DEFAULT_RGBA: RGBA = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class MeshPart:
    """The triangles of one colour in a mesh."""

    rgba: RGBA
    vertices: NDArray[np.float64]
    """(V, 3) m."""
    faces: NDArray[np.int32]
    """(F, 3), each a triangle of three row numbers of ``vertices``."""


def obj_parts(path: Path) -> list[MeshPart]:
    """Read the triangles of an OBJ file by colour; polygons are split into fans of triangles."""
    vertices: list[list[float]] = []
    faces: dict[RGBA, list[tuple[int, int, int]]] = {}
    colours: dict[str, RGBA] = {}
    current = faces.setdefault(DEFAULT_RGBA, [])
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        match kind:
            case "v":
                vertices.append([float(word) for word in rest.split()[:3]])
            case "f":
                corners = [int(word.partition("/")[0]) for word in rest.split()]
                corners = [index - 1 if index > 0 else len(vertices) + index for index in corners]
                current.extend((corners[0], b, c) for b, c in itertools.pairwise(corners[1:]))
            case "mtllib":
                colours.update(_diffuse_colours(path.parent / rest.strip()))
            case "usemtl":
                current = faces.setdefault(colours.get(rest.strip(), DEFAULT_RGBA), [])
    points = np.array(vertices)
    return [_part(rgba, points, triangles) for rgba, triangles in faces.items() if triangles]


def _part(rgba: RGBA, points: NDArray[np.float64], triangles: list[tuple[int, int, int]]) -> MeshPart:
    used, faces = np.unique(np.array(triangles), return_inverse=True)
    return MeshPart(rgba=rgba, vertices=points[used], faces=faces.reshape(-1, 3).astype(np.int32))


def _diffuse_colours(path: Path) -> dict[str, RGBA]:
    colours: dict[str, RGBA] = {}
    name = ""
    for line in path.read_text().splitlines() if path.is_file() else ():
        words = line.split()
        if words[:1] == ["newmtl"]:
            name = line.partition("newmtl")[2].strip()
        elif words[:1] == ["Kd"]:
            red, green, blue = (round(float(word), 2) for word in words[1:4])
            colours[name] = (red, green, blue, 1.0)
    return colours
