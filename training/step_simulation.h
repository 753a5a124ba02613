#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace echo {

// Predicts how long a step of data-parallel training takes on more ranks than one can try, from times measured on few.
// docs/scaling.md explains the model and compares it with measured runs.

// Times are in seconds, bandwidths in bytes per second, sizes in bytes.
struct Link {
  double bandwidth;  // of one rank, in one direction
  double latency;    // of one message
};

// `world` ranks, `ranks_per_node` on each machine. Ranks of one machine reach each other by `inside`, machines by `between`,
// of which each rank has its own (one network card per GPU).
struct Cluster {
  int64_t world = 1, ranks_per_node = 8;
  Link inside{450e9, 3e-6}, between{50e9, 10e-6};
  double interference = 0;  // share of a rank's compute speed that an exchange costs while it runs, 0 to 1
};

// A part of the model whose gradients become ready together: the embedding, one layer, the head.
struct SimulatedLayer {
  double forward = 0, backward = 0;  // student, one micro-batch; backward includes recomputation
  double teacher_forward = 0;        // 0 without a teacher
  int64_t parameters = 0, teacher_parameters = 0;
};

enum class Sharding { none, optimizer, parameters };

struct SimulatedStep {
  std::vector<SimulatedLayer> layers;  // in the order of the forward pass
  int64_t micro_batches = 1;           // only the last one exchanges gradients
  double optimizer = 0;                // the update of all parameters by one rank
  Sharding sharding = Sharding::none;
  int64_t bucket_bytes = 25 << 20;  // layers share an exchange of gradients as long as they have at most this much together
  int64_t gradient_bytes = 4;       // of one element on the wire
  int64_t parameter_bytes = 4;      // of one gathered element
};

struct StepTime {
  double total = 0;          // of the step
  double compute = 0;        // of the same step with exchanges that take no time
  double communication = 0;  // of all exchanges, hidden or not
  // The share of the exchanges that the step does not wait for, 0 to 1; 1 without exchanges.
  double hidden() const { return communication > 0 ? 1 - (total - compute) / communication : 1; }
  // The share of a rank's speed alone that it keeps, 0 to 1.
  double efficiency() const { return compute / total; }
};

// The time of a reduce-scatter or an all-gather of `bytes` in all: a ring over all ranks sends (n - 1) / n of them over the
// slowest link and passes each link once. Across machines a ring can use the cards of all ranks of a machine. An all-reduce
// takes twice as long.
double ring_seconds(const Cluster& cluster, double bytes);

// Walks through a step with one compute stream and one stream of exchanges, which run in the order in which they are queued.
//   none:       gradients are all-reduced in buckets during the backward pass
//   optimizer:  gradients are reduce-scattered in buckets, each rank updates its part, then parameters are gathered
//   parameters: each layer's parameters (and its teacher's) are gathered one layer ahead, in forward and backward passes, and
//               gradients are reduce-scattered layer by layer
StepTime simulate(const SimulatedStep& step, const Cluster& cluster);

// The same for `layers` equal layers with Sharding::none and buckets of one layer, without interference, as a formula:
//   forward + backward of one layer + max((layers - 1) * backward of one layer + exchange, layers * exchange) + optimizer
double closed_form_seconds(const SimulatedStep& step, const Cluster& cluster);

}  // namespace echo
