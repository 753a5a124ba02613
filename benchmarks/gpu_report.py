"""Figures, targets and their verdicts from the samples of benchmarks/compare_gpu.py, as a section of Markdown."""
import datetime
import statistics
import subprocess

import gpu_models as models


class Missing(Exception):
    pass


def driver_version():
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        return ""


class Figures:
    def __init__(self, run):
        self.run = run
        self.item = 4 if run.tiny else 2
        self.rows, self.length = run.step_tokens()
        self.tokens = self.rows * self.length

    def values(self, key, field="seconds"):
        if key in self.run.failures and key not in self.run.samples:
            raise Missing(f"{key}: {self.run.failures[key].splitlines()[0][:160]}")
        if key not in self.run.samples:
            raise Missing("not part of this run")
        values = [answer.get(field) for answer in self.run.samples[key]]
        if None in values:
            raise Missing(f"{key}: no {field} on this device")
        return values

    def time(self, key):
        return statistics.median(self.values(key))

    def ratio(self, upper, lower):
        """The median over rounds of one's time to the other's."""
        return statistics.median(a / b for a, b in zip(self.values(upper), self.values(lower)))

    def best(self, key):
        """The better of ours and PyTorch's, where both were measured."""
        return min(self.time(k) for k in (key, key + ", PyTorch") if k in self.run.samples or k == key)

    def copy_rate(self):  # bytes read and written a second
        return 2 * self.run.ceilings()[0][2]["bytes"] / self.best("copy")

    def matmul_rate(self):
        return 2 * self.run.ceilings()[2][2]["m"] ** 3 / self.best("matmul")

    def peak(self, key):
        return max(self.values(key, "peak_bytes"))

    # ---- figures with formulas; the shapes are in gpu_models.py ---------------------------------------------------------

    def step_share(self):
        return models.step_flops(self.run.model, self.rows, self.length) / self.time("step") / self.matmul_rate()

    def head_rate(self):
        return models.head_flops(self.run.model, self.tokens) / self.time("head") * 1e-12

    def elementwise_bytes(self, kernel):
        if kernel == "adamw":
            return models.ADAMW_BYTES * self.run.parameters()
        if kernel == "gradient_norm":
            return models.GRADIENT_NORM_BYTES * self.run.parameters()
        return models.elementwise_bytes(kernel, self.run.model, self.run.elementwise_tokens(), self.item)

    def elementwise_share(self, kernel):
        return self.elementwise_bytes(kernel) / self.time(kernel) / self.copy_rate()

    def decode_share(self, key, request):
        context = request["context"] + (request["steps"] + 1) / 2  # on average
        needed = models.decode_bytes(self.run.model, request["batch"], context, request["leaders"], self.item)
        return needed / self.copy_rate() / self.time(key)


def verdict(value, target, stretch, lower):
    def met(limit):
        return value <= limit if lower else value >= limit

    if not met(target):
        return f"missed by {abs(value / target - 1):.0%}"
    if stretch is None:
        return "reached"
    return "reached, stretch too" if met(stretch) else f"reached; stretch missed by {abs(value / stretch - 1):.0%}"


def rows_of(run):
    """(what, how to get the figure, target, stretch, whether lower is better, how to print it)"""
    f = Figures(run)
    percent, times = "{:.0%}", "{:.3f}x"
    rows = [
        ("training step, share of the measured matmul rate", f.step_share, 0.60, 0.70, False, percent),
        ("training step, speed over compiled PyTorch", lambda: f.ratio("step, PyTorch", "step"), 1.10, 1.25, False, times),
    ]
    for t in run.attention_lengths():
        for direction, target in (("forward", 0.9), ("backward", 0.85)):
            rows.append((f"attention {direction}, T = {t}, speed over cuDNN", lambda d=direction, t=t:
                         f.ratio(f"attention {d} {t}, PyTorch", f"attention {d} {t}"), target, 1.0, False, times))
    for t in run.block_lengths():
        rows.append((f"follower forward, T = {t}, speed over a cuDNN forward", lambda t=t:
                     f.ratio(f"attention forward {t}, PyTorch", f"follower forward {t}"), 1.15, 1.4, False, times))
        rows.append((f"backward of a block of 4, T = {t}, of the time of four cuDNN backwards", lambda t=t:
                     f.ratio(f"block backward {t}", f"attention backward {t}, PyTorch") / 4, 0.75, 0.62, True, times))
    rows += [
        ("distillation step over plain step, time",
         lambda: f.ratio("distillation", "step, 1 follows"), 1.36, 1.34, True, times),
        ("distillation step, speed over an eager PyTorch loop",
         lambda: f.ratio("distillation, PyTorch", "distillation, alone"), 3.0, None, False, times),
        ("distillation step, peak memory of that loop's",
         lambda: f.peak("distillation, alone") / f.peak("distillation, PyTorch"), 0.5, None, True, times),
        ("head and three losses, TFLOP/s", f.head_rate, 600, 650, False, "{:.1f}"),
    ]
    for kernel in models.ELEMENTWISE + ["adamw", "gradient_norm"]:
        rows.append((f"{kernel}, share of the copy rate", lambda k=kernel: f.elementwise_share(k), 0.90, 0.93, False, percent))
    one = run.decode(1, 32 if run.tiny else 512, 0)
    rows += [
        ("decode, batch 1, context 512, share of the byte roof",
         lambda: f.decode_share("decode 1", one), 0.75, 0.85, False, percent),
        ("decode, batch 1, speed over compiled PyTorch",
         lambda: f.ratio("decode 1, PyTorch", "decode 1"), 1.2, None, False, times),
    ]
    for followers in (0, 9, 17):
        many = run.decode(2 if run.tiny else 64, 32 if run.tiny else 2048, followers)
        rows.append((f"decode, batch 64, context 2k, {followers} of 22 follow, share of the byte roof",
                     lambda n=followers, many=many: f.decode_share(f"decode 64, {n} follow", many), 0.70, 0.80, False, percent))
    for followers, target, stretch in ((9, 1.10, 1.13), (17, 1.25, 1.28)):
        rows.append((f"decode, batch 64, {followers} of 22 follow, speed over unshared", lambda n=followers:
                     f.ratio("decode 64, 0 follow", f"decode 64, {n} follow"), target, stretch, False, times))
    for followers, gain in models.MODELLED_GAIN.items():  # 85 % and all of what the model says sharing gains
        rows.append((f"training, {followers} of 22 follow, speed over unshared", lambda n=followers:
                     f.ratio("step, 0 follow", f"step, {n} follow"), 1 + 0.85 * (gain - 1), gain, False, times))
    return f, rows


def rates(f):
    """Times and rates behind the ratios."""
    run, lines = f.run, []

    def line(name, *figures):
        """Ours and PyTorch's, or ours alone; what was not measured is a dash, and a row of dashes is left out."""
        texts = []
        for figure in figures:
            try:
                texts.append(figure())
            except Missing:
                texts.append("-")
        if set(texts) != {"-"}:
            lines.append(f"| {name} | {' / '.join(texts)} |")

    side = run.ceilings()[2][2]["m"]
    line(f"matmul {side} x {side} x {side}, {run.dtype}, TFLOP/s (ours / PyTorch)", *(
        lambda k=k: f"{2 * side**3 / f.time(k) * 1e-12:.0f}" for k in ("matmul", "matmul, PyTorch")))
    line("copy, GB/s read and written (ours / PyTorch)", *(
        lambda k=k: f"{2 * run.ceilings()[0][2]['bytes'] / f.time(k) * 1e-9:.0f}" for k in ("copy", "copy, PyTorch")))
    for key in ("step", "step, PyTorch", "step, 0 follow", "step, 9 follow", "step, 17 follow", "step, 1 follows",
                "distillation", "distillation, alone", "distillation, PyTorch"):
        line(f"{key}: ms, tokens/s, peak GiB", lambda k=key: f"{f.time(k) * 1e3:.1f}, {f.tokens / f.time(k):.0f}, " + (
            f"{f.peak(k) / 2**30:.1f}" if f.run.samples.get(k, [{}])[0].get("peak_bytes") else "not known"))
    m = run.model
    for t in run.attention_lengths():
        for direction, products in (("forward", models.FORWARD_PRODUCTS), ("backward", models.BACKWARD_PRODUCTS)):
            work = models.attention_flops(products, max(1, f.tokens // t), t, m["heads"], m["head_dim"])
            line(f"attention {direction}, T = {t}, TFLOP/s (ours / cuDNN)", *(
                lambda k=f"attention {direction} {t}" + who, work=work: f"{work / f.time(k) * 1e-12:.0f}"
                for who in ("", ", PyTorch")))
    for key in ("decode 1", "decode 1, PyTorch", "decode 64, 0 follow", "decode 64, 9 follow", "decode 64, 17 follow"):
        line(f"{key}, ms a step", lambda k=key: f"{f.time(k) * 1e3:.3f}")
    return lines


def kernel_table(f):
    """Each kind of kernel of a training step timed alone, against the step: the rest is launches, gaps, copies and waiting."""
    run, lines, total = f.run, [], 0.0
    for key, calls in models.kernels_of_a_step(run.model, f.tokens):
        measured = key
        if key.startswith("attention"):
            measured = f"{key} {f.length}"
        seconds = f.time(measured)
        if key in models.ELEMENTWISE:
            seconds *= models.elementwise_bytes(key, run.model, f.tokens, f.item) / f.elementwise_bytes(key)
        total += calls * seconds
        lines.append((calls * seconds, f"| {key} | {calls} | {seconds * 1e3:.3f} | {calls * seconds * 1e3:.2f} |"))
    step = f.time("step")
    rows = [line for _, line in sorted(lines, reverse=True)]
    return rows + [f"| sum | | | {total * 1e3:.2f} |",
                   f"| measured step | | | {step * 1e3:.2f} ({total / step:.0%} explained) |"]


def section(run):
    f, rows = rows_of(run)
    greetings = {name: server.greeting for name, server in run.servers.items()}
    device = greetings["ours"].get("device") or greetings["peer"].get("device", "unknown")
    attention = "cuDNN" if greetings["peer"].get("backend") == "cudnn" else greetings["peer"].get("backend", "unknown")
    note = lambda key, field: run.samples.get(key, [{}])[0].get(field, "not run")
    rounds = max((len(samples) for samples in run.samples.values()), default=0)
    driver = driver_version() if run.arguments.device != "cpu" else ""
    shape = "Toy sizes" if run.tiny else "TinyLlama's shape"
    heads = "grouped heads" if greetings["peer"].get("grouped", True) else "repeated heads"
    lines = [f"## On {device}, beside PyTorch", "",
             f"{datetime.date.today()}, {device}{', driver ' + driver if driver else ''}, {run.dtype}; PyTorch "
             f"{greetings['peer'].get('version', 'absent')} (its attention: {attention}, {heads}). "
             f"{shape}, random weights, {f.tokens} tokens a step.",
             f"The eager loop's model: {note('distillation, PyTorch', 'model')}; the compiled decode step: "
             f"{note('decode 1, PyTorch', 'variant')}.", "",
             f"`{run.arguments.command}`; medians of up to {rounds} rounds in turns.", "",
             "| what | figure | target | stretch | result |", "|---|---|---|---|---|"]
    for what, figure, target, stretch, lower, style in rows:
        limits = f"{'<=' if lower else '>='} {style.format(target)} | {style.format(stretch) if stretch is not None else '-'}"
        try:
            value = figure()
            result = "toy sizes" if run.tiny else verdict(value, target, stretch, lower)
            lines.append(f"| {what} | {style.format(value)} | {limits} | {result} |")
        except Missing as reason:
            if str(reason) != "not part of this run":
                lines.append(f"| {what} | - | {limits} | not measured: {reason} |")
    lines += ["", "| rates behind them | |", "|---|---|", *rates(f)]
    try:
        table = kernel_table(f)
        lines += ["", "Kernels of a training step, each timed alone:", "",
                  "| kernel | calls a step | ms a call | ms a step |", "|---|---|---|---|", *table]
    except Missing as reason:
        lines += ["", f"Kernels of a training step: not complete ({reason})."]
    return "\n".join(lines) + "\n"
