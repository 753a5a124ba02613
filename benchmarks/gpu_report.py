"""The section of Markdown that benchmarks/compare_gpu.py writes: each target's verdict, and the figures behind it
(benchmarks/gpu_figures.py)."""
import datetime
import functools
import subprocess

import gpu_models as models
from gpu_figures import Figures, Missing

PAIRS_NEEDED = 5  # rounds; a median of fewer rounds does not decide a target


@functools.cache
def driver_version():
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        return ""


def verdict(value, target, stretch, lower):
    def met(limit):
        return value <= limit if lower else value >= limit

    if not met(target):
        return f"missed by {abs(value / target - 1):.0%}"
    if stretch is None:
        return "reached"
    return "reached, stretch too" if met(stretch) else f"reached; stretch missed by {abs(value / stretch - 1):.0%}"


def targets(f):
    """(what, how to get the figure, target, stretch, whether lower is better, how to print it)"""
    plan = f.plan
    percent, times = "{:.0%}", "{:.3f}x"
    rows = [
        ("training step, share of the measured matmul rate", f.step_share, 0.60, 0.70, False, percent),
        (f"training step, speed over compiled PyTorch{f.of_fewer_rows('step, PyTorch', 'step, transformers')}",
         f.speed_over_compiled, 1.10, 1.25, False, times),
    ]
    for t in plan.attention_lengths:
        for direction, target in (("forward", 0.9), ("backward", 0.85)):
            rows.append((f"attention {direction}, T = {t}, speed over cuDNN", lambda d=direction, t=t:
                         f.ratio(f"attention {d} {t}, PyTorch", f"attention {d} {t}"), target, 1.0, False, times))
    for t in plan.block_lengths:
        rows.append((f"follower forward, T = {t}, speed over a cuDNN forward", lambda t=t:
                     f.ratio(f"attention forward {t}, PyTorch", f"follower forward {t}"), 1.15, 1.4, False, times))
        rows.append((f"backward of a block of 4, T = {t}, of the time of four cuDNN backwards", lambda t=t:
                     f.ratio(f"block backward {t}", f"attention backward {t}, PyTorch") / 4, 0.75, 0.62, True, times))
    fewer = f.of_fewer_rows("distillation, PyTorch")
    rows += [
        ("distillation step over plain step, time",
         lambda: f.ratio("distillation", "step, 1 follows"), 1.36, 1.34, True, times),
        (f"distillation step, speed over an eager PyTorch loop{fewer}",
         lambda: f.ratio("distillation, PyTorch", "distillation beside PyTorch"), 3.0, None, False, times),
        (f"distillation step, peak memory of that loop's{fewer}",
         lambda: f.peak("distillation beside PyTorch") / f.peak("distillation, PyTorch"), 0.5, None, True, times),
        ("head and three losses, TFLOP/s", f.head_rate, 600, 650, False, "{:.1f}"),
    ]
    for kernel in models.ELEMENTWISE + ["adamw", "gradient_norm"]:
        rows.append((f"{kernel}, share of the copy rate", lambda k=kernel: f.elementwise_share(k), 0.90, 0.93, False, percent))
    rows += [
        ("decode, batch 1, context 512, share of the byte roof",
         lambda: f.decode_share("decode 1", plan.decode(many=False)), 0.75, 0.85, False, percent),
        ("decode, batch 1, speed over compiled PyTorch",
         lambda: f.ratio("decode 1, PyTorch", "decode 1 beside PyTorch"), 1.2, None, False, times),
    ]
    for n in (0, 9, 17):
        rows.append((f"decode, batch 64, context 2k, {n} of 22 follow, share of the byte roof", lambda n=n:
                     f.decode_share(f"decode 64, {n} follow", plan.decode(many=True, followers=n)), 0.70, 0.80, False, percent))
    for n, target, stretch in ((9, 1.10, 1.13), (17, 1.25, 1.28)):
        rows.append((f"decode, batch 64, {n} of 22 follow, speed over unshared", lambda n=n:
                     f.ratio("decode 64, 0 follow", f"decode 64, {n} follow"), target, stretch, False, times))
    for n, gain in models.MODELLED_GAIN.items():  # 85 % and 100 % of the gain of sharing in the model
        unshared = "step" if n == 9 else "step beside 17 follow"
        rows.append((f"training, {n} of 22 follow, speed over unshared", lambda n=n, unshared=unshared:
                     f.ratio(unshared, f"step, {n} follow"), 1 + 0.85 * (gain - 1), gain, False, times))
    return rows


def target_table(f):
    lines = ["| what | figure | rounds | target | stretch | result |", "|---|---|---|---|---|---|"]
    for what, figure, target, stretch, lower, style in targets(f):
        limits = f"{'<=' if lower else '>='} {style.format(target)} | {style.format(stretch) if stretch is not None else '-'}"
        try:
            value, rounds = f.with_rounds(figure)
        except Missing as reason:
            if str(reason) != Missing.NOT_WANTED:
                lines.append(f"| {what} | - | - | {limits} | not measured: {reason} |")
            continue
        result = verdict(value, target, stretch, lower)
        if f.plan.tiny:
            result = "toy sizes"
        elif rounds < PAIRS_NEEDED:
            result = f"not measured: {rounds} of {PAIRS_NEEDED} rounds ({result})"
        lines.append(f"| {what} | {style.format(value)} | {rounds} | {limits} | {result} |")
    return lines


def rates(f):
    """The times and rates from which the ratios are computed."""
    plan, lines = f.plan, ["| rates behind them | |", "|---|---|"]

    def line(name, *figures):
        """One figure, or one of ours and one of PyTorch's. A dash means not measured. A row of dashes is omitted."""
        texts = []
        for figure in figures:
            try:
                texts.append(figure())
            except Missing:
                texts.append("-")
        if set(texts) != {"-"}:
            lines.append(f"| {name} | {' / '.join(texts)} |")

    side = plan.matmul_side
    line(f"matmul {side} x {side} x {side}, {plan.dtype}, TFLOP/s (ours / PyTorch)", *(
        lambda k=k: f"{2 * side**3 / f.time(k) * 1e-12:.0f}" for k in ("matmul", "matmul, PyTorch")))
    line("copy, GB/s read and written (ours / PyTorch)", *(
        lambda k=k: f"{2 * plan.copy_bytes / f.time(k) * 1e-9:.0f}" for k in ("copy", "copy, PyTorch")))
    for key in ("step", "step, 9 follow", "step beside 17 follow", "step, 17 follow", "step, 1 follows", "distillation",
                "step beside PyTorch", "step, PyTorch", "step beside transformers", "step, transformers",
                "distillation beside PyTorch", "distillation, PyTorch"):
        line(f"{key}: ms, tokens/s, peak GiB", lambda k=key: f"{f.time(k) * 1e3:.1f}, {f.tokens_of(k) / f.time(k):.0f}, " + (
            f"{f.peak(k) / 2**30:.1f}" if f.samples[k][0].get("peak_bytes") else "not known"))
    for ours, key in (("step beside PyTorch", "step, PyTorch"), ("step beside transformers", "step, transformers")):
        line(f"{ours}: its speed over that one", lambda: f"{f.ratio(key, ours):.3f}x")
    for t in plan.attention_lengths:
        for what in ("attention forward", "attention backward"):
            line(f"{what}, T = {t}, TFLOP/s (ours / cuDNN)", *(
                lambda k=f"{what} {t}", who=who: f"{f.attention_work(k) / f.time(k + who) * 1e-12:.0f}"
                for who in ("", ", PyTorch")))
    for key in ("decode 1", "decode 1 beside PyTorch", "decode 1, PyTorch", "decode 64, 0 follow", "decode 64, 9 follow",
                "decode 64, 17 follow"):
        line(f"{key}, ms a step", lambda k=key: f"{f.time(k) * 1e3:.3f}")
    return lines


def kernel_choice_table(f):
    """Attention on Hopper's own matrix instructions compared with that for older GPUs (ECHOATT_ATTENTION=sm80), one row per case."""
    lines, quicker = [], 0
    for t in f.plan.attention_lengths:
        for what in ("attention forward", "attention backward", "follower forward", "block backward"):
            key = f"{what} {t}"
            if key + ", mma.sync" not in f.samples and key + ", mma.sync" not in f.failures:
                continue
            try:
                ours, other = (f"{f.attention_work(key) / f.time(k) * 1e-12:.1f}" for k in (key, key + ", mma.sync"))
                speed, rounds = f.with_rounds(lambda: f.ratio(key + ", mma.sync", key))
                quicker += speed > 1
                lines.append(f"| {what}, T = {t} | {ours} | {other} | {speed:.3f}x | {rounds} | {f.agreement(key)} |")
            except Missing as reason:
                lines.append(f"| {what}, T = {t} | - | - | - | - | not measured: {reason} |")
    if not lines:
        return []
    return ["", "Attention's kernels as chosen here beside those for GPUs before Hopper (`ECHOATT_ATTENTION=sm80`): the former are "
            f"quicker in {quicker} of {len(lines)} cases. The difference is that of the results, by their norm; bf16 explains "
            "up to 1 %.", "",
            "| what | chosen, TFLOP/s | mma.sync, TFLOP/s | speed over mma.sync | rounds | difference |",
            "|---|---|---|---|---|---|", *lines]


def kernel_table(f):
    """Each kind of kernel of a training step timed alone, and the whole step. The rest is launches, gaps, copies and waiting."""
    lines, total = [], 0.0
    for key, calls in models.kernels_of_a_step(f.plan.model, f.plan.tokens):
        seconds = f.time(f"{key} {f.plan.length}" if key.startswith("attention ") else key)
        if key in models.ELEMENTWISE:
            seconds *= models.elementwise_bytes(key, f.plan.model, f.plan.tokens, f.plan.item) / f.elementwise_bytes(key)
        total += calls * seconds
        lines.append((calls * seconds, f"| {key} | {calls} | {seconds * 1e3:.3f} | {calls * seconds * 1e3:.2f} |"))
    step = f.time("step")
    rows = [line for _, line in sorted(lines, reverse=True)]
    return ["| kernel | calls a step | ms a call | ms a step |", "|---|---|---|---|", *rows,
            f"| sum | | | {total * 1e3:.2f} |", f"| measured step | | | {step * 1e3:.2f} ({total / step:.0%} explained) |"]


def peer_text(f):
    """Describes what PyTorch's figures measure."""
    peer, tell = f.run.greetings["peer"], f.told
    if "error" in peer:
        return f"PyTorch's side did not start: {peer['error']}."
    heads = "grouped heads" if peer.get("grouped", True) else "repeated heads"
    text = (f"PyTorch {peer.get('version')}, transformers {peer.get('transformers') or 'absent'}; its attention: "
            f"{f.peer_attention()}, {heads}.")
    for key, what in (("step, PyTorch", "One compiled step, of which the faster counts"), ("step, transformers", "The other"),
                      ("distillation, PyTorch", "The eager loop")):
        if key in f.samples:
            text += f" {what}: {tell(key, 'model')}, attention on {tell(key, 'backend')}."
        elif key in f.failures:
            text += f" {what}: {tell(key, 'model')}."
    if "decode 1, PyTorch" in f.samples or "decode 1, PyTorch" in f.failures:
        text += f" The compiled decode step, of which the fastest counts: {tell('decode 1, PyTorch', 'variants')}."
    return text


def section(run):
    f = Figures(run)
    device = run.greetings["ours"].get("device") or run.greetings["peer"].get("device", "unknown")
    driver = driver_version() if run.arguments.device != "cpu" else ""
    shape = "Toy sizes" if f.plan.tiny else "TinyLlama's shape"
    lines = [f"## On {device}, beside PyTorch", ""]
    if not run.is_complete:
        lines += ["The run did not come to its end: what follows is what it had.", ""]
    if "error" in run.greetings["ours"]:
        lines += [f"Our side did not start: {run.greetings['ours']['error']}.", ""]
    lines += [f"{datetime.date.today()}, {device}{', driver ' + driver if driver else ''}, {f.plan.dtype}. {shape}, random "
              f"weights, {f.plan.tokens} tokens a step.", peer_text(f)]
    lines += [f"{key}: {rows} rows a step, ours beside it too, since {reason}."
              for key, (rows, reason) in run.fewer_rows.items() if key in f.samples]
    lines += ["", f"`{run.arguments.command}`; medians of up to {run.rounds} rounds in turns.", "", *target_table(f), "",
              *rates(f), *kernel_choice_table(f)]
    try:
        lines += ["", "Kernels of a training step, each timed alone:", "", *kernel_table(f)]
    except Missing as reason:
        if str(reason) != Missing.NOT_WANTED:
            lines += ["", f"Kernels of a training step, each timed alone: not complete ({reason})."]
    return "\n".join(lines) + "\n"
