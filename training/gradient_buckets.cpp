#include "training/gradient_buckets.h"

#include <algorithm>
#include <cmath>

#include "kernels/cast.h"
#include "kernels/optimizer/square_sums.h"
#include "tensor/allocator.h"
#include "training/exact_sum.h"

namespace echo {
namespace {

int64_t rounded_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

std::vector<Parameter*> backward_order(const LanguageModel& model) {
  std::vector<Parameter*> order = model.parameters();
  std::reverse(order.begin(), order.end());
  // A head that is also the embedding gets the last part of its gradient at the end.
  if (model.config().tie_word_embeddings) return order;
  std::stable_partition(order.begin(), order.end(),
                        [&](const Parameter* parameter) { return parameter->variable.state() == model.head_weight().state(); });
  return order;
}

BucketSettings bucket_settings(const TrainConfig& config) {
  return {.bytes = int64_t(config.gradient_bucket_mib * (1 << 20)),
          .bfloat16_wire = config.gradient_wire == settings::GradientWire::bfloat16,
          .scatter = config.shard_optimizer};
}

Tensor Bucket::view(const Tensor& values, const Part& part) {
  return values.narrow(0, part.begin, part.shape.elements()).reshape(part.shape);
}

std::vector<Bucket> make_buckets(const std::vector<Parameter*>& parameters, int64_t bytes, int64_t world) {
  std::vector<Bucket> buckets;
  for (Parameter* parameter : parameters) {
    const int64_t elements = rounded_up(parameter->variable.shape().elements(), kernels::kSquareSumLength);
    const int64_t item = size_of(accumulator_dtype(parameter->variable.dtype()));
    if (buckets.empty() || buckets.back().elements + elements > bytes / item) buckets.emplace_back();
    buckets.back().parts.push_back({parameter, buckets.back().elements, parameter->variable.shape()});
    buckets.back().elements += elements;
  }
  for (Bucket& bucket : buckets) bucket.elements = rounded_up(bucket.elements, kernels::kSquareSumLength * world);
  return buckets;
}

GradientBuckets::GradientBuckets(Communicator& communicator, const std::vector<Parameter*>& parameters,
                                 const BucketSettings& settings)
    : communicator_(communicator),
      settings_(settings),
      buckets_(make_buckets(parameters, settings.bytes, communicator.world())) {
  const MemoryLabel label("gradients");
  for (size_t i = 0; i < buckets_.size(); ++i) {
    const Tensor& first = buckets_[i].parts.front().parameter->variable.data();
    const Tensor gradients = Tensor::zeros({buckets_[i].elements}, accumulator_dtype(first.dtype()), first.device());
    for (const Bucket::Part& part : buckets_[i].parts) {
      part.parameter->variable.set_gradient_storage(Bucket::view(gradients, part));
      part.parameter->variable.set_gradient_ready_hook([this, i] { part_is_complete(i); });
    }
    states_.emplace_back();
    states_.back().gradients = gradients;
  }
}

GradientBuckets::~GradientBuckets() {
  for (const Bucket& bucket : buckets_)
    for (const Bucket::Part& part : bucket.parts) {
      part.parameter->variable.set_gradient_storage({});
      part.parameter->variable.set_gradient_ready_hook({});
    }
}

void GradientBuckets::start_in_next_pass() {
  is_last_pass_ = true;
  next_ = 0;
  for (State& state : states_) state.complete = 0;
}

void GradientBuckets::part_is_complete(size_t bucket) {
  if (!is_last_pass_) return;
  ECHO_CHECK(bucket >= next_, "gradient buckets: a second backward pass after start_in_next_pass(), expected one");
  ++states_[bucket].complete;
  while (next_ < states_.size() && states_[next_].complete == buckets_[next_].parts.size()) start_next();
}

void GradientBuckets::start_next() {
  State& state = states_[next_++];
  if (settings_.bfloat16_wire) {
    const MemoryLabel label("communication");
    state.wire = kernels::cast(state.gradients, DType::bf16);
  }
  const Tensor& sent = settings_.bfloat16_wire ? state.wire : state.gradients;
  state.exchange = settings_.scatter ? communicator_.start_reduce_scatter_sum(sent) : communicator_.start_all_reduce_sum(sent);
}

void GradientBuckets::finish() {
  ECHO_CHECK(is_last_pass_, "gradient buckets: finish() without start_in_next_pass()");
  while (next_ < states_.size()) start_next();  // parts that the pass has not reached
  is_last_pass_ = false;
  for (State& state : states_) {
    seconds_waited_ += timed_wait(*state.exchange);
    state.exchange.reset();
    if (!state.wire.defined()) continue;
    const int64_t elements = state.gradients.elements();
    const RankSlice summed =
        settings_.scatter ? slice_of_rank(elements, communicator_.rank(), communicator_.world()) : RankSlice{0, elements};
    Tensor sums = state.gradients.narrow(0, summed.begin, summed.count);
    kernels::cast(sums, state.wire.narrow(0, summed.begin, summed.count));
    state.wire = {};
  }
}

// Each rank adds up the squares of its slices. The order of a sum of very many terms would depend on buckets and ranks, so
// their sums of fixed groups are added without rounding.
double GradientBuckets::norm() const {
  ExactSum sum;
  for (const State& state : states_) {
    const RankSlice own = slice_of_rank(state.gradients.elements(), communicator_.rank(), communicator_.world());
    const Tensor squares = kernels::square_sums(state.gradients.narrow(0, own.begin, own.count));
    for (const double square : squares.to_vector<double>()) sum.add(square);
  }
  Tensor parts = Tensor::from(sum.parts());
  communicator_.all_reduce_sum(parts);
  return std::sqrt(ExactSum::value(parts.to_vector<double>()));
}

void GradientBuckets::clear() {
  for (State& state : states_) state.gradients.fill_zero();
}

}  // namespace echo
