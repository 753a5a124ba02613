#include "training/optimizer.h"

#include <algorithm>
#include <optional>

#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/gradient_norm.h"
#include "tensor/allocator.h"

namespace echo {
namespace {

constexpr const char* kFirst = ".first_moment";
constexpr const char* kSecond = ".second_moment";

Tensor flat(const Tensor& tensor) { return tensor.defined() ? tensor.reshape({tensor.elements()}) : tensor; }

}  // namespace

AdamW::AdamW(Module& module, const OptimizerSettings& settings)
    : parameters_(module.parameters()), settings_(settings), groups_(1) {
  for (Parameter* parameter : parameters_) groups_[0].push_back({parameter, 0, parameter->variable.shape().elements(), {}, {}});
}

AdamW::AdamW(Module& module, const OptimizerSettings& settings, ParameterBuckets& buckets)
    : parameters_(module.parameters()), settings_(settings), buckets_(&buckets), groups_(buckets.size()) {
  for (size_t i = 0; i < groups_.size(); ++i)
    for (const auto& [part, begin, count] : buckets.own_pieces(i))
      groups_[i].push_back({part->parameter, begin, count, {}, {}});
}

double AdamW::gradient_norm() const {
  std::vector<Tensor> gradients;
  for (const Parameter* parameter : parameters_) gradients.push_back(parameter->variable.gradient());
  return kernels::gradient_norm(gradients);
}

kernels::AdamWSpan AdamW::span_of(const Piece& piece) const {
  const Variable& variable = piece.parameter->variable;
  const auto own = [&](const Tensor& tensor) {
    return tensor.defined() ? flat(tensor).narrow(0, piece.begin, piece.count) : tensor;
  };
  const bool is_matrix = variable.data().rank() == 2;
  return {own(variable.data()),
          own(variable.gradient()),
          piece.first_moment,
          piece.second_moment,
          is_matrix ? settings_.weight_decay : 0.0,
          own(variable.compute_copy())};
}

void AdamW::step(double learning_rate, double norm) {
  make_moments();
  const kernels::AdamWSettings settings = {.learning_rate = learning_rate,
                                           .beta1 = settings_.beta1,
                                           .beta2 = settings_.beta2,
                                           .epsilon = settings_.epsilon,
                                           .step = ++steps_,
                                           .gradient_scale = kernels::clip_coefficient(norm, settings_.max_grad_norm)};
  for (size_t i = 0; i < groups_.size(); ++i) {
    std::vector<kernels::AdamWSpan> spans;
    for (const Piece& piece : groups_[i])
      if (piece.parameter->variable.gradient().defined()) spans.push_back(span_of(piece));
    kernels::adamw(spans, settings);
    if (buckets_ != nullptr) buckets_->start_gather(i);
  }
  if (buckets_ != nullptr) buckets_->finish();
}

void AdamW::clear_gradients() {
  for (Parameter* parameter : parameters_) parameter->variable.clear_gradient();
}

void AdamW::make_moments() {
  const MemoryLabel label("optimizer moments");
  for (std::vector<Piece>& group : groups_)
    for (Piece& piece : group) {
      if (piece.first_moment.defined()) continue;
      const Tensor& data = piece.parameter->variable.data();
      piece.first_moment = Tensor::zeros({piece.count}, data.dtype(), data.device());
      piece.second_moment = Tensor::zeros({piece.count}, data.dtype(), data.device());
    }
}

std::vector<TensorDescription> AdamW::state() const {
  std::vector<TensorDescription> tensors;
  if (steps_ == 0) return tensors;
  for (const Parameter* parameter : parameters_)
    for (const char* moment : {kFirst, kSecond})
      for (const NamedTensor& part : parts_of(*parameter, parameter->variable.data()))
        tensors.push_back({part.name + moment, part.tensor.shape(), part.tensor.dtype()});
  return tensors;
}

namespace {

// The moments of the bucket that was asked for last.
struct GatheredMoments {
  std::optional<size_t> bucket;
  Tensor first, second;
};

}  // namespace

TensorProvider AdamW::state_provider() const {
  std::map<std::string, const Parameter*> owners;
  for (const Parameter* parameter : parameters_)
    for (const Parameter::Part& part : parameter->parts) owners[part.name] = parameter;
  // The moments of a parameter, in its shape.
  const auto moment_of = [this, kept = std::make_shared<GatheredMoments>()](const Parameter& parameter, bool first) {
    const auto moment = [&](const Piece& piece) { return first ? piece.first_moment : piece.second_moment; };
    if (buckets_ == nullptr) {
      const auto is_its_own = [&](const Piece& piece) { return piece.parameter == &parameter; };
      return moment(*std::find_if(groups_[0].begin(), groups_[0].end(), is_its_own)).reshape(parameter.variable.shape());
    }
    const size_t bucket = buckets_->bucket_of(parameter);
    if (kept->bucket != bucket) {
      *kept = {};
      std::vector<Tensor> firsts, seconds;
      for (const Piece& piece : groups_[bucket]) {
        firsts.push_back(piece.first_moment);
        seconds.push_back(piece.second_moment);
      }
      *kept = {bucket, buckets_->gathered(bucket, firsts), buckets_->gathered(bucket, seconds)};
    }
    return buckets_->of_parameter(first ? kept->first : kept->second, parameter);
  };
  return [owners, moment_of](const TensorDescription& description) {
    const std::string& full = description.name;
    const bool first = full.ends_with(kFirst);
    const std::string name = full.substr(0, full.rfind('.'));
    const Parameter& parameter = *owners.at(name);
    for (const NamedTensor& part : parts_of(parameter, moment_of(parameter, first)))
      if (part.name == name) return part.tensor;
    fail(ExitCode::internal, "optimizer state: no tensor ", full);
  };
}

void AdamW::take_part_in_saving() const {
  if (buckets_ == nullptr) return;
  const TensorProvider provider = state_provider();
  for (const TensorDescription& tensor : state()) provider(tensor);
}

// Of each stored tensor this rank reads what is in its pieces.
void AdamW::restore(const TensorSource& source, int64_t steps) {
  steps_ = steps;
  if (steps == 0) return;
  make_moments();
  for (const std::vector<Piece>& group : groups_)
    for (const Piece& piece : group) {
      int64_t part_begin = 0;
      for (const NamedTensor& part : parts_of(*piece.parameter, piece.parameter->variable.data())) {
        const int64_t elements = part.tensor.elements(), begin = std::max(piece.begin, part_begin),
                      end = std::min(piece.begin + piece.count, part_begin + elements);
        for (const bool first : {true, false}) {
          if (begin >= end) break;
          Tensor own = (first ? piece.first_moment : piece.second_moment).narrow(0, begin - piece.begin, end - begin);
          const std::string name = part.name + (first ? kFirst : kSecond);
          if (end - begin == elements) {
            Tensor whole = own.reshape(part.tensor.shape());
            source.read_into(name, whole);
          } else {
            Tensor whole = Tensor::empty(part.tensor.shape(), own.dtype());
            source.read_into(name, whole);
            own.copy_from(flat(whole).narrow(0, begin - part_begin, end - begin));
          }
        }
        part_begin += elements;
      }
    }
}

}  // namespace echo
