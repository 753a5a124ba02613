// The lanes of all vectors are queries (rows of the matrices). So products of two layers' rows need no sum across lanes, and
// each key adds to the products of all pairs of layers with one multiply-add each. The products of one block of layers by
// another are held in registers over a run of keys.
#include "kernels/attention/similarity.h"

#include <cmath>
#include <vector>

#include "kernels/attention/cpu_tile.h"
#include "kernels/dispatch.h"

namespace echo::kernels {
namespace cpu {
namespace {

constexpr int64_t kRows = 32;          // queries of a tile
constexpr int64_t kKeys = 32;          // keys of a run: the probabilities of eight layers for 16 queries fit into the L1 cache
constexpr int64_t kGroupsPerHead = 8;  // tasks per head; their sums are added in order, so the thread of a task does not matter
constexpr int kLayers = kVectorBytes == 64 ? 4 : 3;  // of a block: its square and two of its sides fit into the registers

struct Sizes {
  int64_t layers, padded_layers, tokens, heads, group, head_dim, padded_head_dim;
  int64_t tiles() const { return (tokens + kRows - 1) / kRows; }
  int64_t groups() const { return std::min(tiles(), kGroupsPerHead); }
};

// The memory of one task.
template <class A>
struct Workspace {
  static int64_t elements(const Sizes& s) {
    return s.layers * s.padded_head_dim * kRows + s.layers * kRows + kKeys * s.padded_head_dim +
           s.padded_layers * kKeys * kRows + s.padded_layers * kRows + s.padded_layers * s.padded_layers * kRows + 7 * 64;
  }
  Workspace(A* memory, const Sizes& s) {
    Arena<A> arena(memory);
    queries = arena.take(s.layers * s.padded_head_dim * kRows);
    normalisers = arena.take(s.layers * kRows);
    keys = arena.take(kKeys * s.padded_head_dim);
    probabilities = arena.take(s.padded_layers * kKeys * kRows);
    first = arena.take(s.padded_layers * kRows);
    products = arena.take(s.padded_layers * s.padded_layers * kRows);
    std::fill(probabilities, probabilities + s.padded_layers * kKeys * kRows, A(0));  // those of padding layers stay zero
  }
  A* queries;        // [L][Dh][kRows], times scale * log2 e, so that scores are exponents of 2
  A* normalisers;    // [L][kRows], lse as exponents of 2
  A* keys;           // [kKeys][Dh], of one layer
  A* probabilities;  // [L][kKeys][kRows]
  A* first;          // [L][kRows], the first column
  A* products;       // [L][L][kRows], without the first column
};

// products[i][j] += sum over keys of p_i * p_j, per query, for two blocks of layers and the queries of one vector.
template <class A>
ECHO_INLINE void add_products(A* products, int64_t padded_layers, const A* p, int64_t i, int64_t j, int64_t keys) {
  constexpr int64_t kLayerStride = kKeys * kRows;
  Vector<A> sums[kLayers][kLayers] = {};
  const A* left = p + i * kLayerStride;
  const A* right = p + j * kLayerStride;
  for (int64_t key = 0; key < keys; ++key, left += kRows, right += kRows) {
    Vector<A> row[kLayers];
#pragma GCC unroll 4
    for (int b = 0; b < kLayers; ++b) row[b] = load(right + b * kLayerStride);
#pragma GCC unroll 4
    for (int a = 0; a < kLayers; ++a) {
      const Vector<A> x = load(left + a * kLayerStride);
#pragma GCC unroll 4
      for (int b = 0; b < kLayers; ++b) sums[a][b] += x * row[b];
    }
  }
#pragma GCC unroll 4
  for (int a = 0; a < kLayers; ++a)
#pragma GCC unroll 4
    for (int b = 0; b < kLayers; ++b) {
      A* target = products + ((i + a) * padded_layers + j + b) * kRows;
      store<A>(target, load(target) + sums[a][b]);
    }
}

// Rows [start, start + kRows) of one head.
template <class T, class A = accumulator<T>>
class Tile {
 public:
  Tile(std::span<const AttentionMatrix> layers, const Sizes& sizes, Workspace<A>& work, int64_t head, int64_t start,
       double scale)
      : layers_(layers), s_(sizes), w_(work), head_(head), start_(start), rows_(std::min(kRows, sizes.tokens - start)) {
    for (int64_t layer = 0; layer < s_.layers; ++layer) {
      const Tensor& q = layers_[size_t(layer)].q;
      A* target = w_.queries + layer * s_.padded_head_dim * kRows;
      const T* source = q.data<T>() + head_ * q.stride(1) + start_ * q.stride(0);
      for (int64_t d = 0; d < s_.padded_head_dim; ++d)
        for (int64_t r = 0; r < kRows; ++r)
          target[d * kRows + r] =
              d < s_.head_dim && r < rows_ ? A(source[r * q.stride(0) + d]) * A(scale * double(kLog2OfE<A>)) : A(0);
      const A* lse = layers_[size_t(layer)].lse.template data<A>() + head_ * s_.tokens + start_;
      for (int64_t r = 0; r < kRows; ++r) w_.normalisers[layer * kRows + r] = r < rows_ ? lse[r] * kLog2OfE<A> : A(0);
    }
    std::fill(w_.products, w_.products + s_.padded_layers * s_.padded_layers * kRows, A(0));
  }

  void add_to(SimilaritySums& sums) {
    for (int64_t key = 0; key < start_ + rows_; key += kKeys) {
      const int64_t keys = std::min(kKeys, start_ + rows_ - key);
      for (int64_t layer = 0; layer < s_.layers; ++layer) fill_probabilities(layer, key, keys);
      if (key == 0) take_first_column();
      for (int64_t i = 0; i < s_.padded_layers; i += kLayers)
        for (int64_t j = i; j < s_.padded_layers; j += kLayers)
          for (int64_t lane = 0; lane < kRows; lane += kLanes<A>)
            add_products(w_.products + lane, s_.padded_layers, w_.probabilities + lane, i, j, keys);
    }
    collect(sums);
  }

 private:
  void fill_probabilities(int64_t layer, int64_t first_key, int64_t keys) {
    const Tensor& k = layers_[size_t(layer)].k;
    pack_rows(w_.keys, s_.padded_head_dim, k.data<T>() + head_ / s_.group * k.stride(1) + first_key * k.stride(0), k.stride(0),
              keys, kKeys, s_.head_dim, s_.padded_head_dim);
    A* p = w_.probabilities + layer * kKeys * kRows;
    multiply<Layout::by_row, false>(p, kRows, w_.keys, s_.padded_head_dim, w_.queries + layer * s_.padded_head_dim * kRows,
                                    kRows, kKeys, kRows, s_.padded_head_dim);
    for (int64_t lane = 0; lane < kRows; lane += kLanes<A>) {
      const Vector<A> normaliser = load(w_.normalisers + layer * kRows + lane);
      for (int64_t key = 0; key < keys; ++key) {
        A* at = p + key * kRows + lane;
        const Vector<A> exponent = load(at) - normaliser;
        // Rounding may make a score slightly larger than lse. If the exponent is not finite, exponent * 0 is NaN. Without this
        // term the exponential of NaN could be 0, and damaged weights would look like sparse attention.
        store<A>(at, exp2_of_nonpositive<A>(minimum<A>(exponent, Vector<A>{})) + exponent * A(0));
      }
    }
    if (first_key + keys > start_)  // the diagonal: later keys are masked
      for (int64_t key = std::max<int64_t>(0, start_ - first_key); key < keys; ++key)
        for (int64_t r = 0; r < first_key + key - start_; ++r) p[key * kRows + r] = 0;
  }

  // The first column is kept separately instead of being subtracted at the end. This loses no digits when it has nearly all of
  // the mass.
  void take_first_column() {
    for (int64_t layer = 0; layer < s_.padded_layers; ++layer) {
      A* p = w_.probabilities + layer * kKeys * kRows;
      std::copy(p, p + kRows, w_.first + layer * kRows);
      std::fill(p, p + kRows, A(0));
    }
  }

  void collect(SimilaritySums& sums) const {
    double inverse_norm[kRows], row[kRows];
    std::vector<double> inverse_norms(size_t(s_.layers * kRows));
    const auto whole = [&](int64_t i, int64_t j, int64_t r) {
      return double(w_.products[(i * s_.padded_layers + j) * kRows + r]) +
             double(w_.first[i * kRows + r]) * double(w_.first[j * kRows + r]);
    };
    for (int64_t i = 0; i < s_.layers; ++i)
      for (int64_t r = 0; r < rows_; ++r) inverse_norms[size_t(i * kRows + r)] = 1 / std::sqrt(whole(i, i, r));
    for (int64_t i = 0; i < s_.layers; ++i) {
      std::copy_n(inverse_norms.data() + i * kRows, kRows, inverse_norm);
      for (int64_t j = i; j < s_.layers; ++j) {
        const A* rest = w_.products + (i * s_.padded_layers + j) * kRows;
        const double* other = inverse_norms.data() + j * kRows;
        double product = 0, without_first = 0, cosine = 0;
        for (int64_t r = 0; r < rows_; ++r) row[r] = whole(i, j, r);
        for (int64_t r = 0; r < rows_; ++r) {
          product += row[r];
          without_first += double(rest[r]);
          cosine += row[r] * inverse_norm[r] * other[r];
        }
        const size_t pair = size_t(i * s_.layers + j);
        sums.products[pair] += product;
        sums.without_first[pair] += without_first;
        sums.cosines[pair] += cosine;
      }
    }
  }

  std::span<const AttentionMatrix> layers_;
  const Sizes& s_;
  Workspace<A>& w_;
  int64_t head_, start_, rows_;
};

}  // namespace

std::vector<SimilaritySums> similarity_sums(std::span<const AttentionMatrix> layers, double scale) {
  const Tensor& q = layers[0].q;
  const int64_t count = int64_t(layers.size()), heads = q.dim(1), head_dim = q.dim(2);
  const int64_t lanes = kVectorBytes / size_of(accumulator_dtype(q.dtype()));
  const Sizes sizes{count,
                    (count + kLayers - 1) / kLayers * kLayers,
                    q.dim(0),
                    heads,
                    heads / layers[0].k.dim(1),
                    head_dim,
                    round_up(head_dim, lanes)};
  const int64_t groups = sizes.groups();
  std::vector<SimilaritySums> tasks(size_t(heads * groups), SimilaritySums(count));
  dispatch_float(q.dtype(), [&]<class T>() {
    using A = accumulator<T>;
    const ThreadBuffers<A> buffers(Workspace<A>::elements(sizes));
#pragma omp parallel for schedule(dynamic)
    for (int64_t task = 0; task < heads * groups; ++task) {
      Workspace<A> work(buffers.mine(), sizes);
      for (int64_t tile = task % groups; tile < sizes.tiles(); tile += groups)
        Tile<T>(layers, sizes, work, task / groups, tile * kRows, scale).add_to(tasks[size_t(task)]);
    }
  });

  std::vector<SimilaritySums> sums(size_t(heads), SimilaritySums{count});
  for (int64_t task = 0; task < heads * groups; ++task) {
    SimilaritySums& head = sums[size_t(task / groups)];
    const SimilaritySums& part = tasks[size_t(task)];
    for (size_t pair = 0; pair < head.products.size(); ++pair) {
      head.products[pair] += part.products[pair];
      head.without_first[pair] += part.without_first[pair];
      head.cosines[pair] += part.cosines[pair];
    }
  }
  return sums;
}

}  // namespace cpu

namespace {

// Adds the cosine of each two layers i and j, from their inner products, to both halves of the table.
template <class At>
void add_cosines(Tensor& table, int64_t layers, double weight, At&& product) {
  double* out = table.data<double>();
  for (int64_t i = 0; i < layers; ++i)
    for (int64_t j = i; j < layers; ++j) {
      const double norms = std::sqrt(product(i, i)) * std::sqrt(product(j, j));
      const double cosine = norms == 0 ? double(i == j) : product(i, j) / norms;
      out[i * layers + j] += weight * cosine;
      if (i != j) out[j * layers + i] += weight * cosine;
    }
}

// Computes the cosines from the sums of each head, for matrices of `tokens` rows.
AttentionSimilarity similarity_of(std::span<const SimilaritySums> heads, int64_t layers, int64_t tokens) {
  const Shape shape{layers, layers};
  AttentionSimilarity result{Tensor::zeros(shape, DType::f64), Tensor::zeros(shape, DType::f64),
                             Tensor::zeros(shape, DType::f64), Tensor::zeros(shape, DType::f64)};
  SimilaritySums all(layers);
  for (const SimilaritySums& head : heads) {
    for (size_t pair = 0; pair < all.products.size(); ++pair) {
      all.products[pair] += head.products[pair];
      all.without_first[pair] += head.without_first[pair];
      all.cosines[pair] += head.cosines[pair];
    }
    add_cosines(result.per_head, layers, 1.0 / double(heads.size()),
                [&](int64_t i, int64_t j) { return head.products[size_t(i * layers + j)]; });
  }
  add_cosines(result.flat, layers, 1.0, [&](int64_t i, int64_t j) { return all.products[size_t(i * layers + j)]; });
  add_cosines(result.no_first_column, layers, 1.0,
              [&](int64_t i, int64_t j) { return all.without_first[size_t(i * layers + j)]; });
  double* per_row = result.per_row.data<double>();
  for (int64_t i = 0; i < layers; ++i)
    for (int64_t j = i; j < layers; ++j)
      per_row[i * layers + j] = per_row[j * layers + i] =
          all.cosines[size_t(i * layers + j)] / (double(heads.size()) * double(tokens));
  return result;
}

}  // namespace

AttentionSimilarity attention_similarity(std::span<const AttentionMatrix> layers, double scale) {
  ECHO_CHECK(!layers.empty(), "attention similarity: no layers");
  for (const AttentionMatrix& layer : layers) {
    const auto& [q, k, lse] = layer;
    ECHO_CHECK(q.defined() && k.defined() && lse.defined(), "attention similarity: an undefined tensor");
    ECHO_CHECK(q.rank() == 3 && k.rank() == 3 && q.dim(0) == k.dim(0) && q.dim(2) == k.dim(2) && k.dim(1) > 0 &&
                   q.dim(1) % k.dim(1) == 0 && q.elements() > 0,
               "attention similarity: q ", q, " and k ", k, ", expected (T, H, Dh) and (T, Hkv, Dh)");
    ECHO_CHECK((lse.shape() == Shape{q.dim(1), q.dim(0)}) && lse.is_contiguous(), "attention similarity: lse ", lse, " for q ",
               q);
    ECHO_CHECK(q.stride(2) == 1 && k.stride(2) == 1, "attention similarity: the last dimension of q and k must have stride 1");
    ECHO_CHECK(q.dtype() == k.dtype() && lse.dtype() == accumulator_dtype(q.dtype()), "attention similarity: dtypes of q ", q,
               ", k ", k, ", lse ", lse);
    ECHO_CHECK(q.shape() == layers[0].q.shape() && k.shape() == layers[0].k.shape() && q.dtype() == layers[0].q.dtype(),
               "attention similarity: layers differ: q ", q, " and ", layers[0].q, ", k ", k, " and ", layers[0].k);
    ECHO_CHECK(q.device() == layers[0].q.device() && k.device() == q.device() && lse.device() == q.device(),
               "attention similarity: q on ", q.device(), ", k on ", k.device(), ", lse on ", lse.device());
  }
  const std::vector<SimilaritySums> heads = ECHO_DISPATCH_DEVICE(layers[0].q, similarity_sums, layers, scale);
  return similarity_of(heads, int64_t(layers.size()), layers[0].q.dim(0));
}

}  // namespace echo::kernels
