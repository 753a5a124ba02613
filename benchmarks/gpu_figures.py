"""Figures from the samples of benchmarks/compare_gpu.py; their formulas are in benchmarks/gpu_models.py."""
import math
import statistics

import gpu_models as models


class Missing(Exception):
    NOT_WANTED = "not part of this run"


class Figures:
    def __init__(self, run):
        self.run, self.plan = run, run.plan
        self.samples, self.failures = run.samples, run.failures
        self.used = []  # rounds that the current figure is computed from

    def with_rounds(self, figure):
        """The figure, and the number of rounds of its median."""
        self.used = []
        value = figure()
        return value, min(self.used, default=0)

    def values(self, key, field="seconds"):
        if key not in self.samples:
            if key in self.failures:
                raise Missing(f"{key}: {self.failures[key].splitlines()[0][:160]}")
            raise Missing(Missing.NOT_WANTED)
        values = [answer.get(field) for answer in self.samples[key]]
        if None in values:
            raise Missing(f"{key}: no {field} on this device")
        self.used.append(len(values))
        return values

    def time(self, key):
        return statistics.median(self.values(key))

    def ratio(self, upper, lower):
        """The median over rounds of the ratio of two times."""
        return statistics.median(a / b for a, b in zip(self.values(upper), self.values(lower)))

    def best(self, key):
        """The better one of our case and PyTorch's, if both were measured."""
        return min(self.time(k) for k in (key, key + ", PyTorch") if k in self.samples or k == key)

    def told(self, key, field):
        """Another value of an answer than its time."""
        if key in self.samples:
            return self.samples[key][0].get(field, "not told")
        return "not measured" + (f" ({self.failures[key].splitlines()[0][:160]})" if key in self.failures else "")

    def peer_attention(self):
        backend = self.run.greetings["peer"].get("backend")
        return "cuDNN" if backend == "cudnn" else backend or "unknown"

    def peak(self, key):
        return max(self.values(key, "peak_bytes"))

    # ---- rates and shares --------------------------------------------------------------------------------------------

    def copy_rate(self):  # bytes read and written per second
        return 2 * self.plan.copy_bytes / self.best("copy")

    def matmul_rate(self):
        return 2 * self.plan.matmul_side**3 / self.best("matmul")

    def step_share(self):
        return models.step_flops(self.plan.model, self.plan.rows, self.plan.length) / self.time("step") / self.matmul_rate()

    def speed_over_compiled(self):
        """The ratio to the faster one of those that were measured."""
        steps = [("step, PyTorch", "step beside PyTorch"), ("step, transformers", "step beside transformers")]
        measured = [pair for pair in steps if all(key in self.samples for key in pair)]
        return min(self.ratio(*pair) for pair in measured) if measured else self.ratio(*steps[0])

    def head_rate(self):
        return models.head_flops(self.plan.model, self.plan.tokens) / self.time("head") * 1e-12

    def elementwise_bytes(self, kernel):
        if kernel == "adamw":
            return models.ADAMW_BYTES * self.plan.parameters
        if kernel == "gradient_norm":
            return models.GRADIENT_NORM_BYTES * self.plan.parameters
        tokens = self.plan.loss_tokens if kernel == "loss_rows" else self.plan.elementwise_tokens
        return models.elementwise_bytes(kernel, self.plan.model, tokens, self.plan.item)

    def elementwise_share(self, kernel):
        return self.elementwise_bytes(kernel) / self.time(kernel) / self.copy_rate()

    def decode_share(self, key, request):
        context = request["context"] + (request["steps"] + 1) / 2  # on average
        needed = models.decode_bytes(self.plan.model, request["batch"], context, request["leaders"], self.plan.item)
        return needed / self.copy_rate() / self.time(key)

    def attention_work(self, key):
        """Operations of a case, named as "follower forward 2048"."""
        what, tokens = key.rsplit(" ", 1)
        products = {"attention forward": models.FORWARD_PRODUCTS, "attention backward": models.BACKWARD_PRODUCTS,
                    "follower forward": models.FORWARD_PRODUCTS, "block backward": models.BLOCK_BACKWARD_PRODUCTS}[what]
        rows, model = max(1, self.plan.tokens // int(tokens)), self.plan.model
        return models.attention_flops(products, rows, int(tokens), model["heads"], model["head_dim"])

    # ---- figures of single rows -----------------------------------------------------------------------------------

    def of_fewer_rows(self, *keys):
        rows = {self.run.fewer_rows[key][0] for key in keys if key in self.run.fewer_rows and key in self.samples}
        return f" ({' or '.join(map(str, sorted(rows)))} of {self.plan.rows} rows)" if rows else ""

    def tokens_of(self, key):
        """Rows of a step. In the comparison with PyTorch it may have fewer."""
        peer = {"step beside PyTorch": "step, PyTorch", "step beside transformers": "step, transformers",
                "distillation beside PyTorch": "distillation, PyTorch"}.get(key, key)
        return self.run.fewer_rows.get(peer, (self.plan.rows,))[0] * self.plan.length

    def agreement(self, key):
        """The distance of a case's results from those with the other kernels: the maximum over its tensors."""
        ours, other = (self.run.sketches.get(k) for k in (key, key + ", mma.sync"))
        if ours is None or other is None:
            return "not known"
        if ours == other:
            return "none: the same bits"
        largest = 0.0
        for name, values in ours.items():
            if None in values or None in other[name]:
                return f"**{name} is not finite**"
            norm = math.sqrt(sum(b * b for b in other[name]))
            distance = math.sqrt(sum((a - b)**2 for a, b in zip(values, other[name])))
            largest = max(largest, distance / norm if norm > 0 else math.inf)
        return f"{largest:.2%}" if largest < 0.01 else f"**{largest:.2%}**"
