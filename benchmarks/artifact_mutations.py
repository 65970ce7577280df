"""Mutates an artifact thousands of times and reads every mutant: none may crash the reader or be misread.

    python benchmarks/artifact_mutations.py FILE [--mutants 10000] [--seed 0]

Plain mutants are files as damage or a careless edit leaves them; all must be refused. Resealed mutants carry
a right digest again, as only an intentional change has it. Only the golden vectors can detect them then, and
every error of onnxruntime must still end in one line. A mutant counts as misread if it is
accepted, golden vectors included, and answers a probe otherwise than the original.
"""

import collections
import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tyro

from wpg.export import Artifact, ArtifactError
from wpg.export.digest import SEAL_SIZE, seal
from wpg.export.reader import artifact_from_bytes

CHUNK = 250


def flip_bits(data: bytearray, rng: random.Random) -> None:
    """One to eight bytes anywhere."""
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)


def flip_near_ends(data: bytearray, rng: random.Random) -> None:
    """A byte among the first or last 20,000, where names, shapes and the contract are."""
    place = rng.randrange(min(20000, len(data)))
    data[place if rng.random() < 0.5 else len(data) - 1 - place] ^= 1 << rng.randrange(8)


def cut_end(data: bytearray, rng: random.Random) -> None:
    """Anything from one byte to almost all of it."""
    del data[rng.randrange(len(data)) :]


def cut_middle(data: bytearray, rng: random.Random) -> None:
    """Up to 1,000 bytes."""
    start = rng.randrange(len(data))
    del data[start : start + rng.randrange(1, 1000)]


def insert(data: bytearray, rng: random.Random) -> None:
    """Up to 100 random bytes."""
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.randbytes(rng.randrange(1, 100))


def append(data: bytearray, rng: random.Random) -> None:
    """Up to 200 random bytes at the end."""
    data += rng.randbytes(rng.randrange(1, 200))


def swap_blocks(data: bytearray, rng: random.Random) -> None:
    """Two blocks of the same length."""
    size = rng.randrange(1, 4000)
    a, b = sorted(rng.randrange(len(data) - 2 * size) for _ in range(2))
    b = max(b, a + size)
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def zero_block(data: bytearray, rng: random.Random) -> None:
    """A block of zeros, as a file system may leave after a crash."""
    start = rng.randrange(len(data))
    stop = min(start + rng.randrange(1, 4096), len(data))
    data[start:stop] = bytes(stop - start)


def swap_digits(data: bytearray, rng: random.Random) -> None:
    """Another digit in the contract's JSON."""
    start = data.index(b'{"version"')
    digits = [i for i in range(start, len(data) - SEAL_SIZE) if 48 <= data[i] <= 57]
    place = rng.choice(digits)
    data[place] = rng.choice([d for d in range(48, 58) if d != data[place]])


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    flip_near_ends,
    cut_end,
    cut_middle,
    insert,
    append,
    swap_blocks,
    zero_block,
    swap_digits,
)


def outputs(artifact: Artifact, seed: int = 0) -> list[bytes]:
    """What the artifact answers to probes around its golden observations."""
    contract, rng = artifact.contract, np.random.default_rng(seed)
    golden = np.array(contract.golden.obs, np.float32)
    obs = golden * (1 + 0.1 * rng.standard_normal(golden.shape)).astype(np.float32)
    noise = rng.standard_normal((len(obs), 8, contract.sampler.noise_dim), dtype=np.float32)
    return [output.tobytes() for output in artifact.run(obs, noise)]


def verdict(data: bytes, original: list[bytes], path: Path) -> str:
    """``refused``, ``same``, ``misread`` or the name of what was raised and should not have been."""
    try:
        artifact = artifact_from_bytes(data, path)
        artifact.verify_golden()
    except ArtifactError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    except Exception as error:
        return f"raised {type(error).__name__}"
    return "same" if outputs(artifact) == original else "misread"


def chunk(job: tuple[Path, int, int, bool]) -> collections.Counter[tuple[str, str]]:
    """Verdicts by mutation for one run of mutants."""
    path, seed, number, resealed = job
    pristine = path.read_bytes()
    original = outputs(artifact_from_bytes(pristine, path))
    rng = random.Random(seed)
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    for _ in range(number):
        mutation = rng.choice(MUTATIONS)
        data = bytearray(pristine[:-SEAL_SIZE] if resealed else pristine)
        mutation(data, rng)
        mutant = seal(bytes(data)) if resealed else bytes(data)
        found[mutation.__name__, "unchanged" if mutant == pristine else verdict(mutant, original, path)] += 1
    return found


def campaign(path: Path, number: int, seed: int, resealed: bool) -> collections.Counter[tuple[str, str]]:
    """Verdicts of all chunks, each in a process of its own, so that a crash is counted."""
    total: collections.Counter[tuple[str, str]] = collections.Counter()
    context = multiprocessing.get_context("spawn")
    for start in range(0, number, CHUNK):
        with context.Pool(1) as pool:
            job = pool.apply_async(chunk, ((path, seed + start, min(CHUNK, number - start), resealed),))
            try:
                total += job.get(timeout=300)
            except multiprocessing.TimeoutError:
                total["chunk", "crashed or hung"] += 1
    return total


def main(
    file: tyro.conf.Positional[Path],
    *,
    mutants: int = 10_000,
    seed: int = 0,
) -> int:
    """Print the verdicts; 1 if a plain mutant was misread or any mutant crashed the reader."""
    failed = False
    for resealed in (False, True):
        number = mutants // 10 if resealed else mutants
        start = time.perf_counter()
        found = campaign(file, number, seed, resealed)
        print(
            f"\n{number} {'resealed' if resealed else 'plain'} mutants, {time.perf_counter() - start:.0f} s"
        )
        for (mutation, what), times in sorted(found.items()):
            print(f"  {mutation:15} {what:25} {times}")
        allowed = {"refused", "unchanged"} | ({"same", "misread"} if resealed else set())
        failed |= any(what not in allowed for _, what in found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(tyro.cli(main, description=__doc__))
