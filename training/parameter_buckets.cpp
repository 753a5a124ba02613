#include "training/parameter_buckets.h"

#include <algorithm>

#include "kernels/cast.h"
#include "tensor/allocator.h"

namespace echo {

ParameterBuckets::ParameterBuckets(Communicator& communicator, std::vector<Bucket> buckets)
    : communicator_(communicator), buckets_(std::move(buckets)) {
  const MemoryLabel label("parameters");
  for (const Bucket& bucket : buckets_) {
    const Tensor& first = bucket.parts.front().parameter->variable.data();
    values_.push_back(Tensor::zeros({bucket.elements}, first.dtype(), first.device()));
    for (const Bucket::Part& part : bucket.parts) {
      Tensor moved = Bucket::view(values_.back(), part);
      moved.copy_from(part.parameter->variable.data());
      part.parameter->variable.data() = moved;
    }
  }
}

std::vector<ParameterBuckets::Piece> ParameterBuckets::own_pieces(size_t bucket) const {
  const RankSlice own = slice_of_rank(buckets_[bucket].elements, communicator_.rank(), communicator_.world());
  std::vector<Piece> pieces;
  for (const Bucket::Part& part : buckets_[bucket].parts) {
    const int64_t begin = std::max(own.begin, part.begin);
    const int64_t end = std::min(own.begin + own.count, part.begin + part.shape.elements());
    if (begin < end) pieces.push_back({&part, begin - part.begin, end - begin});
  }
  return pieces;
}

size_t ParameterBuckets::bucket_of(const Parameter& parameter) const {
  for (size_t i = 0; i < buckets_.size(); ++i)
    for (const Bucket::Part& part : buckets_[i].parts)
      if (part.parameter == &parameter) return i;
  fail(ExitCode::internal, "parameter buckets: none holds ", parameter.parts.front().name);
}

void ParameterBuckets::start_gather(size_t bucket) {
  exchanges_.push_back(communicator_.start_all_gather_slices(values_[bucket]));
}

void ParameterBuckets::finish() {
  for (size_t i = 0; i < exchanges_.size(); ++i) {
    seconds_waited_ += timed_wait(*exchanges_[i]);
    for (const Bucket::Part& part : buckets_[i].parts) {
      Tensor copy = part.parameter->variable.compute_copy();
      if (copy.defined()) kernels::cast(copy, part.parameter->variable.data());
    }
  }
  exchanges_.clear();
}

Tensor ParameterBuckets::gathered(size_t bucket, const std::vector<Tensor>& pieces) const {
  const Tensor& like = values_[bucket];
  const Tensor values = Tensor::zeros({buckets_[bucket].elements}, like.dtype(), like.device());
  const std::vector<Piece> own = own_pieces(bucket);
  ECHO_CHECK(pieces.size() == own.size(), "parameter buckets: ", pieces.size(), " pieces, expected ", own.size());
  for (size_t i = 0; i < own.size(); ++i)
    values.narrow(0, own[i].part->begin + own[i].begin, own[i].count).copy_from(pieces[i]);
  communicator_.start_all_gather_slices(values)->wait();
  return values;
}

Tensor ParameterBuckets::of_parameter(const Tensor& gathered, const Parameter& parameter) const {
  for (const Bucket::Part& part : buckets_[bucket_of(parameter)].parts)
    if (part.parameter == &parameter) return Bucket::view(gathered, part);
  return {};
}

}  // namespace echo
