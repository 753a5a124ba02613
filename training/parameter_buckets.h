#pragma once

#include <memory>
#include <vector>

#include "training/gradient_buckets.h"

namespace echo {

// The parameters of a model in buckets. Of each bucket every rank updates its slice alone, and then all ranks collect the
// slices. So a rank needs optimizer moments for its slices only. All ranks call start_gather(), finish() and gathered()
// together.
// Source: ZeRO stage 1, Rajbhandari et al. 2020, arXiv:1910.02054.
class ParameterBuckets {
 public:
  // Elements [begin, begin + count) of a parameter, which lie in this rank's slice of a bucket.
  struct Piece {
    const Bucket::Part* part;
    int64_t begin, count;
  };

  // Moves the data of the parameters into buckets. Their variables stay the same. Communicator and parameters must outlive the
  // object.
  ParameterBuckets(Communicator& communicator, std::vector<Bucket> buckets);

  size_t size() const { return buckets_.size(); }
  std::vector<Piece> own_pieces(size_t bucket) const;
  // The bucket that holds a parameter. Throws Error (internal) when there is none.
  size_t bucket_of(const Parameter& parameter) const;

  // This rank has updated its slice of the bucket. The others get it while this rank updates the next bucket.
  void start_gather(size_t bucket);
  // Returns when all slices of all buckets are here. Renews compute copies.
  void finish();

  // A tensor of a bucket, whose pieces come from the ranks that own them: pieces[i] has the values of own_pieces(bucket)[i].
  Tensor gathered(size_t bucket, const std::vector<Tensor>& pieces) const;
  // The elements of one parameter in such a tensor, in the parameter's shape.
  Tensor of_parameter(const Tensor& gathered, const Parameter& parameter) const;

  double seconds_waited() const { return seconds_waited_; }  // in finish(), for exchanges, since the beginning

 private:
  Communicator& communicator_;
  std::vector<Bucket> buckets_;
  std::vector<Tensor> values_;                        // the parameters, one tensor per bucket
  std::vector<std::unique_ptr<Exchange>> exchanges_;  // running, in the order of the buckets
  double seconds_waited_ = 0;
};

}  // namespace echo
