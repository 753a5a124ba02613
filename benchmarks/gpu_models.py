"""The work of the cases of benchmarks/compare_gpu.py: sizes, floating-point operations, bytes. Shapes are (tokens N, hidden
D, mlp F, vocabulary V, heads H, key heads Hkv, head width Dh, layers L)."""

TINYLLAMA = dict(layers=22, hidden=2048, heads=32, kv_heads=4, head_dim=64, mlp=5632, vocab=32000)
TOY = dict(layers=4, hidden=64, heads=4, kv_heads=2, head_dim=16, mlp=128, vocab=256)


def blocks(layers, *spans):
    """Leaders of all layers: the first layer of each span (first, last) leads the span, and all other layers lead themselves."""
    leaders = list(range(layers))
    for first, last in spans:
        for layer in range(first, last + 1):
            leaders[layer] = first
    return leaders


# The first and last layer keep their own matrix, as in an optimal plan. The blocks in between are contiguous.
MAPS = {
    0: None,
    1: blocks(22, (10, 11)),
    9: blocks(22, (3, 7), (10, 15)),            # 4 + 5 followers: 41 %
    17: blocks(22, (1, 7), (8, 14), (15, 20)),  # 6 + 6 + 5 followers: 77 %
}
TOY_MAPS = {0: None, 1: blocks(4, (1, 2)), 9: blocks(4, (1, 2)), 17: blocks(4, (0, 2))}

# The expected gain of sharing in a training step at T = 2048, from the products that followers do not need: their query and
# key projections (D (H + Hkv) Dh parameters) and 2 of a layer's 7 products of tiles.
MODELLED_GAIN = {9: 1.054, 17: 1.108}


def followers_in(leaders):
    return sum(leader != i for i, leader in enumerate(leaders or []))


def matrix_parameters(m, followers=0):
    """Of the products: L (D (H + 2 Hkv) Dh + H Dh D + 3 D F) + V D, without the followers' query and key projections."""
    layer = m["hidden"] * (2 * m["heads"] + 2 * m["kv_heads"]) * m["head_dim"] + 3 * m["hidden"] * m["mlp"]
    unshared = m["layers"] * layer + m["vocab"] * m["hidden"]
    return unshared - followers * m["hidden"] * (m["heads"] + m["kv_heads"]) * m["head_dim"]


def attention_flops(products, rows, tokens, heads, head_dim):
    """Each product of tiles has 2 Dh operations per pair of positions, with T (T + 1) / 2 pairs per head."""
    return products * rows * heads * tokens * (tokens + 1) * head_dim


FORWARD_PRODUCTS, BACKWARD_PRODUCTS = 2, 5  # S, P V;  S, dP, dV, dQ, dK
BLOCK_LAYERS = 4
BLOCK_BACKWARD_PRODUCTS = 3 * BLOCK_LAYERS + 2  # of 5 k + 2 in total, 2 k belong to the forward steps


def step_flops(m, rows, tokens):
    """6 operations per matrix parameter and token, and attention's forward pass three times (a backward pass counts as two;
    recomputation does not count)."""
    attention = m["layers"] * attention_flops(3 * FORWARD_PRODUCTS, rows, tokens, m["heads"], m["head_dim"])
    return 6 * matrix_parameters(m) * rows * tokens + attention


def head_flops(m, tokens):
    """Student's and teacher's logits, gradients of hidden states and head: 4 products of 2 N D V."""
    return 8 * tokens * m["hidden"] * m["vocab"]


def elementwise_bytes(kernel, m, n, item):
    """Every input is read once and every output written once. item: bytes of an activation."""
    d, f, v = m["hidden"], m["mlp"], m["vocab"]
    distinct = v * (1 - (1 - 1 / v) ** n)  # expected number of different rows for n random ids
    return {
        "rms_norm_forward": 2 * item * n * d + 4 * n,
        "add_rms_norm_forward": 4 * item * n * d + 4 * n,  # x, delta; sum, y
        "rms_norm_backward": 4 * item * n * d + 4 * n,     # dy, d_sum, x; dx
        "rope": 2 * item * n * (m["heads"] + m["kv_heads"]) * m["head_dim"],
        "swiglu_forward": 3 * item * n * f,                # gate, up; y
        "swiglu_backward": 5 * item * n * f,               # dy, gate, up; their gradients
        "cast": 6 * n * d,                                 # f32 to bf16
        "embedding_forward": item * n * d + 4 * distinct * d,
        "embedding_backward": item * n * d + 4 * v * d,
        "softmax_forward": 2 * item * n * d,
        "softmax_backward": 3 * item * n * d,              # y, dy; dx
        "hidden_error": 3 * item * n * d,                  # student, teacher; the student's gradient
        "attention_delta": 2 * item * n * m["heads"] * m["head_dim"] + 8 * n * m["heads"],  # dO, O; sums read and written
        "loss_rows": (8 + item) * n * v,                   # logits of student and teacher in f32; their gradient
    }[kernel]


ELEMENTWISE = ["rms_norm_forward", "add_rms_norm_forward", "rms_norm_backward", "rope", "swiglu_forward", "swiglu_backward",
               "cast", "embedding_forward", "embedding_backward", "softmax_forward", "softmax_backward", "hidden_error",
               "attention_delta", "loss_rows"]
ADAMW_BYTES = 30          # per parameter: p, g, m, v read; p, m, v written, and p once more in bf16
GRADIENT_NORM_BYTES = 4


def decode_bytes(m, batch, context, leaders, item):
    """The weights of the products once, and for every position the values, and the keys of layers that have keys."""
    followers = followers_in(leaders)
    cached = batch * context * m["kv_heads"] * m["head_dim"] * (2 * m["layers"] - followers)
    return item * (matrix_parameters(m, followers) + cached)


def layer_products(m, tokens):
    """name: (m, n, k, transpose_a, transpose_b, output) of a layer's products: y = x W^T, dx = dy W, dW = dy^T x in f32."""
    sizes = {"qkv": ((m["heads"] + 2 * m["kv_heads"]) * m["head_dim"], m["hidden"]),
             "o": (m["hidden"], m["heads"] * m["head_dim"]),
             "gate_up": (2 * m["mlp"], m["hidden"]), "down": (m["hidden"], m["mlp"])}
    result = {}
    for name, (out, into) in sizes.items():
        result[name + " y"] = (tokens, out, into, False, True, "")
        result[name + " dx"] = (tokens, into, out, False, False, "")
        result[name + " dW"] = (out, into, tokens, True, False, "f32")
    return result


def kernels_of_a_step(m, tokens):
    """(case key, calls per step) of a training step. Element-wise cases are measured on more tokens and scaled by their bytes."""
    layers = m["layers"]
    calls = [("product " + name, layers) for name in layer_products(m, tokens)]
    calls += [("attention forward", layers), ("attention backward", layers), ("head, true labels", 1)]
    calls += [("rms_norm_forward", 1), ("add_rms_norm_forward", 2 * layers), ("rms_norm_backward", 2 * layers + 1)]
    calls += [("rope", 2 * layers), ("swiglu_forward", layers), ("swiglu_backward", layers)]
    return calls + [("embedding_forward", 1), ("embedding_backward", 1), ("adamw", 1), ("gradient_norm", 1)]
