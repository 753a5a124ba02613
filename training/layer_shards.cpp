#include "training/layer_shards.h"

#include <limits>

#include "tensor/allocator.h"

namespace echo {
namespace {

constexpr const char* kPass = "a forward pass";

}  // namespace

LayerShards::LayerShards(Communicator& communicator, LanguageModel& model) : communicator_(communicator), model_(model) {
  const MemoryLabel label("frozen weights");
  for (int64_t i = 0; i < model.config().num_hidden_layers; ++i) {
    std::vector<Parameter*> matrices;
    for (Parameter* parameter : model.layer_parameters(i)) {
      ECHO_CHECK(!parameter->variable.requires_gradient(), "layer shards: ", parameter->parts.front().name, " is not frozen");
      if (parameter->variable.data().rank() == 2) matrices.push_back(parameter);
    }
    Layer layer{make_buckets(matrices, std::numeric_limits<int64_t>::max(), communicator.world()).at(0), {}, {}, {}};
    const Tensor& first = matrices.front()->variable.data();
    const Tensor whole = Tensor::zeros({layer.bucket.elements}, first.dtype(), first.device());
    for (const Bucket::Part& part : layer.bucket.parts) {
      Tensor place = Bucket::view(whole, part);
      place.copy_from(part.parameter->variable.data());
      part.parameter->variable.data() = {};
    }
    const RankSlice own = slice_of_rank(layer.bucket.elements, communicator.rank(), communicator.world());
    layer.own = whole.narrow(0, own.begin, own.count).clone();
    layers_.push_back(std::move(layer));
  }
  model.set_layer_hooks(this);
}

LayerShards::~LayerShards() { model_.set_layer_hooks(nullptr); }

void LayerShards::start(size_t layer) {
  if (layer >= layers_.size() || layers_[layer].exchange) return;
  const MemoryLabel label("frozen weights");
  Layer& it = layers_[layer];
  it.whole = Tensor::empty({it.bucket.elements}, it.own.dtype(), it.own.device());
  it.whole.narrow(0, it.own.elements() * communicator_.rank(), it.own.elements()).copy_from(it.own);
  it.exchange = communicator_.start_all_gather_slices(it.whole);
}

void LayerShards::before_layer(int64_t layer) {
  if (alone_ && layer == 0 && communicator_.is_first()) text_of_first(communicator_, kPass);
  start(size_t(layer));
  start(size_t(layer) + 1);
  Layer& it = layers_[size_t(layer)];
  seconds_waited_ += timed_wait(*it.exchange);
  for (const Bucket::Part& part : it.bucket.parts) part.parameter->variable.data() = Bucket::view(it.whole, part);
}

void LayerShards::after_layer(int64_t layer) {
  Layer& it = layers_[size_t(layer)];
  for (const Bucket::Part& part : it.bucket.parts) part.parameter->variable.data() = {};
  it.whole = {};
  it.exchange.reset();
}

void LayerShards::finish_alone() {
  text_of_first(communicator_, "");
  alone_ = false;
}

void LayerShards::serve() {
  while (text_of_first(communicator_, "") == kPass)
    for (int64_t i = 0; i < int64_t(layers_.size()); ++i) {
      before_layer(i);
      after_layer(i);
    }
}

}  // namespace echo
