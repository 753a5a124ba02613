#pragma once

#include <memory>
#include <vector>

#include "communication/communicator.h"
#include "nn/language_model.h"
#include "training/gradient_buckets.h"

namespace echo {

// The layers of a frozen model, divided among the ranks. Each rank keeps its slice of the matrices of every layer. The matrices
// are collected just before the layer computes, one layer ahead, and freed after it. Embedding, norms and head stay whole.
// While the object lives, the matrices of layers are undefined outside of forward passes, and so they stay afterwards.
// Source: ZeRO stage 3, Rajbhandari et al. 2020, arXiv:1910.02054, without gradients.
class LayerShards : public LayerHooks {
 public:
  // All ranks have the same model. Communicator and model must outlive the object.
  LayerShards(Communicator& communicator, LanguageModel& model);
  ~LayerShards() override;
  LayerShards(const LayerShards&) = delete;
  LayerShards& operator=(const LayerShards&) = delete;

  // All ranks make their forward passes together, except between these calls: there the first rank makes passes alone, and the
  // others give it their slices in serve(), until it calls finish_alone().
  void begin_alone() { alone_ = true; }
  void finish_alone();
  void serve();

  void before_layer(int64_t layer) override;
  void after_layer(int64_t layer) override;

  double seconds_waited() const { return seconds_waited_; }  // for slices, since the beginning

 private:
  struct Layer {
    Bucket bucket;                       // its matrices
    Tensor own;                          // this rank's slice of them
    Tensor whole;                        // all of them, from the start of the exchange to the end of the layer
    std::unique_ptr<Exchange> exchange;  // null when none has started
  };

  void start(size_t layer);

  Communicator& communicator_;
  LanguageModel& model_;
  std::vector<Layer> layers_;
  bool alone_ = false;
  double seconds_waited_ = 0;
};

}  // namespace echo
