#include "kernels/optimizer/gradient_norm.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/operands.h"

namespace echo::kernels {
namespace cpu {
namespace {

constexpr int64_t kPiece = 1 << 16;

struct Piece {
  const Tensor* tensor;
  int64_t begin, count;
};

template <class T>
double sum_of_squares(const T* x, int64_t count) {
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < count; ++i) {
    const double value = static_cast<accumulator<T>>(x[i]);
    total += value * value;
  }
  return total;
}

}  // namespace

// The pieces of all tensors in one list: many small tensors and a few large ones keep all threads equally busy.
double gradient_norm(std::span<const Tensor> gradients) {
  std::vector<Piece> pieces;
  for (const Tensor& gradient : gradients)
    if (gradient.defined())
      for (int64_t begin = 0, count = gradient.elements(); begin < count; begin += kPiece)
        pieces.push_back({&gradient, begin, std::min(kPiece, count - begin)});
  const int64_t count = int64_t(pieces.size());
  std::vector<double> partial(pieces.size());
#pragma omp parallel for schedule(static) if (count > 1)
  for (int64_t i = 0; i < count; ++i) {
    const Piece& piece = pieces[size_t(i)];
    dispatch_float(piece.tensor->dtype(), [&]<class T>() {
      partial[size_t(i)] = sum_of_squares(static_cast<const T*>(piece.tensor->raw_data()) + piece.begin, piece.count);
    });
  }
  double total = 0;
  for (double value : partial) total += value;
  return std::sqrt(total);
}

}  // namespace cpu

double gradient_norm(std::span<const Tensor> gradients) {
  Tensor first;
  for (const Tensor& gradient : gradients) {
    if (!gradient.defined()) continue;
    if (!first.defined()) first = gradient;
    ECHO_CHECK(gradient.is_contiguous() && is_float(gradient.dtype()), "gradient_norm: ", gradient,
               ", expected contiguous and floating");
    ECHO_CHECK(gradient.device() == first.device(), "gradient_norm: tensors on ", first.device(), " and ", gradient.device());
  }
  if (!first.defined()) return 0;
  ECHO_DISPATCH_DEVICE_VALUE(first, gradient_norm, gradients);
}

double clip_coefficient(double norm, double max_norm) {
  if (!std::isfinite(norm)) return std::numeric_limits<double>::quiet_NaN();
  if (max_norm <= 0) return 1;
  return std::min(1.0, max_norm / (norm + 1e-6));
}

}  // namespace echo::kernels
