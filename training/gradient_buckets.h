#pragma once

#include <memory>
#include <vector>

#include "communication/communicator.h"
#include "config/train_config.h"
#include "nn/language_model.h"

namespace echo {

// The parameters of a model in the order in which a backward pass completes their gradients, about: the head, whose gradient
// the loss writes, then the others from the last to the first.
std::vector<Parameter*> backward_order(const LanguageModel& model);

// Parameters whose elements lie one behind the other in a tensor of one dimension. Each begins at a multiple of
// kernels::kSquareSumLength elements, and so does each rank's slice (slice_of_rank). What lies between them is zero.
struct Bucket {
  struct Part {
    Parameter* parameter;
    int64_t begin;  // of its first element in the bucket
    Shape shape;    // of the parameter
  };
  std::vector<Part> parts;
  int64_t elements = 0;

  // The elements of one part of `values`, a tensor of this bucket, in the parameter's shape.
  static Tensor view(const Tensor& values, const Part& part);
};
// Consecutive parameters share a bucket as long as their gradients have at most `bytes` together. A larger one is alone.
std::vector<Bucket> make_buckets(const std::vector<Parameter*>& parameters, int64_t bytes, int64_t world);

struct BucketSettings {
  int64_t bytes = int64_t{25} << 20;  // of the gradients of one bucket, about
  bool bfloat16_wire = false;         // gradients are rounded to bf16 before they are sent
  bool scatter = false;               // each rank gets the sum of its slices only
};

BucketSettings bucket_settings(const TrainConfig& config);

// Sums the gradients of a model over the ranks while the backward pass goes on. The gradients of a bucket lie in one tensor,
// and their exchange starts as soon as all of them, and those of all earlier buckets, are complete. So all ranks start the
// exchanges in the same order, whatever the order of their gradients. All ranks call all functions together.
//
//   buckets.start_in_next_pass();     // before the last micro-batch
//   backward();
//   buckets.finish();                 // the gradients are the sums over the ranks
//   optimizer.step(rate, buckets.norm());
//   buckets.clear();
class GradientBuckets {
 public:
  // Gives each parameter its place in a bucket as gradient storage, and a gradient-ready hook. The destructor takes them away.
  // Communicator and parameters must outlive the object. All parameters have the same dtype and device.
  GradientBuckets(Communicator& communicator, const std::vector<Parameter*>& parameters, const BucketSettings& settings);
  ~GradientBuckets();
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  // The next backward pass completes the gradients. Exchanges start during this pass.
  void start_in_next_pass();
  // Starts the exchanges that have not started, and waits for all.
  void finish();
  // The norm of all summed gradients together, the same bits on all ranks. Neither the size of buckets nor `scatter` changes a
  // bit of it. It is not finite when a gradient is not. Waits for a GPU. Call it after finish().
  double norm() const;
  void clear();  // fills the gradients with zeros, for the next step

  double seconds_waited() const { return seconds_waited_; }  // in finish(), for exchanges, since the beginning
  const std::vector<Bucket>& buckets() const { return buckets_; }
  const Tensor& gradients(size_t bucket) const { return states_[bucket].gradients; }

 private:
  struct State {
    Tensor gradients;     // of the bucket, f32 or f64
    Tensor wire;          // their bf16 copy during the exchange, if it is wanted
    size_t complete = 0;  // parts whose gradients the running pass has completed
    std::unique_ptr<Exchange> exchange;
  };

  void part_is_complete(size_t bucket);
  void start_next();

  Communicator& communicator_;
  BucketSettings settings_;
  std::vector<Bucket> buckets_;
  std::vector<State> states_;  // one per bucket
  bool is_last_pass_ = false;
  size_t next_ = 0;  // the first bucket whose exchange has not started
  double seconds_waited_ = 0;
};

}  // namespace echo
