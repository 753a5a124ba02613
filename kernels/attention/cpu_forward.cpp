// The forward passes of attention on the CPU. A tile is kTile queries of one head. Its queries are the lanes of all vectors, so
// that keys and values are read as they are stored (one element is broadcast to all lanes), and the softmax needs no sum across
// lanes. A task is a few such tiles that read the same keys and values, which are packed once for all of them.
#include "kernels/attention/attention.h"
#include "kernels/attention/cpu_tile.h"

namespace echo::kernels::cpu {
namespace {

// Maximum number of tiles per task: enough to make packing of keys and values cheap, few enough to stay in the L2 cache.
constexpr int64_t kTilesPerTask = 8;

// How the tiles of one key head are divided: a task is `heads` heads of the group times `tiles` tiles of each. The result of a
// tile does not depend on this division, so the division may depend on the number of threads. There are several tasks per
// thread, because tiles near the end of the sequence have more work.
struct Grouping {
  Grouping(int64_t sequences, int64_t group, int64_t positions) {
    const int64_t tiles_per_head = (positions + kTile - 1) / kTile;
    const int64_t wanted = 4 * omp_get_max_threads();
    for (int64_t most = kTilesPerTask; most > 0; most /= 2) {
      heads = std::min(group, most);
      tiles = std::min(tiles_per_head, std::max<int64_t>(1, most / heads));
      parts = (group + heads - 1) / heads;
      spans = (tiles_per_head + tiles - 1) / tiles;
      if (sequences * parts * spans >= wanted) break;
    }
  }
  int64_t heads, tiles;  // of one task
  int64_t parts, spans;  // of one group, of one head
};

template <class A>
constexpr A kMasked = A(-1e30);  // finite: the difference of two masked scores must not be NaN

// The state that a tile carries from one key tile to the next.
template <class A>
struct QueryTile {
  A* queries;     // [Dh][kTile], times scale * log2 e, so that scores are exponents of 2
  A* output;      // [Dh][kTile], not yet normalised
  A* maximum;     // [kTile] of the scores so far; for a follower the leader's lse, as an exponent of 2
  A* sum;         // [kTile] of the exponentials so far
  A* first_keys;  // [kTile]
  int64_t start, head;
  int32_t smallest_first_key, largest_first_key;
};

// The end of the key rows, relative to key_begin, that the vector of a tile at lane `n` sees.
int64_t rows_seen(int64_t tile_start, int64_t n, int64_t key_begin, int64_t key_rows) {
  return std::clamp<int64_t>(tile_start + n / kChunk * kChunk + kChunk - key_begin, 0, key_rows);
}

// Sets scores of masked keys to kMasked, in rows [0, key_rows) of the score tile, which start at key `key_begin`.
template <class A>
void mask_scores(A* scores, const QueryTile<A>& tile, int64_t key_begin, int64_t key_rows) {
  constexpr int N = kLanes<A>;
  for (int64_t n = 0; n < kTile; n += N) {
    const int64_t end = rows_seen(tile.start, n, key_begin, key_rows);
    const int64_t causal_from = std::clamp<int64_t>(tile.start + n - key_begin, 0, end);
    const Vector<A> positions = __builtin_convertvector(lane_numbers<A>(), Vector<A>) + A(tile.start + n);
    const Vector<A> first = load(tile.first_keys + n);
    const bool any_first = tile.largest_first_key > key_begin;
    for (int64_t c = any_first ? 0 : causal_from; c < end; ++c) {
      const Vector<A> key = broadcast(A(key_begin + c));
      const Vector<A> score = load(scores + c * kTile + n);
      const Vector<A> causal = key > positions ? broadcast(kMasked<A>) : score;
      store<A>(scores + c * kTile + n, key < first ? broadcast(kMasked<A>) : causal);
    }
  }
}

// Replaces scores by their exp2, with running maximum and sum. Rescales the tile's earlier results when a maximum rises.
template <class A>
void exponentials_online(A* scores, QueryTile<A>& tile, int64_t key_begin, int64_t key_rows, int64_t width) {
  constexpr int N = kLanes<A>, kVectors = kTile / N;
  Vector<A> highest[kVectors];
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) highest[v] = load(tile.maximum + v * N);
  // Rows that all lanes see are processed in one sweep, so that several chains of maxima run in parallel.
  const int64_t full_rows = rows_seen(tile.start, 0, key_begin, key_rows);
  for (int64_t c = 0; c < full_rows; ++c) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) highest[v] = maximum<A>(highest[v], load(scores + c * kTile + v * N));
  }
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) {
    const int n = v * N;
    const int64_t end = rows_seen(tile.start, n, key_begin, key_rows);
    Vector<A> top = highest[v];
    for (int64_t c = full_rows; c < end; ++c) top = maximum<A>(top, load(scores + c * kTile + n));
    const Vector<A> before = load(tile.maximum + n);
    Vector<A> sum = load(tile.sum + n);
    if (any_greater<A>(top, before)) {
      const Vector<A> factor = exp2_of_nonpositive<A>(before - top);
      sum *= factor;
      for (int64_t d = 0; d < width; ++d) store<A>(tile.output + d * kTile + n, load(tile.output + d * kTile + n) * factor);
      store<A>(tile.maximum + n, top);
    }
    for (int64_t c = 0; c < end; ++c) {
      const Vector<A> p = exp2_of_nonpositive<A>(load(scores + c * kTile + n) - top);
      sum += p;
      store<A>(scores + c * kTile + n, p);
    }
    store<A>(tile.sum + n, sum);
  }
}

// The follower's version, with known normaliser. Probabilities are at most 1. Rounding of lse must not make them larger.
template <class A>
void exponentials_given(A* scores, const QueryTile<A>& tile, int64_t key_begin, int64_t key_rows) {
  constexpr int N = kLanes<A>;
  for (int64_t n = 0; n < kTile; n += N) {
    const int64_t end = rows_seen(tile.start, n, key_begin, key_rows);
    const Vector<A> normaliser = load(tile.maximum + n);
    for (int64_t c = 0; c < end; ++c)
      store<A>(scores + c * kTile + n,
               exp2_of_nonpositive<A>(minimum<A>(load(scores + c * kTile + n) - normaliser, Vector<A>{})));
  }
}

// Processes one tile against key rows [key_begin, key_begin + key_rows) (a multiple of kChunk). keys and values are packed rows
// of `width`.
template <bool kOnline, class A>
void attend(QueryTile<A>& tile, A* scores, const A* keys, const A* values, int64_t key_begin, int64_t key_rows, int64_t width,
            int64_t depth) {
  // All lanes see the rows up to the tile's start. Rows after it are seen, chunk by chunk, by fewer and fewer lanes.
  const int64_t full_rows = std::clamp<int64_t>(tile.start - key_begin + kChunk, 0, key_rows);
  const auto for_each_part = [&](auto&& body) {
    if (full_rows > 0) body(int64_t{0}, full_rows, int64_t{0});
    for (int64_t row = full_rows; row < key_rows; row += kChunk) body(row, int64_t{kChunk}, key_begin + row - tile.start);
  };
  for_each_part([&](int64_t row, int64_t rows, int64_t lane) {
    multiply<Layout::by_row, false>(scores + row * kTile + lane, kTile, keys + row * width, width, tile.queries + lane, kTile,
                                    rows, kTile - lane, depth);
  });
  if (key_begin + key_rows > tile.start || tile.largest_first_key > key_begin) mask_scores(scores, tile, key_begin, key_rows);
  if constexpr (kOnline)
    exponentials_online(scores, tile, key_begin, key_rows, depth);
  else
    exponentials_given(scores, tile, key_begin, key_rows);
  for_each_part([&](int64_t row, int64_t rows, int64_t lane) {
    multiply<Layout::by_column, true>(tile.output + lane, kTile, values + row * width, width, scores + row * kTile + lane,
                                      kTile, depth, kTile - lane, rows);
  });
}

template <class T>
struct ForwardArguments {
  using A = accumulator<T>;
  HeadRows<T> o, q, k, v;
  A* lse;  // written by the leader, read by a follower
  FirstKeys first_keys;
  int64_t batches, positions, heads, key_heads, head_width;
  A scale;

  int64_t group() const { return heads / key_heads; }
  int64_t width() const { return vector_width<A>(head_width); }      // the part of them that products read
  int64_t depth() const { return round_up(head_width, kRowBlock); }  // of them, what products read
};

// The work of one task: positions [span_begin, span_end) of heads [first_head, last_head).
template <class T>
struct Task {
  int64_t batch, key_head, first_head, last_head, span_begin, span_end;

  // Later positions see more keys, so they come first.
  Task(const ForwardArguments<T>& arguments, const Grouping& grouping, int64_t number) {
    const int64_t key_heads = arguments.key_heads, group = arguments.group(), span = grouping.tiles * kTile;
    const int64_t per_span = arguments.batches * key_heads * grouping.parts;
    span_begin = (grouping.spans - 1 - number / per_span) * span;
    const int64_t rest = number % per_span, part = rest % grouping.parts;
    key_head = rest / grouping.parts % key_heads;
    batch = rest / grouping.parts / key_heads;
    first_head = key_head * group + part * grouping.heads;
    last_head = std::min(first_head + grouping.heads, (key_head + 1) * group);
    span_end = std::min(span_begin + span, arguments.positions);
  }
};

// Memory of one thread.
template <class A>
struct TaskBuffers {
  Arena<A> arena;                    // for tiles of queries
  A *keys, *values, *rows, *scores;  // rows: for transposition

  TaskBuffers(A* memory, int64_t width)
      : arena(memory),
        keys(arena.take(kTile * width)),
        values(arena.take(kTile * width)),
        rows(arena.take(kTile * width)),
        scores(arena.take(kTile * kTile)) {}
  static int64_t elements(const Grouping& grouping, int64_t width) {
    const int64_t per_tile = 2 * width * kTile + 3 * kTile;
    return grouping.heads * grouping.tiles * per_tile + 3 * kTile * width + kTile * kTile;
  }
};

// Load: a tile of queries that has not seen a key yet.
template <bool kOnline, class T, class A = accumulator<T>>
QueryTile<A> load_queries(const ForwardArguments<T>& arguments, const Task<T>& task, TaskBuffers<A>& buffers, int64_t head,
                          int64_t start) {
  const HeadRows<T>& q = arguments.q;
  const int64_t width = arguments.width(), positions = arguments.positions;
  const int64_t valid = std::min<int64_t>(kTile, positions - start);
  if (start + kTile < task.span_end)
    prefetch_rows(q.row(task.batch, start + kTile, head), q.position_stride, 0,
                  std::min<int64_t>(kTile, task.span_end - start - kTile), arguments.head_width);
  Arena<A>& arena = buffers.arena;
  const QueryTile<A> tile{arena.take(width * kTile),
                          arena.take(width * kTile),
                          arena.take(kTile),
                          arena.take(kTile),
                          arena.take(kTile),
                          start,
                          head,
                          arguments.first_keys.minimum(task.batch, start, start + valid),
                          arguments.first_keys.maximum(task.batch, start, start + valid)};
  pack_transposed(tile.queries, buffers.rows, width, q.row(task.batch, start, head), q.position_stride, valid,
                  arguments.head_width, arguments.scale * kLog2OfE<A>);
  std::fill(tile.output, tile.output + width * kTile, A(0));
  const A* const lse = arguments.lse + (task.batch * arguments.heads + head) * positions + start;
  for (int64_t i = 0; i < kTile; ++i) {
    const bool used = i < valid;
    tile.first_keys[i] = used ? A(arguments.first_keys.at(task.batch, start + i)) : A(0);
    tile.sum[i] = 0;
    tile.maximum[i] = kOnline ? kMasked<A> : used ? lse[i] * kLog2OfE<A> : A(0);
  }
  return tile;
}

// Processes all tiles against the keys of one key tile.
template <bool kOnline, class T, class A = accumulator<T>>
void attend_keys(std::span<QueryTile<A>> tiles, const ForwardArguments<T>& arguments, const Task<T>& task,
                 const TaskBuffers<A>& buffers, int64_t key_tile) {
  const HeadRows<T>&k = arguments.k, &v = arguments.v;
  const int64_t width = arguments.width(), depth = arguments.depth(), head_width = arguments.head_width;
  const int64_t positions = arguments.positions, valid = std::min<int64_t>(kTile, positions - key_tile);
  const int64_t batch = task.batch, key_head = task.key_head, tile_count = int64_t(tiles.size());
  pack_rows(buffers.keys, width, k.row(batch, key_tile, key_head), k.position_stride, valid, kTile, head_width, depth);
  pack_rows(buffers.values, width, v.row(batch, key_tile, key_head), v.position_stride, valid, kTile, head_width, depth);
  for (int64_t t = 0; t < tile_count; ++t) {
    QueryTile<A>& tile = tiles[size_t(t)];
    // While this tile is computed, its share of the next keys and values is prefetched.
    const int64_t next = key_tile + kTile, arriving = std::min<int64_t>(kTile, task.span_end - next);
    if (arriving > 0) {
      const int64_t begin = arriving * t / tile_count, end = arriving * (t + 1) / tile_count;
      prefetch_rows(k.row(batch, next, key_head), k.position_stride, begin, end, head_width);
      prefetch_rows(v.row(batch, next, key_head), v.position_stride, begin, end, head_width);
    }
    const int64_t skipped = std::max<int64_t>(0, tile.smallest_first_key / kChunk * kChunk - key_tile);
    const int64_t end = std::min<int64_t>(kTile, std::min(tile.start + kTile, round_up(positions, kChunk)) - key_tile);
    if (skipped < end)
      attend<kOnline>(tile, buffers.scores, buffers.keys + skipped * width, buffers.values + skipped * width,
                      key_tile + skipped, end - skipped, width, depth);
  }
}

// Writes the tile's rows of o. For a leader also writes its rows of lse.
template <bool kOnline, class T, class A = accumulator<T>>
void store_tile(const QueryTile<A>& tile, const ForwardArguments<T>& arguments, const Task<T>& task,
                const TaskBuffers<A>& buffers) {
  const int64_t positions = arguments.positions, valid = std::min<int64_t>(kTile, positions - tile.start);
  if constexpr (kOnline) {
    for (int64_t n = 0; n < kTile; n += kLanes<A>) {
      const Vector<A> sum = load(tile.sum + n);
      const Vector<A> inverse = A(1) / sum;
      for (int64_t d = 0; d < arguments.depth(); ++d)
        store<A>(tile.output + d * kTile + n, load(tile.output + d * kTile + n) * inverse);
      store<A>(tile.sum + n, (load(tile.maximum + n) + log2_of_positive<A>(sum)) * kLogOf2<A>);
    }
    std::copy(tile.sum, tile.sum + valid, arguments.lse + (task.batch * arguments.heads + tile.head) * positions + tile.start);
  }
  unpack_transposed(arguments.o.row(task.batch, tile.start, tile.head), arguments.o.position_stride, buffers.rows,
                    arguments.width(), tile.output, valid, arguments.head_width, A(1));
}

template <bool kOnline, class T>
void forward(const ForwardArguments<T>& arguments) {
  using A = accumulator<T>;
  const int64_t batches = arguments.batches, positions = arguments.positions, width = arguments.width();
  const Grouping grouping(batches * arguments.key_heads, arguments.group(), positions);
  const int64_t tasks = batches * arguments.key_heads * grouping.parts * grouping.spans;
  const ThreadBuffers<A> memory(TaskBuffers<A>::elements(grouping, width));

  // Results do not depend on which thread takes a task.
  const bool parallel = worth_threads(batches, arguments.heads, positions, arguments.head_width);
#pragma omp parallel for schedule(dynamic, 1) if (parallel)
  for (int64_t number = 0; number < tasks; ++number) {
    const Task<T> task(arguments, grouping, number);
    TaskBuffers<A> buffers(memory.mine(), width);
    QueryTile<A> tiles[kTilesPerTask];
    size_t count = 0;
    for (int64_t head = task.first_head; head < task.last_head; ++head)
      for (int64_t start = task.span_begin; start < task.span_end; start += kTile)
        tiles[count++] = load_queries<kOnline>(arguments, task, buffers, head, start);
    const std::span<QueryTile<A>> used(tiles, count);
    const int64_t first_row = arguments.first_keys.minimum(task.batch, task.span_begin, task.span_end) / kTile * kTile;
    for (int64_t key_tile = first_row; key_tile < task.span_end; key_tile += kTile)
      attend_keys<kOnline>(used, arguments, task, buffers, key_tile);
    for (const QueryTile<A>& tile : used) store_tile<kOnline>(tile, arguments, task, buffers);
  }
}

template <class T>
ForwardArguments<T> forward_arguments(Tensor& o, accumulator<T>* lse, const Tensor& q, const Tensor& k, const Tensor& v,
                                      const Tensor& first_key, double scale) {
  return {.o = HeadRows<T>(o),
          .q = HeadRows<T>(q),
          .k = HeadRows<T>(k),
          .v = HeadRows<T>(v),
          .lse = lse,
          .first_keys = FirstKeys(first_key, q.dim(1)),
          .batches = q.dim(0),
          .positions = q.dim(1),
          .heads = q.dim(2),
          .key_heads = k.dim(2),
          .head_width = q.dim(3),
          .scale = accumulator<T>(scale)};
}

}  // namespace

void attention_forward(Tensor& o, Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& first_key,
                       double scale) {
  dispatch_float(q.dtype(), [&]<class T>() {
    forward<true>(forward_arguments<T>(o, lse.data<accumulator<T>>(), q, k, v, first_key, scale));
  });
}

void shared_attention_forward(Tensor& o, const Tensor& q, const Tensor& k, const Tensor& lse, const Tensor& v,
                              const Tensor& first_key, double scale) {
  dispatch_float(q.dtype(), [&]<class T>() {
    forward<false>(forward_arguments<T>(o, lse.data<accumulator<T>>(), q, k, v, first_key, scale));
  });
}

}  // namespace echo::kernels::cpu
