"""Measure what portable kernels cost.

python -m benchmarks.kernels --data FILE.inter --json OUT [--backbones freedom,lattice] [--batches 5]

Writes, for each backbone, CPU seconds a batch and an evaluation under each value of `kernels`, and portable / fastest.
Each is measured in a process of its own, since kernels are pinned before torch is loaded; the two take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from cliper import kernels

ORDER = "freedom,lattice,slmrec,dualgnn,mmgcn"
VALUES = ("fastest", "portable")


def measure(data: Path, name: str, value: str, n_batches: int) -> dict[str, float]:
    """CPU seconds of a batch (the median) and of an evaluation."""
    kernels.pin(value)
    from benchmarks import backbones  # noqa: PLC0415 - loads torch
    from cliper.device import compute_with  # noqa: PLC0415

    compute_with(threads=1, kernels_are=value)
    world, meter = backbones.read_world(data, name), backbones.Meter()
    side = backbones.side_of_ours(backbones.build_ours(world, name, backbones.find_graphs(world, name)), world, meter)
    side.start_epoch()
    batches = [
        meter.time(lambda triples=triples: side.step(triples))[0]
        for triples in backbones.draw_batches(world, 1 + n_batches)
    ]
    return {"batch": median(cost.cpu_s for cost in batches[1:]), "evaluation": meter.time(side.evaluate)[0].cpu_s}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what portable kernels cost.")
    parser.add_argument("--data", type=Path, required=True, help="an .inter file")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--backbones", default=ORDER, help="which, with commas between them")
    parser.add_argument("--batches", type=int, default=5, help="timed after the first")
    parser.add_argument("--kernels", choices=VALUES, help=argparse.SUPPRESS)  # in a process of its own
    arguments = parser.parse_args()
    if arguments.kernels:
        print(json.dumps(measure(arguments.data, arguments.backbones, arguments.kernels, arguments.batches)))
        return
    results: dict[str, object] = {"load_before": os.getloadavg()}
    for name in arguments.backbones.split(","):
        again = ["--data", str(arguments.data), "--backbones", name, "--batches", str(arguments.batches)]
        found = {
            value: json.loads(
                subprocess.check_output([sys.executable, "-m", __spec__.name, *again, "--kernels", value])
            )
            for value in VALUES
        }
        ratio = {part: found["portable"][part] / found["fastest"][part] for part in found["fastest"]}
        results[name] = found | {"ratio": ratio}
        print(f"{name}: a batch {ratio['batch']:.2f}x, an evaluation {ratio['evaluation']:.2f}x", flush=True)
    results["load_after"] = os.getloadavg()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
