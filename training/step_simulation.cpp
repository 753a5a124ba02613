#include "training/step_simulation.h"

#include <algorithm>

#include "base/error.h"

namespace echo {
namespace {

// Two streams: computation goes on until it waits for an exchange, and exchanges run one after the other.
class Timeline {
 public:
  Timeline(double interference, bool free_exchanges) : interference_(interference), free_(free_exchanges) {}

  // Queues an exchange behind all computation and all exchanges so far. Returns its end.
  double exchange(double seconds) {
    communication_ += seconds;
    const double begin = std::max(now_, busy_until_);
    busy_until_ = begin + (free_ ? 0 : seconds);
    if (busy_until_ > begin) busy_.push_back({begin, busy_until_});
    return busy_until_;
  }

  // Computes for `seconds`, more slowly while exchanges run. They are all queued already, because computation queues them.
  void compute(double seconds) {
    while (next_ < busy_.size()) {
      const auto [begin, end] = busy_[next_];
      if (begin > now_) {  // until then alone
        const double alone = std::min(seconds, begin - now_);
        now_ += alone, seconds -= alone;
      }
      if (seconds <= 0) return;
      const double speed = 1 - interference_, shared = std::max(0.0, end - now_);
      if (seconds < shared * speed) break;
      now_ += shared, seconds -= shared * speed;
      ++next_;
    }
    if (next_ < busy_.size()) seconds /= 1 - interference_;
    now_ += seconds;
  }

  void wait_until(double moment) { now_ = std::max(now_, moment); }
  double now() const { return now_; }
  double busy_until() const { return busy_until_; }
  double communication() const { return communication_; }

 private:
  struct Interval {
    double begin, end;
  };
  double interference_;
  bool free_;
  double now_ = 0, busy_until_ = 0, communication_ = 0;
  std::vector<Interval> busy_;  // of exchanges, in order
  size_t next_ = 0;             // the first one that may end after `now_`
};

// Layers whose parameters are gathered one layer before they are needed, in a given order.
class Gathering {
 public:
  Gathering(Timeline& timeline, std::vector<double> seconds) : timeline_(timeline), seconds_(std::move(seconds)) {}
  // Waits for the parameters of the next layer, and queues those of the layer behind it.
  void need_next() {
    if (done_ == 0 && !seconds_.empty()) ready_ = timeline_.exchange(seconds_[0]);
    timeline_.wait_until(ready_);
    if (++done_ < seconds_.size()) ready_ = timeline_.exchange(seconds_[done_]);
  }

 private:
  Timeline& timeline_;
  std::vector<double> seconds_;
  double ready_ = 0;
  size_t done_ = 0;
};

class Walk {
 public:
  Walk(const SimulatedStep& step, const Cluster& cluster, bool free_exchanges)
      : step_(step), cluster_(cluster), timeline_(cluster.interference, free_exchanges) {}

  StepTime run() {
    for (int64_t i = 0; i < step_.micro_batches; ++i) {
      teacher();
      forward();
      backward(i + 1 == step_.micro_batches);
    }
    timeline_.wait_until(timeline_.busy_until());
    update();
    StepTime time;
    time.total = timeline_.now();
    time.communication = timeline_.communication();
    return time;
  }

 private:
  bool shards_parameters() const { return step_.sharding == Sharding::parameters; }
  std::vector<double> gathers(int64_t SimulatedLayer::*parameters) const {
    std::vector<double> seconds;
    if (!shards_parameters()) return seconds;
    for (const SimulatedLayer& layer : step_.layers)
      seconds.push_back(ring_seconds(cluster_, double(layer.*parameters * step_.parameter_bytes)));
    return seconds;
  }

  void teacher() {
    Gathering gathering(timeline_, gathers(&SimulatedLayer::teacher_parameters));
    for (const SimulatedLayer& layer : step_.layers) {
      if (shards_parameters()) gathering.need_next();
      timeline_.compute(layer.teacher_forward);
    }
  }

  void forward() {
    Gathering gathering(timeline_, gathers(&SimulatedLayer::parameters));
    for (const SimulatedLayer& layer : step_.layers) {
      if (shards_parameters()) gathering.need_next();
      timeline_.compute(layer.forward);
    }
  }

  void backward(bool last) {
    std::vector<double> seconds = gathers(&SimulatedLayer::parameters);
    std::reverse(seconds.begin(), seconds.end());
    Gathering gathering(timeline_, std::move(seconds));
    const double rounds = step_.sharding == Sharding::none ? 2 : 1;  // all-reduce or reduce-scatter
    int64_t ready = 0;
    for (size_t i = step_.layers.size(); i-- > 0;) {
      const SimulatedLayer& layer = step_.layers[i];
      if (shards_parameters()) gathering.need_next();
      timeline_.compute(layer.backward);
      ready += layer.parameters * step_.gradient_bytes;
      // With sharded parameters no rank has room for the gradients of the whole model.
      const bool full = i == 0 || ready + step_.layers[i - 1].parameters * step_.gradient_bytes > step_.bucket_bytes;
      if (!shards_parameters() && !(last && full)) continue;
      timeline_.exchange(rounds * ring_seconds(cluster_, double(ready)));
      ready = 0;
    }
  }

  void update() {
    const bool sharded = step_.sharding != Sharding::none;
    timeline_.compute(sharded ? step_.optimizer / double(cluster_.world) : step_.optimizer);
    if (step_.sharding != Sharding::optimizer) return;
    int64_t parameters = 0;
    for (const SimulatedLayer& layer : step_.layers) parameters += layer.parameters;
    timeline_.wait_until(timeline_.exchange(ring_seconds(cluster_, double(parameters * step_.parameter_bytes))));
  }

  const SimulatedStep& step_;
  const Cluster& cluster_;
  Timeline timeline_;
};

}  // namespace

double ring_seconds(const Cluster& cluster, double bytes) {
  const int64_t world = cluster.world, nodes = (world + cluster.ranks_per_node - 1) / cluster.ranks_per_node;
  if (world == 1 || bytes == 0) return 0;
  const int64_t on_node = std::min(world, cluster.ranks_per_node);
  double bandwidth = on_node > 1 ? cluster.inside.bandwidth : cluster.between.bandwidth;
  if (nodes > 1) bandwidth = std::min(bandwidth, cluster.between.bandwidth * double(on_node));
  const double hops_between = nodes > 1 ? double(nodes - 1) : 0, hops_inside = double(world - 1) - hops_between;
  return bytes * double(world - 1) / double(world) / bandwidth + hops_between * cluster.between.latency +
         hops_inside * cluster.inside.latency;
}

StepTime simulate(const SimulatedStep& step, const Cluster& cluster) {
  ECHO_CHECK(cluster.world >= 1 && cluster.ranks_per_node >= 1 && step.micro_batches >= 1, "simulate: ", cluster.world,
             " ranks, ", cluster.ranks_per_node, " on a machine, ", step.micro_batches,
             " micro-batches; expected at least 1 of each");
  ECHO_CHECK(cluster.interference >= 0 && cluster.interference < 1, "simulate: interference ", cluster.interference,
             "; expected 0 to less than 1");
  StepTime time = Walk(step, cluster, false).run();
  time.compute = Walk(step, cluster, true).run().total;
  return time;
}

double closed_form_seconds(const SimulatedStep& step, const Cluster& cluster) {
  const SimulatedLayer& layer = step.layers.at(0);
  const double layers = double(step.layers.size()), micro_batches = double(step.micro_batches);
  const double exchange = 2 * ring_seconds(cluster, double(layer.parameters * step.gradient_bytes));
  const double before =
      micro_batches * layers * (layer.teacher_forward + layer.forward) + (micro_batches - 1) * layers * layer.backward;
  return before + layer.backward + std::max((layers - 1) * layer.backward + exchange, layers * exchange) + step.optimizer;
}

}  // namespace echo
