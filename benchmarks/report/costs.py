"""What it costs: sections about time and memory, and their plots."""

from benchmarks.plot import short, svg
from benchmarks.report.tables import Result, image, seconds, table


def momentum(result: Result) -> str:
    head = ["tokens x channels", "frames", "dtype", "", "time", "share of copy speed", "error"]
    largest = min(4096, max(row["tokens"] for row in result["rows"]))  # of 512 pixels
    rows = [
        [
            f"{row['tokens']} x {row['channels']}",
            str(row["frames"]),
            row["dtype"],
            row["contender"],
            f"{short(row['ms'])} ms",
            f"{row['share of copy speed']:.2f}",
            "" if row["error"] is None else f"{row['error']:.1e}",
        ]
        for row in result["rows"]
        if row["tokens"] == largest and row["contender"] not in ("reference", "norm alone")
    ]
    return (
        "**The momentum scan** of K and V at the largest layer of 512 pixels, two guidance "
        "branches, in memory that was used before; the error is relative to float64.\n\n"
        + table(head, rows)
    )


def layers(result: Result) -> str:
    rows = [
        [
            row["layer"],
            f"{row['tokens']} x {row['channels']}",
            row["contender"],
            f"{short(row['ms'])} ms",
            f"{row['share of copy speed']:.2f}",
        ]
        for row in result["rows"]
    ]
    head = ["layer", "tokens x channels", "", "time", "share of copy speed"]
    return (
        f"**GroupNorm with SiLU, and GEGLU**: {result['frames']} frames with guidance.\n\n"
        + table(head, rows)
    )


def noise(result: Result) -> str:
    head = ["frames", "candidates", "", "time", "KL off by"]
    rows = [
        [
            str(row["frames"]),
            str(row["candidates"]),
            row["contender"],
            f"{short(row['ms'])} ms",
            "NaN"
            if row["median error of the KL"] is None
            else f"{row['median error of the KL']:.1g}",
        ]
        for row in result["rows"]
    ]
    return "**The noise search** for 512 pixels, λ 0.01.\n\n" + table(head, rows)


def sample(result: Result) -> str:
    frames = result["frames"]
    figures = result["by dtype"].values()
    first = next(iter(figures))
    clip = first["clip"]
    intro = (
        f"**A clip and its parts**: {result['model']}, {result['size']} pixels. A UNet step of "
        f"{frames} frames with guidance (in brackets its share of this machine's matrix-product "
        f"rate); {frames} frames in {clip['steps']} steps from prompt to pixels (in brackets the "
        "time of a frame); and the peak of a process that makes 8 frames in 2 steps (in brackets "
        "what zs2 estimates before)."
    )
    rows = [
        [
            f"step, {name}",
            *(
                f"{seconds(f['UNet step, s'][name])} ({f['share of the product rate'][name]:.0%})"
                for f in figures
            ),
        ]
        for name in first["UNet step, s"]
    ]
    rows += [
        [f"{name}, once a clip", *(seconds(f["parts, s"][name]) for f in figures)]
        for name in first["parts, s"]
    ]
    rows += [
        [
            f"clip, {name}",
            *(
                f"{seconds(f['clip']['s'][name])} ({f['clip']['s'][name] / frames:.2g})"
                for f in figures
            ),
        ]
        for name in clip["s"]
    ]
    taken = [f["8 frames, 2 steps"] for f in figures]
    rows += [[f"memory, {name}", *(memory(clips[name]) for clips in taken)] for name in taken[0]]
    return f"{intro}\n\n{table(['', *result['by dtype']], rows)}"


def sample_in_brief(result: Result) -> str:
    first = next(iter(result["by dtype"].values()))
    names = ("zs2", "diffusers' UNet and DDIM", "Text2Video-Zero")
    rows = [
        [
            name,
            *(seconds(f["clip"]["s"][name]) for f in result["by dtype"].values()),
            *(
                f"{f['8 frames, 2 steps'][name]['peak, MB']:.0f} MB"
                for f in result["by dtype"].values()
            ),
        ]
        for name in names
    ]
    dtypes = list(result["by dtype"])
    head = ["", *(f"clip, {d}" for d in dtypes), *(f"memory, {d}" for d in dtypes)]
    return (
        f"**Speed and memory on a {'CPU' if 'cpu' in result['versions']['torch'] else 'GPU'}**: "
        f"{result['model']}, {result['size']} pixels, "
        f"{result['frames']} frames in {first['clip']['steps']} steps from prompt to pixels; the "
        f"peak of 8 frames.\n\n{table(head, rows)}"
    )


def memory(clip: Result) -> str:
    estimate = clip["estimate, MB"]
    return f"{clip['peak, MB']:.0f} MB" + (f" ({estimate:.0f})" if estimate else "")


def int8(result: Result) -> str:
    memory, step, small = result["memory"], result["step"], result["small model"]
    rows = [
        [
            name,
            f"{memory[kind]['model'] / 1e6:.0f} MB",
            f"{memory[kind]['peak'] / 1e6:.0f} MB",
            seconds(step[kind]),
            f"{small[f'clip score, {kind}']:.1f}",
        ]
        for kind, name in (("whole", result["dtype"]), ("int8", "`--int8`"))
    ]
    return (
        f"**Weights in 8 bits**: SD 1.5's shapes, a clip of {result['frames']} frames at "
        f"{result['size']} pixels (`--chunk 1 --split-guidance`; the peak after loading, with all "
        f"that a process takes), and a step of {result['frames']} frames at {result['step size']}, "
        f"whose prediction is off by {step['relative error']:.1%}. The small model's clips "
        f"differ by {small['psnr']:.0f} dB.\n\n"
        + table(["weights", "model", "clip", "step", "CLIP score, small model"], rows)
    )


def deepcache(result: Result) -> str:
    step = result["step"]
    rows = []
    for row in result["rows"]:
        every = row["every"]
        faster = every * step["whole"] / (step["whole"] + (every - 1) * step["outer"])
        rows.append(
            [
                f"`--deepcache {every}`" if every > 1 else "every step whole",
                f"{faster:.2f}",
                f"{row['psnr']:.0f} dB" if every > 1 else "",
                f"{row['clip score']:.1f}",
                f"{row['residual']:.2f}",
            ]
        )
    return (
        "**The UNet's inner levels at every Nth step only** (DeepCache). Times as fast: steps of "
        f"SD 1.5's shapes, {result['frames']} frames of {result['size']} pixels with guidance, "
        f"{seconds(step['whole'])} whole and {seconds(step['outer'])} without. The change is of "
        f"{result['clips']} clips of the small model in 50 steps, against those of the same "
        "seed.\n\n"
        + table(["", "times as fast", "PSNR", "CLIP score", "residual after flow"], rows)
    )


def command(result: Result) -> str:
    took = result["s"]
    idle = took["clip, 0 beside"]
    rows = [["`zs2 sample --help`", seconds(took["help"]), ""]]
    rows += [["the steps of the clip alone", seconds(took["steps"]), ""]]
    rows += [
        [
            f"the clip{name}",
            seconds(took[f"clip, {n} beside"]),
            f"{took[f'clip, {n} beside'] / idle:.1f}",
        ]
        for n, name in ((0, ""), (1, ", beside a busy process"), (2, ", beside two"))
    ]
    return (
        "**The command as a user waits for it**: the README's first clip, from the shell.\n\n"
        + table(["", "time", "of the idle machine's"], rows)
    )


def growth(result: Result) -> str:
    return f"**Growth** of a UNet step with guidance ({result['model']}).\n\n" + image(
        "growth", result, "Time over frames and over size"
    )


def growth_plot(result: Result) -> str:
    def lines(axis: str) -> dict[str, list[tuple[float, float]]]:
        rows = [row for row in result["rows"] if row["axis"] == axis]
        return {
            name: [(row[axis], 1000 * row["seconds"][name]) for row in rows]
            for name in rows[0]["seconds"]
        }

    usual = next(row["size"] for row in result["rows"] if row["axis"] == "frames")
    return svg(
        (f"frames of {usual}x{usual}", "ms a step", lines("frames")),
        ("pixels a side, 8 frames", "ms a step", lines("size")),
    )


def devices(result: Result) -> str:
    rows = [
        [
            str(row["processes"]),
            f"{row['s']:.1f} s",
            f"{result['rows'][0]['s'] / row['s']:.2f}",
            f"{row['reckoned']:.2f}",
        ]
        for row in result["rows"]
    ]
    return (
        f"**One clip by several processes** of one thread each (small model, {result['frames']} "
        f"frames in chunks of {result['chunk']}, {result['steps']} steps).\n\n"
        + table(["processes", "clip", "times as fast", "reckoned"], rows)
    )


def memory_taken(result: Result) -> str:
    return (
        "**Memory over the length of a clip** (the small model, with all that a process takes; "
        "clips are written as mp4).\n\n" + image("memory", result, "Memory over frames")
    )


def memory_plot(result: Result) -> str:
    lines = {
        name: [(n, size / 1e6) for n, size in sizes] for name, sizes in result["lengths"].items()
    }
    return svg(("frames", "MB", lines))


def estimates(result: Result) -> str:
    rows = [
        [
            f"`{row['setting']}`",
            f"{row['estimate'] / 1e6:.0f} MB",
            f"{row['peak'] / 1e6:.0f} MB",
            f"{row['estimate'] / row['peak'] - 1:+.0%}",
        ]
        for row in result["rows"]
    ]
    return (
        "**Memory that is told before** a clip is made, beside the model (SD 1.5's shapes).\n\n"
        + table(["setting", "estimate", "peak", "difference"], rows)
    )
